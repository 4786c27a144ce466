"""cuDNN's attention: what reaches it, and, where there is a GPU, what comes of it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attention import dense
from vjax.attention import Mask, attend, cudnn

B, T, N, K, H = 2, 256, 8, 2, 64
IDS = np.repeat([[1, 1, 2, 0], [1, 2, 2, 3]], T // 4, axis=1)
SEGMENTS = {"q_segments": IDS, "kv_segments": IDS}
MASKS = {
    "everything": {},
    "causal": {"causal": True},
    "window": {"causal": True, "window": 32},
    "packed": {"causal": True, **SEGMENTS},
    "packed window": {"causal": True, "window": 32, **SEGMENTS},
    "packed, not causal": SEGMENTS,
    "positions": {"causal": True, "q_positions": IDS, "kv_positions": IDS},
}


@pytest.fixture
def as_if_on_a_gpu(monkeypatch):
    from jax._src.cudnn import fused_attention_stablehlo as checks

    monkeypatch.setattr(checks, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(checks, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(checks, "is_cuda_compute_capability_equal", lambda capability: False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.mark.parametrize(
    ("name", "call", "mask_type", "window"),
    [
        ("everything", "fmhaSoftmax", "NO_MASK", 0),
        ("causal", "fmhaSoftmax", "CAUSAL", 0),
        ("window", "fmhaSoftmax", "CAUSAL", 32),
        ("packed", "fmhaScaleBiasSoftmax", "CAUSAL", 0),
        ("positions", "fmhaScaleBiasSoftmax", "NO_MASK", 0),
    ],
)
def test_a_program_for_gpus_calls_its_kernels(as_if_on_a_gpu, name, call, mask_type, window):
    def loss(q, k, v):
        out = attend(q, k, v, dense.as_mask(MASKS[name]), backend="cudnn")
        return out.astype(jnp.float32).sum()

    shapes = (jax.ShapeDtypeStruct((B, T, heads, H), "bfloat16") for heads in (N, K, K))
    traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*shapes)
    text = traced.lower(lowering_platforms=("cuda",)).as_text().replace(r"\22", '"')
    assert re.findall(r"@__cudnn\$(\w+)", text) == [call, f"{call}Backward"]
    assert set(re.findall(r'"mask_type": "(\w+)', text)) == {mask_type}
    assert set(re.findall(r'"sliding_window_length": (\d+)', text)) == {str(window)}


@pytest.mark.parametrize(
    ("q", "mask", "error"),
    [
        (jnp.zeros((1, 8, 2, 64)), Mask(), "bfloat16 or float16, not float32"),
        (jnp.zeros((1, 8, 2, 192), "bfloat16"), Mask(), "head size of at most 128 .* not 192"),
        (jnp.zeros((1, 7, 2, 64), "bfloat16"), Mask(causal=True), "even lengths, not 7 and 7"),
    ],
)
def test_what_it_cannot_take(monkeypatch, q, mask, error):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ValueError, match=f"'cudnn' needs .*{error}"):
        attend(q, q, q, mask, backend="cudnn")


def test_a_dense_mask_of_a_long_row_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    q = jax.ShapeDtypeStruct((1, 16384, 2, 64), jnp.bfloat16)
    ids = jax.ShapeDtypeStruct((1, 16384), jnp.int32)
    assert "a shorter row" in cudnn.lacks(q, q, Mask(q_segments=ids, kv_segments=ids))
    assert cudnn.lacks(q, q, Mask(causal=True)) == ""


@pytest.mark.skipif(
    jax.default_backend() != "gpu",
    reason="cuDNN's kernels run on NVIDIA GPUs alone: here they are called, and never run",
)
@pytest.mark.parametrize("fields", MASKS.values(), ids=MASKS.keys())
def test_equals_dense_attention_there_and_back(fields):
    q, k, v, dout = (jnp.asarray(x, jnp.bfloat16) for x in dense.arrays(B, T, N, K, H))
    mask = dense.as_mask(fields)
    out, back = jax.vjp(lambda *a: attend(*a, mask, backend="cudnn"), q, k, v)
    got = (out, *back(dout))
    want = dense.attention(q, k, v, dense.see(B, T, T, **fields), dout=dout)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g.astype("float32"), w, atol=0.02 * np.abs(w).max())
