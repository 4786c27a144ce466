"""Ring attention: each device keeps its queries, while keys and values go round (arXiv 2310.01889).

The hops continue one online softmax in float32, so that nothing is merged; the backward is a
second round with the log-sum-exp of all keys, on which dk and dv ride home one hop behind.
Both rounds are functions of a `custom_vjp` around `jax.shard_map`: differentiating through the
hops would keep every visitor, and through their partial results would be wrong.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from vjax.attention import chunked


def around(meet: Callable, host, visitor, axis):
    """Sends `visitor` past every device of a mesh axis, inside `shard_map`.

    The next visitor is on its way while the present one is met, and so are gifts, which follow
    their visitor one hop behind. Visitors hop n - 1 times, gifts n times.

    Args:
      meet: (host, visitor) -> (host, gift), first with the device's own visitor; a gift is a
        pytree to be added to what the visitor was given before, or None.
      host: stays on its device.
      visitor: goes to the next device, and on.
      axis: name of the mesh axis, or several names.

    Returns:
      The last host, and the sum of gifts to the device's own visitor.
    """
    n = lax.axis_size(axis)
    if n == 1:
        return meet(host, visitor)
    next_device = [(i, (i + 1) % n) for i in range(n)]

    def shift(tree):
        return jax.tree.map(lambda x: lax.ppermute(x, axis, next_device), tree)

    def give(gifts, host, visitor):
        gifts = shift(gifts)
        host, gift = meet(host, visitor)
        return host, jax.tree.map(jnp.add, gifts, gift)

    def hop(carry, _):
        host, visitor, gifts = carry
        following = shift(visitor)
        host, gifts = give(gifts, host, visitor)
        return (host, following, gifts), None

    following = shift(visitor)
    host, gifts = meet(host, visitor)
    (host, visitor, gifts), _ = lax.scan(hop, (host, following, gifts), length=n - 2)
    host, gifts = give(gifts, host, visitor)
    return host, shift(gifts)


def attend(q, k, v, mask, *, scale: float, spec: PartitionSpec):
    """Exact attention of rows that are split over the mesh axis `context`.

    Args:
      q, k, v, mask: global arrays; positions lie beside causal masks.
      spec: of q, k and v alike.
    """
    return _attend(q, k, v, mask, scale, spec)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(q, k, v, mask, scale, spec):
    return _forward(q, k, v, mask, scale, spec)[0]


def _forward(q, k, v, mask, scale, spec):
    def local(q, k, v, mask):
        queries, keys = chunked.blocks(q, k, v, mask)

        def meet(sums, keys):
            return chunked.accumulate(sums, queries, keys, mask, scale), None

        sums, _ = around(meet, chunked.empty(queries), keys, "context")
        return chunked.finish(sums, q)

    tokens, rows = PartitionSpec(*spec[:2]), PartitionSpec(*spec[:3])
    out, lse = jax.shard_map(local, in_specs=(spec, spec, spec, tokens), out_specs=(spec, rows))(
        q, k, v, mask
    )
    return out, (q, k, v, mask, out, lse)


def _backward(scale, spec, kept, dout):
    def local(q, k, v, mask, out, lse, dout):
        queries, keys = chunked.blocks(q, k, v, mask)
        outer = chunked.outer(q, k, out, lse, dout)

        def meet(dq, keys):
            more, gift = chunked.gradients(queries, keys, outer, mask, scale)
            return dq + more, gift

        nothing = jnp.zeros_like(queries.x, jnp.float32)
        dq, (dk, dv) = around(meet, nothing, keys, "context")
        dq = chunked.unblock_queries(dq, q)
        return dq, chunked.unblock_keys(dk, k), chunked.unblock_keys(dv, v)

    tokens, rows = PartitionSpec(*spec[:2]), PartitionSpec(*spec[:3])
    grads = jax.shard_map(
        local, in_specs=(spec, spec, spec, tokens, spec, rows, spec), out_specs=(spec, spec, spec)
    )(*kept, dout)
    return *grads, None


_attend.defvjp(_forward, _backward)
