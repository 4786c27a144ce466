"""Packed batches: pure functions of their number, whoever makes them; holes where clips fail."""

import pickle
import shutil

import numpy as np
import pytest

from tests.data import made_up, mixed
from vjax.data.pipeline import batches as pipeline
from vjax.video import errors
from vjax.video.strategies import Sampling


@pytest.fixture
def make(files, tmp_path):
    """make(**options): batches of `mixed.rows`; options of examples and of batches."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)

    def call(some=None, *, workers=0, on_bad="error", **options):
        made = mixed.examples(
            tmp_path, some, workers=workers, on_bad=on_bad, rule=Sampling("segments", frames=4)
        )
        return mixed.batches(made, **options)

    return call


def joined(parts, blocks):
    """The batch that shares of some blocks are; all of them say what it is made of."""
    order = np.argsort([block for share in blocks for block in share])
    whole = {"work": None, "plan": parts[0]["plan"]}
    for name in parts[0].keys() - whole.keys():
        cut = [
            one
            for part, of in zip(parts, blocks, strict=True)
            for one in np.split(part[name], len(of))
        ]
        whole[name] = np.concatenate([cut[n] for n in order])
    for part in parts[1:]:
        np.testing.assert_array_equal(part["plan"], whole["plan"])
    return whole


def same(a, b):
    assert a.keys() - {"work"} == b.keys() - {"work"}
    for name in a.keys() - {"work"}:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_batch_is_a_pure_function_of_its_number(make):
    first, other = make(), make()
    steps = first.plan.steps(0)
    walked = [first(i) for i in range(steps + 1)]
    for i in (steps, 1, 0):
        same(walked[i], other(i))


def test_every_row_of_the_file_is_in_an_epoch_once(make):
    made = make()
    tokenizer = made_up.chat().tokenizer
    said = []
    for i in range(made.plan.steps(0)):
        batch = made(i)
        for b in range(len(batch["tokens"])):
            for s in sorted(set(batch["segment_ids"][b]) - {0}):
                here = batch["segment_ids"][b] == s
                said.append(tokenizer.decode(batch["tokens"][b][here].tolist()))
    assert len(said) == 24
    for n in range(24):
        assert sum(f"red box {n}." in text for text in said) == 1


def test_pictures_lie_in_the_part_of_their_row(make):
    made = make()
    for i in range(made.plan.steps(0)):
        batch = made(i)
        slots = batch["images"].shape[0] // len(batch["tokens"])
        for b, index in enumerate(batch["vision_index"]):
            shown = index[index >= 0] // made.patches
            assert ((shown >= b * slots) & (shown < (b + 1) * slots)).all()


def test_all_shapes_are_in_the_table(make):
    made = make(window=7)
    table = [made.empty(bucket) for bucket in range(2)]
    assert [t["tokens"].shape for t in table] == [(8, 128), (4, 256)]
    assert len({t["images"].shape for t in table}) == 1  # a text host runs a video host's program
    for i in range(made.plan.steps(0)):
        batch = made(i)
        empty = table[made.plan.batch(i).bucket]
        assert {k: (v.shape, v.dtype) for k, v in batch.items() if k not in ("work", "plan")} == {
            k: (v.shape, v.dtype) for k, v in empty.items()
        }


@pytest.mark.parametrize(
    "blocks", [((0,), (1,)), ((0,), (1,), (2,), (3,)), ((0, 3), (1, 2))], ids=str
)
def test_shares_of_processes_are_the_batch_of_one(make, blocks):
    whole = make()
    shares = [make(blocks=mine, of=sum(map(len, blocks))) for mine in blocks]
    for i in range(whole.plan.steps(0)):
        same(joined([share(i) for share in shares], blocks), whole(i))


def test_micro_batches_are_the_batch_cut(make):
    whole, cut = make(), make(accumulate=2)
    for i in range(whole.plan.steps(0)):
        one, two = whole(i), cut(i)
        for name in one.keys() - {"work", "plan", "vision_index"}:
            np.testing.assert_array_equal(np.concatenate(two[name]), one[name], err_msg=name)
        bank = np.concatenate([one["images"], np.zeros_like(one["images"][:1])])
        halves = [np.concatenate([half, half[:1]]) for half in two["images"]]
        for b, index in enumerate(one["vision_index"]):
            here = index >= 0
            half, row = divmod(b, len(one["tokens"]) // 2)
            other = two["vision_index"][half, row]
            assert ((other >= 0) == here).all()
            np.testing.assert_array_equal(
                bank[index[here] // whole.patches], halves[half][other[here] // whole.patches]
            )


def test_rows_that_cannot_be_shared_out(make):
    with pytest.raises(ValueError, match="8 rows cannot be cut into 3 blocks in 1 micro"):
        make(of=3)


def damaged(made, path):
    """The file changes after it was indexed."""
    with open(path, "ab") as file:
        file.write(b"more")
    return made


def test_a_clip_that_fails_leaves_a_hole_and_moves_nothing(make, tmp_path):
    whole = make()
    steps = whole.plan.steps(0)
    good = [whole(i) for i in range(steps)]
    made = damaged(make(on_bad="skip"), tmp_path / "v3.mp4")
    holes = 0
    for i in range(steps):
        assert made.plan.batch(i) == whole.plan.batch(i)
        batch = made(i)
        holes += int(batch["work"][2])
        for b, row in enumerate(whole.plan.batch(i).rows):
            shown = [made.examples.sample(n).media for n in row]
            lost = sum(any(m.path.name == "v3.mp4" for m in media) for media in shown)
            assert len(set(batch["segment_ids"][b]) - {0}) == len(row) - lost
            if not lost:
                np.testing.assert_array_equal(batch["tokens"][b], good[i]["tokens"][b])
    assert holes == sum("v3.mp4" in str(made.examples.sample(n).media) for n in range(24)) > 0


def test_a_clip_that_fails_is_an_error_where_the_policy_says_so(make, tmp_path):
    made = damaged(make(), tmp_path / "v3.mp4")
    with pytest.raises(errors.Changed, match="v3.mp4"):
        for i in range(made.plan.steps(0)):
            made(i)


def test_blank_frames_where_the_policy_says_so(make, tmp_path):
    made = damaged(make(on_bad="blank"), tmp_path / "v3.mp4")
    assert sum(made(i)["work"][2] for i in range(made.plan.steps(0))) == 0


@pytest.mark.parametrize(
    ("workers", "threads", "processes"),
    [(0, 1, 1), (0, 4, 2), (1, 2, 1), (2, 1, 2), (4, 1, 1)],
)
def test_real_workers_make_the_same_batches(make, workers, threads, processes):
    whole = make()
    shares = [make(workers=1, blocks=(p,), of=processes) for p in range(processes)]
    options = dict(threads=threads, ahead=2, workers=workers)
    found = [pipeline(share, 1, 5, **options) for share in shares]
    try:
        for i in range(1, 5):
            parts = [next(share) for share in found]
            same(joined(parts, [share.blocks for share in shares]), whole(i))
    finally:
        for share in shares:
            share.examples.footage.close()


def test_work_is_told(make):
    made = make()
    batch = made(0)
    examples, clips, holes, seconds, waiting, decoding, _, cpu, decoding_cpu = batch["work"]
    rows = made.plan.batch(0).rows
    assert examples == sum(map(len, rows))
    assert clips == sum(len(made.examples.sample(n).media) for row in rows for n in row)
    assert holes == 0
    assert 0 <= waiting + decoding <= seconds
    assert 0 < decoding_cpu <= cpu <= 1.1 * seconds  # no children: this thread decodes


def test_batches_travel(make):
    made = make()
    same(pickle.loads(pickle.dumps(made))(1), made(1))
