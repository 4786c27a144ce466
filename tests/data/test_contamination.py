"""MVBench's videos leave the training clips, are counted, and are told."""

import json

import pytest

from vjax.data import contamination, moments, something
from vjax.data.contamination import exclude, exclude_paths
from vjax.data.rows import BadFile


def test_clips_of_mvbench_are_left_out_and_counted(something_root, mvbench_root, capsys):
    kept = exclude(something.open(something_root(), "train"), mvbench_root)
    assert [r.id for r in kept] == ["11", "13"]
    assert capsys.readouterr().out == (
        "MVBench: 1 of 3 clips of something_something_v2 are among the 2 videos of action_antonym, "
        "left out: 12.webm\n"
    )


def test_each_data_set_has_its_own_task(moments_root, mvbench_root, capsys):
    kept = exclude(moments.open(moments_root(), "train"), mvbench_root / "json")
    assert [r.id for r in kept] == ["running/yt-a_1", "running/vine-d"]
    assert "1 of 3 clips of moments_in_time are among the 3 videos of fine_grained" in (
        capsys.readouterr().out
    )


def test_no_overlap_is_told_too(something_root, mvbench_root, capsys):
    assert len(exclude(something.open(something_root(), "validation"), mvbench_root)) == 1
    assert "MVBench: 0 of 1 clips" in capsys.readouterr().out


@pytest.mark.parametrize("folder", [None, ""])
def test_without_mvbench_all_stay_and_that_is_told(something_root, capsys, folder):
    assert len(exclude(something.open(something_root(), "train"), folder)) == 3
    told = capsys.readouterr().out
    assert told.startswith("MVBench: not compared") and told.count("\n") == 1


@pytest.mark.parametrize("name", ["12.mp4", "ssv2_video_mp4/12.mp4", "12", "validation/x/12.webm"])
def test_a_video_is_known_whatever_its_folder_and_suffix(something_root, mvbench_root, name):
    (mvbench_root / "json/action_antonym.json").write_text(json.dumps([{"video": name}]))
    kept = exclude(something.open(something_root(), "train"), mvbench_root)
    assert [r.id for r in kept] == ["11", "13"]


def test_files_alone(something_root, mvbench_root):
    paths = sorted(something_root().glob("*/*.webm"))
    kept = exclude_paths(paths, something.NAME, mvbench_root)
    assert [p.stem for p in kept] == ["11", "13", "21", "31", "32"]


def test_folders_that_are_not_mvbench(something_root, mvbench_root):
    records = something.open(something_root(), "train")
    with pytest.raises(FileNotFoundError, match="neither json/action_antonym.json nor"):
        exclude(records, mvbench_root / "video")
    (mvbench_root / "json/action_antonym.json").write_text('[{"video": "1.webm"}, {"id": 3}]')
    with pytest.raises(BadFile, match=r"action_antonym\.json, row 1: its video is None"):
        exclude(records, mvbench_root)


def test_the_tasks_are_of_data_sets_that_there_are():
    assert set(contamination.TASKS) == {something.NAME, moments.NAME}
