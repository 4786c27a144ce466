"""The language model: Llama, Mistral, Qwen2 or Qwen3 by its spec (transformers' classes)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from vjax.attention import Cache, Mask, attend, attend_cache, context_size
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
from vjax.sharding import laid, whole


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

    def __call__(self, x, rope, key, attend: Callable):
        """`attend` takes queries, keys and values. Returns output and (k, v) [B, T, K, H]."""
        q, k, v = (
            rearrange(m(x, key), "b t (n h) -> b t n h", h=self.head_dim)
            for m in (self.q, self.k, self.v)
        )
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = apply_rope(q, rope), apply_rope(k, rope)
        out = attend(q, k, v)
        return self.o(rearrange(out, "b t n h -> b t (n h)"), key), (k, v)


class Block(nnx.Module):
    """Pre-norm decoder block."""

    def __init__(self, spec: DecoderSpec, *, stack: tuple[int, ...], rngs: nnx.Rngs):
        self.norm1 = RMSNorm(spec.width, spec.norm_eps, stack=stack)
        self.attn = Attention(spec, stack=stack, rngs=rngs)
        self.norm2 = RMSNorm(spec.width, spec.norm_eps, stack=stack)
        self.mlp = GatedMlp(spec.width, spec.ffn, bias=spec.mlp_bias, stack=stack, rngs=rngs)

    def __call__(self, x, rope, key, attend: Callable):
        out, kv = self.attn(self.norm1(x), rope, key, attend)
        x = x + out
        return x + self.mlp(self.norm2(x), key), kv


class Decoder(nnx.Module):
    """Embeddings in, hidden states out; `logits` turns the states that matter into scores.

    Attributes:
      attention: the backend, see `vjax.attention.attend`; without a cache.
      context_parallel: how rows are attended whose tokens a mesh splits: `ring`, `all_gather`, in
        any order of tokens, or `ulysses`, in the order of positions; without a cache.
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
          cache: what was seen before, of the same rows; or of fewer, each the past of as many rows
            here, side by side.
          keep_kv: return this call's keys and values too.

        Returns:
          Normalised hidden states, and a cache of this call's tokens alone (None unless `keep_kv`).
        """
        rope = rope_table(self.spec, positions if rope_positions is None else rope_positions)
        mask = Mask(causal=True, window=self.spec.window, q_segments=segments, kv_segments=segments)
        n = context_size()
        split = n > 1 and (cache is None or x.shape[1] % n == 0)
        lie = ("batch", "length" if split else None, None)
        x = laid(x, lie)
        # kernels know the order in the array alone, so positions are given where it will not do
        if cache is not None or (split and self.context_parallel != "ulysses"):
            mask = mask.replace(q_positions=positions, kv_positions=positions)
        whole = functools.partial(
            attend,
            mask=mask,
            backend=self.attention,
            context_parallel=self.context_parallel if split else None,
        )

        def body(layer, x, extra):
            number, key, more = extra
            how = whole
            if cache is not None:
                how = functools.partial(attend_cache, mask=mask, past=cache.of_layer(number))
            x, kv = layer(x, rope, key, how)
            return laid(x if more is None else x + more, lie), kv if keep_kv else None

        L = self.spec.layers
        numbers = None if cache is None else jnp.arange(L)
        K = 0 if deep is None else len(deep)
        extras, parts = (numbers, layer_keys(key, L)), []
        for first, stop, more in ((0, K, deep), (K, L, None)):
            some = jax.tree.map(lambda leaf, a=first, b=stop: leaf[a:b], extras)
            if first < stop:
                x, kv = scan_layers(
                    self.layers, body, x, (*some, more), remat=remat, first=first, length=stop
                )
                parts.append(kv)
        kept = None
        if keep_kv:
            k, v = jax.tree.map(lambda *of: jnp.concatenate(of), *parts)
            kept = Cache(k=k, v=v, segments=segments, positions=positions)
        return self.norm(x), kept

    @jax.named_scope("head")
    def logits(
        self, x: Float[Array, "... D"], head: Float[Array, "D vocab"] | None = None
    ) -> Float[Array, "... vocab"]:
        """float32 scores over the vocabulary, by `head_matrix` where it is given."""
        if head is None:
            head = self._head().astype(x.dtype)
        return jnp.matmul(x, head, preferred_element_type=jnp.float32)

    def head_matrix(self, dtype) -> Float[Array, "D vocab"]:
        """What scores, brought whole from where fsdp split it: for calls one after another."""
        return whole(self._head().astype(dtype), ("embed", "vocab"), "embed")

    def _head(self) -> Array:
        return self.embed[...].T if self.head is None else self.head[...]
