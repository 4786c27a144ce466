"""Haystacks: which frames, in which order."""

import numpy as np
import pytest

from tests.video.conftest import write_video
from vjax.data.haystack import Haystack
from vjax.video.index import build
from vjax.video.reader import Reader

COUNTS = (20, 7, 12)  # frames of the videos, at 10 a second


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hay")
    for n, count in enumerate(COUNTS):

        def picture(i, n=n):
            return np.full((32, 32, 3), 40 + 60 * n + 2 * i, np.uint8)

        write_video(folder / f"v{n}.mp4", n=count, fps=10, picture=picture)
    paths = sorted(folder.glob("*.mp4"))
    return build(paths, folder / "index" / "all.parquet", folder, workers=0)


def made(index, fps=10.0, seed=0):
    options = dict(fps=fps, size=8, resize="swscale", seed=seed)
    return Haystack(index.rows(), Reader(len(index), workers=0), **options)


def greys(frames):
    return [int(frame.mean()) for frame in frames]


def test_all_frames_one_video_after_another(index):
    hay = made(index)
    assert len(hay) == sum(COUNTS)
    want = [40 + 60 * n + 2 * i for n, count in enumerate(COUNTS) for i in range(count)]
    np.testing.assert_allclose(greys(hay.frames(0, len(hay))), want, atol=2)


def test_a_rate_thins_each_video(index):
    hay = made(index, fps=5.0)
    got = greys(hay.frames(0, len(hay)))
    want = [40 + 60 * n + 4 * i for n, count in enumerate(COUNTS) for i in range(count // 2)]
    np.testing.assert_allclose(got, want, atol=3)
    assert len(made(index, fps=0.1)) == len(COUNTS)  # one of each at least


def test_a_shorter_haystack_is_the_beginning_of_a_longer_one(index):
    hay = made(index)
    for number in (0, 1, 2):
        long, short = hay.frames(number, 30), hay.frames(number, 4)
        assert all(a is b for a, b in zip(long, short, strict=False))
        assert len(short) == 4


def test_each_begins_elsewhere_and_goes_round_without_a_frame_twice(index):
    hay = made(index)
    starts = [hay.start(number) for number in range(6)]
    assert starts[0] == 0
    assert len(set(starts)) > 3
    assert starts == [made(index).start(number) for number in range(6)]
    assert starts != [made(index, seed=1).start(number) for number in range(6)]
    whole = hay.frames(0, len(hay))
    turned = hay.frames(3, len(hay))
    want = [*whole[starts[3] :], *whole[: starts[3]]]
    assert all(a is b for a, b in zip(turned, want, strict=True))


def test_no_more_frames_than_there_are(index):
    with pytest.raises(ValueError, match="of which there are 39"):
        made(index).frames(0, 40)
