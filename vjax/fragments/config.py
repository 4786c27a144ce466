"""FragmentConfig: what decides which fragments a clip gives."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLERS = ("motion", "ssim", "uniform", "random")
SET_SIZES = (3, 4, 5)


@dataclass(frozen=True)
class FragmentConfig:
    """How fragments are drawn.

    Attributes:
        seed: evaluation has its own seed.
        sampler: `motion` (8-bit luma differences), `ssim` (MGSampler's image-level signal),
            `uniform` or `random`. Clips are decoded with `signal=cfg.signal`.
        power: exponent of the motion curve (MGSampler, arXiv 2104.09952).
        tau: smallest grey difference, of 1, that makes two frames tell apart.
        model_size: side in pixels of the images the model sees; frames are compared at it.
        sets: sets per clip, 1 to 3; each has another M of (3, 4, 5).
        mcq_share: share of multiple-choice items; 1 or 0 forces one form.

    Raises:
        ValueError: a value out of its range.
    """

    seed: int = 0
    sampler: str = "motion"
    power: float = 0.5
    tau: float = 10 / 255
    model_size: int = 48
    sets: int = 3
    mcq_share: float = 0.5

    def __post_init__(self):
        checks = {
            f"sampler is one of {', '.join(SAMPLERS)}": self.sampler in SAMPLERS,
            "power > 0": self.power > 0,
            "0 < tau < 1": 0 < self.tau < 1,
            "model_size >= 16 (two pixels a block)": self.model_size >= 16,
            "1 <= sets <= 3": 1 <= self.sets <= len(SET_SIZES),
            "0 <= mcq_share <= 1": 0 <= self.mcq_share <= 1,
        }
        for rule, holds in checks.items():
            if not holds:
                raise ValueError(f"FragmentConfig: need {rule}; got {self}")

    @property
    def signal(self) -> str:
        """The motion signal clips must be decoded with (`vjax.video.motion.SIGNALS`)."""
        return "ssim" if self.sampler == "ssim" else "luma"
