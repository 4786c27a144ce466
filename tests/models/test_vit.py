"""Towers of SigLIP's and CLIP's shape against transformers' classes."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.interop.theirs import randomised
from vjax.families.spec import TowerSpec
from vjax.families.vision import tower_config, tower_spec, tower_weights
from vjax.interop.layouts import to_ours
from vjax.models.lora import path_str
from vjax.models.vit import Tower, patch_grid

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 30, "patch_size": 8,
}  # fmt: skip
CLASSES = {"clip_vision_model": "CLIPVision", "siglip_vision_model": "SiglipVision"}


@pytest.fixture(scope="module", params=CLASSES)
def theirs(request):
    """transformers' model and its config as a file has it."""
    name = CLASSES[request.param]
    head = {} if name == "CLIPVision" else {"vision_use_head": False}
    config = getattr(transformers, f"{name}Config")(**SIZES, **head)
    return randomised(getattr(transformers, f"{name}Model")(config)), config.to_dict()


def tower(model, spec):
    """Ours with the weights of theirs."""
    built = Tower(spec, rngs=nnx.Rngs(0))
    state, names = model.state_dict(), tower_weights(spec, "", "")
    for path, variable in nnx.to_flat_state(nnx.state(built)):
        name, layout = names["/" + path_str(path)]
        tensors = [name.format(n) for n in range(spec.layers)] if "{}" in name else [name]
        values = [to_ours(state[t.removeprefix(".")].numpy(), layout) for t in tensors]
        variable.set_value(jnp.asarray(np.stack(values) if "{}" in name else values[0]))
    return built


@pytest.mark.parametrize("layer", [-1, -2])
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
def test_features_are_those_of_transformers(theirs, layer, keep):
    model, config = theirs
    spec = tower_spec(config, select_layer=layer, keep_class=keep)
    if keep and not spec.class_token:
        pytest.skip("it has no class token")
    pixels = np.random.default_rng(0).standard_normal((2, 3, 30, 30)).astype(np.float32)
    with torch.no_grad():
        out = model(torch.from_numpy(pixels), output_hidden_states=True)
    want = out.hidden_states[layer].numpy()[:, int(spec.class_token and not keep) :]
    got = tower(model, spec)(jnp.asarray(pixels.transpose(0, 2, 3, 1)))
    assert got.shape == (2, spec.features, 32)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_last_norm_is_that_of_transformers(theirs):
    model, config = theirs
    spec = tower_spec(config, keep_class="clip" in config["model_type"], post_norm=True)
    pixels = np.random.default_rng(0).standard_normal((2, 3, 30, 30)).astype(np.float32)
    with torch.no_grad():
        out = model(torch.from_numpy(pixels))
    got = tower(model, spec)(jnp.asarray(pixels.transpose(0, 2, 3, 1)))
    if spec.class_token:  # that class norms its class token alone
        np.testing.assert_allclose(got[:, 0], out.pooler_output, atol=1e-5)
    else:
        np.testing.assert_allclose(got, out.last_hidden_state, atol=1e-5)


def test_configs_go_both_ways(theirs):
    spec = tower_spec(theirs[1])
    assert tower_spec(tower_config(spec)) == spec
    made = transformers.AutoConfig.for_model(**tower_config(spec)).to_dict()
    assert {k: made[k] for k in SIZES} == SIZES


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model_type", "dinov2", "model_type is 'dinov2'; towers that are read"),
        ("num_channels", 4, "num_channels is 4, not 3"),
        ("qk_norm", True, "qk_norm=True is a field that is not known"),
    ],
)
def test_settings_that_are_not_read(theirs, key, value, said):
    with pytest.raises(ValueError, match=said):
        tower_spec(theirs[1] | {key: value})


def test_the_row_of_the_class_token_is_not_resampled():
    from tests.models import tiny
    from vjax.models.resize import resize_positions
    from vjax.models.video_llm import VideoLLM

    of = tiny.spec()
    vision = dataclasses.replace(of.vision, image_size=48, class_token=True)
    old = VideoLLM(dataclasses.replace(of, vision=vision), rngs=nnx.Rngs(0))
    got = resize_positions(old, 24).tower.position[...]
    assert got.shape == (1 + 9, 32)
    np.testing.assert_array_equal(got[0], old.tower.position[...][0])


def test_rotary_positions_count_only_by_their_distance():
    """Rotations of queries and keys: a picture may start at any row and column."""
    spec = TowerSpec(32, 2, 4, 48, 32, 8, position="rope2d")
    tower, rng = Tower(spec, rngs=nnx.Rngs(0)), np.random.default_rng(0)
    patches = jnp.asarray(rng.standard_normal((2, 12, 3 * 8 * 8)), jnp.float32)
    hw = jnp.broadcast_to(patch_grid(3, 4, 1), (2, 12, 2))
    encode = nnx.jit(lambda tower, hw: tower.encode(patches, hw))
    here, turned = encode(tower, hw), encode(tower, hw[..., ::-1])
    np.testing.assert_allclose(encode(tower, hw + jnp.array([5, 11])), here, atol=1e-5)
    assert np.abs(turned - here).max() > 1e-3  # rows are not columns
