"""From tower features to decoder embeddings."""

from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from vjax.families.spec import ModelSpec
from vjax.models.layers import ACTIVATIONS, Dense, LayerNorm


class Projector(nnx.Module):
    """Two linear layers with an activation between, over one patch or a block of patches.

    LLaVA-1.5's LlavaMultiModalProjector, or Qwen2-VL's PatchMerger.
    """

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        options, width = spec.projector, spec.text.width
        self.block = options.merge**2
        into, hidden = spec.vision.width * self.block, options.hidden or width
        self.norm = nnx.data(None)
        if options.norm:
            self.norm = LayerNorm(spec.vision.width, spec.vision.norm_eps, stack=())
        self.fc1 = Dense(into, hidden, ("embed", "ffn"), bias=True, stack=(), rngs=rngs)
        self.fc2 = Dense(hidden, width, ("ffn", "embed"), bias=True, stack=(), rngs=rngs)
        self.act = options.act

    def __call__(self, x: Float[Array, "V P D"], key: Array | None = None) -> Float[Array, "V Q E"]:
        """Patches of a block follow each other in P; each block gives one token."""
        if self.norm is not None:
            x = self.norm(x)
        x = rearrange(x, "v (p b) d -> v p (b d)", b=self.block)
        return self.fc2(ACTIVATIONS[self.act](self.fc1(x, key)), key)
