"""Where everything is in every frame of a scene: the physics, without a pixel.

Units: pixels of the 96 x 96 canvas, y down; `u` is world time, seconds at normal speed.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from vjax.video.world import scene as scene_lib

SIZE = 96
ACTION_SECONDS = 1.4
AMBIENT_SECONDS = 5.2  # the background process would be complete by then


@dataclasses.dataclass(frozen=True)
class Body:
    """One object over I frames; the defaults are what effects change.

    centre float64 [I, 2] (x, y); radius in pixels; scale [I, 2], angle [I] (radians), alpha [I];
    paint [I] share of the body that has the new colour; spread [I] how far its pieces are apart.
    """

    centre: np.ndarray
    radius: float
    scale: np.ndarray
    angle: np.ndarray
    alpha: np.ndarray
    paint: np.ndarray
    spread: np.ndarray
    marked: bool = False


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The simulated scene.

    action, effect, ambient: float64 [I], progress of the three processes; none ever falls, and
    ambient rises strictly unless the scene is frozen (then all are constant).
    brush: [I, 2] position of what leaves a trail; puddle: [I] half-width of the puddle or 0.
    """

    action: np.ndarray
    effect: np.ndarray
    ambient: np.ndarray
    actor: Body
    target: Body | None
    behind: bool  # the actor passes behind the target
    ground: float
    brush: np.ndarray
    puddle: np.ndarray
    ambient_x: float
    ambient_scale: float


def _ease(s: np.ndarray) -> np.ndarray:
    """Braking motion from 0 to 1."""
    return s * (1.4 - 0.4 * s)


def _push_distance(s: np.ndarray, contact: float) -> np.ndarray:
    """0 to 1: even speed up to `contact`, then both bodies brake by friction and stop at s = 1."""
    tau = np.maximum(s - contact, 0)
    distance = np.minimum(s, contact) + tau - tau**2 / (2 * (1 - contact))
    return distance / (contact + (1 - contact) / 2)


def _bounce(s: np.ndarray, restitution: float = 0.55) -> np.ndarray:
    """Height over the ground, 1 to 0: free fall and three decaying bounces that rest at s = 1."""
    flights = np.array([restitution, restitution**2, restitution**3])
    fall = 1 / (1 + 2 * flights.sum())
    height = np.where(s < fall, 1 - (s / fall) ** 2, 0.0)
    begin = fall
    for e in flights:
        length = 2 * e * fall
        x = np.clip((s - begin) / length, 0, 1)
        height = height + e**2 * 4 * x * (1 - x)
        begin += length
    return height


DROP_IMPACT = 1 / (1 + 2 * (0.55 + 0.55**2 + 0.55**3))


def simulate(scene: scene_lib.Scene) -> Timeline:
    """Runs the scene's processes over its frames; a pure function of the scene."""
    rng = scene_lib.scene_rng(scene.split, scene.seed, "geometry")
    rate = scene_lib.SPEEDS[scene.speed]
    n, action, effect = scene.n_frames, scene.action, scene.effect
    time = np.arange(n) / scene.fps
    delay, middle = rng.uniform(0.05, 0.2), rng.uniform(0.5, 0.85)
    if rate == 0:
        u, clock = np.full(n, middle * ACTION_SECONDS), np.full(n, 3 * middle)
    else:
        u, clock = rate * np.maximum(time - delay, 0), rate * time
    s = np.minimum(u / ACTION_SECONDS, 1)

    # Drawn in one fixed order, whatever the action uses of them.
    ground, contact = rng.uniform(76, 86), rng.uniform(0.22, 0.32)
    ra, rt = rng.uniform(10.5, 14, 2)
    a, b, c, d = rng.uniform(0, 1, 4)
    marks, ambient_left = rng.random(2) < 0.25, rng.random() < 0.5
    behind, ambient_jitter = bool(rng.random() < 0.5), rng.uniform(-5, 5)
    ambient_scale = rng.uniform(0.9, 1.15)

    onset = {"push": contact, "drop": DROP_IMPACT, "cover": 0.3, "pull": 0.1, "turn": 0.1}
    since = np.maximum(u - onset.get(action, 0.15) * ACTION_SECONDS, 0)
    changed = 0.8 * (1 - np.exp(-since / 0.4)) + 0.2 * np.minimum(since / 5, 1)
    grown = 1 + (0.45 if action == "cover" else 0.75) * changed if effect == "grows" else np.ones(n)

    sign, still = (-1.0 if scene.direction == "left" else 1.0), np.zeros(n)
    angle = still
    if action == "turn":
        ra = 14.5 + 4 * a
    if action == "cover":
        ra = rt * 1.25 + 3
    ya, yt = ground - ra * 0.97 + still, ground - rt * 0.97 + still
    if action == "push":
        gap = (ra + rt) * 0.93
        room = {"grows": 1.5, "melts": 1.6, "breaks": 2.0}.get(effect, 1.0)
        end = SIZE - rt * room - 1 - 7 * a
        begin = -4 + 12 * b
        xa = begin + (end - gap - begin) * _push_distance(s, contact)
        at_contact = begin + (end - gap - begin) * _push_distance(np.array(contact), contact)
        xt = np.maximum(at_contact, xa) + gap + (grown - 1) * rt
    elif action == "pull":
        begin = SIZE - ra - 1 - 5 * a - (38 + 9 * b)
        xa = begin + (38 + 9 * b) * _ease(s)
        xt = xa - (ra + rt + 8 + 6 * c)
    elif action == "cover":
        xt = 46 + 24 * a + still
        if scene.direction == "down":
            xa, ya = xt, (ya + ra - 4) * _ease(s) - ra + 4
        else:
            xa = -ra * 0.6 + (xt + ra * 0.6) * _ease(s)
    elif action == "drop":
        drift = (14 + 12 * a) * (1 if c < 0.5 else -1)
        middle_x = 34 + 28 * b
        xa = middle_x + drift * (_ease(s) - 0.5)
        ya = ya - (ground - ra + 4 - 10 * d) * _bounce(s)
        xt = middle_x - np.sign(drift) * (ra + rt + 8 + 6 * a)
        xt = np.clip(xt, 8, SIZE - 8) + still
    elif action == "turn":
        xa = 32 + 32 * b + still
        angle = (1 if c < 0.5 else -1) * np.radians(300 + 240 * d) * s * (1.7 - 0.7 * s)
        xt = xa + (1 if xa[0] < 48 else -1) * (ra + rt + 7)
    else:  # pass
        xa = -3 + 6 * a + (102 - 6 * a) * s
        xt = 38 + 20 * b + still
        ya = ya + (-7 if behind else 5)
    if sign < 0:
        xa, xt = SIZE - xa, SIZE - xt

    bodies = {"actor": (xa, ya, ra, angle, marks[0] or action == "turn"),
              "target": (xt, yt, rt, still, marks[1])}  # fmt: skip
    puddle = still
    for name, (x, y, r, turn, marked) in bodies.items():
        scale, alpha, paint, spread = np.ones((n, 2)), np.ones(n), still, still
        hit = name == scene.subject
        if hit and effect == "grows":
            scale = np.stack([grown, grown], 1)
            y = y - (grown - 1) * r * 0.97
        if effect == "melts" and (hit or action == "cover"):
            low = 0.85 if hit else 0.45  # a lid only sinks with what melts under it
            scale = np.stack([1 + 0.5 * changed * hit, 1 - low * changed], 1)
            y = y + low * changed * r * 0.97
            if hit:
                puddle = np.where(changed > 0, r * (0.5 + 2.0 * changed), 0)
        if hit and effect == "fades":
            alpha = 1 - 0.95 * changed
        if hit and effect == "paints":
            paint = changed * 1.05
        if hit and effect == "breaks":
            spread = changed
        bodies[name] = Body(np.stack([x, y], 1), r, scale, turn, alpha, paint, spread, bool(marked))
    actor, target = bodies["actor"], bodies["target"]

    if action == "turn":
        brush = actor.centre + (ra + 5) * np.stack([np.sin(angle), -np.cos(angle)], 1)
    elif scene.direction == "down":
        brush = actor.centre
    else:
        brush = np.stack([bodies[scene.subject].centre[:, 0], ground + 3.5 + still], 1)
    # The background process stands clear of where things fall.
    right = xa[-1] < 48 if scene.direction == "down" else not ambient_left
    return Timeline(
        action=s, effect=changed, ambient=(clock / AMBIENT_SECONDS) ** 0.85, actor=actor,
        target=None if scene.target_shape is None else target, behind=behind and action == "pass",
        ground=ground, brush=brush, puddle=puddle,
        ambient_x=(76.0 if right else 20.0) + ambient_jitter, ambient_scale=ambient_scale,
    )  # fmt: skip
