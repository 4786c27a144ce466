"""Attention on a mesh: which part of it a device computes, and what it hears from the others."""

import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from vjax.attention import ring
from vjax.attention.mask import Mask
from vjax.sharding import RULES, fitting_spec, mesh_axes


def context_size() -> int:
    """Devices over which the tokens of a row are split."""
    return mesh_axes().get("context", 1)


def check_heads(heads: int, sizes: Mapping[str, int]):
    """Raises ValueError where `ulysses` cannot split so many kv heads on a mesh of these sizes."""
    n, tensor = sizes["context"], math.prod(sizes[axis] for axis in RULES["kv_heads"])
    heads = heads if heads % tensor else heads // tensor  # what it does not divide lies whole
    if heads % n:
        raise ValueError(
            f"context_parallel=ulysses splits kv heads, and mesh.context={n} does not divide "
            f"{heads}: use ring or all_gather"
        )


def split_rows_and_heads(attend: Callable, q, k, v, mask: Mask, rows: str = "batch"):
    """Each device attends in its own rows and heads: for kernels that XLA cannot split."""
    # kv heads stand for all heads: a group and its queries stay together
    heads = None if rows == "images" else "kv_heads"  # images take all axes of the mesh
    spec = fitting_spec((rows, None, heads, None), k.shape)
    specs = (spec, spec, spec, PartitionSpec(*spec[:2]))
    return jax.shard_map(attend, in_specs=specs, out_specs=spec, check_vma=False)(q, k, v, mask)


def attend(q, k, v, mask: Mask, *, scale: float, method: str, local: Callable):
    """Attention of rows whose tokens are split over the mesh axis `context`.

    Args:
      method: a name in METHODS.
      local: (q, k, v, mask) -> output, on one device.

    Raises:
      ValueError: queries that are no keys, a length or heads that the axis does not divide.
    """
    n, T = context_size(), q.shape[1]
    if k.shape[1] != T:
        raise ValueError(f"context parallel needs keys of all queries: {T} and {k.shape[1]}")
    if T % n:
        raise ValueError(
            f"rows of {T} tokens do not split over mesh.context={n}: pad them to a multiple of {n}"
        )
    spec = fitting_spec(("batch", "length", "kv_heads", None), k.shape)
    return METHODS[method](q, k, v, mask, scale=scale, spec=spec, local=local)


def _ring(q, k, v, mask, *, scale, spec, local):
    return ring.attend(q, k, v, _with_positions(mask, q), scale=scale, spec=spec)


def _all_gather(q, k, v, mask, *, scale, spec, local):
    """Keys and values of the whole row on every device."""

    def one(q, k, v, mask):
        ids = _gather((mask.kv_segments, mask.kv_positions))
        mask = mask.replace(kv_segments=ids[0], kv_positions=ids[1])
        return local(q, _whole(k), _whole(v), mask)

    mask = _with_positions(mask, q)
    specs = (spec, spec, spec, PartitionSpec(*spec[:2]))
    return jax.shard_map(one, in_specs=specs, out_specs=spec, check_vma=False)(q, k, v, mask)


def _ulysses(q, k, v, mask, *, scale, spec, local):
    """Whole rows of some heads, in place of some tokens of all heads (arXiv 2309.14509)."""
    check_heads(k.shape[2], mesh_axes())

    def one(q, k, v, mask):
        swap = functools.partial(lax.all_to_all, axis_name="context", tiled=True)
        q, k, v = (swap(x, split_axis=2, concat_axis=1) for x in (q, k, v))
        out = local(q, k, v, _gather(mask))
        return swap(out, split_axis=1, concat_axis=2)

    specs = (spec, spec, spec, PartitionSpec(*spec[:2]))
    return jax.shard_map(one, in_specs=specs, out_specs=spec, check_vma=False)(q, k, v, mask)


def _gather(tree):
    return jax.tree.map(lambda x: lax.all_gather(x, "context", axis=1, tiled=True), tree)


@jax.custom_vjp
def _whole(x):
    """Tokens of all devices; what comes back from them is summed in float32."""
    return _gather(x)


def _share(_, dx):
    of_all = dx.astype(jnp.float32)
    own = lax.psum_scatter(of_all, "context", scatter_dimension=1, tiled=True)
    return (own.astype(dx.dtype),)


_whole.defvjp(lambda x: (_gather(x), None), _share)


def _with_positions(mask: Mask, q) -> Mask:
    """What `causal` compares, where each device holds a part of the row."""
    if not mask.causal or mask.q_positions is not None:
        return mask
    at = jnp.broadcast_to(jnp.arange(q.shape[1]), q.shape[:2])
    return mask.replace(q_positions=at, kv_positions=at)


METHODS: dict[str, Callable] = {"all_gather": _all_gather, "ring": _ring, "ulysses": _ulysses}
