"""A table of positions at the size of each image, against torch's interpolation."""

import jax.numpy as jnp
import numpy as np
import pytest

from vjax.models.tables import antialiased, grid_sizes
from vjax.models.vit import patch_grid


@pytest.mark.parametrize("shape", [(16, 16), (24, 24), (8, 31), (3, 5), (1, 20)], ids=str)
def test_as_torch_resizes_with_antialiasing(shape):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).standard_normal((256, 4)).astype(np.float32)
    grid = torch.from_numpy(table.T.reshape(1, 4, 16, 16).copy())
    want = torch.nn.functional.interpolate(grid, size=shape, mode="bilinear", antialias=True)
    hw = jnp.asarray(patch_grid(*shape, 1))[None]
    got = antialiased(jnp.asarray(table), hw, grid_sizes(hw, None))[0]
    np.testing.assert_allclose(got, want[0].flatten(1).T, atol=1e-5)
