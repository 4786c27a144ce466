import pytest

from vjax.video.folder import list_videos, scan


def test_videos_are_found_anywhere_and_sorted(tmp_path):
    for name in ["b/2.MP4", "b/1.avi", "a.mkv", "notes.txt", "b/c/d.webm"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_videos(tmp_path)]
    assert found == ["a.mkv", "b/1.avi", "b/2.MP4", "b/c/d.webm"]


def test_none_found_says_what_was_seen(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    with pytest.raises(FileNotFoundError, match="2 files .2 .txt"):
        list_videos(tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list_videos(tmp_path / "none")


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.mp4").touch()
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "corpus")
    assert list_videos(tmp_path / "corpus") == [tmp_path / "corpus" / "link" / "a.mp4"]


def test_what_is_passed_over_is_counted(tmp_path):
    for name in ("a.mp4", "b.txt", "c.txt", "d"):
        (tmp_path / name).touch()
    assert scan(tmp_path)[1] == {".txt": 2, "(no suffix)": 1}
