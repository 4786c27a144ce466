"""Pictures in squares that the text names, against SmolVLM's processor."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")  # which tests that others are imported from need
from tests.prompts.test_reference_chat import ASK, CONVERSATIONS, Smol, photo, same, theirs, video  # noqa: E402
from vjax.prompts import Prompt  # noqa: E402
from vjax.prompts.pixels import Picture  # noqa: E402
from vjax.prompts.processors import split  # noqa: E402

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("whole", [False, True], ids=["split", "whole"])
@pytest.mark.parametrize("size", [(60, 90), (40, 170), (300, 200), (56, 56), (10, 20)], ids=str)
def test_stills_are_split_as_transformers_splits_them(size, whole, tmp_path):
    family = Smol(tmp_path)
    family.processor.image_processor.do_image_splitting = not whole
    family.processor.save_pretrained(tmp_path)
    image = photo(*size)
    rule = split.from_folder(tmp_path, family.spec, video=False)
    want = family.processor.image_processor(torch.from_numpy(image.transpose(2, 0, 1)))
    # up to three resizings follow each other, each rounded
    same(rule.squares(Picture("image", (image,))), want["pixel_values"][0], often=1e-3)


def test_times_and_lengths_are_written_as_the_processor_writes_them(tmp_path, monkeypatch):
    family = Smol(tmp_path)
    frames = video(3, 60, 90)
    clip = {"total_num_frames": 1300, "fps": 8.0, "duration": 162.5}
    shown = [9, 500, 1299]
    got = family.native.encode(
        Prompt((("video", (0, 1, 2)), ASK), frames, "", times=tuple(n / 8 for n in shown),
               durations=(162.5,)),
        with_answer=False,
    )  # fmt: skip
    family.options = {"video_metadata": [clip | {"frames_indices": shown}]}
    monkeypatch.setitem(CONVERSATIONS, "long", [((("video", (0, 1, 2)), ASK), frames)])
    want = theirs(family, "long", with_answer=False)
    assert got.tokens.tolist() == want["input_ids"][0].tolist()
    said = family.native.tokenizer.decode(got.tokens.tolist(), skip_special_tokens=False)
    assert "series of three frames from a 0:02:42" in said and "Frame from 01:02:<fake" in said


def test_images_and_videos_together_are_squares_in_order(tmp_path):
    """The processor loses the images; the class takes them."""
    family = Smol(tmp_path)
    turns = [Prompt(parts, shown, "Yes") for parts, shown in CONVERSATIONS["turns"]]
    given = family.native.arguments(turns)
    assert (given["input_ids"] == family.spec.image_token_id).sum() == 4 * 12
    frames, still = (split.from_folder(tmp_path, family.spec, video=v) for v in (True, False))
    (first, _, last) = (Picture("", shown) for _, shown in CONVERSATIONS["turns"])
    want = np.concatenate([frames.squares(first), still.squares(last)])
    np.testing.assert_array_equal(given["pixel_values"][0], want.transpose(0, 3, 1, 2))


def test_a_text_that_looks_like_a_video_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds the special token '<video>'"):
        Smol(tmp_path).native.encode(Prompt((("text", "a <video> b"),), (), "Yes"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_image_size": {"longest_edge": 42}}, "42 is 3 patches, which are no whole blocks"),
        ({"size": {"longest_edge": 5000}}, "size is .*5000.*, not a longest_edge up to 4096"),
        ({"resample": 3}, r"resample is 3, not 1 \(lanczos\)"),
    ],
)
def test_squares_that_are_not_read(change, message, tmp_path):
    family = Smol(tmp_path)
    for name, value in change.items():
        setattr(family.processor.image_processor, name, value)
    family.processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        split.from_folder(tmp_path, family.spec, video=False)


def test_numbers_in_words():
    said = {0: "zero", 13: "thirteen", 20: "twenty", 64: "sixty-four", 100: "one hundred"}
    said |= {128: "one hundred and twenty-eight", 1007: "one thousand and seven"}
    said |= {12345: "twelve thousand, three hundred and forty-five"}
    assert {n: split.number(n) for n in said} == said
    words = pytest.importorskip("num2words")
    assert all(split.number(n) == words.num2words(n) for n in range(20_000))


@pytest.mark.parametrize("sized", [False, True], ids=["sampling alone", "with size"])
def test_a_released_folder_without_a_file_for_videos(sized, tmp_path):
    """Its one file says how videos are sampled, and what it says of stills' size comes first."""
    family = Smol(tmp_path)
    for file in ("processor_config.json", "video_preprocessor_config.json"):
        (tmp_path / file).unlink(missing_ok=True)
    sampling = {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 70}}
    given = {"max_image_size": {"longest_edge": 56}, "resample": 1, "video_sampling": sampling}
    given |= {"size": {"longest_edge": 224}} if sized else {}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given))
    processor = transformers.SmolVLMVideoProcessor.from_pretrained(tmp_path)
    frames = video(2, 97, 250)
    tensors = torch.stack([torch.from_numpy(frame.transpose(2, 0, 1)) for frame in frames])
    want = processor([tensors], return_tensors="pt")["pixel_values"][0]
    rule = split.from_folder(tmp_path, family.spec, video=True)
    assert rule.longest == (224 if sized else 70)
    same(rule.squares(Picture("video", frames)), want, often=1e-3)
