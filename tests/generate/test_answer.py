"""Scores and greedy text from one prefill, against whole forward passes and transformers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from vjax.generate import answer, candidate_logprobs, prefill, score
from vjax.generate.answer import UNREAD
from vjax.interop import save_model

pytestmark = pytest.mark.smoke

FRAME = [tiny.FRAME, *[tiny.IMAGE] * 4]
ROWS = [[7, 8, *FRAME, 9, *FRAME, 10], [12, *FRAME, 13, 14], [20, 21, 22]]
T, C, A, N = 20, 5, 4, 8
# rows have 5, 3 and 1 candidates of 1 to 4 tokens
CANDIDATES = [
    [[30], [31, 32], [31, 33, 2], [34, 35, 36, 37], [31, 32, 2]],
    [[30, 2], [40, 41, 42, 2], [43]],
    [[44, 2]],
]
END = 12  # row 0 comes to it soon, row 2 does not
# untied: a tied random model repeats itself
MODEL = tiny.model(dataclasses.replace(tiny.spec(tied=False, kv_heads=2), end_token_id=END))
PARTS = nnx.split(MODEL)


def pad(candidates):
    tokens, mask = np.zeros((len(candidates), C, A), np.int32), np.zeros((len(candidates), C, A))
    for b, row in enumerate(candidates):
        for c, candidate in enumerate(row):
            tokens[b, c, : len(candidate)] = candidate
            mask[b, c, : len(candidate)] = 1
    return tokens, mask > 0


def prompts():
    return tiny.batch(ROWS, T)


@pytest.fixture(scope="module")
def answered():
    scores, generated = answer(PARTS, prompts(), pad(CANDIDATES), N)
    return np.asarray(scores), np.asarray(generated)


@jax.jit
def whole_logits(state, batch):
    model = nnx.merge(PARTS[0], state)
    return model.decoder.logits(model(batch)[0])


def whole(texts):
    """log-probabilities [row, T + N, vocab] of forward passes over (row, tokens that follow it)."""
    batch = prompts()
    rows = [r for r, _ in texts]
    longer = {
        k: np.zeros((len(rows), T + N), np.int32) for k in batch if k not in (*UNREAD, "images")
    }
    longer["vision_index"] -= 1
    for i, (r, more) in enumerate(texts):
        n = len(ROWS[r])
        longer["tokens"][i, : n + len(more)] = ROWS[r] + more
        longer["positions"][i] = np.arange(T + N)
        longer["segment_ids"][i, : n + len(more)] = 1
        longer["vision_index"][i, :n] = batch["vision_index"][r, :n]
    logits = whole_logits(PARTS[1], longer | {"images": batch["images"]})
    return np.asarray(jax.nn.log_softmax(logits))


def test_scores_equal_whole_forward_passes(answered):
    texts = [(r, candidate) for r, row in enumerate(CANDIDATES) for candidate in row]
    logp = whole(texts)
    want = np.full((len(ROWS), C), -np.inf, np.float32)
    at = 0
    for r, row in enumerate(CANDIDATES):
        for c, candidate in enumerate(row):
            n = len(ROWS[r])
            want[r, c] = sum(logp[at, n - 1 + i, token] for i, token in enumerate(candidate))
            at += 1
    np.testing.assert_allclose(answered[0], want, atol=1e-5, rtol=1e-5)


def test_generated_tokens_are_the_best_of_whole_forward_passes(answered):
    texts = [(r, list(map(int, tokens))) for r, tokens in enumerate(answered[1])]
    ends = []
    for (r, tokens), logp in zip(texts, whole(texts), strict=True):
        start = len(ROWS[r]) - 1
        best = list(logp[start : start + N].argmax(axis=-1))
        ends.append(best.index(END) + 1 if END in best else N)
        assert tokens == best[: ends[-1]] + [tiny.PAD] * (N - ends[-1])
    assert min(ends) < N == max(ends)  # both kinds were seen


def test_small_groups_score_the_same(answered, monkeypatch):
    monkeypatch.setattr(score, "TOKENS", 2 * len(ROWS) * A)  # two candidates a group

    @jax.jit
    def scores(state, batch, tokens, mask):
        model = nnx.merge(PARTS[0], state)
        return candidate_logprobs(model, prefill(model, batch), tokens, mask)

    batch = {name: x for name, x in prompts().items() if name not in UNREAD}
    got = scores(PARTS[1], batch, *pad(CANDIDATES))
    np.testing.assert_allclose(got, answered[0], atol=1e-6, rtol=1e-6)


def test_candidates_of_one_token(answered):
    letters = [[[30], [31]], [[30], [31]], [[44], [31]]]
    tokens, mask = (x[:, :2, :1] for x in pad(letters))
    scores, generated = answer(PARTS, prompts(), (tokens, mask), 0)
    want = whole([(r, []) for r in range(3)])
    for r, row in enumerate(letters):
        expected = [want[r, len(ROWS[r]) - 1, token] for (token,) in row]
        np.testing.assert_allclose(scores[r], expected, atol=1e-5)
    assert generated.shape == (3, 0)


def test_other_rows_and_their_padding_change_nothing(answered):
    """Row 1 among others: a longer neighbour, and a hole."""
    batch = prompts()
    longer = tiny.batch([ROWS[0] + [50] * 6, ROWS[1], []], T)
    batch |= {name: longer[name] for name in longer if name != "images"}
    scores, generated = answer(PARTS, batch, pad(CANDIDATES), N)
    np.testing.assert_allclose(scores[1], answered[0][1], atol=1e-6)
    np.testing.assert_array_equal(generated[1], answered[1][1])
    assert not np.isnan(scores).any()
    np.testing.assert_array_equal(generated[2], np.full(N, tiny.PAD))  # the hole


def test_greedy_equals_generate_of_transformers(answered, tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch

    save_model(tmp_path, MODEL, dtype="float32")
    theirs = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path)
    batch = prompts()
    pixels = batch["images"].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    used = 0
    for r, row in enumerate(ROWS):
        images = row.count(tiny.IMAGE) // 4
        shown = {"pixel_values": torch.from_numpy(pixels[used : used + images])} if images else {}
        used += images
        ids = torch.tensor([row])
        out = theirs.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **shown,
            max_new_tokens=N,
            do_sample=False,
        )[0, len(row) :].numpy()
        np.testing.assert_array_equal(answered[1][r][: len(out)], out)
        np.testing.assert_array_equal(answered[1][r][len(out) :], tiny.PAD)


def test_types_in_bfloat16():
    """The loop's carry and the caches keep their dtypes; only shapes are worked out here."""
    batch = {name: x for name, x in prompts().items() if name not in UNREAD}
    scores, generated = jax.eval_shape(
        lambda state, batch, candidates: answer(
            (PARTS[0], state), batch, candidates, N, dtype=jnp.bfloat16
        ),
        PARTS[1],
        batch,
        pad(CANDIDATES),
    )
    assert (scores.dtype, generated.dtype) == (jnp.float32, jnp.int32)


def test_compiled_once_per_shape(answered):
    from vjax.generate.answer import _answer

    before = _answer._cache_size()
    answer(PARTS, tiny.batch(ROWS, T, seed=1), pad(CANDIDATES[::-1]), N)
    assert _answer._cache_size() == before
