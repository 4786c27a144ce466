"""Numpy batches to arrays on the mesh: the one place above the line that touches jax."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vjax.data.order import TOKEN_FIELDS

PEOPLE = ("item", "work")  # fields that no step needs


def put(batch: dict[str, np.ndarray], mesh: Mesh, *, stacked: bool = False) -> dict[str, jax.Array]:
    """Places every field on the mesh.

    Rows and pictures are split over the axes data and fsdp, the tokens of a row over context; what
    an axis does not divide lies whole on it. Each process gives its own rows and pictures.

    Args:
      stacked: fields have a leading axis of micro-batches, which is not split.

    Returns:
      The batch without the fields that are for people.
    """
    rows, context = mesh.shape["data"] * mesh.shape["fsdp"], mesh.shape["context"]
    placed = {}
    for name, field in batch.items():
        if name in PEOPLE:
            continue
        count, *inner = field.shape[stacked:]
        first = ("data", "fsdp") if count * jax.process_count() % rows == 0 else None
        split = name in TOKEN_FIELDS and inner[0] % context == 0
        spec = PartitionSpec(*[None] * stacked, first, "context" if split else None)
        placed[name] = jax.make_array_from_process_local_data(NamedSharding(mesh, spec), field)
    return placed
