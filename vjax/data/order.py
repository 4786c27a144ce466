"""The order in which tokens of a row are laid on the devices that share it."""

from collections.abc import Callable

import numpy as np

# fields of a batch with an entry a token: [B, T, ...]
TOKEN_FIELDS = (
    "tokens", "targets", "loss_weights", "positions", "segment_ids", "vision_index",
    "rope_positions", "vision_weight",
)  # fmt: skip


def zigzag(length: int, devices: int) -> np.ndarray:
    """The order that gives each device as much of causal attention as every other.

    The row is cut into 2 x devices chunks, and device i holds chunks i and 2 x devices - 1 - i, an
    early one and a late one (as "load-balanced" context parallelism in Llama 3, arXiv 2407.21783,
    section 3.3.2). Every field with an entry a token is taken in this order, positions and labels
    too, once, where the batch is made; `np.argsort` of it leads back.

    Args:
      length: tokens of a row, padding included.
      devices: that share a row, `mesh.context`.

    Returns:
      int64 [length]: where in the row the token of each slot is found. Devices hold equal runs of
      slots.

    Raises:
      ValueError: a length that is no multiple of 2 x devices (of 1 where there is one device).
    """
    if devices == 1:
        return np.arange(length)
    if length % (2 * devices):
        raise ValueError(
            f"rows of {length} tokens make no zigzag over {devices} devices: pad them to a "
            f"multiple of {2 * devices}"
        )
    chunks = np.arange(length).reshape(2 * devices, -1)
    pairs = zip(chunks[:devices], chunks[: devices - 1 : -1], strict=True)
    return np.concatenate([half for pair in pairs for half in pair])


class Zigzag:
    """Batches whose rows lie in `zigzag` order.

    Args:
      make_batch: batch number to batch, rows in the order of their tokens.
      devices: that share a row.
      stacked: fields have a leading axis of micro-batches.
    """

    def __init__(
        self, make_batch: Callable[[int], dict[str, np.ndarray]], devices: int, *, stacked: bool
    ):
        self.make_batch, self.devices, self.axis = make_batch, devices, 2 if stacked else 1

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        """Batch i. Raises ValueError for rows that cannot be shared so."""
        batch = self.make_batch(i)
        to = zigzag(batch["tokens"].shape[self.axis], self.devices)
        moved = {n: batch[n].take(to, axis=self.axis) for n in TOKEN_FIELDS if n in batch}
        return batch | moved
