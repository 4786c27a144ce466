"""CLIP, SigLIP and SigLIP 2 against transformers: vectors, logits, losses, gradients, folders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.interop.theirs import agree, gradients_agree, randomised
from vjax.families import read_spec, spec_of
from vjax.families.vision import ABSENT
from vjax.interop import load, load_model, save_model
from vjax.models.vit import patch_grid
from vjax.train.contrastive import dual_loss

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 64, "max_position_embeddings": 12, "eos_token_id": 60, "pad_token_id": 0,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "patch_size": 8,
}  # fmt: skip
FAMILIES = {
    "clip": ("CLIP", VISION | {"hidden_size": 24, "image_size": 30}, {"projection_dim": 20}),
    "siglip": ("Siglip", VISION | {"image_size": 30}, {}),
    "siglip2": ("Siglip2", VISION | {"num_patches": 16}, {}),
}
SHAPES = [(3, 5), (4, 4), (2, 7), (1, 1), (6, 2)]  # rows and columns of NaFlex images


def made(family, **more):
    name, vision, options = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(
        text_config=TEXT | more, vision_config=vision, **options
    )
    model = randomised(getattr(transformers, f"{name}Model")(config))
    with torch.no_grad():
        model.logit_scale.fill_(np.log(10))
    return model


def asked(family):
    """Arguments of the forward: five images and five texts, each with its end."""
    rng = np.random.default_rng(0)
    ids = rng.integers(3, 60, (5, 12))
    ids[np.arange(5), [3, 11, 7, 9, 5]] = 60
    given = {"input_ids": ids}
    if family != "siglip2":
        pixels = rng.standard_normal((5, 3, 30, 30))
        return given | {"pixel_values": pixels.astype(np.float32)}
    mask = np.zeros((5, 16), np.int64)
    for row, (h, w) in zip(mask, SHAPES, strict=True):
        row[: h * w] = 1
    pixels = rng.standard_normal((5, 16, 192)).astype(np.float32)
    return given | {
        "pixel_values": pixels, "pixel_attention_mask": mask, "spatial_shapes": np.array(SHAPES),
    }  # fmt: skip


def both(model, given):
    """Our vectors of the images and of the texts."""
    pixels = jnp.asarray(given["pixel_values"])
    if "spatial_shapes" in given:
        hw = np.zeros((*given["pixel_attention_mask"].shape, 2), np.int32)
        for row, (h, w) in zip(hw, given["spatial_shapes"].tolist(), strict=True):
            row[: h * w] = patch_grid(h, w, 1)
        real = jnp.asarray(given["pixel_attention_mask"], jnp.int32)
        images = model.see_patches(pixels, jnp.asarray(hw), real)
    else:
        images = model.see(pixels.transpose(0, 2, 3, 1))
    return images, model.read(jnp.asarray(given["input_ids"], jnp.int32))


def outputs(model, given):
    return model(**{k: torch.from_numpy(v) for k, v in given.items()}, return_loss=True)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    theirs = made(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    return request.param, theirs, load_model(folder), asked(request.param)


@pytest.fixture(scope="module")
def vectors(pair):
    return jax.jit(lambda model: both(model, pair[3]))(pair[2])


def test_vectors_and_logits_are_those_of_transformers(pair, vectors):
    family, theirs, ours, given = pair
    with torch.no_grad():
        want = outputs(theirs, given)
    agree(vectors[0], want.image_embeds, 1e-5, of=family, what="images")
    agree(vectors[1], want.text_embeds, 1e-5, of=family, what="texts")
    agree(ours.logits(*vectors), want.logits_per_image, 1e-5, of=family)


def test_losses_and_gradients_are_those_of_transformers(pair):
    family, theirs, ours, given = pair
    theirs.zero_grad()
    want = outputs(theirs, given).loss
    want.backward()
    graphdef, state = nnx.split(ours)

    @jax.jit
    @jax.value_and_grad
    def loss(state):
        model = nnx.merge(graphdef, state)
        return dual_loss(model, *both(model, given))

    got, grads = loss(state)
    np.testing.assert_allclose(got, want.item(), rtol=1e-5)
    tower, text = theirs.vision_model, theirs.text_model
    for mine, parameter in (
        (grads["tower"]["position"][...], tower.embeddings.position_embedding.weight),
        (grads["words"]["embed"][...], text.embeddings.token_embedding.weight),
        (grads["words"]["layers"]["mlp"]["fc1"]["kernel"][...][0].T,
         text.encoder.layers[0].mlp.fc1.weight),
        (grads["log_scale"][...], theirs.logit_scale),
    ):  # fmt: skip
        gradients_agree(mine, parameter.grad.numpy(), of=family)


def test_folders_go_both_ways(pair, tmp_path):
    _, theirs, ours, given = pair
    save_model(tmp_path, ours, dtype="float32")
    assert read_spec(tmp_path) == ours.spec
    again = type(theirs).from_pretrained(tmp_path)
    with torch.no_grad():
        want = outputs(theirs, given).logits_per_image
        np.testing.assert_array_equal(outputs(again, given).logits_per_image, want)


def test_first_clips_take_the_largest_token_for_the_end(tmp_path):
    theirs = made("clip", eos_token_id=2)
    theirs.save_pretrained(tmp_path)
    given = asked("clip")
    with torch.no_grad():
        want = outputs(theirs, given).text_embeds
    ids = jnp.asarray(given["input_ids"], jnp.int32)
    got = jax.jit(lambda model: model.read(ids))(load_model(tmp_path))
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_released_sizes_are_those_of_the_classes(family):
    """Files that leave everything to the class, as google/siglip-base-patch16-224's."""
    ours = spec_of({"model_type": family})
    theirs = transformers.AutoConfig.for_model(family)
    assert ours.vision.width == theirs.vision_config.hidden_size
    assert ours.vision.ffn == theirs.vision_config.intermediate_size
    text = theirs.text_config
    assert (ours.text.width, ours.text.vocab) == (text.hidden_size, text.vocab_size)
    assert (ours.text.length, ours.text.end) == (text.max_position_embeddings, text.eos_token_id)
    assert (ours.text.heads, ours.text.ffn) == (text.num_attention_heads, text.intermediate_size)


def test_configs_that_older_releases_wrote_out():
    """With all that a configuration of transformers 4 had, in both towers."""
    common = {
        "tie_word_embeddings": True, "torchscript": False, "top_k": 50, "return_dict": True,
        "id2label": {"0": "LABEL_0"}, "pruned_heads": {}, "initializer_factor": 1.0,
        "projection_dim": 512, "dropout": 0.0,
    }  # fmt: skip
    given = {
        "model_type": "clip", "text_config": common | {"model_type": "clip_text_model"},
        "vision_config": common | {"model_type": "clip_vision_model"}, "text_config_dict": None,
    }  # fmt: skip
    assert spec_of(given) == spec_of({"model_type": "clip"})


@pytest.mark.parametrize("kind", ABSENT)
def test_sizes_that_are_not_said_are_those_of_the_class(kind):
    theirs = transformers.AutoConfig.for_model(kind)
    assert {name: getattr(theirs, name) for name in ABSENT[kind]} == ABSENT[kind]


@pytest.mark.parametrize(
    ("family", "part", "value", "said"),
    [
        ("siglip", "text_config", {"projection_size": 7}, "texts come to 7 numbers"),
        ("siglip", "vision_config", {"vision_use_head": False}, "there is no head"),
        ("siglip2", "vision_config", {"num_patches": 200}, "num_patches is 200, no square"),
        ("clip", "vision_config", {"model_type": "dinov2"}, "model_type is 'dinov2', the clip"),
        ("clip", "text_config", {"causal": True}, "text_config.causal=True is a field that is not"),
    ],
)
def test_settings_that_are_not_read(family, part, value, said):
    with pytest.raises(ValueError, match=said):
        spec_of({"model_type": family, part: value})


def test_what_wants_a_language_model_says_so(pair, tmp_path):
    save_model(tmp_path, pair[2], dtype="float32")
    with pytest.raises(ValueError, match="two towers and no language model.*zeroshot"):
        load(tmp_path)
