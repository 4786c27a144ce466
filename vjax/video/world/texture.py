"""Background textures: muted two-tone patterns with random phase, scale and hue."""

from __future__ import annotations

import colorsys

import numpy as np

from vjax.video.world.motion import SIZE

_Y, _X = np.mgrid[0:SIZE, 0:SIZE] + 0.5


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise in [0, 1], [96, 96]: random lattice values, cosine-blended."""
    lattice = rng.random((cells + 2, cells + 2))
    at = np.arange(SIZE) * cells / SIZE
    cell = at.astype(int)
    f = (1 - np.cos(np.pi * (at - cell))) / 2
    rows = lattice[cell] * (1 - f[:, None]) + lattice[cell + 1] * f[:, None]
    return rows[:, cell] * (1 - f) + rows[:, cell + 1] * f


def _wave(x: np.ndarray, sharp: float = 3.0) -> np.ndarray:
    """Soft square wave of period 1 in [0, 1]."""
    return np.clip(0.5 + sharp * np.sin(2 * np.pi * x) / 2, 0, 1)


def _pattern(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Mixing weight of the two tones, [96, 96] in [0, 1]."""
    period, px, py = rng.uniform(15, 26), *rng.random(2)
    if kind == "clouds":
        return np.clip(1.6 * (0.65 * _noise(rng, 5) + 0.35 * _noise(rng, 11)) - 0.3, 0, 1)
    if kind == "stripes":
        a = rng.uniform(-0.7, 0.7)
        return _wave((_X * np.cos(a) + _Y * np.sin(a)) / period + px)
    if kind == "checks":
        wx, wy = 2 * _wave(_X / period / 1.4 + px) - 1, 2 * _wave(_Y / period / 1.4 + py) - 1
        return 0.5 + 0.5 * wx * wy
    if kind == "gradient":
        a = rng.uniform(0, 2 * np.pi)
        return np.clip(0.5 + ((_X - 48) * np.cos(a) + (_Y - 48) * np.sin(a)) / 110, 0, 1)
    if kind == "bricks":
        height = period * 0.6
        row = np.floor(_Y / height + py)
        across = _X / (2.2 * height) + px + 0.5 * (row % 2)
        joint_y = np.abs((_Y / height + py) % 1 - 0.5) * height
        joint_x = np.abs(across % 1 - 0.5) * 2.2 * height
        return 1 - np.clip(np.minimum(height / 2 - joint_y, 1.1 * height - joint_x) - 0.6, 0, 1)
    if kind == "dots":
        row = np.floor(_Y / period + py)
        dx = ((_X / period + px + 0.5 * (row % 2)) % 1 - 0.5) * period
        dy = ((_Y / period + py) % 1 - 0.5) * period
        return np.clip(period * 0.3 + 0.5 - np.sqrt(dx**2 + dy**2), 0, 1)
    warp = 14 * _noise(rng, 3) + 2 * _noise(rng, 9)  # wood: warped grain along x
    return 0.5 + 0.5 * np.sin(2 * np.pi * (_Y + warp * 1.5) / (period * 0.5) + px * 6)


def _tones(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    hue, other = rng.random(), rng.uniform(-0.08, 0.08)
    low = rng.uniform(0.40, 0.56)
    return tuple(
        255 * np.array(colorsys.hsv_to_rgb((hue + shift) % 1, rng.uniform(0.12, 0.38), value))
        for shift, value in ((0.0, low), (other, low + rng.uniform(0.13, 0.22)))
    )


def backdrop(kind: str, ground: float, rng: np.random.Generator) -> np.ndarray:
    """Wall of texture `kind` with a plain floor below y = `ground`: float32 [96, 96, 3], 0-255."""
    dark, light = _tones(rng)
    weight = _pattern(kind, rng)[..., None]
    wall = dark + weight * (light - dark)
    tone, _ = _tones(rng)
    floor = tone * (0.85 + 0.2 * _noise(rng, 8)[..., None]) * 0.9
    cover = np.clip(_Y - (ground - 0.5), 0, 1)[..., None]
    edge = np.clip(1.3 - np.abs(_Y - ground), 0, 1)[..., None] * 0.5
    return ((wall + cover * (floor - wall)) * (1 - edge)).astype(np.float32)
