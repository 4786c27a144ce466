"""A haystack: the frames of all videos of a folder, one after another, as if they were one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vjax.video.index import Row
from vjax.video.reader import Reader
from vjax.video.rng import philox
from vjax.video.strategies import Sampling, choose


class Haystack:
    """Frames at a rate, those of the first video first.

    Haystack 0 begins where the first video does, each other one at a frame that is drawn, going on
    from the last video to the first: no frame comes twice, and a shorter haystack is the beginning
    of a longer one. Frames that were read are kept.

    Args:
        rows: of the index, in order.
        reader: whose policy has to be `error`.
        fps: frames a second of each video, one at least.
        size: side in pixels of the squares that frames are brought to.
        resize: `swscale` or `reference`, see `vjax.video.shape`.
        seed: of where haystacks begin.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        reader: Reader,
        *,
        fps: float,
        size: int,
        resize: str,
        seed: int = 0,
    ):
        self.rows, self.reader, self.seed = rows, reader, seed
        self._options = dict(size=size, resize=resize)
        rule = Sampling("fps", fps=fps, min_frames=1, max_frames=1 << 40)
        self._places = [
            (n, int(frame))
            for n, row in enumerate(rows)
            for frame in choose(rule, row.source.times)[0]
        ]
        self._kept: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        """Frames that there are: of the longest haystack."""
        return len(self._places)

    def start(self, number: int) -> int:
        """Which of all frames haystack `number` begins with."""
        if not number:
            return 0
        return int(philox("haystack", self.seed, number).integers(len(self)))

    def frames(self, number: int, length: int) -> list[np.ndarray]:
        """The first `length` frames of haystack `number`, uint8 [size, size, 3] each.

        Raises:
            ValueError: more than there are.
            VideoError: a video that cannot be read.
        """
        if length > len(self):
            raise ValueError(f"a haystack of {length} frames, of which there are {len(self)}")
        start = self.start(number)
        places = [self._places[(start + n) % len(self)] for n in range(length)]
        missing: dict[int, list[int]] = {}
        for n, frame in places:
            if (n, frame) not in self._kept:
                missing.setdefault(n, []).append(frame)
        for n, wanted in missing.items():
            read = self.reader.read(self.rows[n].source, wanted, **self._options)
            self._kept |= {(n, frame): one for frame, one in zip(wanted, read, strict=True)}
        return [self._kept[place] for place in places]
