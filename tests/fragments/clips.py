"""Clips made of numbers: squares that move over a texture."""

import dataclasses

import numpy as np

from vjax.fragments import FragmentConfig
from vjax.video.frames import Clip, FrameTable

S = 96
CFG = FragmentConfig(seed=7)


def luma_motion(frames):
    grey = frames.astype(np.int64).sum(-1) // 3
    return np.abs(np.diff(grey, axis=0)).sum((1, 2))


def clip_of(frames, video_id="a/b.mp4#500-3000"):
    """A Clip of uint8 [I, S, S, 3]; its source indices are 10, 12, 14, ... at 25 a second."""
    index = np.arange(len(frames), dtype=np.int32) * 2 + 10
    table = FrameTable(
        video_id=video_id,
        path="/videos/a/b.mp4",
        content_hash="0" * 32,
        index=index,
        time=index / 25.0,
        width=S,
        height=S,
        rotation=0,
    )
    return Clip(table=table, frames=frames, motion=luma_motion(frames), group="a/b.mp4")


def moving_squares(length=40, seed=0):
    """Frames uint8 [I, S, S, 3]: three squares cross a texture, each at its own speed."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(90, 130, (8, 8, 3)).repeat(12, 0).repeat(12, 1)
    frames = np.empty((length, S, S, 3), np.uint8)
    for i in range(length):
        frames[i] = texture
        for n, colour in enumerate(((250, 240, 230), (10, 20, 200), (0, 0, 0))):
            x = round((S - 24) * ((n + 1) * i / (2 * length) % 1))
            frames[i, 10 + 26 * n : 34 + 26 * n, x : x + 24] = colour
    return frames


def named(clip, video_id):
    return dataclasses.replace(clip, table=dataclasses.replace(clip.table, video_id=video_id))
