"""What a config names, opened: labelled clips as samples, without those that MVBench asks about."""

import json

import pytest

from vjax.data.samples import BadRow
from vjax.data.sources import Labelled, is_labelled, open_labelled


@pytest.mark.parametrize(
    ("name", "labelled"),
    [("something:F/train", True), ("moments:F/train", True), ("tfds:a/train", True),
     ("rows.json", False), ("folder/something", False), ("something", False)],
)  # fmt: skip
def test_what_names_labelled_clips(name, labelled):
    assert is_labelled(name) == labelled


def test_labelled_clips_are_samples(something_root, tmp_path):
    root = something_root()
    records = open_labelled(f"something:{root}/train", cache=tmp_path)
    samples = Labelled("ssv2", records, "What is done?")
    assert len(samples) == 3
    sample = samples[1]
    (turn,) = sample.turns
    assert [medium.path.name for medium in sample.media] == ["12.webm"]
    assert turn.asked[1] == "What is done?"
    assert turn.answer == "a pen falling like a rock"


def test_moments_too(moments_root, tmp_path):
    records = open_labelled(f"moments:{moments_root()}/train", cache=tmp_path)
    assert Labelled("mit", records)[0].turns[0].answer == "running"


def test_what_mvbench_asks_about_is_left_out(something_root, tmp_path, capsys):
    (tmp_path / "action_antonym.json").write_text(json.dumps([{"video": "12.webm"}]))
    records = open_labelled(
        f"something:{something_root()}/train", mvbench=str(tmp_path), cache=tmp_path
    )
    assert [record.id for record in records] == ["11", "13"]
    assert "1 of 3 clips of something_something_v2" in capsys.readouterr().out


def test_a_clip_without_a_label_names_its_row(something_root, tmp_path):
    root = something_root()
    (root / "labels" / "test-answers.csv").unlink()
    records = open_labelled(f"something:{root}/test", cache=tmp_path)
    with pytest.raises(BadRow, match="ssv2, row 0: 31: this test clip has no label"):
        Labelled("ssv2", records)[0]
