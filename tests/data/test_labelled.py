"""Something-Something V2 and Moments in Time, read from tiny copies in their real layouts."""

import json
import pickle

import numpy as np
import pytest

from tests.data.conftest import MOMENTS, TEST
from vjax.data import labelled, moments, something
from vjax.data.labelled import MissingVideos
from vjax.data.rows import BadFile
from vjax.data.samples import Medium, Turn
from vjax.video.probe import probe

VIDEOS = "20bn-something-something-v2"


@pytest.mark.parametrize("older", [False, True])
def test_something_in_either_layout(something_root, older):
    root = something_root(older)
    records = something.open(root, "train")
    assert len(records) == 3 and records.split == "train"
    falling = records[1]
    assert falling.path == root / VIDEOS / "12.webm" and falling.path.is_file()
    assert (falling.id, falling.label, falling.split) == (
        "12",
        "a pen falling like a rock",
        "train",
    )
    assert falling.category == "Something falling like a rock" and falling.category_index == 1
    assert falling.template == "[Something] falling like a rock"
    assert falling.placeholders == ("a pen",)
    assert records[2].placeholders == ("«der Kühlschrank»",)
    assert [r.id for r in something.open(root, "validation")] == ["21"]


def test_somethings_test_split_has_labels_where_its_answers_are(something_root):
    records = something.open(something_root(), "test")
    assert [(r.id, r.label) for r in records] == TEST
    assert [r.category_index for r in records] == [0, 1]
    bare = something.open(something_root(older=True), "test")
    assert [(r.label, r.category_index) for r in bare] == [("", -1)] * 2
    with pytest.raises(ValueError, match="31: this test clip has no label"):
        bare[0].sample()


@pytest.mark.parametrize("videos", ["", "videos"])
def test_moments_in_either_layout(moments_root, videos):
    root = moments_root(videos)
    records = moments.open(root, "train")
    singing = records[1]
    assert singing.id == "adult+female+singing/flickr-b.c_2"
    assert singing.path == root / videos / "training" / MOMENTS["training"][1]
    assert singing.path.is_file()
    assert singing.label == "adult female singing" and singing.category == "adult+female+singing"
    assert [r.category_index for r in records] == [12, 1, 12]
    assert [r.id for r in moments.open(root, "validation")] == ["running/yt-e_5"]


@pytest.mark.parametrize("dataset", [something, moments])
def test_a_record_is_a_sample_whose_video_can_be_read(request, dataset):
    name = dataset.__name__.rpartition(".")[2]
    record = dataset.open(request.getfixturevalue(f"{name}_root")(), "train")[0]
    sample = record.sample("What is done?")
    assert sample.id == record.id
    assert sample.turns == (Turn((Medium("video", record.path), "What is done?"), record.label),)
    assert probe(sample.media[0].path, record.path.parent).width == 128


def test_records_are_a_sequence(something_root, monkeypatch):
    monkeypatch.setattr(labelled, "_CHUNK", 2)  # so that there is a seam
    records = something.open(something_root(), "train")
    ids = ["11", "12", "13"]
    assert [r.id for r in records] == [records[n].id for n in range(3)] == ids
    assert records[-1].id == "13" and [r.id for r in records[1:]] == ids[1:]
    assert [r.id for r in records.take(np.array([True, False, True]))] == ["11", "13"]
    assert list(pickle.loads(pickle.dumps(records))) == list(records)
    for n in (3, -4):
        with pytest.raises(IndexError, match=f"record {n} of 3"):
            records[n]


def test_clips_without_a_file_are_an_error_that_names_them(something_root, moments_root):
    root = something_root()
    (root / VIDEOS / "12.webm").unlink()
    with pytest.raises(MissingVideos, match=r"1 of 3 train clips .* no file: 12\.webm;") as caught:
        something.open(root, "train")
    assert caught.value.files == ["12.webm"]
    root = moments_root()
    (root / "training" / MOMENTS["training"][1]).unlink()
    (root / "training/adult+female+singing").rmdir()
    with pytest.raises(MissingVideos, match=r"1 of 3 .* no file: adult\+female\+singing/flickr"):
        moments.open(root, "train")


def test_clips_without_a_file_may_be_left_out_and_are_told(something_root, capsys):
    root = something_root()
    for name in ("11", "13"):
        (root / VIDEOS / f"{name}.webm").unlink()
    records = something.open(root, "train", missing="drop")
    assert [r.id for r in records] == ["12"] and records.missing == ("11.webm", "13.webm")
    assert "2 of 3 train clips have a label and no file: 11.webm, 13.webm; left out" in (
        capsys.readouterr().out
    )
    with pytest.raises(ValueError, match="missing='skip': error or drop"):
        something.open(root, "train", missing="skip")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("labels/train.json", "no labels/train.json and no something-something-v2-train.json"),
        ("labels/labels.json", "no labels/labels.json"),
        (VIDEOS, f"no {VIDEOS} and no videos there"),
    ],
)
def test_what_something_lacks_is_named_with_where_it_is_had(something_root, name, match):
    root = something_root()
    (root / name).rename(root / "away")
    with pytest.raises(FileNotFoundError, match=match) as caught:
        something.open(root, "train")
    assert "had from https://" in str(caught.value) and "/ID.webm" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("trainingSet.csv", "no trainingSet.csv and no annotations/trainingSet.csv"),
        ("moments_categories.txt", "no moments_categories.txt"),
        ("training", "no training and no videos/training"),
    ],
)
def test_what_moments_lacks_is_named_with_where_it_is_had(moments_root, name, match):
    root = moments_root()
    (root / name).rename(root / "away")
    with pytest.raises(FileNotFoundError, match=match) as caught:
        moments.open(root, "train")
    assert "had from http" in str(caught.value) and "CLASS/NAME.mp4" in str(caught.value)


def test_another_split(something_root, moments_root):
    with pytest.raises(ValueError, match="train, validation, test, no 'val'"):
        something.open(something_root(), "val")
    with pytest.raises(ValueError, match="train, validation, no 'test'"):
        moments.open(moments_root(), "test")


ROW = {"id": "11", "label": "closing a door", "template": "Closing [something]"}
ROW["placeholders"] = ["a door"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([ROW, ROW | {"id": 12}], "row 1: its id is 12"),
        ([ROW | {"id": "../x"}], r"row 0: its id is '\.\./x'"),
        ([ROW | {"label": None}], "row 0: label None"),
        ([ROW | {"placeholders": "a door"}], "row 0: placeholders are 'a door'"),
        ([ROW | {"placeholders": [1]}], r"row 0: placeholders are \[1\]"),
        (
            [ROW | {"template": "Opening [x]"}],
            "row 0: its class 'Opening x' is not in .*labels.json",
        ),
        ([ROW, ROW], "1 ids stand in more than one row: 11"),
        ([ROW, 3], "row 1: begins with '3', no object"),
        ([], "no row in it"),
    ],
)
def test_rows_of_something_that_are_wrong(something_root, rows, match):
    root = something_root()
    (root / "labels/train.json").write_text(json.dumps(rows))
    with pytest.raises(BadFile, match=match) as caught:
        something.open(root, "train")
    assert "train.json" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("labels.json", '["Closing something"]', "labels.json: no object of class and number"),
        ("labels.json", '{"Closing something": "first"}', "labels.json: no object of class"),
        ("test-answers.csv", "31;Closing something\n32,x\n", r"csv, line 2: '32,x' is no id;class"),
        ("test-answers.csv", "31;Closing something\n", "row 1: 32 is not in test-answers.csv"),
    ],
)
def test_other_files_of_something_that_are_wrong(something_root, name, text, match):
    root = something_root()
    (root / "labels" / name).write_text(text)
    with pytest.raises(BadFile, match=match):
        something.open(root, "test")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("running/a.mp4,running,3,1\nrunning/b.mp4,running,3\n", "line 2: 3 fields"),
        (
            "filename,label,agree,disagree\n",
            "line 1: filename,label,agree,disagree is no CLASS/NAME",
        ),
        ("running/a.mp4,running,3,x\n", "line 1: running/a.mp4,running,3,x is no"),
        ("running/a.mp4,walking,3,1\n", "line 1: its class 'walking' is not in .*categories"),
        ("running/a.mp4,running,3,1\n" * 2, "1 ids stand in more than one row: running/a"),
        ("", "no row in it"),
    ],
)
def test_rows_of_moments_that_are_wrong(moments_root, text, match):
    root = moments_root()
    (root / "trainingSet.csv").write_text(text)
    with pytest.raises(BadFile, match=match) as caught:
        moments.open(root, "train")
    assert "trainingSet.csv" in str(caught.value)


def test_categories_of_moments_that_are_wrong(moments_root):
    root = moments_root()
    (root / "moments_categories.txt").write_text("running,12\nsinging\n")
    with pytest.raises(BadFile, match=r"moments_categories\.txt, line 2: 'singing' is no"):
        moments.open(root, "train")
