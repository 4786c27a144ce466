import numpy as np
import pytest

from vjax.video.frames import FrameTable, content_hash, milliseconds, video_id


def test_content_hash_is_blake2b_128(tmp_path):
    file = tmp_path / "empty"
    file.write_bytes(b"")
    assert content_hash(file) == "cae66941d9efbd404e4d88758ea67670"  # b2sum -l 128 of nothing


def test_video_id_is_relative_to_the_root(tmp_path):
    path = tmp_path / "day 1" / "a.mp4"
    assert video_id(path, tmp_path) == "day 1/a.mp4"
    assert video_id(path, tmp_path, (1200, 3400)) == "day 1/a.mp4#1200-3400"
    assert video_id(path) == "a.mp4"


def test_video_id_outside_the_root(tmp_path):
    with pytest.raises(ValueError, match="a.mp4"):
        video_id(tmp_path / "a.mp4", tmp_path / "corpus")


@pytest.mark.parametrize("name, window", [("a#1.mp4", None), ("a#1.mp4#-40-2000", (-40, 2000))])
def test_window_is_read_from_the_id(name, window):
    table = FrameTable(name, "", "", np.zeros(1, np.int32), np.zeros(1), 1, 1, 0)
    assert table.window == window


def test_milliseconds_of_whole_milliseconds():
    ms = np.arange(2_000_000)
    np.testing.assert_array_equal(milliseconds(ms / 1000), ms)


def test_milliseconds_round_down():
    assert milliseconds(1.0019) == 1001
