"""Two linear layers over a block of patches, of which the whole is normalised before."""

from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from vjax.families.spec import ModelSpec
from vjax.models.connectors import mlp2
from vjax.models.layers import ACTIVATIONS, LayerNorm

EPS = 1e-5  # torch's, whatever the tower's is


class Connector(mlp2.Connector):
    """InternVLMultiModalProjector; its pixel shuffle is the order of the tower's patches."""

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        self.norm = LayerNorm(spec.vision.width * self.block, EPS, stack=())

    def stills(self, x: Float[Array, "V P D"], key: Array | None = None) -> Float[Array, "V Q E"]:
        """Patches of a block follow each other in P; each block gives one token."""
        x = self.norm(rearrange(x, "v (p b) d -> v p (b d)", b=self.block))
        return self.fc2(ACTIVATIONS[self.act](self.fc1(x, key)), key)
