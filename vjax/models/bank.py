"""Vision tokens out of the bank of a batch, on a mesh from device to device."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from vjax.attention.ring import around
from vjax.sharding import RULES, fitting_spec, mesh_axes, pieces

ROWS = RULES["batch"]


def taken(
    bank: Float[Array, "N E"], index: Int[Array, "B T *K"], *, newline: bool
) -> Float[Array, "B T *K E"]:
    """`bank[index]`, and anything where the index is below 0.

    On a mesh that splits rows each device has a part of the bank, as large as every other. Where
    all rows point into the parts beside them, as those do whose pictures are dealt out with them,
    nothing is sent. Else the parts go round, so that no device ever holds the bank of the whole
    batch, which grows with the number of devices.

    Args:
      newline: the bank ends with one token more, which every row may point to.
    """
    count = len(bank) - newline
    ways = pieces("batch", len(index), count)
    if ways == 1:
        return jnp.take(bank, jnp.maximum(index, 0), axis=0)
    mesh = mesh_axes()

    def local(part, index):
        me, size = lax.axis_index(ROWS), len(part)

        def found(part, owner):
            at = index - owner * size
            here = (at >= 0) & (at < size)
            return jnp.where(here[..., None], jnp.take(part, jnp.where(here, at, 0), axis=0), 0)

        def meet(host, part):
            sum_, hops = host
            return (sum_ + found(part, (me - hops) % ways), hops + 1), None

        beside = found(part, me)
        far = (index >= 0) & (index < ways * size) & (index // size != me)
        any_far = lax.pmax(far.any(), tuple(mesh))  # all take the same way: they meet on it
        return lax.cond(
            any_far,
            lambda: around(meet, (jnp.zeros_like(beside), 0), part, ROWS)[0][0],
            lambda: beside,
        )

    spec = fitting_spec(("batch", "length"), index.shape[:2])
    run = jax.shard_map(
        local, in_specs=(PartitionSpec(ROWS), spec), out_specs=spec, check_vma=False
    )
    out = run(bank[:count], index)
    if newline:
        out = jnp.where((index == count)[..., None], bank[-1], out)
    return out
