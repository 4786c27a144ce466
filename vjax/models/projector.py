"""From tower features to decoder embeddings."""

from flax import nnx
from jaxtyping import Array, Float

from vjax.families.spec import ModelSpec
from vjax.models.layers import ACTIVATIONS, Dense


class Projector(nnx.Module):
    """Two linear layers with an activation between (LLaVA-1.5; LlavaMultiModalProjector)."""

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        width = spec.text.width
        self.fc1 = Dense(spec.vision.width, width, ("embed", "ffn"), bias=True, stack=(), rngs=rngs)
        self.fc2 = Dense(width, width, ("ffn", "embed"), bias=True, stack=(), rngs=rngs)
        self.act = spec.projector.act

    def __call__(self, x: Float[Array, "V P D"], key: Array | None = None) -> Float[Array, "V P E"]:
        return self.fc2(ACTIVATIONS[self.act](self.fc1(x, key)), key)
