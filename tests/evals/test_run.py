"""Scoring: what the controls hide, and that scores are those of the plain model."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from flax import nnx

from tests.data import made_up
from tests.models import tiny
from vjax.data.collate import Shape, collate
from vjax.data.items import FragmentItem, SceneItem
from vjax.evals.run import BLANK_UNITS, CONTROLS, blank, evaluate, no_order
from vjax.fragments import TASKS, make_records, render
from vjax.video.world import scene as scene_lib


@pytest.fixture(scope="module")
def items():
    """Fragment items of every task, variant, form and M, by suite; and scene questions."""
    found = {}
    for key in made_up.keys("real"):
        for epoch in range(3):
            for record in make_records(made_up.clip_at(key), made_up.CFG, epoch)[0]:
                kind = (record.task, record.variant, record.form, record.M)
                found.setdefault(kind, FragmentItem(record, key))
    assert {task for task, *_ in found} == set(TASKS) and len(found) > 40
    scene = scene_lib.sample_scene(5, "test", speed="normal")
    scenes = [
        SceneItem(scene, "procedural/0", task, fps, 6, seed=1)
        for task, fps in (("action", 10.0), ("effect", 3.0), ("speed", 2.0))
    ]
    return {"fragments": list(found.values()), "scene": scenes}


def prompts(items):
    return [item.prompt(made_up.clip_at) for item in items["fragments"] + items["scene"]]


def texts(prompt):
    return [value for kind, value in prompt.parts if kind == "text"]


# ---- controls


@pytest.mark.smoke
def test_blank_shows_as_many_units_whatever_was_shown(items):
    shown = set()
    for prompt in prompts(items):
        got = blank(prompt)
        kinds = [kind for kind, _ in got.parts]
        assert kinds.count("frame") == BLANK_UNITS
        assert kinds.count("image") == [kind for kind, _ in prompt.parts].count("image")
        shown.add([kind for kind, _ in prompt.parts].count("frame"))
    assert shown >= {2, 3, 4, 5}


@pytest.mark.smoke
def test_blank_shows_no_pixel_of_the_clip(items):
    for prompt in prompts(items):
        got = blank(prompt)
        images = made_up.chat().encode(got).images
        assert {(image.shape, *np.unique(image)) for image in images} == {((32, 32, 3), 127)}


@pytest.mark.smoke
@pytest.mark.parametrize("control", [blank, no_order])
def test_controls_keep_the_words_and_the_answers(items, control):
    for prompt in prompts(items):
        got = control(prompt)
        assert texts(got) == texts(prompt)
        assert (got.answer, got.candidates) == (prompt.answer, prompt.candidates)


@pytest.mark.smoke
def test_without_order_every_order_shown_gives_the_same_tokens_and_pictures(items):
    chat = made_up.chat()
    for item in items["fragments"]:
        record, clip = item.record, made_up.clip_at(item.key)
        if record.task not in ("disorder", "rearrangement"):
            continue
        seen = set()
        for shown in itertools.islice(itertools.permutations(range(record.M)), 24):
            other = render(dataclasses.replace(record, shown=list(shown)), clip)
            got = chat.encode(no_order(other), with_answer=False)
            seen.add((got.tokens.tobytes(), *(image.tobytes() for image in got.images)))
            assert len(got.images) == record.M and made_up.FRAME not in got.tokens
        assert len(seen) == 1


@pytest.mark.smoke
def test_without_order_a_query_still_follows_the_words(items):
    queries = [item for item in items["fragments"] if item.record.variant.startswith("query")]
    for item in queries:
        prompt = item.prompt(made_up.clip_at)
        got = no_order(prompt)
        query = prompt.parts[-2 if not item.record.options else -3]
        assert query[0] == "image" and query in got.parts[item.record.M :]


def test_none_is_no_control(items):
    prompt = prompts(items)[0]
    assert CONTROLS["none"](prompt) is prompt
    assert set(CONTROLS) == {"none", "blank", "no_order"}


# ---- scores


@pytest.fixture(scope="module")
def parts():
    return nnx.split(tiny.model(made_up.SPEC, seed=3))


def scored(parts, suites, batch_size, **options):
    done = []
    found = evaluate(
        suites,
        parts,
        made_up.chat(),
        made_up.clip_at,
        image_size=16,
        pad_token_id=made_up.PAD,
        batch_size=batch_size,
        on_batch=done.append,
        **options,
    )
    assert sum(done) == sum(map(len, suites.values()))
    return found


@pytest.fixture(scope="module")
def some(items):
    """A tenth of all, with each number of candidates that a bucket is for."""
    by_size = {}
    for item in items["fragments"]:
        by_size.setdefault(len(item.record.candidates), []).append(item)
    assert set(by_size) == {2, 3, 4, 5, 23, 119}
    return {
        "fragments": [item for of in by_size.values() for item in of[:2]][:-1],
        "scene": items["scene"],
    }


@pytest.fixture(scope="module")
def found(parts, some):
    return scored(parts, some, 4)


def test_results_come_in_the_order_of_the_items(found, some):
    for suite, items in some.items():
        assert [result.id for result in found[suite]] == [item.id for item in items]
        assert {result.suite for result in found[suite]} == {suite}
    assert [r.task for r in found["scene"]] == ["action", "effect", "speed"]
    assert [r.M for r in found["scene"]] == [6, 5, 4]
    for result in found["scene"]:
        assert len(result.options) == 4 and result.label in result.options


def direct(parts, item):
    """Log-probability of every candidate by full forward passes over prompt and candidate."""
    prompt = item.prompt(made_up.clip_at)
    chat = made_up.chat()
    scores = []
    for text in prompt.candidates:
        whole = chat.encode(dataclasses.replace(prompt, answer=text))
        shape = Shape(1, 160, 8, 16, chat.patches)
        batch = collate([[whole]], shape, pad_token_id=made_up.PAD)
        batch.pop("item")
        logp = jax.nn.log_softmax(forward(*parts, batch)[0])
        targets = np.asarray(whole.tokens[1:])
        said = np.asarray(logp)[np.arange(len(targets)), targets]
        counted = whole.answer[1:].copy()
        if prompt.options:
            counted[-1] = False  # the letter alone
        scores.append(said[counted].sum())
    return np.array(scores)


@functools.partial(jax.jit, static_argnums=0)
def forward(graphdef, state, batch):
    model = nnx.merge(graphdef, state)
    return model.decoder.logits(model(batch)[0])


def test_scores_are_those_of_full_forward_passes(parts, found, some):
    for suite, items in some.items():
        for item, result in zip(items, found[suite], strict=True):
            want = direct(parts, item)
            np.testing.assert_allclose(result.scores, want, rtol=1e-5, atol=1e-5, err_msg=item.id)


def test_scores_depend_on_neither_batch_size_nor_order(parts, found, some):
    few = {
        suite: [
            item for item in reversed(items) if len(item.prompt(made_up.clip_at).candidates) < 9
        ]
        for suite, items in some.items()
    }
    again = scored(parts, few, 3)
    for suite in few:
        by_id = {result.id: result for result in found[suite]}
        for result in again[suite]:
            want = by_id[result.id]
            np.testing.assert_allclose(result.scores, want.scores, rtol=1e-5, atol=1e-5)
            assert result.generated == want.generated


def test_under_blank_an_item_of_other_frames_scores_the_same(parts, some):
    """Two counting questions of the same words about different clips and numbers of frames."""
    record = next(x.record for x in some["fragments"] if x.record.task == "counting")
    others = [
        FragmentItem(dataclasses.replace(r, template=record.template), key)
        for key in made_up.keys("real")[3:6]
        for r in make_records(made_up.clip_at(key), made_up.CFG)[0]
        if r.task == "counting" and r.form == record.form and r.options == record.options
    ]
    assert len({item.record.M for item in others}) > 1
    results = scored(parts, {"a": others}, 4, control="blank")["a"]
    assert len({tuple(result.scores) for result in results}) == 1
