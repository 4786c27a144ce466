"""Videos through convolutions: a stage over each frame, one over time and space, another stage.

The STC connector of VideoLLaMA2 (arXiv 2406.07476, section 3.1). Stages are RegNet's (arXiv
2003.13678) with squeeze and excitation (arXiv 1709.01507), layer norms over channels and groups of
one channel, as timm's `RegStage` makes them by default.
"""

import math

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float

from vjax.families.spec import ModelSpec
from vjax.models.layers import ACTIVATIONS, Dense, LayerNorm

NORM_EPS = 1e-5
SQUEEZE = 0.25  # of a block's input, between the linear layers of its gate


class Conv(nnx.Module):
    """A convolution with zeros around, channels last.

    Attributes:
      kernel: [D_out, D_in / groups, *size], as torch has it.
    """

    def __init__(
        self, d_in: int, d_out: int, size: tuple[int, ...], *, groups: int = 1,
        stride: tuple[int, ...] = (), padding: int = 0, bias: bool = False, rngs: nnx.Rngs,
    ):  # fmt: skip
        shape = (d_out, d_in // groups, *size)
        init = nnx.initializers.truncated_normal(stddev=math.prod(shape[1:]) ** -0.5)
        axes = ("ffn", "embed", *["patch"] * len(size))
        self.kernel = nnx.Param(init(rngs.params(), shape), axes=axes)
        self.bias = nnx.Param(jnp.zeros((d_out,)), axes=("bias",)) if bias else None
        self.groups, self.stride, self.padding = groups, stride or (1,) * len(size), padding

    def __call__(self, x: Float[Array, "N *S I"]) -> Float[Array, "N *S2 O"]:
        place = "THW"[-len(self.stride) :]
        y = jax.lax.conv_general_dilated(
            x, self.kernel[...].astype(x.dtype), self.stride,
            [(self.padding, self.padding)] * len(self.stride), feature_group_count=self.groups,
            dimension_numbers=(f"N{place}C", f"OI{place}", f"N{place}C"),
        )  # fmt: skip
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class Block(nnx.Module):
    """A residual bottleneck: 1 x 1, 3 x 3 of each channel alone, a gate over channels, 1 x 1."""

    def __init__(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        few = round(d_in * SQUEEZE)
        self.conv1 = Conv(d_in, d_out, (1, 1), rngs=rngs)
        self.conv2 = Conv(d_out, d_out, (3, 3), groups=d_out, padding=1, rngs=rngs)
        self.squeeze = Conv(d_out, few, (1, 1), bias=True, rngs=rngs)
        self.excite = Conv(few, d_out, (1, 1), bias=True, rngs=rngs)
        self.conv3 = Conv(d_out, d_out, (1, 1), rngs=rngs)
        for name in ("norm1", "norm2", "norm3"):
            setattr(self, name, LayerNorm(d_out, NORM_EPS, stack=()))
        self.shortcut = self.shortcut_norm = nnx.data(None)
        if d_in != d_out:
            self.shortcut = Conv(d_in, d_out, (1, 1), rngs=rngs)
            self.shortcut_norm = LayerNorm(d_out, NORM_EPS, stack=())

    def __call__(self, x: Float[Array, "N H W D"]) -> Float[Array, "N H W E"]:
        y = jax.nn.silu(self.norm1(self.conv1(x)))
        y = jax.nn.silu(self.norm2(self.conv2(y)))
        gate = jax.nn.silu(self.squeeze(y.mean((1, 2), keepdims=True)))
        y = y * jax.nn.sigmoid(self.excite(gate))
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x))
        return jax.nn.silu(self.norm3(self.conv3(y)) + x)


class Stage(nnx.Module):
    """Blocks b1, b2, ..., of which the first may change the width."""

    def __init__(self, d_in: int, d_out: int, depth: int, *, rngs: nnx.Rngs):
        self.names = tuple(f"b{n + 1}" for n in range(depth))
        for n, name in enumerate(self.names):
            setattr(self, name, Block(d_out if n else d_in, d_out, rngs=rngs))

    def __call__(self, x: Float[Array, "N H W D"]) -> Float[Array, "N H W E"]:
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class Connector(nnx.Module):
    """Stage, convolution over time and space, stage, two linear layers.

    A frame shown alone is a video of as many equal ones as the convolution steps over.
    """

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        options, D, E = spec.projector, spec.vision.width, spec.text.width
        self.s1 = Stage(D, E, options.depth, rngs=rngs)
        self.sampler = Conv(
            E, E, options.stride, stride=options.stride, padding=options.padding, bias=True,
            rngs=rngs,
        )  # fmt: skip
        self.s2 = Stage(E, E, options.depth, rngs=rngs)
        self.fc1 = Dense(E, E, ("embed", "ffn"), bias=True, stack=(), rngs=rngs)
        self.fc2 = Dense(E, E, ("ffn", "embed"), bias=True, stack=(), rngs=rngs)
        self.act = options.act

    def clips(self, x: Float[Array, "N T P D"], key: Array | None = None) -> Float[Array, "N Q E"]:
        """Videos of square grids of patches; tokens by time, then row, then column."""
        N, side = len(x), math.isqrt(x.shape[2])
        x = self.s1(rearrange(x, "n t (h w) d -> (n t) h w d", h=side))
        return self._joined(rearrange(x, "(n t) h w d -> n t h w d", n=N), key)

    def frames(self, x: Float[Array, "V P D"], key: Array | None = None) -> Float[Array, "V Q E"]:
        """Each a video of its own."""
        x = self.s1(rearrange(x, "v (h w) d -> v h w d", h=math.isqrt(x.shape[1])))
        return self._joined(repeat(x, "v h w d -> v t h w d", t=self.sampler.stride[0]), key)

    stills = frames

    def _joined(self, x: Float[Array, "N T H W E"], key: Array | None) -> Float[Array, "N Q E"]:
        x = jax.nn.silu(self.sampler(x))
        N, T = x.shape[:2]
        x = self.s2(rearrange(x, "n t h w d -> (n t) h w d"))
        x = rearrange(x, "(n t) h w d -> n (t h w) d", n=N, t=T)
        return self.fc2(ACTIVATIONS[self.act](self.fc1(x, key)), key)
