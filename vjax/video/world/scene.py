"""What one procedural clip shows. A scene is a pure function of (split, seed, asked speed)."""

from __future__ import annotations

import dataclasses

import numpy as np

from vjax.video.rng import philox, pick

VERSION = 4  # of the generator: raise it whenever the pixels or the truth of a seed change
FPS = 12
SPLITS = ("base", "base_eval", "train", "eval", "test")
ACTIONS = ("push", "pull", "cover", "drop", "turn", "pass")
EFFECTS = ("trail", "melts", "grows", "fades", "breaks", "paints", "nothing")
SPEEDS = {"frozen": 0.0, "slow": 0.5, "normal": 1.0, "fast": 2.0}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (215, 30, 35), "green": (30, 160, 50), "blue": (35, 70, 220), "yellow": (250, 220, 30),
    "orange": (250, 130, 15), "purple": (140, 40, 175), "white": (248, 248, 248),
    "black": (18, 18, 20),
}  # fmt: skip
BACKGROUNDS = ("clouds", "stripes", "checks", "gradient", "bricks", "dots", "wood")
AMBIENTS = ("candle", "bar", "sand", "plant", "glass", "drip")
FROZEN_SHARE = 0.15
# A lid that fades or breaks would uncover what it covers, and covered must stay covered.
COVER_EFFECTS = ("trail", "melts", "grows", "paints", "nothing")


@dataclasses.dataclass(frozen=True)
class Scene:
    """The truth of a clip, all that `render` needs.

    `actor` does the action, `target` is what it is done to (a bystander or None in `drop` and
    `turn`). `direction` is on screen: left, right, down, or place (turns in place). `paint_colour`
    is the colour of a trail, or what the subject of effect `paints` becomes. `ambient` is the
    irreversible process in the background, which gives every clip an arrow of time. `asked` is
    the speed the caller asked for, None when it was drawn.
    """

    split: str
    seed: int
    action: str
    effect: str
    speed: str
    asked: str | None
    actor_colour: str
    actor_shape: str
    target_colour: str | None
    target_shape: str | None
    paint_colour: str
    direction: str
    background: str
    ambient: str
    fps: int
    n_frames: int

    @property
    def video_id(self) -> str:
        """Corpus-relative POSIX path of the clip."""
        return scene_id(self.split, self.seed, self.asked) + ".mp4"

    @property
    def subject(self) -> str:
        """Who the effect happens to: "actor" or "target"."""
        if self.effect == "trail":
            return "target" if self.action == "pull" else "actor"
        if self.effect == "melts" and self.action == "cover":
            return "target"
        return "target" if self.action in ("push", "pull", "pass") else "actor"


def scene_id(split: str, seed: int, asked: str | None = None) -> str:
    """`world/SPLIT/SEED`, with `-SPEED` when a speed was asked for: names never collide."""
    return f"world/{split}/{seed:06d}" + (f"-{asked}" if asked else "")


def scene_rng(split: str, seed: int, stream: str) -> np.random.Generator:
    """Random numbers of one scene: one Philox stream keyed by (world, split, seed, stream).

    Raises ValueError for an unknown split or a negative seed.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown world split {split!r}: choose one of {', '.join(SPLITS)}")
    if seed < 0:
        raise ValueError(f"world seed must be 0 or more, got {seed}")
    return philox("world", split, seed, stream)


def sample_scene(seed: int, split: str = "train", *, speed: str | None = None) -> Scene:
    """Draws the scene of (split, seed); `speed` replaces the drawn speed and changes nothing else.

    Frozen scenes are drawn only in base and base_eval (share 0.15); elsewhere they must be asked.
    """
    if speed is not None and speed not in SPEEDS:
        raise ValueError(f"unknown speed {speed!r}: choose one of {', '.join(SPEEDS)}")
    rng = scene_rng(split, seed, "scene")
    action = pick(rng, ACTIONS)
    effect = pick(rng, COVER_EFFECTS if action == "cover" else EFFECTS)
    drawn = pick(rng, ("slow", "normal", "fast"))
    if rng.random() < FROZEN_SHARE and split in ("base", "base_eval"):
        drawn = "frozen"
    actor_colour, target_colour, paint_colour = rng.permutation(list(COLOURS))[:3].tolist()
    actor_shape, target_shape = pick(rng, SHAPES), pick(rng, SHAPES)
    direction = pick(rng, ("left", "right"))
    if action == "turn":
        direction = "place"
    if action == "drop" or (action == "cover" and rng.random() < 0.4):
        direction = "down"
    if action in ("drop", "turn") and rng.random() < 0.5:  # nobody else is there
        target_colour = target_shape = None
    return Scene(
        split=split, seed=seed, action=action, effect=effect, speed=speed or drawn, asked=speed,
        actor_colour=actor_colour, actor_shape="lid" if action == "cover" else actor_shape,
        target_colour=target_colour, target_shape=target_shape, paint_colour=paint_colour,
        direction=direction, background=pick(rng, BACKGROUNDS), ambient=pick(rng, AMBIENTS),
        fps=FPS, n_frames=int(rng.integers(24, 31)),
    )  # fmt: skip
