"""One linear layer over a block of patches, which pixel shuffle puts side by side."""

from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from vjax.families.spec import ModelSpec
from vjax.models.layers import Dense


class Connector(nnx.Module):
    """SmolVLMConnector: its pixel shuffle is the order in which the tower has its patches."""

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        self.block = spec.projector.merge**2
        into, axes = spec.vision.width * self.block, ("embed", "ffn")
        self.fc1 = Dense(into, spec.text.width, axes, bias=False, stack=(), rngs=rngs)

    def frames(self, x: Float[Array, "V P D"], key: Array | None = None) -> Float[Array, "V Q E"]:
        """Patches of a block follow each other in P; each block gives one token."""
        return self.fc1(rearrange(x, "v (p b) d -> v p (b d)", b=self.block), key)

    stills = frames
