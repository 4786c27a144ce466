"""Prompts of video and text, tiny models that read them, and what they answer."""

import dataclasses

import numpy as np
from flax import nnx

from tests.attention.dense import jit
from tests.models import tiny
from vjax.families.spec import ProjectorSpec
from vjax.generate import candidate_logprobs, greedy, prefill
from vjax.generate.answer import UNREAD

FRAME = [tiny.FRAME, *[tiny.IMAGE] * 4]
# frames across the borders of chunks, a row without a prompt, one of text alone
ROWS = [[7, 8, *FRAME, 9, *FRAME, 10], [], [12, *FRAME, 13, 14], [20, 21, 22]]
T, NEW = 20, 8
CANDIDATES = [
    [[30], [31, 32], [31, 33, 2]],
    [[30, 2], [40, 41, 42]],
    [[44, 2], [45]],
    [[46, 47, 48], [49, 2]],
]
PLAIN = tiny.spec(tied=False, kv_heads=2)
# three numbers a position, features of the tower behind the first layers (as Qwen3-VL), a window
DEEP = dataclasses.replace(
    PLAIN,
    vision=dataclasses.replace(
        PLAIN.vision,
        layers=2,
        select_layer=-1,
        patch_size=4,
        merge=2,
        position="rope2d",
        table_side=3,
        taps=(0, 1),
    ),
    projector=ProjectorSpec(kind="deepstack", merge=2, norm=True),
    text=dataclasses.replace(
        PLAIN.text, layers=3, mrope=(2, 1, 1), interleaved=True, qk_norm=True, window=9
    ),
)
SPECS = {"plain": PLAIN, "deep": DEEP}


def candidates():
    """Tokens and mask [4, 3, 3]."""
    tokens, mask = np.zeros((4, 3, 3), np.int32), np.zeros((4, 3, 3), bool)
    for b, row in enumerate(CANDIDATES):
        for c, candidate in enumerate(row):
            tokens[b, c, : len(candidate)] = candidate
            mask[b, c, : len(candidate)] = True
    return tokens, mask


def prompts(kind: str) -> dict[str, np.ndarray]:
    """The batch; `deep` has grids of positions and vision tokens that are sums of two."""
    batch = tiny.batch(ROWS, T)
    batch = {name: x for name, x in batch.items() if name not in UNREAD}
    if kind == "deep":
        index = batch["vision_index"]
        grid = np.stack([0 * index, index % 4 // 2, index % 2], axis=-1) * (index >= 0)[..., None]
        batch["rope_positions"] = batch["positions"][..., None] + grid.astype(np.int32)
        other = np.where(index >= 0, index ^ 1, -1)
        batch["vision_index"] = np.stack([index, other], axis=-1)
        batch["vision_weight"] = np.tile(np.float32([0.75, 0.25]), (*index.shape, 1))
    return batch


def answers(model, batch, *, chunk: int = 0, place=lambda state: state):
    """Logits behind each prompt, log-probabilities of the candidates, greedy tokens."""
    graphdef, state = nnx.split(model)

    def read(state, batch, tokens, mask):
        model = nnx.merge(graphdef, state)
        prompt = prefill(model, batch, chunk=chunk, room=NEW)
        scores = candidate_logprobs(model, prompt, tokens, mask)
        return prompt.logits, scores, greedy(model, prompt, NEW)

    return jit(read)(place(state), batch, *candidates())


def agree(got, want):
    """The row without a prompt has logits that mean nothing, and is scored all the same."""
    real = [bool(row) for row in ROWS]
    for g, w in zip(got[:2], want[:2], strict=True):
        np.testing.assert_allclose(np.asarray(g)[real], np.asarray(w)[real], atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(got[2], want[2])
    assert not np.isnan(got[0]).any() and not np.isnan(got[1]).any()
