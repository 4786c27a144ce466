"""Features on disk: what is read is what was written, and a folder of other features is refused."""

import pickle

import ml_dtypes
import numpy as np
import pytest

from vjax.data import features
from vjax.data.features import FeatureStore, Stale, Unusable, keys_of, looked

SETTINGS = {"weights": "ab", "vision.image_size": 8, "vision.taps": (1, 2)}
LAYOUT = {"features": ((4, 6), "bfloat16"), "still_features": ((1, 3), "float32")}
ROW = 4 * 6 * 2 + 3 * 4


def store(folder, settings=SETTINGS, most=1e9):
    return FeatureStore(folder, settings, LAYOUT, most)


def pictures(*seeds):
    return np.stack(
        [np.random.default_rng(n).integers(0, 256, (8, 8, 3)).astype(np.uint8) for n in seeds]
    )


def values(*seeds):
    rng = [np.random.default_rng(n) for n in seeds]
    return {
        "features": np.stack([r.normal(size=(4, 6)) for r in rng]).astype(ml_dtypes.bfloat16),
        "still_features": np.stack([r.normal(size=(1, 3)) for r in rng]).astype(np.float32),
    }


def same(got, want):
    for name in LAYOUT:
        assert got[name].dtype == want[name].dtype
        np.testing.assert_array_equal(got[name], want[name])


def test_features_come_back_to_the_bit_before_and_after_they_are_on_disk(tmp_path):
    made = store(tmp_path)
    made.add(keys_of(pictures(1, 2)), values(1, 2))
    for one in (made, None):
        if one is None:
            made.flush()
            one = pickle.loads(pickle.dumps(made))  # opens the folder anew
        known, found = one.read(keys_of(pictures(2, 3, 1, 2)))
        assert known.tolist() == [True, False, True, True]
        same({name: x[known] for name, x in found.items()}, values(2, 1, 2))
    assert not list(tmp_path.glob("*.partial"))


def test_two_writers_see_each_other_s_parts(tmp_path):
    one, two = store(tmp_path), store(tmp_path)
    one.add(keys_of(pictures(1)), values(1))
    two.add(keys_of(pictures(2, 1)), values(2, 1))
    one.flush()
    two.flush()
    one.refresh()
    assert len(one) == len(two) == len(store(tmp_path)) == 2
    same(one.read(keys_of(pictures(2)))[1], values(2))


def test_a_part_is_written_once_enough_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "PART", 2 * ROW)
    made = store(tmp_path)
    for n in range(5):
        made.add(keys_of(pictures(n)), values(n))
    assert len(store(tmp_path)) == 4
    assert len(list(tmp_path.glob("*.keys"))) == 2


def test_nothing_is_added_beyond_the_limit(tmp_path):
    made = store(tmp_path, most=2 * ROW)
    made.add(keys_of(pictures(1, 2, 3)), values(1, 2, 3))
    assert made.read(keys_of(pictures(1, 2, 3)))[0].tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("name", "value"),
    [("weights", "cd"), ("vision.image_size", 16), ("dtype", "float32"), ("vision.taps", (1,))],
)
def test_features_of_something_else_are_refused_by_what_differs(tmp_path, name, value):
    store(tmp_path)
    store(tmp_path)  # the same again is welcome
    with pytest.raises(Stale, match=rf"compute otherwise:\n  {name}: .* -> .*\nname another"):
        store(tmp_path, SETTINGS | {name: value})


def test_a_part_whose_keys_were_not_written_is_not_there(tmp_path):
    made = store(tmp_path)
    made.add(keys_of(pictures(1)), values(1))
    made.flush()
    (keys,) = tmp_path.glob("*.keys")
    said = keys.read_bytes()
    keys.unlink()
    assert len(store(tmp_path)) == 0
    keys.write_bytes(said * 2)
    with pytest.raises(ValueError, match=r"not the 2 rows of .*\.keys: delete both"):
        store(tmp_path)


@pytest.fixture
def kept(tmp_path):
    """A folder with the features of pictures 1, 2 and 3 in one part."""
    folder = tmp_path / "kept"
    made = store(folder)
    made.add(keys_of(pictures(1, 2, 3)), values(1, 2, 3))
    made.flush()
    return folder


@pytest.mark.parametrize("suffix", [".npy", ".keys"])
def test_features_without_settings_are_refused(kept, suffix):
    (kept / "settings.json").unlink()
    for file in kept.iterdir():
        if file.suffix != suffix:
            file.unlink()
    with pytest.raises(Unusable, match=rf"kept holds features \(\w+\{suffix}\) and no settings"):
        store(kept)
    assert not (kept / "settings.json").exists()


def test_the_row_that_was_altered_is_named(kept):
    (file,) = kept.glob("*.npy")
    data = bytearray(file.read_bytes())
    data[-2 * ROW :] = bytes(ROW) + data[-ROW:]  # the second of three
    file.write_bytes(data)
    opened = store(kept)
    same(opened.read(keys_of(pictures(1, 3)))[1], values(1, 3))
    said = rf"{file}: row 1 is not what its checksum in {file.stem}\.keys says: delete both"
    with pytest.raises(Unusable, match=said):
        opened.read(keys_of(pictures(1, 2)))


def test_a_row_under_another_picture_s_key_is_refused(kept):
    (file,) = kept.glob("*.keys")
    data, record = file.read_bytes(), features.RECORD
    key = features.KEY
    file.write_bytes(data[record:][:key] + data[key:record] + data[:key] + data[record + key :])
    with pytest.raises(Unusable, match="row 1 is not what its checksum"):
        store(kept).read(keys_of(pictures(1)))


def test_a_row_is_checked_when_it_is_first_read(kept, monkeypatch):
    checked = []
    monkeypatch.setattr(
        features, "sum_of", lambda key, row, of=features.sum_of: checked.append(key) or of(key, row)
    )
    opened, (one, two) = store(kept), keys_of(pictures(1, 2))
    opened.read([one, two, one])
    opened.read([two])
    assert checked == [one, two]


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], lambda data: b"?" * 128 + data[128:]],
    ids=["empty", "cut", "another header"],
)
def test_a_damaged_file_is_named(kept, damage):
    (file,) = kept.glob("*.npy")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(Unusable, match=rf"{file}: not a whole file .*: delete both"):
        store(kept)


@pytest.mark.parametrize("text", ["", "{", "null"])
def test_broken_settings_are_named(kept, text):
    (kept / "settings.json").write_text(text)
    with pytest.raises(Unusable, match=r"kept/settings\.json: not the settings .*: name another"):
        store(kept)


def test_a_file_is_no_folder_of_features(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Unusable, match=rf"{place}: no features can be kept there \(.*: name a"):
            store(place)


def test_a_folder_without_room_is_named(kept, monkeypatch):
    opened = store(kept)
    opened.add(keys_of(pictures(4)), values(4))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(Unusable, match="kept: no features can be kept there \\(No space left"):
        opened.flush()


def test_a_batch_gets_what_is_known_of_its_pictures(tmp_path):
    made = store(tmp_path)
    made.add(keys_of(pictures(1, 4)), values(1, 4))
    batch = {"images": pictures(1, 2, 3, 4).reshape(2, 2, 8, 8, 3)}  # two micro-batches
    got = looked(batch, made)
    assert got["known"].tolist() == [[True, False], [False, True]]
    np.testing.assert_array_equal(got["features"][1, 1], values(4)["features"][0])
    assert not got["features"][0, 1].any()
