"""Longer contexts in steps: each rung trains on from the checkpoint of the rung before.

As LWM grew from 32K to 1M tokens (arXiv 2402.08268), slowing rotary positions at every
rung by as much as it is longer.
"""

import dataclasses
from collections.abc import Sequence

from vjax.families.spec import DecoderSpec, RopeScaling
from vjax.families.text import plain_rope

LWM = tuple(1024 * 2**i for i in range(5, 11))  # 32K, 64K, ... 1M tokens


@dataclasses.dataclass(frozen=True)
class Rung:
    """A stage of training.

    Attributes:
      length: tokens of a row.
      start: tokens of a row of the checkpoint that it starts from: the rung before, or the base.
      scaling: of that checkpoint's rotary positions, see `slowed`.
    """

    length: int
    start: int
    scaling: RopeScaling


def slowed(before: DecoderSpec, scaling: RopeScaling) -> DecoderSpec:
    """A decoder for longer rows than the checkpoint's that it starts from.

    Raises:
      ValueError: the checkpoint has a scaling that this one does not go on top of.
    """
    before = plain_rope(before)
    if before.rope_scaling is not None:
        if (before.rope_scaling.kind, scaling.kind) != ("linear", "position_interpolation"):
            raise ValueError(
                f"{scaling.kind} does not go on top of {before.rope_scaling.kind} positions"
            )
        scaling = dataclasses.replace(scaling, factor=scaling.factor * before.rope_scaling.factor)
    return dataclasses.replace(before, rope_scaling=scaling)


def length_ladder(
    base: int, lengths: Sequence[int] = LWM, *, kind: str = "theta_scale", alpha: float = 1.0
) -> tuple[Rung, ...]:
    """The rungs from a checkpoint that was trained on rows of `base` tokens.

    Args:
      lengths: of the rungs, rising; those that are not longer than `base` are left out.
      kind: theta_scale or position_interpolation, see `RopeScaling`.
      alpha: of theta_scale.

    Raises:
      ValueError: another kind, or lengths that do not rise.
    """
    if kind not in ("theta_scale", "position_interpolation"):
        raise ValueError(f"{kind!r} is neither theta_scale nor position_interpolation")
    if list(lengths) != sorted(set(lengths)):
        raise ValueError(f"the lengths of a ladder rise; these are {', '.join(map(str, lengths))}")
    steps = [base, *(length for length in lengths if length > base)]
    return tuple(
        Rung(length, start, RopeScaling(kind, length / start, alpha=alpha))
        for start, length in zip(steps, steps[1:], strict=False)
    )
