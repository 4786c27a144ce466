"""Clips of a run: a folder with good and bad files, held-out clips, and the procedural ones."""

import errno
import json
import os
import shutil

import pytest

from tests.video.test_containers import write
from vjax.console import UserError
from vjax.jobs import _corpus, _scores, check
from vjax.video.world import corpus as world


@pytest.fixture(scope="session")
def videos(home):
    """Eight small videos."""
    return world.make_corpus(home / "videos", "test", range(8))


@pytest.fixture
def folder(videos, tmp_path):
    """A user's folder of five videos and three files that are none."""
    root = tmp_path / "my videos"
    (root / "more").mkdir(parents=True)
    for n, path in enumerate(videos[:5]):
        shutil.copy(path, root / f"{n}.mp4" if n % 2 else root / "more" / f"{n}.mp4")
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("no video at all")
    (root / "more" / "cut.mp4").write_bytes(videos[5].read_bytes()[:-200])
    (root / "notes.txt").write_text("not looked at")
    return root


BAD = {"empty.mp4": "EmptyFile", "text.mp4": "NotAVideo", "more/cut.mp4": "TruncatedVideo"}


@pytest.fixture
def prepare(experiment, parsed, tmp_path):
    """prepare(flag, ...): the corpus of a run that also has the procedural clips."""

    def call(*flags):
        flags = ("data.source=folder", "data.window_min_s=1", *flags)
        return _corpus.prepare(parsed(tmp_path, *(f"--config.{flag}" for flag in flags)).config)

    return call


def test_a_bad_file_stops_the_run_and_is_named(prepare, folder):
    with pytest.raises(UserError) as error:
        prepare(f"data.clips={folder}")
    assert any(str(folder / name) in str(error.value) for name in BAD)
    assert "--config.data.on_bad_clip=skip" in str(error.value)


def test_skipped_files_are_counted_and_listed_in_the_results(prepare, folder):
    corpus = prepare(f"data.clips={folder}", "data.on_bad_clip=skip", "data.max_bad_share=0.7")
    got = _scores.dropped(corpus, {})["files"]
    assert json.loads(json.dumps(got)) == got
    assert got["n"] == 3
    assert got["of"] == 8 + 6 + 3  # the folder, and the procedural clips of both splits
    assert got["reasons"] == dict.fromkeys(BAD.values(), 1)
    for name in BAD:
        assert len([line for line in got["list"] if line.startswith(f"{folder / name}: ")]) == 1


def test_more_bad_files_than_the_share_allowed_stop_the_run_and_are_all_named(prepare, folder):
    for path in folder.rglob("*.mp4"):
        if path.name in ("1.mp4", "2.mp4", "3.mp4"):
            path.write_text("no video any more")
    with pytest.raises(UserError, match="more than data.max_bad_share=0.1") as error:
        prepare(f"data.clips={folder}", "data.on_bad_clip=skip")
    assert "NotAVideo" in str(error.value) and "no video any more" not in str(error.value)


SKIP = "data.on_bad_clip=skip"


@pytest.mark.parametrize(
    ("spoilt", "flags", "said"),
    [
        ([], (), ""),
        ([], ("data.on_bad_clip=blank",), "blank"),
        (["train"], (), SKIP),
        (["short"], (), "3 frames, at least 5 are needed"),
        (["heldout"], (SKIP, "data.max_bad_share=0.2"), ""),
        (["train", "heldout"], (SKIP, "data.max_bad_share=0.2"), "2 of 8 files are bad"),
        (["train", "train"], (SKIP, "data.max_bad_share=0.25"), ""),
        (["heldout", "heldout"], (SKIP, "data.max_bad_share=0.5"), "all 2 of the heldout clips"),
    ],
)
def test_check_and_training_decide_alike(parsed, videos, tmp_path, spoilt, flags, said):
    root = tmp_path / "videos"
    root.mkdir()
    for path in videos:
        shutil.copy(path, root)
    flags = (f"data.clips={root}", "data.source=folder", *flags)
    config = parsed(tmp_path, *(f"--config.{flag}" for flag in flags)).config
    parts = _corpus.by_split(config, *_corpus.real_files(config)[:2])
    for split in spoilt:
        if split == "short":
            write(parts["train"].pop(), "libx264", "yuv420p", n=3)
        else:
            parts[split].pop().write_text("no video any more")
    for job in (lambda: check.run(config, tmp_path), lambda: _corpus.prepare(config)):
        if said:
            with pytest.raises(UserError) as error:
                job()
            assert said in str(error.value)
        else:
            job()


def test_held_out_clips_are_other_files_and_the_same_every_time(prepare, videos, tmp_path):
    root = videos[0].parent
    corpus = prepare(f"data.clips={root}")
    groups = {
        split: {corpus.clip_of(key).group for key in getattr(corpus, split)["real"]}
        for split in ("train", "heldout")
    }
    assert len(groups["train"]) == 6 and len(groups["heldout"]) == 2
    assert not groups["train"] & groups["heldout"]
    assert prepare(f"data.clips={root}").heldout == corpus.heldout
    held = {str(prepare(f"data.clips={root}", f"seed={n}").heldout["real"]) for n in range(4)}
    assert len(held) > 1
    # a user's clips are shown in no page that may be published
    assert not [g for of in groups.values() for g in of if corpus.credits.get(g, ("", False))[1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "no video found among 0 files"),
        (lambda root: (root.mkdir(), (root / "a.txt").touch()), "1 .txt"),
        (lambda root: (root.mkdir(), (root / "a.mp4").touch()), "1 video; at least 2 are needed"),
    ],
)
def test_a_folder_without_videos_is_named(prepare, tmp_path, make, message):
    root = tmp_path / "videos"
    make(root)
    with pytest.raises(UserError) as error:
        prepare(f"data.clips={root}")
    assert str(root) in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("job", ["train", "check", "index"])
def test_a_folder_that_may_not_be_looked_into_is_named(run, folder, monkeypatch, capsys, job):
    listed = os.scandir

    def refusing(path):
        if path == str(folder / "more"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(SystemExit) as stopped:
        flags = ("--config.data.source=folder", f"--config.data.clips={folder}")
        run(folder.parent / "run", f"--job={job}", *flags)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "Traceback" not in said
    assert str(folder / "more") in said and "Permission denied" in said


@pytest.mark.smoke
def test_procedural_clips_come_with_their_truth_and_splits_apart(parsed, tmp_path):
    corpus = _corpus.prepare(parsed(tmp_path).config)
    assert "real" not in corpus.train and "real" not in corpus.heldout
    train, held = corpus.train["procedural"], corpus.heldout["procedural"]
    assert len(train) == 6 and len(held) == 3 and not set(train) & set(held)
    for split, keys in (("train", train), ("eval", held)):
        for key in keys:
            assert corpus.scenes[key].split == split
            assert corpus.clip_of(key).table.video_id == corpus.scenes[key].video_id
            assert corpus.credits[corpus.scenes[key].video_id][1]


def test_blank_frames_are_refused_where_fragments_are_asked_for(prepare, folder):
    with pytest.raises(UserError, match="no fragment can be asked of blank frames"):
        prepare(f"data.clips={folder}", "data.on_bad_clip=blank")


@pytest.mark.parametrize(
    ("path", "said", "resize", "expected"),
    [
        ("", None, "auto", "swscale"),  # vjax-tiny
        ("model", None, "auto", "reference"),  # as released
        ("model", "swscale", "auto", "swscale"),  # exported by us, trained so
        ("model", "swscale", "reference", "reference"),  # as the config says
    ],
)
def test_frames_are_scaled_as_the_checkpoint_wants(parsed, tmp_path, path, said, resize, expected):
    folder = tmp_path / path
    folder.mkdir(exist_ok=True)
    if said:
        (folder / "video_spec.json").write_text(json.dumps({"resize": said}))
    flags = (f"--config.model.path={folder if path else ''}", f"--config.data.resize={resize}")
    assert _corpus.resize_of(parsed(tmp_path / "run", *flags).config) == expected
