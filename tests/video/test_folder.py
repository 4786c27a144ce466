import pytest

from vjax.video.folder import list_videos


def test_videos_are_found_anywhere_and_sorted(tmp_path):
    for name in ["b/2.MP4", "b/1.avi", "a.mkv", "notes.txt", "b/c/d.webm"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_videos(tmp_path)]
    assert found == ["a.mkv", "b/1.avi", "b/2.MP4", "b/c/d.webm"]


def test_none_found_says_what_was_seen(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    with pytest.raises(FileNotFoundError, match="2 .txt"):
        list_videos(tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list_videos(tmp_path / "none")
