"""Pixels against transformers' processors, from the same frames."""

import dataclasses
import json

import numpy as np
import pytest
from einops import rearrange

from tests.models import tiny
from vjax.families.spec import HALF, TowerSpec
from vjax.prompts.processors import timed_grids
from vjax.prompts.processors.grids import GridPixels

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SPEC = TowerSpec(
    32, 2, 2, 64, 224, 14, temporal_patch=2, merge=2, position="rope2d", mean=MEAN, std=STD
)
ROOM = {"shortest_edge": 4 * 28 * 28, "longest_edge": 40 * 28 * 28}
SIZES = [(120, 90), (97, 333), (56, 56), (20, 30), (500, 410)]


def clip(frames, height, width):
    """A photograph under a moving window."""
    data = pytest.importorskip("skimage.data")
    photo = np.tile(data.astronaut(), (2, 2, 1))
    return np.stack([photo[9 * n : 9 * n + height, 5 * n : 5 * n + width] for n in range(frames)])


def processor(kind):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torchvision")
    return getattr(transformers, f"Qwen2VL{kind}Processor")(size=ROOM)


def difference(ours, theirs, patch=14, std=STD):
    """In steps of 1 / 255 before normalisation."""
    pixels = rearrange(theirs, "n (c f y x) -> n (f y x) c", c=3, f=2, y=patch)
    mine = rearrange(ours, "n (f y x c) -> n (f y x) c", c=3, f=2, y=patch)
    return np.abs((pixels - mine) * np.float32(std) * 255)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_videos_are_those_of_transformers(size, tmp_path):
    frames = clip(5, *size)
    theirs = processor("Video")
    theirs.save_pretrained(tmp_path)
    want = theirs(videos=[frames.transpose(0, 3, 1, 2)], cap_pixels_per_frame=False)
    got, grid = GridPixels.from_folder(tmp_path, SPEC, video=True)(frames)
    assert [list(grid)] == want["video_grid_thw"].tolist()
    # torchvision gives a frame other bytes in a batch than alone: one step, in 1 of 50,000 numbers
    steps = difference(got, np.asarray(want["pixel_values_videos"]))
    assert steps.max() <= 2.01 and (steps > 1.01).mean() < 1e-4


@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_videos_whose_frames_share_their_room(size, count, tmp_path):
    """Qwen3-VL's, of as many pixels together as the others have in a frame."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torchvision")
    vision = dataclasses.replace(SPEC, patch_size=16, mean=HALF, std=HALF)
    spec = dataclasses.replace(tiny.SPEC, vision=vision)
    frames = clip(count, *size)
    theirs = transformers.Qwen3VLVideoProcessor(size=ROOM)
    theirs.save_pretrained(tmp_path)
    want = theirs(videos=[frames.transpose(0, 3, 1, 2)], do_sample_frames=False)
    got, grid = timed_grids.from_folder(tmp_path, spec, video=True)(frames)
    assert [list(grid)] == want["video_grid_thw"].tolist()
    steps = difference(got, np.asarray(want["pixel_values_videos"]), 16, HALF)
    assert steps.max() <= 2.01 and (steps > 1.01).mean() < 1e-3


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_images_are_those_of_transformers(size, tmp_path):
    frames = clip(1, *size)
    theirs = processor("Image")
    theirs.save_pretrained(tmp_path)
    want = theirs(images=[frames[0]])
    got, grid = GridPixels.from_folder(tmp_path, SPEC, video=False)(frames)
    assert [list(grid)] == want["image_grid_thw"].tolist()
    assert difference(got, np.asarray(want["pixel_values"])).max() <= 1.01


def test_a_folder_as_published(tmp_path):
    """One file for both, with the older keys."""
    said = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "merge_size": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    for video in (False, True):
        read = GridPixels.from_folder(tmp_path, SPEC, video=video)
        assert (read.least, read.most, read.mean) == (3136, 12845056, MEAN)


@pytest.mark.parametrize(("name", "value"), [("resample", 2), ("do_rescale", False)])
def test_settings_that_are_not_read(tmp_path, name, value):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({name: value}))
    with pytest.raises(ValueError, match=f"{name} is"):
        GridPixels.from_folder(tmp_path, SPEC, video=False)


def test_a_picture_too_long():
    with pytest.raises(ValueError, match="10 x 2001: one side is over 200 times"):
        GridPixels(14, 2, 2, 3136, 10**6, MEAN, STD).size(10, 2001)
