"""What every task must hold."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from tests.fragments.clips import CFG, clip_of, moving_squares, named
from vjax.fragments import TASKS, Record, make_records, render

TASK = pytest.mark.parametrize("task", TASKS)
LABELS = {"consistency": 2, "disorder": 2, "counting": 3}


def texts(prompt):
    return [value for kind, value in prompt.parts if kind == "text"]


def rendered(record, clip):
    return render(record, named(clip, record.video_id))


def same_pixels(a, b):
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def uniform(counts, n):
    """Whether n equally likely values could give these counts (p > 1e-4 by chi-square)."""
    observed = sorted(counts.values()) + [0] * (n - len(counts))
    return len(counts) <= n and chisquare(observed).pvalue > 1e-4


def test_every_set_gives_one_item_of_each_task(records):
    per_set = Counter((r.video_id, r.set) for r in records)
    assert len(per_set) == 1200 and set(per_set.values()) == {5}
    assert len({r.id for r in records}) == len(records)


def test_ids_and_windows(clip):
    made, _ = make_records(clip, CFG, epoch=3)
    record = made[0]
    assert record.id == "a/b.mp4#500-3000/0/counting/3"
    assert record.window == [0.5, 3.0] and record.epoch == 3
    assert make_records(named(clip, "v.mp4"), CFG)[0][0].window is None


def test_index_and_time_are_the_sources(records):
    for record in records:
        assert record.index == sorted(record.index) and len(record.index) == record.M
        assert record.time == [i / 25.0 for i in record.index]


def test_a_fresh_process_in_another_order_makes_the_same_records(clip):
    names = [f"{n}.mp4" for n in range(6)]
    here = {r.id: r.to_json() for n in names for r in make_records(named(clip, n), CFG, 2)[0]}
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "import tests.fragments.clips as c; from vjax.fragments import make_records\n"
        "clip = c.clip_of(c.moving_squares())\n"
        "names = json.loads(sys.argv[2])[::-1]\n"
        "made = [r for n in names for r in make_records(c.named(clip, n), c.CFG, 2)[0]]\n"
        "print(json.dumps({r.id: r.to_json() for r in made}))"
    )
    folder = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", code, folder, json.dumps(names)]
    there = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(there) == here


@TASK
def test_rendering_is_bit_identical_also_from_json(of_task, clip, task):
    for record in of_task(task)[:60]:
        first = rendered(record, clip)
        for again in (record, Record.from_json(record.to_json())):
            prompt = rendered(again, clip)
            assert prompt.parts == first.parts and same_pixels(prompt.images, first.images)
            assert (prompt.answer, prompt.candidates) == (record.answer, tuple(record.candidates))


@TASK
def test_images_are_whole_uint8_and_in_order(of_task, clip, task):
    for record in of_task(task)[:60]:
        prompt = rendered(record, clip)
        assert all(i.shape == (96, 96, 3) and i.dtype == np.uint8 for i in prompt.images)
        used = [value for kind, value in prompt.parts if kind != "text"]
        assert used == list(range(len(prompt.images)))
        kinds = [kind for kind, _ in prompt.parts]
        shown = len(record.shown)
        assert kinds[:shown] == ["frame"] * shown and "frame" not in kinds[shown:]


@pytest.mark.parametrize("task", ["counting", "disorder", "rearrangement"])
def test_unedited_frames_are_views_in_the_order_shown(of_task, clip, task):
    for record in of_task(task)[:60]:
        prompt = rendered(record, clip)
        rows = [(record.index[p] - 10) // 2 for p in record.shown]
        assert same_pixels(prompt.images, [clip.frames[row] for row in rows])
        assert all(np.shares_memory(image, clip.frames) for image in prompt.images)


def test_M_gives_three_unit_counts(of_task, clip):
    units = defaultdict(set)
    for record in of_task("counting")[:60]:
        kinds = [kind for kind, _ in rendered(record, clip).parts]
        units[record.M].add(kinds.count("frame"))
    assert units == {3: {3}, 4: {4}, 5: {5}}


@TASK
def test_answers_are_candidates_at_the_stated_chance(of_task, task):
    for r in of_task(task):
        assert r.answer in r.candidates and len(set(r.candidates)) == len(r.candidates)
        assert r.chance == 1 / len(r.candidates)
        if r.form == "mcq":
            assert r.candidates == list("ABCDE"[: len(r.options)])
            assert len(set(r.options)) == len(r.options)
        else:
            assert r.options == []


@pytest.mark.parametrize(
    "task, mcq, short",
    [
        ("counting", {3: 3, 4: 3, 5: 3}, {3: 3, 4: 3, 5: 3}),
        ("consistency", {3: 2, 4: 2, 5: 2}, {3: 2, 4: 2, 5: 2}),
        ("localization", {3: 3, 4: 4, 5: 5}, {3: 3, 4: 4, 5: 5}),
        ("disorder", {3: 2, 4: 2, 5: 2}, {3: 2, 4: 2, 5: 2}),
        ("rearrangement", {3: 4, 4: 4, 5: 4}, {3: 5, 4: 23, 5: 119}),
    ],
)
def test_number_of_answers_by_M(of_task, task, mcq, short):
    for form, expected in (("mcq", mcq), ("short", short)):
        found = {M: {len(r.candidates) for r in of_task(task, form=form, M=M)} for M in (3, 4, 5)}
        assert found == {M: {n} for M, n in expected.items()}


@TASK
def test_letters_forms_and_templates_are_uniform(of_task, task):
    records = of_task(task)
    assert uniform(Counter(r.form for r in records), 2)
    assert uniform(Counter(r.template for r in records), 5)
    for M in (3, 4, 5):
        mcq = of_task(task, form="mcq", M=M)
        assert uniform(Counter(r.answer for r in mcq), len(mcq[0].options))


@TASK
def test_labels_are_uniform(of_task, task):
    for M in (3, 4, 5):
        if task == "counting":
            assert Counter(r.label for r in of_task(task, M=M)) == {str(M): 400}
            continue
        n = LABELS.get(task, M) if task != "rearrangement" else {3: 5, 4: 23, 5: 119}[M]
        assert uniform(Counter(r.label for r in of_task(task, M=M)), n)


@pytest.mark.parametrize("share, forms", [(1.0, {"mcq"}), (0.0, {"short"})])
def test_config_forces_a_form(clip, share, forms):
    made, _ = make_records(clip, dataclasses.replace(CFG, mcq_share=share))
    assert {r.form for r in made} == forms


@TASK
def test_templates_are_short_plain_and_without_numbers(task):
    module = TASKS[task]
    counts = {"one", "two", "three", "four", "five", "both", "pair", "couple"}
    for templates in module.TEMPLATES.values():
        assert len(set(templates)) >= 5
        for text in (*templates, module.INSTRUCTION):
            assert not any(c.isdigit() for c in text), text
            words = text.lower().rstrip("?.").split()
            assert len(words) <= 12 and not counts & set(words), text


@TASK
def test_text_says_no_digit_outside_of_options(of_task, clip, task):
    for record in of_task(task)[:100]:
        parts = texts(rendered(record, clip))
        if record.form == "mcq":
            expected = "".join(f"\n{a}. {t}" for a, t in zip("ABCDE", record.options, strict=False))
            assert parts.pop(1) == expected
            assert parts[-1] == "\nAnswer with the letter."
        assert len(parts) == 2 and not any(c.isdigit() for c in "".join(parts))


@TASK
def test_blank_frames_leave_the_text_as_it_is(of_task, clip, task):
    blank = dataclasses.replace(clip, frames=np.zeros_like(clip.frames))
    for record in of_task(task)[:100]:
        assert rendered(record, clip).parts == rendered(record, blank).parts


@TASK
def test_text_alone_does_not_tell_the_answer(of_task, clip, task):
    """The commonest answer to each text in one half of the items is no good on the other half.

    Options count as a set; the number of frames, which is seen, is known as well but for counting.
    """
    records = of_task(task)
    seen = defaultdict(Counter)

    def key(record):
        question = TASKS[task].TEMPLATES[record.variant][record.template]
        M = 0 if task == "counting" else record.M
        return question, record.form, M, tuple(sorted(record.options))

    half = len(records) // 2
    for record in records[:half]:
        seen[key(record)][record.label] += 1
    hits = []
    for record in records[half:]:
        known = seen[key(record)].most_common(1)
        hits.append(bool(known) and known[0][0] == record.label)
    chance = np.mean([r.chance for r in records[half:]])
    spread = np.sqrt(chance * (1 - chance) / len(hits))
    assert np.mean(hits) < chance + 4 * spread


def test_another_file_under_the_same_name_is_an_error(records, clip):
    other = named(clip, records[0].video_id)
    other = dataclasses.replace(other, table=dataclasses.replace(other.table, content_hash="1"))
    with pytest.raises(ValueError, match="make the records anew"):
        render(records[0], other)


def test_a_frame_the_clip_does_not_have_is_an_error(records, clip):
    record = dataclasses.replace(records[0], index=[10, 11, 999], shown=[0, 1, 2])
    with pytest.raises(ValueError, match=r"source frames \[11, 999\]"):
        rendered(record, clip)


def test_an_unknown_task_is_an_error(records, clip):
    with pytest.raises(ValueError, match="task 'naming' is none of counting"):
        rendered(dataclasses.replace(records[0], task="naming"), clip)


def test_a_dropped_clip_gives_no_records():
    still = clip_of(moving_squares()[:1].repeat(30, 0))
    made, drop = make_records(still, CFG)
    assert made == [] and drop.video_id == still.table.video_id
