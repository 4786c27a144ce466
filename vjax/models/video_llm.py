"""Tower, projector and decoder together: what the step, the evals and the exporters call."""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, UInt8

from vjax.attention import Cache
from vjax.families.spec import ModelSpec
from vjax.models.bank import taken
from vjax.models.connectors import connector
from vjax.models.decoder import Decoder
from vjax.models.vit import Tower
from vjax.sharding import gathered, laid, spread

FEATURES = ("features", "still_features")


def look(
    tower: Tower,
    still_tower: Tower | None,
    images: UInt8[Array, "V H W 3"] | Float[Array, "V H W 3"],
    **how,
) -> dict[str, Array]:
    """What towers make of pictures, [W, P, D], by names of a batch; `how` as in `Tower.__call__`.

    W is V, and on a mesh more where its devices do not divide that: black pictures join them.
    """
    images = spread(images)
    found = {"features": tower(images, **how)}
    if still_tower is not None:
        found["still_features"] = still_tower(images, **how)
    return found


class VideoLLM(nnx.Module):
    """A Video-LLM in the LLaVA layout: images -> tower -> projector -> slots of the decoder.

    Without a tower it is a language model, and `images` and `vision_index` count for nothing.
    """

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.tower = self.still_tower = self.projector = nnx.data(None)
        if spec.vision is not None:
            self.tower = Tower(spec.vision, rngs=rngs)
            if spec.still_vision is not None:
                self.still_tower = Tower(spec.still_vision, rngs=rngs)
            self.projector = connector(spec, rngs=rngs)
        self.decoder = Decoder(spec.text, rngs=rngs)

    def see(
        self,
        batch: dict[str, Array],
        *,
        dtype=jnp.float32,
        remat: bool = False,
        key: Array | None = None,
    ) -> Float[Array, "N D"]:
        """The bank of vision tokens that `vision_index` points into.

        First those of `images`, which are frames, then of `clips`, then of `stills`; or those of
        `patches`, frames of any size, then of `still_patches`. Last the newline, where the model
        has one. Where stills have a tower of their own, each picture of `images` gives its tokens
        as a frame, then those as a still. In the place of `images` there may be what `look` gave.

        On a mesh, pictures of one size are spread over all of its devices, with black ones behind
        where these do not divide their number, and layers are gathered one by one; the tokens then
        lie as the decoder's rows do. A row of `patches` is not split.
        """
        how = {"remat": remat, "key": key}
        bank, named = [], jax.named_scope("projector")
        projector = self.projector if "patches" in batch else gathered(self.projector)
        frames, stills = named(projector.frames), named(projector.stills)
        kinds = {"": frames, "still_": stills}
        for kind, tokens in kinds.items():
            if f"{kind}patches" in batch:
                of = ("patches", "patch_hw", "patch_segments")
                patches, hw, segments = (batch[kind + name][None] for name in of)
                seen = batch[f"{kind}patch_seen"][None] if f"{kind}patch_seen" in batch else None
                features = self.tower.encode(patches.astype(dtype), hw, segments, seen=seen, **how)
                bank.append(tokens(features, key))
        if "images" in batch or "features" in batch:
            V = len(batch["images" if "images" in batch else "features"])
            if "images" in batch:
                found = look(self.tower, self.still_tower, batch["images"], dtype=dtype, **how)
            else:
                found = {name: spread(batch[name]) for name in FEATURES if name in batch}
            tokens = frames(found["features"], key)
            if self.still_tower is not None:
                more = stills(found["still_features"], key)
                tokens = jnp.concatenate([tokens, more], axis=1)
            bank.append(tokens[:V])
        if "clips" in batch:
            N, T = batch["clips"].shape[:2]
            clips = spread(rearrange(batch["clips"], "n t h w c -> (n t) h w c"))
            features = self.tower(clips, dtype=dtype, **how)[: N * T]
            features = rearrange(features, "(n t) p d -> n t p d", n=N)
            features = laid(features, ("batch", None, None, None))
            bank.append(named(self.projector.clips)(features, key))
        if "stills" in batch:
            V, images = len(batch["stills"]), spread(batch["stills"])
            bank.append(stills(self.tower(images, dtype=dtype, **how), key)[:V])
        bank = [tokens.reshape(-1, tokens.shape[-1]) for tokens in bank]
        bank = [laid(tokens, ("batch", None)) for tokens in bank]  # as the decoder's rows lie
        if self.spec.projector.newline:
            bank.append(self.projector.newline[...].astype(dtype)[None])
        return bank[0] if len(bank) == 1 else jnp.concatenate(bank)

    def embed(
        self,
        batch: dict[str, Array],
        bank: Float[Array, "N E"] | None = None,
        *,
        dtype=jnp.float32,
        remat: bool = False,
        key: Array | None = None,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "K B T D"] | None]:
        """Token embeddings with vision tokens put where `vision_index` points (-1 = text).

        With `vision_weight` [B, T, K] the index is [B, T, K] too: such tokens are weighted sums.
        `bank` is what `see` gives, where it is there already.

        Returns:
          The embeddings, and what the tower's taps add after the first decoder layers: 0 at text.
        """
        text = jnp.take(self.decoder.embed[...].astype(dtype), batch["tokens"], axis=0)
        if self.tower is None:
            return text, None
        if bank is None:
            bank = self.see(batch, dtype=dtype, remat=remat, key=key)
        # a gather, not a scatter: static shapes, and rows find what lies beside them
        index = batch["vision_index"]
        seen = taken(bank, index, newline=self.spec.projector.newline)
        if "vision_weight" in batch:
            seen = jnp.einsum("btkd,btk->btd", seen, batch["vision_weight"].astype(dtype))
            index = index[..., 0]
        shown = (index >= 0)[..., None]
        if not self.spec.vision.taps:
            return jnp.where(shown, seen, text), None
        seen, *deep = jnp.split(seen, 1 + len(self.spec.vision.taps), axis=-1)
        return jnp.where(shown, seen, text), jnp.where(shown, jnp.stack(deep), 0)

    def __call__(
        self,
        batch: dict[str, Array],
        bank: Float[Array, "N E"] | None = None,
        *,
        dtype=jnp.float32,
        remat: bool = False,
        key: Array | None = None,
        cache: Cache | None = None,
        keep_kv: bool = False,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """The batch dict of WORKSPACE.md -> normalised hidden states (and, `keep_kv`, a cache).

        `bank` as in `embed`; `cache` and what comes back as in `Decoder.__call__`.
        """
        x, deep = self.embed(batch, bank, dtype=dtype, remat=remat, key=key)
        return self.decoder(
            x,
            batch["positions"],
            batch["segment_ids"],
            rope_positions=batch.get("rope_positions"),
            deep=deep,
            cache=cache,
            remat=remat,
            key=key,
            keep_kv=keep_kv,
        )
