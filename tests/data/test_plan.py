"""The batch plan: a pure function of (seed, number), with the shares and shapes it promises."""

from collections import Counter

import cloudpickle
import numpy as np
import pytest

from tests.data import made_up
from tests.fragments.clips import clip_of, named
from vjax.data.fragments import ROW_TOKENS, Lengths
from vjax.data.packing import pack
from vjax.data.plan import eval_records
from vjax.fragments import TASKS


def ids(plan, i):
    return [item and (item.id, item.key) for item in plan.batch(i)]


@pytest.fixture(scope="module")
def plan():
    return made_up.plan()


@pytest.mark.smoke
def test_the_same_on_a_fresh_plan_asked_in_another_order(plan):
    steps = plan.steps_per_epoch
    asked = [0, 2 * steps + 1, 3, steps]  # also in epochs 1 and 2
    want = {i: ids(plan, i) for i in asked}
    other = made_up.plan()
    assert {i: ids(other, i) for i in reversed(asked)} == want


def test_the_same_in_a_worker_process(plan):
    other = cloudpickle.loads(cloudpickle.dumps(plan))  # as Grain sends it
    assert [ids(other, i) for i in range(3)] == [ids(plan, i) for i in range(3)]


def test_another_seed_is_another_plan(plan):
    assert ids(plan, 0) != ids(made_up.plan(seed=4), 0)


def test_every_epoch_draws_fresh_sets(plan):
    steps = plan.steps_per_epoch
    first, second = ({x for i in range(steps) for x in ids(plan, e * steps + i)} for e in (0, 1))
    assert not (first & second) - {None}


@pytest.mark.smoke
def test_an_epoch_holds_each_item_once_and_fewer_holes_than_a_batch(plan):
    found = [x for i in range(plan.steps_per_epoch) for x in ids(plan, i)]
    items = [x for x in found if x]
    assert len(items) == len(set(items)) == sum(count for *_, count in plan.histogram())
    assert len(found) - len(items) < plan.batch_size
    sizes = {sum(x is not None for x in ids(plan, i)) for i in range(plan.steps_per_epoch)}
    assert max(sizes) - min(sizes) <= 1


def test_holes_stand_behind_the_items(plan):
    for i in range(plan.steps_per_epoch):
        there = [x is not None for x in plan.batch(i)]
        assert there == sorted(there, reverse=True) and len(there) == plan.batch_size


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_shares_of_tasks_and_sources(share):
    weights = {"counting": 0.5, "disorder": 2.0, "localization": 0.0}
    plan = made_up.plan(weights=weights, procedural_share=share)
    counts = Counter()
    for i in range(plan.steps_per_epoch):
        for item in filter(None, plan.batch(i)):
            counts[item.key.split("/")[0], item.record.task] += 1
    total = sum(counts.values())
    wanted = made_up.ONE_EACH | weights
    for source, part in (("real", 1 - share), ("procedural", share)):
        for task in TASKS:
            want = part * wanted[task] / sum(wanted.values())
            assert abs(counts[source, task] - want * total) <= 2, (source, task)
    assert plan.histogram() == [(*cell, counts[cell]) for cell in plan.share]


def test_later_epochs_ask_a_part_of_the_clips_that_the_shares_leave_most_of():
    plan = made_up.plan(procedural_share=0.2)  # of 12 clips each, the procedural ones are spare
    asked = [set(plan._drawn("procedural", plan.keys["procedural"], e)) for e in range(20)]
    assert len(asked[0]) == 12 and all(len(keys) < 12 for keys in asked[1:])
    assert set().union(*asked[1:]) == asked[0]
    assert set(plan._drawn("real", plan.keys["real"], 1)) == set(plan.keys["real"])
    for epoch in range(3):
        found = Counter(
            (item.key.split("/")[0], item.record.task)
            for batch in plan.epoch(epoch).batches
            for item in filter(None, batch)
        )
        assert found == plan.counts


@pytest.mark.parametrize("source", ["real", "procedural"])
def test_one_source_alone_gives_every_item(source):
    plan = made_up.plan(**{source: made_up.keys(source)}, procedural_share=0.3)
    assert {name for name, *_ in plan.histogram()} == {source}


def test_batches_of_an_epoch_have_even_tasks_and_pictures(plan):
    batches = [list(filter(None, plan.batch(i))) for i in range(plan.steps_per_epoch)]
    pictures = [sum(item.images for item in batch) for batch in batches]
    assert max(pictures) - min(pictures) <= 4


def test_pictures_and_tokens_are_known_without_pixels(plan):
    lengths = Lengths(made_up.chat(), made_up.clip_at)
    for i in range(3 * plan.steps_per_epoch):
        for item in filter(None, plan.batch(i)):
            example = made_up.chat().encode(item.prompt(made_up.clip_at))
            assert item.images == len(example.images)
            assert lengths(item) == len(example.tokens), item.id


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [4, 48])
def test_every_batch_of_later_epochs_fits_the_shape(seed, batch_size):
    """Two real clips and a large share of procedural items, which are then a small draw of many."""
    plan = made_up.plan(
        seed=seed,
        batch_size=batch_size,
        procedural_share=0.6,
        real=made_up.keys("real")[:2],
        procedural=made_up.keys("procedural"),
    )
    shape = plan.shape(ROW_TOKENS, image_size=16, patches=4)
    for i in range(5 * plan.steps_per_epoch):
        items = list(filter(None, plan.batch(i)))
        assert sum(item.images for item in items) <= shape.images, i
        rows = pack([plan.length_of(item) for item in items], shape.length)
        assert len(rows) <= shape.rows, i


def still(key):
    frames = np.zeros((20, 32, 32, 3), np.uint8)
    return named(clip_of(frames), f"{key}.mp4")


def test_clips_without_a_decidable_set_are_listed():
    made = made_up.plan(real=["real/0", "real/1", "still"])
    made.clip_of = lambda key: still(key) if key == "still" else made_up.clip_at(key)
    assert [drop.video_id for drop in made.epoch(0).drops] == ["still.mp4"]


def test_no_clip_that_gives_items_is_an_error_with_the_reason():
    made = made_up.plan(real=["still"])
    made.clip_of = still
    with pytest.raises(ValueError, match="could be drawn from real clips: still.mp4: frames look"):
        made.histogram()


def test_no_clip_at_all_is_an_error():
    with pytest.raises(ValueError, match="no clip to train on"):
        made_up.plan(real=[], procedural=[])


# ---- evaluation


def judged(keys, per_task, clip_at=made_up.clip_at):
    return eval_records(keys, clip_at, made_up.CFG, per_task)


@pytest.mark.parametrize("per_task", [4, 20, 50])
def test_evaluation_has_the_number_of_items_asked_for(per_task):
    items, lost = judged(made_up.keys("real"), per_task)
    assert Counter(item.record.task for item in items) == dict.fromkeys(TASKS, per_task)
    assert len({item.id for item in items}) == len(items)
    assert lost == []


def test_evaluation_items_come_from_all_clips_before_any_gives_a_second_pass():
    items, _ = judged(made_up.keys("real"), 36)  # 12 clips, 3 sets each
    assert {item.record.epoch for item in items} == {0}
    assert len({item.record.group for item in items}) == 1  # of the stand-ins
    assert set(Counter(item.key for item in items).values()) == {15}


def test_evaluation_takes_one_set_of_every_clip_before_a_second_of_any():
    items, _ = judged(made_up.keys("real"), 12)
    counting = [item for item in items if item.record.task == "counting"]
    assert len({item.key for item in counting}) == 12
    assert {item.record.set for item in counting} == {0}


def test_evaluation_gives_what_there_is_of_too_few_clips():
    items, _ = judged(["real/0"], 1000)
    assert set(Counter(item.record.task for item in items).values()) == {3 * 8}


def test_evaluation_lists_clips_that_gave_nothing():
    _, lost = judged(
        ["real/0", "still"], 30, lambda k: still(k) if k == "still" else made_up.clip_at(k)
    )
    assert [drop.video_id for drop in lost] == ["still.mp4"]
