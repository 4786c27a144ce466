"""The STC connector against a torch module written from its description."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from vjax.families.spec import ProjectorSpec
from vjax.interop.layouts import to_ours
from vjax.interop.variables import by_path
from vjax.models.connectors import connector

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

WIDTH = tiny.SPEC.text.width


def pair(width, padding):
    """Ours and torch's, with the same random variables; from `width` to the decoder's."""
    from tests.interop.videollama2 import Stc
    from vjax.families import videollama2

    spec = dataclasses.replace(
        tiny.SPEC,
        vision=dataclasses.replace(tiny.SPEC.vision, width=width),
        projector=ProjectorSpec(kind="stc", stride=(2, 2, 2), padding=padding, depth=4),
    )
    theirs = Stc(width, WIDTH, padding).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            centre = 1.0 if "bn.weight" in name else 0.0
            p.copy_(centre + 0.3 * torch.randn(p.shape, generator=generator))
    ours, weights = connector(spec, rngs=nnx.Rngs(0)), theirs.state_dict()
    names, used = videollama2.weight_map(spec), set()
    for path, variable in by_path(ours).items():
        name, layout = names[f"projector/{path}"]
        name = name.removeprefix("model.mm_projector.")
        used.add(name)
        variable[...] = jnp.asarray(to_ours(weights[name].numpy(), layout))
    assert used == set(weights)
    return spec, ours, theirs


@pytest.mark.parametrize("width, padding, frames, side", [(WIDTH, 0, 4, 6), (12, 1, 5, 7)])
def test_tokens_are_those_of_torch(width, padding, frames, side):
    spec, ours, theirs = pair(width, padding)
    x = np.random.default_rng(0).standard_normal((2, frames, side**2, width)).astype(np.float32)
    with torch.no_grad():
        want = theirs(torch.from_numpy(x)).numpy()
    got = nnx.jit(lambda module, x: module.clips(x))(ours, x)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    vision = dataclasses.replace(spec.vision, image_size=side * spec.vision.patch_size)
    assert dataclasses.replace(spec, vision=vision).clip_tokens(frames) == want.shape[1]


def test_a_frame_alone_is_a_video_of_two_equal_ones():
    spec, ours, _ = pair(12, 0)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 36, 12)), jnp.float32)
    frames = nnx.jit(lambda module, x: module.frames(x))
    clips = nnx.jit(lambda module, x: module.clips(jnp.stack([x, x], axis=1)))
    alone = frames(ours, x)
    np.testing.assert_allclose(alone, clips(ours, x), atol=1e-5 * np.abs(alone).max())
    assert alone.shape == (3, 9, WIDTH)


@pytest.mark.parametrize(
    "stride, padding, frames, tokens",
    [((2, 2, 2), 0, 8, 576), ((2, 2, 2), 0, 16, 1152), ((1, 2, 2), 0, 8, 1152),
     ((2, 2, 2), 1, 8, 845)],
)  # fmt: skip
def test_tokens_of_336_pixels_are_those_of_the_paper(stride, padding, frames, tokens):
    """arXiv 2406.07476, table 1, without padding; 845 = 5 x 13 x 13 with it."""
    vision = dataclasses.replace(tiny.SPEC.vision, image_size=336, patch_size=14)
    projector = ProjectorSpec(kind="stc", stride=stride, padding=padding)
    spec = dataclasses.replace(tiny.SPEC, vision=vision, projector=projector)
    assert spec.clip_tokens(frames) == tokens
