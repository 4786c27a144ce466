"""A tower asked for another picture size: against torch's anti-aliased bicubic."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from vjax.families import spec_of
from vjax.families.spec import TilesSpec
from vjax.models.dual import DualEncoder
from vjax.models.resize import resize_dual, resize_positions, resized_spec
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


def test_a_tower_of_stills_goes_along():
    old = model().spec
    stills = dataclasses.replace(old.vision, class_token=True)
    video = dataclasses.replace(stills, keep_class=True)
    both = dataclasses.replace(old, vision=video, still_vision=stills)
    got = resize_positions(VideoLLM(both, rngs=nnx.Rngs(0)), 24)
    assert got.tower.position.shape == got.still_tower.position.shape == (1 + 9, 32)
    assert got.spec.still_vision.image_size == got.still_tower.spec.image_size == 24
    assert (got.spec.frame_tokens, got.spec.picture_tokens) == (10, 19)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("size", [24, 40, 72])
def test_towers_of_one_space_are_resampled_as_torch_does_it(kind, size):
    torch = pytest.importorskip("torch")
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32}
    towers = {
        "vision_config": sizes | {"image_size": 48, "patch_size": 8, "num_attention_heads": 4}
    }
    towers["text_config"] = sizes | {"vocab_size": 16, "num_attention_heads": 4}
    old = DualEncoder(spec_of({"model_type": kind, **towers}), rngs=nnx.Rngs(0))
    table = np.asarray(old.tower.position[...])
    first = int(old.spec.vision.class_token)
    grid = torch.from_numpy(table[first:].T.reshape(1, -1, 6, 6).copy())
    want = torch.nn.functional.interpolate(
        grid, size=(size // 8, size // 8), mode="bilinear", antialias=True
    )
    new = resize_dual(old, size)
    got = np.asarray(new.tower.position[...])
    np.testing.assert_array_equal(got[:first], table[:first])
    np.testing.assert_allclose(got[first:], want[0].flatten(1).T.numpy(), atol=1e-5)
    assert new.see(jnp.zeros((2, size, size, 3))).shape == (2, new.spec.embed)
