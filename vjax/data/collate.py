"""Encoded examples -> the batch dict of WORKSPACE.md."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from vjax.prompts.chat import NEWLINE, Encoded
from vjax.prompts.pixels import to_model_size


@dataclasses.dataclass(frozen=True)
class Shape:
    """Static sizes of a batch: one compiled program each.

    Attributes:
      rows: B; length: T; images: V, slots of the vision buffer; image_size: H = W in pixels;
      patches: P, vision tokens of an image.
      row_images: slots of each row, so that rows can be dealt out with their pictures; 0 where
        rows share the buffer.
    """

    rows: int
    length: int
    images: int
    image_size: int
    patches: int
    row_images: int = 0


def stacked(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The micro-batches of a step on a new leading axis; a single one stays as it is."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def joined(
    parts: Sequence[dict[str, np.ndarray]], shape: Shape, blocks: Sequence[int], of: int
) -> dict[str, np.ndarray]:
    """Some blocks of a batch that is cut into `of`, each collated alone, as one share of it.

    `vision_index` then leads into the bank of vision tokens of the whole batch.
    """
    here = shape.images * shape.patches  # of a block; the newline is behind those of all
    for part, block in zip(parts, blocks, strict=True):
        index = part["vision_index"]
        moved = np.where(index == here, of * here, index + block * here)
        part["vision_index"] = np.where(index < 0, index, moved).astype(np.int32)
    if len(parts) == 1:  # pictures are not copied
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fingerprint(planned) -> np.ndarray:
    """uint8 [16]: what a batch is made of, for processes to agree on; of anything with a repr."""
    said = hashlib.blake2b(repr(planned).encode(), digest_size=16)
    return np.frombuffer(said.digest(), np.uint8)


def collate(
    rows: Sequence[Sequence[Encoded]],
    shape: Shape,
    *,
    pad_token_id: int,
    items: Sequence[int] | None = None,
    rope: bool = False,
) -> dict[str, np.ndarray]:
    """Examples to the batch dict: those of a row one after another, all pictures in one buffer.

    Args:
      rows: the examples of each row; rows that are absent up to `shape.rows` are padding.
      items: the `item` field, one number a row.
      rope: whether there are `rope_positions` without an example too.

    Raises:
      ValueError: more rows, tokens in a row or pictures than the shape has room for, or vision
        tokens that do not match the pictures.
    """
    B, T, P = shape.rows, shape.length, shape.patches
    if len(rows) > B:
        raise ValueError(f"{len(rows)} rows do not fit a batch of {B}")
    batch = {
        "tokens": np.full((B, T), pad_token_id, np.int32),
        "targets": np.full((B, T), pad_token_id, np.int32),
        "loss_weights": np.zeros((B, T), np.float32),
        "positions": np.zeros((B, T), np.int32),
        "segment_ids": np.zeros((B, T), np.int32),
        "vision_index": np.full((B, T), -1, np.int32),
        "images": np.zeros((shape.images, shape.image_size, shape.image_size, 3), np.uint8),
        "item": np.full((B,), -1, np.int64),
    }
    if rope or any(example.rope is not None for row in rows for example in row):
        batch["rope_positions"] = np.zeros((B, T, 3), np.int32)
    slot, slots = 0, shape.images
    for b, row in enumerate(rows):
        at = 0
        if shape.row_images:
            slot, slots = b * shape.row_images, (b + 1) * shape.row_images
        for segment, example in enumerate(row, 1):
            n = len(example.tokens)
            if at + n > T:
                raise ValueError(f"row {b}: {at + n} tokens do not fit a length of {T}")
            if slot + len(example.images) > slots:
                of = shape.row_images or shape.images
                raise ValueError(f"row {b}: the vision buffer of {of} pictures is full")
            here = slice(at, at + n)
            batch["tokens"][b, here] = example.tokens
            # the last token of a segment predicts nothing: the next one belongs to another example
            batch["targets"][b, at : at + n - 1] = example.tokens[1:]
            batch["loss_weights"][b, at : at + n - 1] = example.answer[1:]
            batch["positions"][b, here] = np.arange(n)
            batch["segment_ids"][b, here] = segment
            count = int(example.vision.max(initial=-1)) + 1
            if -(-count // P) != len(example.images):
                raise ValueError(
                    f"row {b}: {count} vision tokens for {len(example.images)} pictures "
                    f"of {P} tokens"
                )
            index = np.where(example.vision >= 0, slot * P + example.vision, -1)
            # the newline is the last of the model's bank
            batch["vision_index"][b, here] = np.where(
                example.vision == NEWLINE, shape.images * P, index
            )
            if example.rope is not None:
                batch["rope_positions"][b, here] = example.rope
            for image in example.images:
                batch["images"][slot] = to_model_size(image, shape.image_size)
                slot += 1
            at += n
        if row and items is not None:
            batch["item"][b] = items[b]
    return batch
