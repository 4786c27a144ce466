"""The vision tower: a SigLIP-shaped ViT (transformers' SiglipVisionModel less its pooling head)."""

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, UInt8

from vjax.attention import attend
from vjax.families.spec import TowerSpec
from vjax.models.layers import ACTIVATIONS, Dense, LayerNorm, layer_keys, scan_layers


class Attention(nnx.Module):
    """Full multi-head attention over the patches of one image."""

    def __init__(self, spec: TowerSpec, *, stack: tuple[int, ...], rngs: nnx.Rngs):
        self.heads = spec.heads
        D = spec.width
        for name in "qkv":
            setattr(self, name, Dense(D, D, ("embed", "heads"), bias=True, stack=stack, rngs=rngs))
        self.o = Dense(D, D, ("heads", "embed"), bias=True, stack=stack, rngs=rngs)

    def __call__(self, x: Float[Array, "V P D"], key: Array | None) -> Float[Array, "V P D"]:
        q, k, v = (
            rearrange(m(x, key), "v p (n h) -> v p n h", n=self.heads)
            for m in (self.q, self.k, self.v)
        )
        return self.o(rearrange(attend(q, k, v), "v p n h -> v p (n h)"), key)


class Mlp(nnx.Module):
    """Two linear layers."""

    def __init__(self, spec: TowerSpec, *, stack: tuple[int, ...], rngs: nnx.Rngs):
        self.fc1 = Dense(spec.width, spec.ffn, ("embed", "ffn"), bias=True, stack=stack, rngs=rngs)
        self.fc2 = Dense(spec.ffn, spec.width, ("ffn", "embed"), bias=True, stack=stack, rngs=rngs)
        self.act = spec.act

    def __call__(self, x: Float[Array, "V P D"], key: Array | None) -> Float[Array, "V P D"]:
        return self.fc2(ACTIVATIONS[self.act](self.fc1(x, key)), key)


class Block(nnx.Module):
    """Pre-norm transformer block."""

    def __init__(self, spec: TowerSpec, *, stack: tuple[int, ...], rngs: nnx.Rngs):
        self.norm1 = LayerNorm(spec.width, spec.norm_eps, stack=stack)
        self.attn = Attention(spec, stack=stack, rngs=rngs)
        self.norm2 = LayerNorm(spec.width, spec.norm_eps, stack=stack)
        self.mlp = Mlp(spec, stack=stack, rngs=rngs)

    def __call__(self, x: Float[Array, "V P D"], key: Array | None) -> Float[Array, "V P D"]:
        x = x + self.attn(self.norm1(x), key)
        return x + self.mlp(self.norm2(x), key)


class Tower(nnx.Module):
    """Images to patch features, one image at a time: images never see each other here."""

    def __init__(self, spec: TowerSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.patch = Dense(
            3 * spec.patch_size**2, spec.width, ("patch", "embed"), bias=True, stack=(), rngs=rngs
        )
        self.position = nnx.Param(
            0.2 * rngs.params.normal((spec.patches, spec.width)), axes=("position", "embed")
        )
        self.layers = Block(spec, stack=(spec.layers,), rngs=rngs)

    def __call__(
        self,
        images: UInt8[Array, "V H W 3"] | Float[Array, "V H W 3"],
        *,
        dtype=jnp.float32,
        remat: bool = False,
        key: Array | None = None,
    ) -> Float[Array, "V P D"]:
        """RGB in 0 ... 255 -> features of the selected layer, before any final norm.

        Pixels are scaled to [-1, 1] (SiglipImageProcessor: mean 0.5, std 0.5).
        """
        x = images.astype(dtype) / 127.5 - 1
        size = self.spec.patch_size
        x = rearrange(x, "v (h a) (w b) c -> v (h w) (a b c)", a=size, b=size)
        x = self.patch(x, key) + self.position[...].astype(dtype)
        length = self.spec.used_layers
        x, _ = scan_layers(
            self.layers,
            lambda layer, x, key: (layer(x, key), None),
            x,
            layer_keys(key, length),
            remat=remat,
            length=None if length == self.spec.layers else length,
        )
        return x
