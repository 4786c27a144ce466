"""Two linear layers over a patch or a block of patches; frames may be shrunk."""

import math

import jax
from einops import rearrange, reduce
from flax import nnx
from jaxtyping import Array, Float

from vjax.families.spec import ModelSpec
from vjax.models.layers import ACTIVATIONS, NORMS, Dense


class Connector(nnx.Module):
    """Two linear layers with an activation between, over one patch or a block of patches.

    LLaVA-1.5's LlavaMultiModalProjector, or Qwen2-VL's PatchMerger.
    """

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        options, width = spec.projector, spec.text.width
        self.block = options.merge**2
        into, hidden = spec.vision.width * self.block, options.hidden or width
        self.norm = nnx.data(None)
        if options.norm:
            self.norm = NORMS[spec.vision.norm](spec.vision.width, spec.vision.norm_eps, stack=())
        self.fc1 = Dense(into, hidden, ("embed", "ffn"), bias=True, stack=(), rngs=rngs)
        self.fc2 = Dense(hidden, width, ("ffn", "embed"), bias=True, stack=(), rngs=rngs)
        self.act = options.act
        self.pool, self.average = options.pool, options.pool_kind == "average"
        self.newline = nnx.data(None)
        if options.newline:
            self.newline = nnx.Param(0.02 * rngs.params.normal((width,)), axes=("embed",))

    def frames(self, x: Float[Array, "V P D"], key: Array | None = None) -> Float[Array, "V Q E"]:
        """As `stills`, in square grids of which each side is divided by `pool`."""
        if not self.average:
            return self.shrink(self.stills(x, key))
        a, side = self.pool, math.isqrt(x.shape[1])
        grid = rearrange(x, "v (h w) d -> v h w d", h=side)
        grid = grid[:, : side - side % a, : side - side % a]
        return self.stills(reduce(grid, "v (h a) (w b) d -> v (h w) d", "mean", a=a, b=a), key)

    def stills(self, x: Float[Array, "V P D"], key: Array | None = None) -> Float[Array, "V Q E"]:
        """Patches of a block follow each other in P; each block gives one token."""
        if self.norm is not None:
            x = self.norm(x)
        x = rearrange(x, "v (p b) d -> v p (b d)", b=self.block)
        return self.fc2(ACTIVATIONS[self.act](self.fc1(x, key)), key)

    def shrink(self, x: Float[Array, "V P E"]) -> Float[Array, "V Q E"]:
        """Square grids of tokens, each side divided by `pool` and rounded up (apply_pooling of
        LlavaOnevisionModel: torch's bilinear interpolation without anti-aliasing)."""
        if self.pool == 1:
            return x
        V, P, E = x.shape
        side = math.isqrt(P)
        less = -(-side // self.pool)
        grid = jax.image.resize(
            x.reshape(V, side, side, E), (V, less, less, E), "linear", antialias=False
        )
        return grid.reshape(V, less * less, E).astype(x.dtype)
