"""Numpy batches to arrays on the mesh: the one place above the line that touches jax."""

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


def put(batch: dict[str, np.ndarray], mesh, *, stacked: bool = False) -> dict[str, jax.Array]:
    """Places every field on the mesh, rows (and pictures) split over the data and fsdp axes.

    Args:
      stacked: fields have a leading axis of micro-batches, which is not split.

    Returns:
      The batch without `item` and `work`, which are for people.
    """
    rows = PartitionSpec(None, ("data", "fsdp")) if stacked else PartitionSpec(("data", "fsdp"))
    sharding = NamedSharding(mesh, rows)
    return {
        name: jax.device_put(field, sharding)
        for name, field in batch.items()
        if name not in ("item", "work")
    }
