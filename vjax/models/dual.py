"""An image tower and a text tower that come to one space: CLIP's and SigLIP's, by their spec."""

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from vjax.attention import Mask, attend
from vjax.attention.mask import SEE_ALL
from vjax.families.dual import DualSpec, TextTowerSpec
from vjax.families.spec import TowerSpec
from vjax.models.layers import Dense, LayerNorm, scan_layers
from vjax.models.vit import Block, Mlp, Tower


class Words(nnx.Module):
    """The text tower: blocks of the image tower's kind over tokens."""

    def __init__(self, spec: TextTowerSpec, *, causal: bool, rngs: nnx.Rngs):
        self.causal = causal
        self.attention = "auto"
        blocks = TowerSpec(
            spec.width, spec.layers, spec.heads, spec.ffn, 0, 1, spec.act, spec.norm_eps
        )
        table = 0.02 * rngs.params.normal((spec.vocab, spec.width))
        self.embed = nnx.Param(table, axes=("vocab", "embed"))
        places = 0.01 * rngs.params.normal((spec.length, spec.width))
        self.position = nnx.Param(places, axes=("position", "embed"))
        self.layers = Block(blocks, stack=(spec.layers,), rngs=rngs)
        self.norm = LayerNorm(spec.width, spec.norm_eps, stack=())

    def __call__(
        self, ids: Int[Array, "B T"], real: Int[Array, "B T"] | None, *, dtype
    ) -> Float[Array, "B T D"]:
        """`real`: 1 where a token is, 0 where there is padding that nothing looks at."""
        x = jnp.take(self.embed[...], ids, axis=0) + self.position[...][: ids.shape[1]]
        mask = Mask(causal=self.causal, q_segments=real, kv_segments=real)

        def see(q, k, v):
            return attend(q, k, v, mask, backend=self.attention)

        x, _ = scan_layers(
            self.layers, lambda layer, x, _: (layer(x, None, None, see), None), x.astype(dtype)
        )
        return self.norm(x)


class Pool(nnx.Module):
    """A learned query that looks at all patches, and two layers (SigLIP's attention pooling)."""

    def __init__(self, spec: TowerSpec, *, rngs: nnx.Rngs):
        D, self.heads = spec.width, spec.heads
        probe = rngs.params.normal((1, 1, D))
        self.probe = nnx.Param(probe, axes=(None, None, "embed"))
        self.qkv = Dense(D, 3 * D, ("embed", "heads"), bias=True, stack=(), rngs=rngs)
        self.o = Dense(D, D, ("heads", "embed"), bias=True, stack=(), rngs=rngs)
        self.norm = LayerNorm(D, spec.norm_eps, stack=())
        self.mlp = Mlp(spec, stack=(), rngs=rngs)

    def __call__(
        self, x: Float[Array, "V P D"], real: Int[Array, "V P"] | None, backend: str
    ) -> Float[Array, "V D"]:
        q, _, _ = jnp.split(self.qkv(self.probe[...].astype(x.dtype)), 3, axis=-1)
        _, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        q = jnp.broadcast_to(q, (len(x), 1, q.shape[-1]))
        q, k, v = (rearrange(m, "v p (n h) -> v p n h", n=self.heads) for m in (q, k, v))
        mask = SEE_ALL
        if real is not None:
            mask = Mask(q_segments=jnp.ones_like(real[:, :1]), kv_segments=real)
        x = self.o(rearrange(attend(q, k, v, mask, backend=backend), "v p n h -> v p (n h)"))
        return (x + self.mlp(self.norm(x), None))[:, 0]


class DualEncoder(nnx.Module):
    """Images and texts to vectors of length 1, and how well they fit.

    Attributes:
      log_scale: of cosines, in logits; bias: added to them, or None (CLIP).
    """

    def __init__(self, spec: DualSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.tower = Tower(spec.vision, rngs=rngs)
        self.words = Words(spec.text, causal=not spec.sigmoid, rngs=rngs)
        self.pool = self.image_head = self.bias = nnx.data(None)
        scale, shape = (jnp.log(10.0), (1,)) if spec.sigmoid else (2.6592, ())
        self.log_scale = nnx.Param(jnp.full(shape, scale), axes=(None,) * len(shape))
        if spec.sigmoid:
            self.pool = Pool(spec.vision, rngs=rngs)
            self.bias = nnx.Param(jnp.full((1,), -10.0), axes=(None,))
        else:
            self.image_head = Dense(
                spec.vision.width, spec.embed, ("embed", "ffn"), bias=False, stack=(), rngs=rngs
            )
        self.text_head = Dense(
            spec.text.width, spec.embed, ("embed", "ffn"), bias=spec.sigmoid, stack=(), rngs=rngs
        )

    def see(
        self, images: UInt8[Array, "V H W 3"] | Float[Array, "V H W 3"], *, dtype=jnp.float32
    ) -> Float[Array, "V E"]:
        """Images of the tower's size: RGB of 0 ... 255, or float and normalised."""
        return self._image(self.tower(images, dtype=dtype), None)

    def see_patches(
        self,
        patches: Float[Array, "V P C"],
        hw: Int[Array, "V P 2"],
        real: Int[Array, "V P"],
        *,
        dtype=jnp.float32,
    ) -> Float[Array, "V E"]:
        """Images of any shape as a NaFlex tower takes them (arXiv 2502.14786, section 2.4.2).

        Args:
          patches: normalised pixels, each in the order (row, column, channel).
          hw: row and column of each; 0 where there is none.
          real: 1, or 0 where there is none.
        """
        return self._image(self.tower.encode(patches.astype(dtype), hw, real), real)

    def read(
        self, ids: Int[Array, "B T"], real: Int[Array, "B T"] | None = None, *, dtype=jnp.float32
    ) -> Float[Array, "B E"]:
        """Texts. SigLIP's look at their padding, as they were trained: leave `real` out there."""
        x, end = self.words(ids, real, dtype=dtype), self.spec.text.end
        if self.spec.sigmoid:
            x = x[:, -1]
        else:
            at = ids.argmax(1) if end == 2 else (ids == end).argmax(1)
            x = jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]
        return _unit(self.text_head(x))

    def logits(
        self, images: Float[Array, "V E"], texts: Float[Array, "B E"]
    ) -> Float[Array, "V B"]:
        """exp(log_scale) image . text + bias, float32."""
        x = jnp.matmul(images, texts.T, preferred_element_type=jnp.float32)
        x = jnp.exp(self.log_scale[...].reshape(())) * x
        return x if self.bias is None else x + self.bias[...].reshape(())

    def _image(self, x: Float[Array, "V P D"], real: Int[Array, "V P"] | None):
        if self.pool is not None:
            return _unit(self.pool(x, real, self.tower.attention))
        return _unit(self.image_head(x[:, 0]))


def _unit(x: Float[Array, "B E"]) -> Float[Array, "B E"]:
    return x / jnp.linalg.norm(x.astype(jnp.float32), axis=-1, keepdims=True).astype(x.dtype)
