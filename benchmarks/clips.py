"""Clips for benchmarks, encoded here: a moving texture with fast and slow stretches."""

import concurrent.futures
import os
from pathlib import Path

import av
import numpy as np

FPS = 30


def make(folder: Path, size: tuple[int, int], gop: int, count: int, seconds: int) -> list[Path]:
    """`count` H.264 files of (width, height) with a key frame every `gop` frames, made once."""
    width, height = size
    root = folder / f"{width}x{height}_g{gop}_{seconds}s"
    root.mkdir(parents=True, exist_ok=True)
    paths = [root / f"{n:03}.mp4" for n in range(count)]
    todo = [(path, n, size, gop, seconds) for n, path in enumerate(paths) if not path.exists()]
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_encode, *zip(*todo, strict=True))) if todo else None
    return paths


def _encode(path: Path, seed: int, size: tuple[int, int], gop: int, seconds: int):
    width, height = size
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 255, (height // 8 + 40, width // 8 + 60, 3))
    texture = np.kron(cells, np.ones((8, 8, 1))).astype(np.uint8)
    partial = path.with_suffix(".partial")
    with av.open(str(partial), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "26", "preset": "veryfast", "g": str(gop), "threads": "1"}
        x = y = 0.0
        for t in range(seconds * FPS):
            speed = 4.0 if (t // 45) % 2 else 0.3
            x, y = (x + speed) % 300, (y + speed / 2) % 200
            image = texture[int(y) : int(y) + height, int(x) : int(x) + width].copy()
            left = t * 7 % (width - 60)
            image[height // 3 : height // 3 + 50, left : left + 50] = (t % 255, 60, 200)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())
    partial.replace(path)
