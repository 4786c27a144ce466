"""A table of positions brought to other grids: torch's interpolation, image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax.models.tables import antialiased, grid_sizes, resampled
from vjax.models.vit import patch_grid

torch = pytest.importorskip("torch")

SIDE, SIZES = 5, [(4, 6), (2, 2), (5, 5), (12, 8), (1, 3)]


def test_images_of_one_row_and_padding():
    """Corners aligned, as torch.nn.functional.interpolate has it."""
    table = np.random.default_rng(0).standard_normal((SIDE**2, 3)).astype(np.float32)
    grid = torch.from_numpy(table.reshape(1, SIDE, SIDE, 3)).permute(0, 3, 1, 2)
    hw = [patch_grid(h, w, 1) for h, w in SIZES]
    segments = np.repeat(np.arange(1, len(SIZES) + 1), list(map(len, hw)))
    packed = np.concatenate([*hw, np.zeros((4, 2), np.int32)])[None]
    segments = np.concatenate([segments, np.zeros(4, np.int64)])[None].astype(np.int32)
    sizes = jax.jit(grid_sizes)(jnp.asarray(packed), jnp.asarray(segments))
    got = np.asarray(resampled(jnp.asarray(table), jnp.asarray(packed), sizes, SIDE))[0]
    first = 0
    for h, w in SIZES:
        want = torch.nn.functional.interpolate(
            grid, size=(h, w), mode="bilinear", align_corners=True
        )
        want = want[0].permute(1, 2, 0).reshape(-1, 3).numpy()
        np.testing.assert_allclose(got[first : first + h * w], want, atol=1e-6)
        first += h * w


def test_one_image_a_row():
    hw = jnp.asarray(np.stack([patch_grid(4, 6, 2)] * 2))
    np.testing.assert_array_equal(grid_sizes(hw, None), [[[4, 6]], [[4, 6]]])


@pytest.mark.parametrize("shape", [(16, 16), (24, 24), (8, 31), (3, 5), (1, 20)], ids=str)
def test_as_torch_resizes_with_antialiasing(shape):
    table = np.random.default_rng(0).standard_normal((256, 4)).astype(np.float32)
    grid = torch.from_numpy(table.T.reshape(1, 4, 16, 16).copy())
    want = torch.nn.functional.interpolate(grid, size=shape, mode="bilinear", antialias=True)
    hw = jnp.asarray(patch_grid(*shape, 1))[None]
    got = antialiased(jnp.asarray(table), hw, grid_sizes(hw, None))[0]
    np.testing.assert_allclose(got, want[0].flatten(1).T, atol=1e-5)
