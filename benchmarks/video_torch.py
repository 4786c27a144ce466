"""The PyTorch side of benchmarks/video.py: a DataLoader over decord, as peers read videos.

Takes a JSON line on stdin, a list of files, and answers with what one pass over them took.
"""

import json
import sys
import time

import cv2
import decord
import numpy as np
import torch
from processes import seconds_of


class Clips(torch.utils.data.Dataset):
    """uint8 [frames, side, side, 3] of each clip, `frames` of them spread evenly."""

    def __init__(self, paths: list[str], frames: int, side: int):
        self.paths, self.frames, self.side = paths, frames, side

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, n: int):
        reader = decord.VideoReader(self.paths[n], num_threads=1)
        count = len(reader)
        rows = [(2 * i + 1) * count // (2 * self.frames) for i in range(self.frames)]
        full = reader.get_batch(rows).asnumpy()
        size = (self.side, self.side)
        return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in full])


def main(frames: int, side: int, workers: int):
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    paths = json.loads(sys.stdin.readline())
    loader = torch.utils.data.DataLoader(
        Clips(paths, frames, side), batch_size=None, num_workers=workers, persistent_workers=True
    )
    sum(1 for _ in loader)  # starts the workers and warms the files: not counted
    pids = [worker.pid for worker in loader._iterator._workers]
    print("ready", flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), seconds_of(pids)
        count = sum(1 for _ in loader)
        spent = time.perf_counter() - start
        answer = {"seconds": spent, "cpu": seconds_of(pids) - cpu, "clips": count}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
