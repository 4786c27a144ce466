"""Batches for the first stage of vjax-tiny: jittered frames and what is to be seen in them."""

from collections.abc import Sequence

import numpy as np

from vjax.console import UserError
from vjax.data.conversations import SceneClip
from vjax.fragments.common import draw_jitter, jittered
from vjax.fragments.localization import draw_patch, paste
from vjax.video.rng import philox
from vjax.video.world import motion, scene

STATE = 7  # numbers of a state
MOMENTS, VIEWS = 3, 2  # of a clip, of a moment
NOISE_SHARE = 0.5  # of views have a patch of noise
PAIRS = [(colour, shape) for colour in scene.COLOURS for shape in (*scene.SHAPES, "lid")]
BACKGROUNDS, AMBIENTS = list(scene.BACKGROUNDS), list(scene.AMBIENTS)
CLASSES = (len(PAIRS), len(BACKGROUNDS), len(AMBIENTS))
PROCESS = len(PAIRS)  # asks for the background process, where a pair's number asks for an object


def state_of(clip: SceneClip, row: int, box: Sequence[float]) -> np.ndarray:
    """float32 [3, STATE] of actor, target and background process in one frame, seen through a crop.

    Of an object: x, y, half-width, half-height (in parts of the picture's side), opacity, share of
    it that is painted, how far its pieces are apart. Of the process: how far it is. Nan elsewhere.
    """
    t, side = clip.timeline, box[2] - box[0]
    state = np.full((3, STATE), np.nan, np.float32)
    for n, body in enumerate((t.actor, t.target)):
        if body is not None:
            centre = (body.centre[row] / motion.SIZE - box[:2]) / side
            half = body.radius * body.scale[row] / motion.SIZE / side
            state[n] = *centre, *half, body.alpha[row], body.paint[row], body.spread[row]
    state[2, 0] = t.ambient[row]
    return state


def check_batch_size(batch_size: int):
    """Raises UserError unless so many views are those of whole clips."""
    if batch_size % (MOMENTS * VIEWS):
        raise UserError(
            f"pretrain.tower_batch_size={batch_size}: give a multiple of {MOMENTS * VIEWS}, "
            f"{VIEWS} views of {MOMENTS} moments of each clip"
        )


class SightBatches:
    """`batches(i)` is batch i, a pure function of (seed, i).

    images uint8 [V, H, W, 3]; noise bool [V, H, W], where a patch of noise covers them; objects
    float32 [V, pairs], 1 where the (colour, shape) pair is there; background and ambient int32 [V];
    asked int32 [V, 3], what each row of state float32 [V, 3, STATE] is about; moment int32 [V],
    equal where the same moment is seen.

    A clip gives `MOMENTS` moments far apart, each jittered `VIEWS` times.
    """

    def __init__(self, clips: Sequence[SceneClip], batch_size: int, seed: int):
        check_batch_size(batch_size)
        self.clips, self.batch_size, self.seed = clips, batch_size, seed
        self.objects = np.zeros((len(clips), len(PAIRS)), np.float32)
        self.asked = np.full((len(clips), 3), PROCESS, np.int32)
        for n, truth in enumerate(clip.scene for clip in clips):
            pairs = [(truth.actor_colour, truth.actor_shape)]
            if truth.target_shape is not None:
                pairs.append((truth.target_colour, truth.target_shape))
            for k, pair in enumerate(pairs):
                self.asked[n, k] = PAIRS.index(pair)
                self.objects[n, self.asked[n, k]] = 1
        scenes = [clip.scene for clip in clips]
        self.background = np.array([BACKGROUNDS.index(s.background) for s in scenes], np.int32)
        self.ambient = np.array([AMBIENTS.index(s.ambient) for s in scenes], np.int32)

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        rng = philox("tower", self.seed, i)
        chosen = rng.integers(len(self.clips), size=self.batch_size // (MOMENTS * VIEWS))
        images, noise, states, moments = [], [], [], []
        for n, k in enumerate(chosen):
            clip, gap = self.clips[k], len(self.clips[k].frames) // MOMENTS
            first = int(rng.integers(gap))
            for moment in range(MOMENTS):
                row = first + moment * gap
                for _ in range(VIEWS):
                    jitter = draw_jitter(rng)
                    clean = jittered(clip.frames[row], jitter)
                    dirty = rng.random() < NOISE_SHARE
                    images.append(paste(clean, draw_patch(rng)) if dirty else clean)
                    noise.append((images[-1] != clean).any(-1))
                    states.append(state_of(clip, row, jitter["box"]))
                    moments.append(n * MOMENTS + moment * (clip.scene.speed != "frozen"))
        chosen = np.repeat(chosen, MOMENTS * VIEWS)
        return {
            "images": np.stack(images),
            "noise": np.stack(noise),
            "objects": self.objects[chosen],
            "background": self.background[chosen],
            "ambient": self.ambient[chosen],
            "asked": self.asked[chosen],
            "state": np.stack(states),
            "moment": np.asarray(moments, np.int32),
        }
