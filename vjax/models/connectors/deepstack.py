"""`mlp2` over the last features, and one of its own for each of the tower's taps."""

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from vjax.families.spec import ModelSpec
from vjax.models.connectors import mlp2
from vjax.models.layers import ACTIVATIONS, NORMS, Dense, layer_keys, scan_layers


class Tap(nnx.Module):
    """Two linear layers over a block of patches, a norm of the whole block before."""

    def __init__(self, spec: ModelSpec, *, stack: tuple[int, ...], rngs: nnx.Rngs):
        options, vision = spec.projector, spec.vision
        into = vision.width * options.merge**2
        hidden = options.hidden or spec.text.width
        self.act = options.act
        self.norm = NORMS[vision.norm](into, vision.norm_eps, stack=stack)
        self.fc1 = Dense(into, hidden, ("embed", "ffn"), bias=True, stack=stack, rngs=rngs)
        self.fc2 = Dense(
            hidden, spec.text.width, ("ffn", "embed"), bias=True, stack=stack, rngs=rngs
        )

    def __call__(self, x: Float[Array, "V Q C"], key: Array | None) -> Float[Array, "V Q E"]:
        return self.fc2(ACTIVATIONS[self.act](self.fc1(self.norm(x), key)), key)


class Connector(mlp2.Connector):
    """Qwen3-VL's mergers: that of the last layer, then those of the taps, side by side."""

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        self.count = len(spec.vision.taps)
        self.taps = Tap(spec, stack=(self.count,), rngs=rngs)

    def stills(self, x: Float[Array, "V P D"], key: Array | None = None) -> Float[Array, "V Q E"]:
        """Patches of a block follow each other in P; each block gives one token."""
        last, *rest = jnp.split(x, 1 + self.count, axis=-1)
        rest = rearrange(jnp.stack(rest), "k v (p b) d -> k v p (b d)", b=self.block)

        def body(tap, carry, extra):
            x, key = extra
            return carry, tap(x, key)

        _, deep = scan_layers(self.taps, body, None, (rest, layer_keys(key, self.count)))
        return jnp.concatenate([super().stills(last, key), *deep], axis=-1)
