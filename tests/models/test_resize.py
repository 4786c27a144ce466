"""A tower asked for another picture size: against torch's anti-aliased bicubic."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from vjax.families.spec import TilesSpec
from vjax.models.resize import resize_positions, resized_spec
from vjax.models.video_llm import VideoLLM


def model(image_size=48):
    spec = tiny.spec()
    vision = dataclasses.replace(spec.vision, image_size=image_size, patch_size=8)
    return VideoLLM(dataclasses.replace(spec, vision=vision), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("size", [24, 40, 64, 96])
def test_the_table_is_resampled_as_timm_does_it(size):
    torch = pytest.importorskip("torch")
    old = model()
    table = np.asarray(old.tower.position[...])
    grid = torch.from_numpy(table.T.reshape(1, -1, 6, 6).copy())
    want = torch.nn.functional.interpolate(
        grid, size=(size // 8, size // 8), mode="bicubic", antialias=True
    )
    got = resize_positions(old, size)
    np.testing.assert_allclose(
        got.tower.position[...], want[0].flatten(1).T.numpy(), atol=1e-5 * np.abs(table).max()
    )
    assert got.spec.vision.image_size == size == got.tower.spec.image_size
    assert old.spec.vision.image_size == 48  # the old one is left as it was


def test_the_same_size_changes_nothing():
    old = model()
    assert resize_positions(old, 48) is old


def test_a_size_of_no_whole_patches_is_an_error():
    with pytest.raises(ValueError, match="52 pixels are no whole number of patches of 8"):
        resize_positions(model(), 52)


def test_stills_are_cut_into_as_many_tiles():
    spec = dataclasses.replace(model().spec, tiles=TilesSpec(((48, 96), (144, 48)), 9))
    assert resized_spec(spec, 24).tiles.sizes == ((24, 48), (72, 24))
