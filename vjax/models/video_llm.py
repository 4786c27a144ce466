"""Tower, projector and decoder together: what the step, the evals and the exporters call."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from vjax.families.spec import ModelSpec
from vjax.models.decoder import Cache, Decoder
from vjax.models.projector import Projector
from vjax.models.vit import Tower


class VideoLLM(nnx.Module):
    """A Video-LLM in the LLaVA layout: images -> tower -> projector -> slots of the decoder.

    Without a tower it is a language model, and `images` and `vision_index` count for nothing.
    """

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.tower = self.projector = nnx.data(None)
        if spec.vision is not None:
            self.tower = Tower(spec.vision, rngs=rngs)
            self.projector = Projector(spec, rngs=rngs)
        self.decoder = Decoder(spec.text, rngs=rngs)

    def embed(
        self,
        tokens: Int[Array, "B T"],
        vision_index: Int[Array, "B T"],
        images: UInt8[Array, "V H W 3"] | Float[Array, "V H W 3"],
        *,
        dtype=jnp.float32,
        remat: bool = False,
        key: Array | None = None,
    ) -> Float[Array, "B T D"]:
        """Token embeddings with vision features put where `vision_index` points (-1 = text)."""
        text = jnp.take(self.decoder.embed[...].astype(dtype), tokens, axis=0)
        if self.tower is None:
            return text
        features = self.projector(self.tower(images, dtype=dtype, remat=remat, key=key), key)
        features = features.reshape(-1, features.shape[-1])
        # a gather, not a scatter: static shapes, and cheap to shard
        seen = jnp.take(features, jnp.maximum(vision_index, 0), axis=0)
        return jnp.where((vision_index >= 0)[..., None], seen, text)

    def __call__(
        self,
        batch: dict[str, Array],
        *,
        dtype=jnp.float32,
        remat: bool = False,
        key: Array | None = None,
        keep_kv: bool = False,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """The batch dict of WORKSPACE.md -> normalised hidden states (and, `keep_kv`, a cache)."""
        x = self.embed(
            batch["tokens"],
            batch["vision_index"],
            batch["images"],
            dtype=dtype,
            remat=remat,
            key=key,
        )
        return self.decoder(
            x, batch["positions"], batch["segment_ids"], remat=remat, key=key, keep_kv=keep_kv
        )
