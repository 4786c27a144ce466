"""Sets: three groups of 3, 4 and 5 frames of one clip that can be told apart."""

from __future__ import annotations

from dataclasses import dataclass

from vjax.fragments.config import SET_SIZES, FragmentConfig
from vjax.fragments.difference import Grey, differences, pairs_of
from vjax.video import sampling
from vjax.video.frames import Clip
from vjax.video.rng import philox

ATTEMPTS = 5


@dataclass(frozen=True)
class FragmentSet:
    """M frames of one clip, distinct, in time order.

    Attributes:
        number: which of the clip's sets.
        rows: rows of the clip's frame table.
        attempt: the draw that was accepted, from 0.
        fallback: the motion curve was zero and the frames were drawn uniformly.
        far: pairs of positions (i < j) at least 2 tau apart; never empty.
    """

    number: int
    rows: tuple[int, ...]
    attempt: int
    fallback: bool
    far: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Drop:
    """Why a clip gives no items: `value` is the number that was too small, `need` its bound."""

    video_id: str
    reason: str
    value: float
    need: float

    def __str__(self) -> str:
        return f"{self.video_id}: {self.reason} ({self.value:.3g}, need {self.need:.3g})"


def draw_sets(
    clip: Clip, cfg: FragmentConfig, *, epoch: int = 0, grey: Grey | None = None
) -> list[FragmentSet] | Drop:
    """Draws the sets of one clip, or says why it has none.

    The M of the sets are a permutation of (3, 4, 5), fixed before anything is rejected, and one set
    without an accepted draw drops the whole clip: so rejection never shifts the shares of M. A draw
    is accepted when every two of its frames are tau apart and some two of them 2 tau, without which
    no set could give a No to consistency. Frames come from all but the last one, as in MGSampler,
    one in each of M strata.

    Args:
        clip: frames uint8 [I, S, S, 3] and the motion curve of `cfg.signal`.
        epoch: every epoch draws other sets.
        grey: frames of this clip already made grey, to be shared with the tasks.
    """
    video_id, tau = clip.table.video_id, cfg.tau
    need = max(SET_SIZES) + 1
    if len(clip.frames) < need:
        return Drop(video_id, "too few frames", len(clip.frames), need)
    grey = grey or Grey(clip.frames, cfg.model_size)
    draw = sampling.SAMPLERS[cfg.sampler if cfg.sampler != "ssim" else "motion"]
    sizes = philox(cfg.seed, epoch, video_id, "sizes").permutation(SET_SIZES)[: cfg.sets]
    sets = []
    for number, M in enumerate(sizes.tolist()):
        scores = []
        for attempt in range(ATTEMPTS):
            rng = philox(cfg.seed, epoch, video_id, number, "set", attempt)
            picks, fallback = draw(clip.motion, M, power=cfg.power, rng=rng)
            rows = sampling.distinct(picks, len(clip.frames)).tolist()
            i, j = pairs_of(M)
            apart = differences(grey(rows))[i, j]
            scores.append(min(apart.min(), apart.max() / 2))
            if scores[-1] >= tau:
                wide = apart >= 2 * tau
                far = tuple(zip(i[wide].tolist(), j[wide].tolist(), strict=True))
                sets.append(FragmentSet(number, tuple(rows), attempt, fallback, far))
                break
        else:
            reason = f"frames look alike in {ATTEMPTS} draws of {M}, by the best of them"
            return Drop(video_id, reason, float(max(scores)), tau)
    return sets
