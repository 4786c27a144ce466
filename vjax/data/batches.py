"""Batches of conversations: batch number to numpy arrays, by way of plan, frames and tokens."""

import dataclasses
import time
from collections.abc import Mapping

import numpy as np

from vjax.data.collate import Shape, collate, fingerprint, joined, stacked
from vjax.data.examples import Examples
from vjax.data.packing import Bucket, Plan

# What the field `work` says of a batch, float64 each; images are clips too. Of `seconds`, `waiting`
# went by before a child was free and `decoding` until it had answered; `done` is a monotonic time.
# CPU-seconds: `cpu` of the thread, `decoding_cpu` of the children (without any, a part of `cpu`).
WORK = (
    "examples", "clips", "holes", "seconds", "waiting", "decoding", "done", "cpu", "decoding_cpu",
)  # fmt: skip


def work_of(told: Mapping[str, float]) -> np.ndarray:
    """The field `work`; what is not told is 0."""
    return np.array([told.get(name, 0) for name in WORK], np.float64)


@dataclasses.dataclass(frozen=True)
class PackedBatches:
    """`batches(i)` is batch i of the plan, or this process' share of it: a pure function of i.

    A batch is cut into blocks of whole rows with their pictures, and a share is some of the blocks:
    those of all processes are the batch of a single one. A clip that cannot be read leaves a hole:
    its tokens become padding, and nothing else moves.

    Attributes:
      plan: which samples, in rows of the plan's buckets.
      examples: samples to tokens and pixels.
      pad_token_id: of the model spec.
      image_size, patches: of the pictures, in pixels and in vision tokens.
      accumulate: micro-batches a step; with more than one, every field has them as leading axis.
      blocks, of: which blocks, of how many.
      training: frames are drawn anew each epoch; else they are the fixed choice of evaluation.

    Raises:
      ValueError: rows that cannot be cut into so many blocks and micro-batches.
    """

    plan: Plan
    examples: Examples
    pad_token_id: int
    image_size: int
    patches: int
    accumulate: int = 1
    blocks: tuple[int, ...] = (0,)
    of: int = 1
    training: bool = True

    def __post_init__(self):
        for bucket in self.plan.buckets:
            if bucket.rows % (self.accumulate * self.of):
                raise ValueError(
                    f"{bucket.rows} rows cannot be cut into {self.of} blocks in "
                    f"{self.accumulate} micro-batches: make train.batch_size a multiple"
                )

    def _shape(self, bucket: Bucket) -> Shape:
        """Of a block."""
        rows = bucket.rows // (self.accumulate * self.of)
        images = rows * bucket.pictures
        return Shape(rows, bucket.length, images, self.image_size, self.patches, bucket.pictures)

    def empty(self, bucket: int) -> dict[str, np.ndarray]:
        """A batch without samples, of the shapes and dtypes that a bucket's batches have."""
        return self._joined(bucket, [[]] * self.accumulate * len(self.blocks))

    @property
    def share(self) -> tuple[tuple[int, ...], int]:
        """As `vjax.data.device.put` takes it."""
        return self.blocks, self.of

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        """Batch i.

        Beside the fields of WORKSPACE.md it has `work`, float64 [9]: see `WORK`; and `plan`, uint8
        [16], which is that of every share.

        Raises:
          BadRow, VideoError: what is wrong with a sample, where the policy is to say so.
        """
        began, cpu = time.monotonic(), time.thread_time()
        footage = self.examples.footage
        before = footage.spent
        planned = self.plan.batch(i)
        each = self._shape(self.plan.buckets[planned.bucket]).rows
        epoch = planned.epoch if self.training else None
        parts, count, holes = [], 0, 0
        for micro in range(self.accumulate):
            for block in self.blocks:
                first = (micro * self.of + block) * each
                rows = planned.rows[first : first + each]
                made = [[self.examples.encode(n, epoch) for n in row] for row in rows]
                found = [[example for example in row if example is not None] for row in made]
                count += sum(map(len, found))
                holes += sum(map(len, made)) - sum(map(len, found))
                parts.append([(row[0], some) for row, some in zip(rows, found, strict=True)])
        batch = self._joined(planned.bucket, parts)
        clips, waited, decoded, decoding_cpu = np.subtract(footage.spent, before)
        done, cpu = time.monotonic(), time.thread_time() - cpu
        told = dict(examples=count, clips=clips, holes=holes, seconds=done - began, waiting=waited)
        told |= dict(decoding=decoded, done=done, cpu=cpu, decoding_cpu=decoding_cpu)
        batch["work"] = work_of(told)
        batch["plan"] = fingerprint(planned)
        return batch

    def _joined(self, bucket: int, parts: list[list[tuple]]) -> dict[str, np.ndarray]:
        """Blocks of micro-batches to fields; of each row its number and its examples."""
        shape = self._shape(self.plan.buckets[bucket])
        made = [
            collate(
                [some for _, some in rows],
                shape,
                pad_token_id=self.pad_token_id,
                items=[number for number, _ in rows],
                rope=self.examples.rope,
            )
            for rows in parts
        ]
        n = len(self.blocks)
        micro = [
            joined(made[k * n : (k + 1) * n], shape, self.blocks, self.of)
            for k in range(self.accumulate)
        ]
        return stacked(micro)
