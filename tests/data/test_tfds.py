"""TensorFlow Datasets without TensorFlow: built through Beam from tiny copies, read as files."""

import contextlib
import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

from tests.data.conftest import LABELLED, make_moments, make_something
from vjax.data import moments, something
from vjax.data.contamination import exclude
from vjax.data.rows import BadFile
from vjax.data.tfds_source import TfdsRecords
from vjax.video.probe import probe

LACKING = "{} is not installed: launch/lock-py311-prep.txt has it, newer Pythons have no such lock"
for name in ("apache_beam", "tensorflow_datasets"):
    pytest.importorskip(name, reason=LACKING.format(name))

import tensorflow_datasets as tfds  # noqa: E402

from vjax.data.tfds_builders.__main__ import main as build_from  # noqa: E402
from vjax.data.tfds_builders.labelled import checked  # noqa: E402

SOURCES = {"something_something_v2": something, "moments_in_time": moments}


def build(name, root, data_dir):
    build_from([name, f"--manual_dir={root}", f"--data_dir={data_dir}"])


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Folders of the two data sets, by name."""
    root = tmp_path_factory.mktemp("copies")
    return {
        something.NAME: make_something(root / "ssv2"),
        moments.NAME: make_moments(root / "mit"),
    }


@pytest.fixture(scope="module")
def data_dir(copies, tmp_path_factory):
    """Both, built."""
    data_dir = tmp_path_factory.mktemp("tfds")
    for name in SOURCES:
        build(name, copies[name], data_dir)
    return data_dir


@pytest.fixture
def opened(data_dir, tmp_path):
    """opened(name, split): its records."""
    return lambda name, split: TfdsRecords(f"tfds:{name}/{split}", data_dir, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "split"), [(name, split) for name in SOURCES for split in SOURCES[name].SPLITS]
)
def test_what_is_read_back_is_what_the_folder_holds(copies, data_dir, name, split):
    there = {record.id: record for record in SOURCES[name].open(copies[name], split)}
    folder = SOURCES[name].open(copies[name], split).folder
    rows = list(tfds.data_source(name, split=split, data_dir=data_dir))
    assert sorted(row["id"].decode() for row in rows) == sorted(there)
    for row in rows:
        record = there[row["id"].decode()]
        assert row["video"] == record.path.read_bytes()
        assert folder / row["file"].decode() == record.path
        texts = {key: row[key].decode() for key in ("label", "category", "template")}
        assert texts == {key: getattr(record, key) for key in texts}
        assert row["category_index"] == record.category_index
        assert tuple(thing.decode() for thing in row["placeholders"]) == record.placeholders


@pytest.mark.parametrize("name", SOURCES)
def test_records_of_a_built_set_are_those_of_the_folder(copies, opened, name):
    built = sorted(opened(name, "train"), key=lambda record: record.id)
    there = sorted(SOURCES[name].open(copies[name], "train"), key=lambda record: record.id)
    assert [(r.id, r.label, r.split, r.template, r.placeholders) for r in built] == [
        (r.id, r.label, r.split, r.template, r.placeholders) for r in there
    ]
    for record, same in zip(built, there, strict=True):
        assert record.path.read_bytes() == same.path.read_bytes()
        assert record.sample().media[0].path == record.path


def test_a_video_is_a_file_once_its_record_was_asked_for(opened, tmp_path):
    records = opened("something_something_v2", "train")
    assert len(records) == len(LABELLED["train"]) and not (tmp_path / "cache").exists()
    paths = {record.id: record.path for record in records}
    assert probe(paths["11"], paths["11"].parent).width == 128
    assert sorted(p.name for p in (tmp_path / "cache").rglob("*.*m")) == [
        "11.webm", "12.webm", "13.webm",
    ]  # fmt: skip
    paths["12"].write_bytes(b"kept")
    assert {r.path.read_bytes() for r in opened("something_something_v2", "train")} > {b"kept"}


def test_records_go_to_another_process(opened):
    records = opened("moments_in_time", "train").take(np.array([2, 1]))
    assert list(pickle.loads(pickle.dumps(records))) == [records[0], records[1]]


def test_a_slice_of_a_split(opened):
    records = opened("something_something_v2", "train[:2]")
    assert [r.split for r in records] == ["train"] * 2


def test_clips_of_mvbench_are_left_out_and_counted(opened, mvbench_root, capsys):
    kept = exclude(opened("something_something_v2", "train"), mvbench_root)
    assert sorted(r.id for r in kept) == ["11", "13"]
    assert "MVBench: 1 of 3 clips of something_something_v2" in capsys.readouterr().out


def test_sums_of_the_label_files_are_kept(copies, data_dir):
    name = "something_something_v2"
    sums = tfds.builder(name, data_dir=data_dir).info.metadata["sha256"]
    files = ["labels", "train", "validation", "test"]
    assert sorted(sums) == sorted([*(f"labels/{f}.json" for f in files), "labels/test-answers.csv"])
    train = (copies[name] / "labels/train.json").read_bytes()
    assert sums["labels/train.json"] == hashlib.sha256(train).hexdigest()


@pytest.mark.parametrize(
    ("listed", "training", "match"),
    [
        (3, "running/yt-a_1.mp4,running,3,1\n", r"trainingSet\.csv: its SHA-256 is \w{64}, in SHA"),
        (2, None, r"validationSet\.csv: its SHA-256 is \w{64}, in SHA256SUMS it is not"),
        (3, None, None),
    ],
)
def test_label_files_are_compared_with_sums_that_are_there(tmp_path, listed, training, match):
    root = make_moments(tmp_path / "mit")
    files = ["moments_categories.txt", "trainingSet.csv", "validationSet.csv"][:listed]
    sums = subprocess.run(["sha256sum", *files], cwd=root, capture_output=True, text=True).stdout
    (root / "SHA256SUMS").write_text(sums)
    if training:
        (root / "trainingSet.csv").write_text(training)
    found = moments.annotations(root, "train") + moments.annotations(root, "validation")[1:]
    with pytest.raises(BadFile, match=match) if match else contextlib.nullcontext():
        assert len(checked(epath.Path(root), found)) == 3


def test_a_clip_without_a_file_stops_the_build_before_it_begins(tmp_path):
    root = make_something(tmp_path / "ssv2")
    (root / "20bn-something-something-v2/21.webm").unlink()
    with pytest.raises(SystemExit, match=r"1 of 1 validation clips .* no file: 21\.webm"):
        build(something.NAME, root, tmp_path / "tfds")
    assert not list(tmp_path.glob("tfds/*/1.*"))


def test_a_folder_that_is_not_there_is_told_with_the_layout(tmp_path):
    with pytest.raises(AssertionError, match=r"(?s)does not exist or is empty.*ID\.webm"):
        build(something.NAME, tmp_path / "none", tmp_path / "tfds")


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("moments_in_time/train", "tfds:NAME/SPLIT is needed"),
        ("tfds:moments_in_time", "tfds:NAME/SPLIT is needed"),
        ("tfds:no_such_set/train", "not to be had from"),
        ("tfds:moments_in_time/test", "not to be had from"),
    ],
)
def test_sources_that_are_none(data_dir, tmp_path, source, match):
    with pytest.raises(ValueError, match=match):
        TfdsRecords(source, data_dir, tmp_path)


def test_nothing_of_this_imports_tensorflow(data_dir, tmp_path):
    code = (
        "import sys\n"
        "from vjax.data.tfds_source import TfdsRecords\n"
        "assert not {'tensorflow_datasets', 'apache_beam'} & set(sys.modules)\n"
        f"places = {str(data_dir)!r}, {str(tmp_path)!r}\n"
        "records = TfdsRecords('tfds:moments_in_time/train', *places)\n"
        "assert records[0].path.exists()\n"
        "assert not {'tensorflow', 'apache_beam', 'jax'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
