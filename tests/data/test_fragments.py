"""Fragment batches: pure functions of their number, with every item of the plan in them."""

import numpy as np
import pytest

from tests.data import made_up
from vjax.data.pipeline import batches as pipeline


@pytest.fixture(scope="module")
def plan():
    return made_up.plan(batch_size=4)


@pytest.fixture(scope="module")
def make(plan):
    return made_up.batches(plan)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.smoke
def test_a_batch_is_a_pure_function_of_its_number(make):
    other = made_up.batches(made_up.plan(batch_size=4))
    for i in (9, 0):
        same(make(i), other(i))


def test_every_item_is_a_segment(plan, make):
    for i in range(plan.steps_per_epoch + 2):
        segments = sum(len(set(row) - {0}) for row in make(i)["segment_ids"])
        assert segments == sum(item is not None for item in plan.batch(i))


def test_answers_in_a_batch_are_those_of_its_items(plan, make):
    chat = made_up.chat()
    for i in range(4):
        batch = make(i)
        said = [
            chat.decode(batch["targets"][b][(batch["segment_ids"][b] == s) & weighed])
            for b, weighed in enumerate(batch["loss_weights"] > 0)
            for s in sorted(set(batch["segment_ids"][b]) - {0})
        ]
        assert sorted(said) == sorted(x.record.answer for x in plan.batch(i) if x is not None)


def test_item_numbers_lead_back_to_the_plan(plan, make):
    chat = made_up.chat()
    for i in (0, plan.steps_per_epoch + 1):
        batch = make(i)
        for b, number in enumerate(batch["item"]):
            if number < 0:
                assert not batch["segment_ids"][b].any()
                continue
            at, n = divmod(int(number), plan.batch_size)
            first = chat.encode(plan.batch(at)[n].prompt(made_up.clip_at)).tokens
            np.testing.assert_array_equal(batch["tokens"][b, : len(first)], first)


def test_accumulation_stacks_the_batches_of_the_plan(plan, make):
    stacked = made_up.batches(plan, accumulate=3)(2)
    del stacked["plan"]  # of the step as a whole
    same(stacked, {name: np.stack([make(n)[name] for n in (6, 7, 8)]) for name in stacked})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_shares_of_processes_hold_the_items_of_one(plan, make, accumulate):
    """Each once, with its own pictures: in other rows, for every block is packed alone."""
    shape = plan.shape(made_up.ROW_TOKENS, image_size=16, patches=make.shape.patches, of=2)
    options = dict(accumulate=accumulate, of=2)
    shares = [made_up.batches(plan, blocks=(n,), shape=shape, **options) for n in range(2)]
    whole = made_up.batches(plan, accumulate=accumulate)
    axis = int(accumulate > 1)
    for i in range(plan.steps_per_epoch // accumulate):
        parts = [share(i) for share in shares]
        both = {k: np.concatenate([p[k] for p in parts], axis) for k in parts[0].keys() - {"plan"}}
        assert segments(both) == segments(whole(i))
        for part in parts:
            np.testing.assert_array_equal(part["plan"], whole(i)["plan"])


def segments(batch):
    """Tokens of every example, and the pictures at its vision tokens."""
    if batch["tokens"].ndim == 2:
        batch = {k: v[None] for k, v in batch.items()}
    patches = made_up.SPEC.vision.patches
    found = []
    for n, rows in enumerate(batch["tokens"]):
        for b, row in enumerate(rows):
            for s in sorted(set(batch["segment_ids"][n, b]) - {0}):
                here = batch["segment_ids"][n, b] == s
                index = batch["vision_index"][n, b][here]
                seen = batch["images"][n][index[index >= 0] // patches]
                found.append((row[here].tobytes(), seen.tobytes(), (index % patches).tobytes()))
    return sorted(found)


def test_shuffled_labels_change_answers_alone_and_only_to_candidates(plan, make):
    chat = made_up.chat()
    shuffled = made_up.batches(plan, shuffle_labels=True)
    changed = 0
    for i in range(plan.steps_per_epoch):
        for item in filter(None, plan.batch(i)):
            true, other = item.prompt(made_up.clip_at), shuffled._prompt(item)
            assert other.parts == true.parts and other.candidates == true.candidates
            for a, b in zip(true.images, other.images, strict=True):
                np.testing.assert_array_equal(a, b)
            assert other.answer in true.candidates
            changed += other.answer != true.answer
            assert chat.candidate(other.answer)[-1] == made_up.END
    items = sum(x is not None for i in range(plan.steps_per_epoch) for x in plan.batch(i))
    assert 0.45 < changed / items < 0.85
    same(shuffled(0), made_up.batches(plan, shuffle_labels=True)(0))


# ---- the pipeline that reads ahead


@pytest.mark.smoke
@pytest.mark.parametrize("threads", [1, 5])
def test_read_ahead_gives_every_batch_in_order(threads):
    found = pipeline(lambda i: {"n": np.array(i)}, 7, 40, threads=threads)
    assert [int(batch["n"]) for batch in found] == list(range(7, 40))


@pytest.mark.smoke
def test_nothing_left_to_read():
    assert list(pipeline(lambda i: {}, 5, 5)) == []


def test_an_error_in_a_reader_reaches_the_caller():
    def broken(i):
        raise ValueError(f"sample {i} is broken")

    with pytest.raises(ValueError, match="sample 0 is broken"):
        next(pipeline(broken, 0, 9))


@pytest.mark.smoke
def test_threads_draw_an_epoch_once(monkeypatch):
    plan = made_up.plan(batch_size=4)
    drawn = []
    original = plan._records
    monkeypatch.setattr(plan, "_records", lambda epoch: drawn.append(epoch) or original(epoch))
    make = made_up.batches(plan)
    steps = plan.steps_per_epoch
    read = list(pipeline(make, steps - 2, steps + 6, threads=4))
    for i, batch in enumerate(read, steps - 2):
        same(batch, make(i))
    assert drawn == [0, 1]
