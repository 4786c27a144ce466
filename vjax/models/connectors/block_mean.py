"""Two linear layers over the mean of each block of a frame's patches, or a still's every patch."""

import dataclasses

from einops import reduce
from flax import nnx
from jaxtyping import Array, Float

from vjax.families.spec import ModelSpec
from vjax.models.connectors import mlp2


class Connector(mlp2.Connector):
    """VideoLLaMA3's VideoLlama3Projector behind its `pixel_unshuffle`.

    That one's bilinear interpolation to a whole fraction of the size is the mean of each 2 x 2
    block, and is taken before the linear layers.
    """

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        patchwise = dataclasses.replace(spec.projector, merge=1)
        super().__init__(dataclasses.replace(spec, projector=patchwise), rngs=rngs)
        self.mean = spec.projector.merge**2

    def frames(self, x: Float[Array, "V P D"], key: Array | None = None) -> Float[Array, "V Q E"]:
        """Patches of a block follow each other in P; each block gives one token."""
        return self.stills(reduce(x, "v (p b) d -> v p d", "mean", b=self.mean), key)
