"""Dense with LoRA inside, norms, rotary positions, and the scan over stacked layers."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from vjax.families.spec import DecoderSpec
from vjax.families.text import plain_rope

ACTIVATIONS: dict[str, Callable] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
}


def settled(x: Array) -> Array:
    """x, with elementwise producers kept out of the transposed copies of XLA's CPU matmuls.

    In a profile on 2 CPU cores such copies took 40 to 80 ms each; with this they left it.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


@jax.custom_vjp
def matmul(x: Float[Array, "... I"], w: Float[Array, "I O"]) -> Float[Array, "... O"]:
    """x @ w, with a backward that suits CPUs too (see `settled`)."""
    return x @ w


def _matmul_bwd(res, dy):
    x, w = res
    dy = settled(dy)
    flat = settled(x).reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return dy @ w.T, jax.lax.dot_general(*flat, (((0,), (0,)), ((), ())))


matmul.defvjp(lambda x, w: (x @ w, (x, w)), _matmul_bwd)


class LoRAParam(nnx.Param):
    """An adapter matrix: the only variables that train when a config asks for LoRA."""


class Dense(nnx.Module):
    """y = x W + b, plus lora_scale drop(x) A B with an adapter (LoRA, arXiv 2106.09685, eq. 3).

    With a magnitude m, columns of W + lora_scale A B are scaled to length m (DoRA, arXiv
    2402.09353, eq. 5; their own length counts as constant, section 4.3).

    Attributes:
      kernel: [*stack, D_in, D_out]; bias: [*stack, D_out] or None.
      lora_a: [*stack, D_in, R], lora_b: [*stack, R, D_out], magnitude: [*stack, D_out], or None:
        see `vjax.models.lora.add`.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        axes: tuple[str, str],
        *,
        bias: bool,
        stack: tuple[int, ...],
        rngs,
    ):
        names = ("layers",) * len(stack)
        init = nnx.initializers.truncated_normal(stddev=d_in**-0.5)
        self.kernel = nnx.Param(init(rngs.params(), (*stack, d_in, d_out)), axes=(*names, *axes))
        self.bias = nnx.Param(jnp.zeros((*stack, d_out)), axes=(*names, "bias")) if bias else None
        self.lora_a: LoRAParam | None = nnx.data(None)
        self.lora_b: LoRAParam | None = nnx.data(None)
        self.magnitude: LoRAParam | None = nnx.data(None)
        self.lora_scale = 0.0
        self.lora_dropout = 0.0

    def __call__(self, x: Float[Array, "... I"], key: Array | None = None) -> Float[Array, "... O"]:
        """`key` draws the adapter's dropout; None switches it off."""
        drop = self.lora_dropout if key is not None else 0.0
        if self.lora_a is None:
            y = matmul(x, self.kernel[...].astype(x.dtype))
        elif drop == 0 and self.folding_pays(math.prod(x.shape[:-1])):
            low = matmul(self.lora_a[...], self.lora_b[...] * self.lora_scale)
            y = matmul(x, (self.kernel[...] + low).astype(x.dtype))
        else:
            h = x
            if drop > 0:
                keep = jax.random.bernoulli(key, 1 - drop, x.shape)
                h = jnp.where(keep, x / (1 - drop), 0)
            low = matmul(h, self.lora_a[...].astype(x.dtype))
            y = matmul(x, self.kernel[...].astype(x.dtype))
            y = y + matmul(low, self.lora_b[...].astype(x.dtype) * self.lora_scale)
        if self.magnitude is not None:
            stretch = self.magnitude[...] / jax.lax.stop_gradient(self.column_lengths())
            y = y * stretch.astype(x.dtype)
        if self.bias is not None:
            y = y + self.bias[...].astype(x.dtype)
        return y

    def folding_pays(self, rows: int) -> bool:
        """Whether x (W + A B) takes fewer products than x W + (x A) B, there and back.

        So it is where the rank is not small against the width: then the gradient of the whole
        kernel, which folding needs, costs less than three thin products for every row.
        """
        (*_, d_in, R), d_out = self.lora_a.shape, self.lora_b.shape[-1]
        return 3 * rows * R * (d_in + d_out) >= d_in * d_out * (rows + 3 * R)

    def adapted(self) -> Float[Array, "... I O"]:
        """W + lora_scale A B, in the kernel's dtype."""
        kernel = self.kernel[...]
        low = jnp.matmul(self.lora_a[...], self.lora_b[...], precision="highest")
        return (kernel + self.lora_scale * low).astype(kernel.dtype)

    def column_lengths(self) -> Float[Array, "... O"]:
        """Euclidean length of each column of `adapted`."""
        return jnp.linalg.norm(self.adapted().astype(jnp.float32), axis=-2)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis, in float32."""

    def __init__(self, width: int, eps: float, *, stack: tuple[int, ...]):
        axes = ("layers",) * len(stack) + ("norm",)
        self.scale = nnx.Param(jnp.ones((*stack, width)), axes=axes)
        self.bias = nnx.Param(jnp.zeros((*stack, width)), axes=axes)
        self.eps = eps

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        h = x.astype(jnp.float32)
        mean = h.mean(-1, keepdims=True)
        var = jnp.square(h - mean).mean(-1, keepdims=True)
        return (
            (h - mean) * jax.lax.rsqrt(var + self.eps) * self.scale[...] + self.bias[...]
        ).astype(x.dtype)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation over the last axis, in float32 (Qwen2RMSNorm)."""

    def __init__(self, width: int, eps: float, *, stack: tuple[int, ...]):
        self.scale = nnx.Param(jnp.ones((*stack, width)), axes=("layers",) * len(stack) + ("norm",))
        self.eps = eps

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        h = x.astype(jnp.float32)
        h = h * jax.lax.rsqrt(jnp.square(h).mean(-1, keepdims=True) + self.eps)
        return (h * self.scale[...]).astype(x.dtype)


NORMS = {"layer": LayerNorm, "rms": RMSNorm}


class GatedMlp(nnx.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(
        self, width: int, ffn: int, *, bias: bool, act: str = "silu", stack: tuple[int, ...], rngs
    ):
        self.act = act
        for name, into, out, axes in (
            ("gate", width, ffn, ("embed", "ffn")),
            ("up", width, ffn, ("embed", "ffn")),
            ("down", ffn, width, ("ffn", "embed")),
        ):
            setattr(self, name, Dense(into, out, axes, bias=bias, stack=stack, rngs=rngs))

    def __call__(self, x: Float[Array, "... D"], key: Array | None) -> Float[Array, "... D"]:
        return self.down(ACTIVATIONS[self.act](self.gate(x, key)) * self.up(x, key), key)


def rope_frequencies(spec: DecoderSpec) -> Float[np.ndarray, " F"]:
    """Radians a position, float32, of each pair of channels (transformers' modeling_rope_utils)."""
    spec = plain_rope(spec)
    half = np.arange(0, spec.head_dim, 2, dtype=np.float32) / np.float32(spec.head_dim)
    freq = (1.0 / np.float32(spec.rope_theta) ** half).astype(np.float32)
    scaling = spec.rope_scaling
    if scaling is None or scaling.kind == "dynamic":
        return freq
    if scaling.kind == "linear":
        return freq / np.float32(scaling.factor)
    # llama3: wavelengths beyond the old context are stretched, short ones stay, a blend between
    turns = scaling.original_length * freq / (2 * np.pi)
    keep = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0, 1)
    return (freq * (keep + (1 - keep) / scaling.factor)).astype(np.float32)


def rope_table(
    spec: DecoderSpec, positions: Int[Array, "B T"] | Int[Array, "B T 3"]
) -> tuple[Array, Array]:
    """cos and sin, float32 [B, T, H], of rotary angles, rotate-half (Qwen2RotaryEmbedding).

    Positions of three numbers are time, height and width: each frequency follows the one that
    `spec.mrope` deals it to (Qwen2VLRotaryEmbedding, or, in turns, Qwen3VLTextRotaryEmbedding). A
    text position is three equal numbers.
    """
    check_length(spec, positions.shape[1])
    freq = jnp.asarray(rope_frequencies(spec))
    if positions.ndim == 3:
        axis = np.repeat(np.arange(3), spec.mrope)
        if spec.interleaved:
            axis = np.zeros_like(axis)
            for n in (1, 2):
                axis[n : 3 * spec.mrope[n] : 3] = n
        angle = positions[..., axis].astype(jnp.float32) * freq
    else:
        angle = positions[..., None].astype(jnp.float32) * freq
    angle = jnp.concatenate([angle, angle], axis=-1)
    return jnp.cos(angle), jnp.sin(angle)


def check_length(spec: DecoderSpec, length: int):
    """Raises ValueError for rows of more tokens than rotary positions are right for."""
    scaling = spec.rope_scaling
    if scaling and scaling.kind == "dynamic" and length > scaling.original_length:
        raise ValueError(
            f"rows of {length} tokens: dynamic rotary positions are computed up to "
            f"{scaling.original_length}"
        )


def axial_rope_table(hw: Int[Array, "V P 2"], head_dim: int, theta: float) -> tuple[Array, Array]:
    """cos and sin, float32 [V, P, H]: half of the frequencies follow rows, half columns.

    Qwen2VLVisionRotaryEmbedding.
    """
    half = np.arange(0, head_dim // 2, 2, dtype=np.float32) / np.float32(head_dim // 2)
    freq = 1.0 / np.float32(theta) ** half
    angle = (hw[..., None].astype(jnp.float32) * freq).reshape(*hw.shape[:-1], -1)
    angle = jnp.concatenate([angle, angle], axis=-1)
    return jnp.cos(angle), jnp.sin(angle)


def apply_rope(x: Float[Array, "B T N H"], table: tuple[Array, Array]) -> Float[Array, "B T N H"]:
    """Rotates each head by its position."""
    cos, sin = (t[:, :, None].astype(x.dtype) for t in table)
    half = x.shape[-1] // 2
    turned = jnp.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    return x * cos + turned * sin


def layer_keys(key: Array | None, layers: int) -> Array | None:
    """One dropout key a layer, or None."""
    return None if key is None else jax.random.split(key, layers)


def scan_layers(
    layers: nnx.Module,
    body: Callable,
    x,
    extras=None,
    *,
    remat: bool = False,
    first: int = 0,
    length: int | None = None,
):
    """Runs `x, y = body(layer, x, extra)` over a module whose variables are stacked on axis 0.

    Args:
      layers: module with leading layer axes.
      body: takes one layer (unstacked), the carry, and that layer's slice of `extras`.
      extras: pytree stacked over the layers that run, or None.
      remat: recompute each layer on the way back.
      first, length: run layers first ... length - 1; all where None.

    Returns:
      The last carry and the stacked y.
    """
    graphdef, state = nnx.split(layers)
    if length is not None:
        state = jax.tree.map(lambda leaf: leaf[first:length], state)

    def step(carry, xs):
        layer_state, extra = xs
        return body(nnx.merge(graphdef, layer_state), carry, extra)

    if remat:
        step = jax.checkpoint(step)
    return jax.lax.scan(step, x, (state, extras))
