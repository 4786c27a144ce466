"""Frames -> MP4, byte for byte the same for the same input and the same libx264."""

from __future__ import annotations

import os
import pathlib

import av
import numpy as np


def write_mp4(path: str | os.PathLike, frames: np.ndarray, fps: int, *, crf: int = 18) -> None:
    """Encodes uint8 RGB [I, H, W, 3] as H.264 yuv420p; H and W even. The file appears whole.

    One thread and bit-exact flags: no date, no library version. Raises ValueError for a bad shape.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"{path}: need uint8 [I, H, W, 3], got {frames.dtype} {frames.shape}")
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"{path}: yuv420p needs even sides, got {frames.shape[1:3]}")
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(str(partial), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "flags": "+bitexact"}
            options["mbtree"] = "0"  # reads memory nobody wrote: bytes would differ run by run
            stream = container.add_stream("libx264", rate=fps, options=options)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.thread_count = 1
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
