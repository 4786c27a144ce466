"""The vision tower: SigLIP's, CLIP's or Qwen-VL's ViT, by its spec."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from vjax.attention import Mask, attend
from vjax.attention.mask import SEE_ALL
from vjax.families.spec import TowerSpec
from vjax.models.layers import (
    ACTIVATIONS,
    NORMS,
    Dense,
    GatedMlp,
    LayerNorm,
    RMSNorm,
    apply_rope,
    axial_rope_table,
    layer_keys,
    scan_layers,
)
from vjax.models.tables import antialiased, grid_sizes, resampled
from vjax.models.windows import attend_in_windows, window_ids
from vjax.sharding import gathered, laid, pieces

PICTURES = ("images", None, None)  # axes of features
QK_EPS = 1e-6  # of InternVLVisionRMSNorm, whatever the other norms have


class Attention(nnx.Module):
    """Multi-head attention over the patches of one image."""

    def __init__(self, spec: TowerSpec, *, stack: tuple[int, ...], rngs: nnx.Rngs):
        self.heads, self.fused = spec.heads, spec.fused_qkv
        D = spec.width
        for name, out in {"qkv": 3 * D}.items() if self.fused else dict.fromkeys("qkv", D).items():
            layer = Dense(D, out, ("embed", "heads"), bias=spec.qkv_bias, stack=stack, rngs=rngs)
            setattr(self, name, layer)
        self.q_norm = self.k_norm = nnx.data(None)
        if spec.qk_norm:
            self.q_norm, self.k_norm = (RMSNorm(D, QK_EPS, stack=stack) for _ in range(2))
        self.o = Dense(D, D, ("heads", "embed"), bias=True, stack=stack, rngs=rngs)

    def __call__(
        self, x: Float[Array, "V P D"], rope, key: Array | None, attend: Callable
    ) -> Float[Array, "V P D"]:
        """`rope` is a table of axial_rope_table, or None; `attend` takes queries, keys, values."""
        if self.fused:
            qkv = jnp.split(self.qkv(x, key), 3, axis=-1)
        else:
            qkv = self.q(x, key), self.k(x, key), self.v(x, key)
        if self.q_norm is not None:
            qkv = self.q_norm(qkv[0]), self.k_norm(qkv[1]), qkv[2]
        q, k, v = (rearrange(m, "v p (n h) -> v p n h", n=self.heads) for m in qkv)
        if rope is not None:
            q, k = apply_rope(q, rope), apply_rope(k, rope)
        out = attend(q, k, v)
        return self.o(rearrange(out, "v p n h -> v p (n h)"), key)


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
        norm = NORMS[spec.norm]
        self.norm1 = norm(spec.width, spec.norm_eps, stack=stack)
        self.attn = Attention(spec, stack=stack, rngs=rngs)
        self.norm2 = norm(spec.width, spec.norm_eps, stack=stack)
        if spec.gated:
            self.mlp = GatedMlp(
                spec.width, spec.ffn, bias=True, act=spec.act, stack=stack, rngs=rngs
            )
        else:
            self.mlp = Mlp(spec, stack=stack, rngs=rngs)
        self.scale1 = self.scale2 = nnx.data(None)
        if spec.layer_scale:
            axes = ("layers",) * len(stack) + ("norm",)
            self.scale1, self.scale2 = (
                nnx.Param(jnp.full((*stack, spec.width), 0.1), axes=axes) for _ in range(2)
            )

    def __call__(
        self, x: Float[Array, "V P D"], rope, key: Array | None, attend: Callable
    ) -> Float[Array, "V P D"]:
        x = x + _scaled(self.attn(self.norm1(x), rope, key, attend), self.scale1)
        return x + _scaled(self.mlp(self.norm2(x), key), self.scale2)


def _scaled(x: Float[Array, "V P D"], by: nnx.Param | None) -> Float[Array, "V P D"]:
    return x if by is None else x * by[...].astype(x.dtype)


def patch_grid(rows: int, columns: int, merge: int) -> Int[np.ndarray, "P 2"]:
    """Row and column of each patch, in the order of patches: blocks of merge x merge together."""
    at = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1)
    order = "(h a) (w b) two -> (h w a b) two"
    return rearrange(at, order, a=merge, b=merge).astype(np.int32)


def fractional_cells(
    hw: Int[np.ndarray, "P 2"], size: tuple[int, int], side: int
) -> Int[np.ndarray, "P 2"]:
    """Row and column of the cell, of side x side, that each patch of an image begins in.

    SmolVLMVisionEmbeddings, in its float32: patches that begin on an edge fall as they do there.

    Args:
      hw: row and column of each patch.
      size: rows and columns of the image.
    """
    edges = ((1 + np.arange(side - 1)) / side).astype(np.float32)
    at = hw.astype(np.float32) * (np.float32(1) / np.array(size, np.float32))
    at = np.minimum(at, np.float32(1 - 1e-6))
    return np.searchsorted(edges, at, side="right").astype(np.int32)


def _in_order(x: Array, order: Int[Array, "V P"]) -> Array:
    """[V, P, ...] with the patches of each row as `order` numbers them."""
    return jnp.take_along_axis(x, order.reshape(*order.shape, *[1] * (x.ndim - 2)), axis=1)


def in_parts(see: Callable, images: Array, size: int, key: Array | None) -> Float[Array, "V Q D"]:
    """see(part, key) of images, `size` of each device at a time; black ones fill the last part."""
    ways = pieces("images", len(images))
    each = len(images) // ways
    parts = -(-each // size)
    x = images.reshape(ways, each, *images.shape[1:])
    x = jnp.pad(x, [(0, 0), (0, parts * size - each), *[(0, 0)] * (images.ndim - 1)])
    # a part is of all devices, so that none of it moves
    x = rearrange(x, "d (n a) ... -> n (d a) ...", n=parts)
    x = laid(x, (None, "images", *[None] * (images.ndim - 1)))

    def body(args):
        n, part = args
        # barriers: what is around it in a program changes nothing of how this is computed
        part = jax.lax.optimization_barrier(part)
        out = see(part, None if key is None else jax.random.fold_in(key, n))
        return jax.lax.optimization_barrier(out)

    out = jax.lax.map(body, (jnp.arange(parts), x))
    out = rearrange(out, "n (d a) ... -> d (n a) ...", d=ways)[:, :each]
    return laid(out.reshape(len(images), *out.shape[2:]), PICTURES)


class Tower(nnx.Module):
    """Images to patch features, one image at a time: images never see each other here.

    Attributes:
      attention: the backend, see `vjax.attention.attend`.
      at_once: images that a device takes at a time, 0 = all.
    """

    def __init__(self, spec: TowerSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.attention, self.at_once = "auto", 0
        into = 3 * spec.temporal_patch * spec.patch_size**2
        self.patch = Dense(
            into, spec.width, ("patch", "embed"), bias=spec.patch_bias, stack=(), rngs=rngs
        )
        self.position = nnx.data(None)
        if spec.position != "rope2d":
            rows = (spec.table_side**2 or spec.patches) + spec.class_token
            self.position = nnx.Param(
                0.2 * rngs.params.normal((rows, spec.width)), axes=("position", "embed")
            )
        self.table = nnx.data(None)
        if spec.table_side and spec.position == "rope2d":
            self.table = nnx.Param(
                0.2 * rngs.params.normal((spec.table_side**2, spec.width)),
                axes=("position", "embed"),
            )
        self.class_token = self.pre_norm = self.post_norm = nnx.data(None)
        if spec.class_token:
            self.class_token = nnx.Param(0.2 * rngs.params.normal((spec.width,)), axes=("embed",))
        if spec.pre_norm:
            self.pre_norm = LayerNorm(spec.width, spec.norm_eps, stack=())
        if spec.post_norm:
            self.post_norm = LayerNorm(spec.width, spec.norm_eps, stack=())
        self.layers = Block(spec, stack=(spec.layers,), rngs=rngs)

    def __call__(
        self,
        images: UInt8[Array, "V H W 3"] | Float[Array, "V H W 3"],
        *,
        dtype=jnp.float32,
        remat: bool = False,
        key: Array | None = None,
    ) -> Float[Array, "V Q D"]:
        """RGB of 0 ... 255, or float and normalised -> see `encode`.

        What is left over of a side that is no whole number of patches is not seen, as in the
        reference's strided convolution (SigLIP's 384 pixels are 27 patches of 14).

        With `at_once`, images go through it in parts of one size, whatever V is: what each gives is
        then the same to the bit in batches of any size, and no more is in memory than of one part.
        """
        how = functools.partial(self._some, dtype=dtype, remat=remat)
        return in_parts(how, images, self.at_once, key) if self.at_once else how(images, key)

    def _some(self, images, key, *, dtype, remat: bool):
        spec, V = self.spec, len(images)
        H, W = (side - side % (spec.patch_size * spec.merge) for side in images.shape[1:3])
        x = images[:, :H, :W].astype(dtype)
        if images.dtype == jnp.uint8:
            std, mean = (np.asarray(c, np.float32) for c in (spec.std, spec.mean))
            x = x * jnp.asarray(1 / (255 * std), dtype) - jnp.asarray(mean / std, dtype)
        x = rearrange(
            x, "v (h a y) (w b x) c -> v (h w a b) (y x c)",
            a=spec.merge, b=spec.merge, y=spec.patch_size, x=spec.patch_size,
        )  # fmt: skip
        x = repeat(x, "v p d -> v p (t d)", t=spec.temporal_patch)
        rows, columns = H // spec.patch_size, W // spec.patch_size
        hw = patch_grid(rows, columns, spec.merge)
        if spec.position == "fractional":
            hw = fractional_cells(hw, (rows, columns), spec.table_side)
        even = spec.window and not (rows % spec.window or columns % spec.window)
        return self.encode(
            x, jnp.broadcast_to(hw, (V, *hw.shape)), even=bool(even), remat=remat, key=key
        )

    @jax.named_scope("tower")
    def encode(
        self,
        patches: Float[Array, "V P C"],
        hw: Int[Array, "V P 2"],
        segments: Int[Array, "V P"] | None = None,
        *,
        seen: Int[Array, "V P"] | None = None,
        even: bool = False,
        remat: bool = False,
        key: Array | None = None,
    ) -> Float[Array, "V Q D"]:
        """Patches to features of the selected layer, a class token that is kept first.

        With `taps`, D is as many widths more.

        Args:
          patches: normalised pixels, each in the order (frame, row, column, channel).
          hw: row and column of each patch in its image, or in a `fractional` table.
          segments: several images in one row, numbered from 1; 0 = padding. One image a row if
            None, as a class token needs.
          seen: the segments, 0 for patches that look at their image and are not looked at: an
            image's own padding.
          even: every window of every image is full.
        """
        spec = self.spec
        if spec.window:  # patches of a window go side by side
            ids = window_ids(hw, segments, spec.window)
            order = jnp.argsort(ids, axis=1)
            ids, patches, hw = (_in_order(x, order) for x in (ids, patches, hw))
            segments = None if segments is None else _in_order(segments, order)
        spread = pieces("images", len(patches)) > 1
        whole = gathered if spread else lambda layer: layer
        x = laid(whole(self.patch)(laid(patches, PICTURES), key), PICTURES)
        if self.class_token is not None:
            first = self.class_token[...].astype(x.dtype)
            first = jnp.broadcast_to(first, (len(x), 1, spec.width))
            x = jnp.concatenate([first, x], axis=1)
        rope = None
        if self.position is not None:
            x = x + self._positions(hw, segments).astype(x.dtype)
        else:
            rope = axial_rope_table(hw, spec.width // spec.heads, spec.rope_theta)
        if self.table is not None:
            sizes = grid_sizes(hw, segments)
            x = x + resampled(self.table[...], hw, sizes, spec.table_side).astype(x.dtype)
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        mask = SEE_ALL
        if segments is not None:
            mask = Mask(q_segments=segments, kv_segments=segments if seen is None else seen)
        how = functools.partial(
            attend, backend=self.attention, rows="images" if spread else "batch"
        )
        see = functools.partial(how, mask=mask)
        length = spec.used_layers

        def body(layer, x, extra):
            key, full = extra
            layer = whole(layer)
            if not spec.window:
                return laid(layer(x, rope, key, see), PICTURES), None
            inside = functools.partial(
                attend_in_windows, ids=ids, size=even * spec.window**2, attend=how
            )
            either = functools.partial(jax.lax.cond, full, see, inside)
            return laid(layer(x, rope, key, either), PICTURES), None

        extras = layer_keys(key, length), np.isin(np.arange(length), spec.full_layers)
        tapped, first = [], 0
        for stop in (*(tap + 1 for tap in spec.taps), length):
            some = jax.tree.map(lambda leaf, a=first, b=stop: leaf[a:b], extras)
            if first < stop:
                x, _ = scan_layers(
                    self.layers, body, x, some, remat=remat, first=first, length=stop
                )
            tapped.append(x)
            first = stop
        if self.post_norm is not None:
            x = self.post_norm(x)
        if spec.taps:
            x = jnp.concatenate([x, *tapped[:-1]], axis=-1)
        if spec.window:
            x = _in_order(x, jnp.argsort(order, axis=1))
        return x[:, 1:] if spec.class_token and not spec.keep_class else x

    def _positions(
        self, hw: Int[Array, "V P 2"], segments: Int[Array, "V P"] | None
    ) -> Float[Array, "V Q D"] | Float[Array, "Q D"]:
        """Rows of the table, in the order of patches."""
        spec, table = self.spec, self.position[...]
        if spec.position == "table" and spec.merge == 1:
            return table
        if spec.position == "resampled":
            return antialiased(table, hw, grid_sizes(hw, segments))
        first, table = jnp.split(table, [int(spec.class_token)])
        side = spec.table_side or spec.image_size // spec.patch_size
        rows = jnp.take(table, hw[..., 0] * side + hw[..., 1], axis=0)
        if not spec.class_token:
            return rows
        first = jnp.broadcast_to(first, (len(rows), *first.shape))
        return jnp.concatenate([first, rows], axis=1)
