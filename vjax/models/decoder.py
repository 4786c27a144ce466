"""The language model: Llama, Mistral, Qwen2 or Qwen3 by its spec (transformers' classes)."""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from vjax.attention import Mask, attend, context_size
from vjax.families.spec import DecoderSpec
from vjax.models.layers import (
    Dense,
    GatedMlp,
    RMSNorm,
    apply_rope,
    layer_keys,
    rope_table,
    scan_layers,
)
from vjax.sharding import laid


@flax.struct.dataclass
class Cache:
    """Keys and values seen so far, one slot a token; segment 0 is an empty slot."""

    k: Float[Array, "L B S K H"]
    v: Float[Array, "L B S K H"]
    segments: Int[Array, "B S"]
    positions: Int[Array, "B S"]


class Attention(nnx.Module):
    """Causal grouped-query attention with rotary positions, queries and keys normalised or not."""

    def __init__(self, spec: DecoderSpec, *, stack: tuple[int, ...], rngs: nnx.Rngs):
        self.head_dim = spec.head_dim
        q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        bias = spec.qkv_bias
        self.q = Dense(spec.width, q, ("embed", "heads"), bias=bias, stack=stack, rngs=rngs)
        self.k = Dense(spec.width, kv, ("embed", "kv_heads"), bias=bias, stack=stack, rngs=rngs)
        self.v = Dense(spec.width, kv, ("embed", "kv_heads"), bias=bias, stack=stack, rngs=rngs)
        self.o = Dense(q, spec.width, ("heads", "embed"), bias=spec.o_bias, stack=stack, rngs=rngs)
        self.q_norm = self.k_norm = nnx.data(None)
        if spec.qk_norm:
            self.q_norm, self.k_norm = (
                RMSNorm(spec.head_dim, spec.norm_eps, stack=stack) for _ in "qk"
            )

    def __call__(self, x, rope, mask: Mask, past, key, attend: Callable):
        """past: (k, v) [B, S, K, H] of earlier tokens, or None. Returns output and own (k, v)."""
        q, k, v = (
            rearrange(m(x, key), "b t (n h) -> b t n h", h=self.head_dim)
            for m in (self.q, self.k, self.v)
        )
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = apply_rope(q, rope), apply_rope(k, rope)
        keys, values = (
            (k, v)
            if past is None
            else (jnp.concatenate([p, n], axis=1) for p, n in zip(past, (k, v), strict=True))
        )
        out = attend(q, keys, values, mask)
        return self.o(rearrange(out, "b t n h -> b t (n h)"), key), (k, v)


class Block(nnx.Module):
    """Pre-norm decoder block."""

    def __init__(self, spec: DecoderSpec, *, stack: tuple[int, ...], rngs: nnx.Rngs):
        self.norm1 = RMSNorm(spec.width, spec.norm_eps, stack=stack)
        self.attn = Attention(spec, stack=stack, rngs=rngs)
        self.norm2 = RMSNorm(spec.width, spec.norm_eps, stack=stack)
        self.mlp = GatedMlp(spec.width, spec.ffn, bias=spec.mlp_bias, stack=stack, rngs=rngs)

    def __call__(self, x, rope, mask: Mask, past, key, attend: Callable):
        out, kv = self.attn(self.norm1(x), rope, mask, past, key, attend)
        x = x + out
        return x + self.mlp(self.norm2(x), key), kv


class Decoder(nnx.Module):
    """Embeddings in, hidden states out; `logits` turns the states that matter into scores.

    Attributes:
      attention: the backend, see `vjax.attention.attend`; `auto` wherever there is a cache.
      context_parallel: how rows are attended whose tokens a mesh splits: `ring`, `all_gather`, in
        any order of tokens, or `ulysses`, in the order of positions.
    """

    def __init__(self, spec: DecoderSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.attention, self.context_parallel = "auto", "ring"
        self.embed = nnx.Param(
            0.3 * rngs.params.normal((spec.vocab, spec.width)), axes=("vocab", "embed")
        )
        self.layers = Block(spec, stack=(spec.layers,), rngs=rngs)
        self.norm = RMSNorm(spec.width, spec.norm_eps, stack=())
        self.head = nnx.data(None)
        if not spec.tied:
            self.head = nnx.Param(
                0.02 * rngs.params.normal((spec.width, spec.vocab)), axes=("embed", "vocab")
            )

    @jax.named_scope("decoder")
    def __call__(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        segments: Int[Array, "B T"],
        *,
        rope_positions: Int[Array, "B T 3"] | Int[Array, "B T"] | None = None,
        deep: Float[Array, "K B T D"] | None = None,
        cache: Cache | None = None,
        remat: bool = False,
        key: Array | None = None,
        keep_kv: bool = False,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """Args:
          x: token embeddings, in the order of positions within each segment; in another, such as
            zigzag, on a mesh that splits rows.
          positions: what "earlier" means within a segment.
          rope_positions: what queries and keys are rotated by, three numbers a token where the
            spec has M-RoPE; `positions` if None.
          deep: what is added to the hidden states after each of the first K layers (DeepStack,
            arXiv 2406.04334).
          segments: 0 is padding; tokens see earlier tokens of their own segment.
          cache: what was seen before, of the same rows.
          keep_kv: return this call's keys and values, appended to `cache`.

        Returns:
          Normalised hidden states, and the grown cache (None unless `keep_kv`).
        """
        rope = rope_table(self.spec, positions if rope_positions is None else rope_positions)
        all_seg, all_pos = segments, positions
        if cache is not None:
            all_seg = jnp.concatenate([cache.segments, segments], axis=1)
            all_pos = jnp.concatenate([cache.positions, positions], axis=1)
        mask = Mask(causal=True, window=self.spec.window, q_segments=segments, kv_segments=all_seg)
        split = cache is None and context_size() > 1
        lie = ("batch", "length" if split else None, None)
        x = laid(x, lie)
        # kernels know the order in the array alone, so positions are given where it will not do
        if cache is not None or (split and self.context_parallel != "ulysses"):
            mask = mask.replace(q_positions=positions, kv_positions=all_pos)
        how = functools.partial(
            attend,
            backend=self.attention if cache is None else "auto",
            context_parallel=self.context_parallel if split else None,
        )

        def body(layer, x, extra):
            past, key, more = extra
            x, kv = layer(x, rope, mask, past, key, how)
            return laid(x if more is None else x + more, lie), kv if keep_kv else None

        past, L = None if cache is None else (cache.k, cache.v), self.spec.layers
        K = 0 if deep is None else len(deep)
        extras, parts = (past, layer_keys(key, L)), []
        for first, stop, more in ((0, K, deep), (K, L, None)):
            some = jax.tree.map(lambda leaf, a=first, b=stop: leaf[a:b], extras)
            if first < stop:
                x, kv = scan_layers(
                    self.layers, body, x, (*some, more), remat=remat, first=first, length=stop
                )
                parts.append(kv)
        if keep_kv:
            kv = jax.tree.map(lambda *of: jnp.concatenate(of), *parts)
            k, v = (
                kv
                if past is None
                else (jnp.concatenate([p, n], axis=2) for p, n in zip(past, kv, strict=True))
            )
            cache = Cache(k=k, v=v, segments=all_seg, positions=all_pos)
        return self.norm(x), cache if keep_kv else None

    @jax.named_scope("head")
    def logits(self, x: Float[Array, "... D"]) -> Float[Array, "... vocab"]:
        """float32 scores over the vocabulary."""
        head = self.embed[...].T if self.head is None else self.head[...]
        return jnp.matmul(x, head.astype(x.dtype), preferred_element_type=jnp.float32)
