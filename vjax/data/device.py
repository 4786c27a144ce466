"""Numpy batches to arrays on the mesh: the one place above the line that touches jax."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vjax.data.order import TOKEN_FIELDS

PEOPLE = ("item", "work", "plan")  # fields that no step needs
PICTURES = ("images", "stills", "features", "still_features")


def put(
    batch: dict[str, np.ndarray],
    mesh: Mesh,
    *,
    stacked: bool = False,
    share: tuple[tuple[int, ...], int] | None = None,
) -> dict[str, jax.Array]:
    """Places every field on the mesh.

    Rows are split over the axes data and fsdp, their tokens over context, pictures over all axes,
    or as rows are where these do not divide them; what an axis does not divide lies whole on it.

    Args:
      stacked: fields have a leading axis of micro-batches, which is not split.
      share: the blocks of rows and pictures that `batch` holds, ascending, and of how many
        (`vjax.sharding.row_share`); None where every process has all of them, as a single one
        always does.

    Returns:
      The batch without the fields that are for people.
    """
    if jax.process_count() == 1:
        share = None
    placed = {}
    for name, field in batch.items():
        if name in PEOPLE:
            continue
        where = sharding_of(name, field.shape, mesh, stacked=stacked, share=share)
        placed[name] = _place(field, where, int(stacked), share)
    return placed


def sharding_of(
    name: str,
    shape: tuple[int, ...],
    mesh: Mesh,
    *,
    stacked: bool,
    share: tuple[tuple[int, ...], int] | None = None,
) -> NamedSharding:
    """Where a field lies of which `share` has this shape."""
    ways, context = mesh.shape["data"] * mesh.shape["fsdp"], mesh.shape["context"]
    count, *inner = shape[stacked:]
    if share is not None:
        count = count // len(share[0]) * share[1]
    first = ("data", "fsdp") if count % ways == 0 else None
    if name in PICTURES and count % mesh.size == 0:
        first = mesh.axis_names
    split = name in TOKEN_FIELDS and inner[0] % context == 0
    spec = PartitionSpec(*[None] * stacked, first, "context" if split else None)
    return NamedSharding(mesh, spec)


def _place(field: np.ndarray, sharding: NamedSharding, axis: int, share) -> jax.Array:
    if jax.process_count() == 1:
        return jax.device_put(field, sharding)
    if share is None:
        return jax.make_array_from_callback(field.shape, sharding, lambda index: field[index])
    blocks, of = share
    each = field.shape[axis] // len(blocks)
    shape = (*field.shape[:axis], each * of, *field.shape[axis + 1 :])

    def part(index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[axis].indices(shape[axis])
        first = blocks.index(start // each) * each + start % each
        return field[(*index[:axis], slice(first, first + stop - start), *index[axis + 1 :])]

    return jax.make_array_from_callback(shape, sharding, part)
