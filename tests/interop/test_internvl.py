"""InternVL3 against transformers: logits, gradients and folders."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop.theirs import (
    agree,
    bfloat16_agrees,
    gradients_agree,
    logits,
    loss_gradients,
    padded,
    randomised,
)
from vjax.console import UserError
from vjax.families import read_spec, spec_of
from vjax.interop import load_model, reference_logits, save_model
from vjax.models.layers import rope_table

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

IMAGE = 63
SIDE = 30  # 4 patches of 7 and a rest
TEXT = {
    "model_type": "qwen2", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 256,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": SIDE, "patch_size": 7, "attention_bias": True,
}  # fmt: skip
DYNAMIC = {"type": "dynamic", "factor": 2.0}
KINDS = {
    "of InternViT-300M, untied": {"tie_word_embeddings": False},
    "of InternViT-6B, tied, a final norm, dynamic positions": {
        "vision": {
            "attention_bias": False, "use_qk_norm": True, "norm_type": "rms_norm",
            "use_mean_pooling": False,
        },
        "text": {"rope_scaling": DYNAMIC},
    },
    "an earlier layer, blocks of 4 x 4, a Llama": {
        "vision_feature_layer": -2,
        "downsample_ratio": 0.25,
        "text": {"model_type": "llama", "head_dim": 8},
    },
}  # fmt: skip
ROWS = {  # text tokens and squares
    "a square": [[2, "square", 3]],
    "unequal rows": [[1, "square", 4], [2, "square", "square", 2, "square"], [5]],
    "text": [[7], [4]],
}


def made(text=None, vision=None, **more):
    """transformers' model, every parameter random."""
    config = transformers.InternVLConfig(
        text_config=TEXT | (text or {}), vision_config=VISION | (vision or {}),
        image_token_id=IMAGE, **more,
    )  # fmt: skip
    return randomised(transformers.InternVLForConditionalGeneration(config))


def asked(rows, spec, *, left=False):
    """Arguments of the forward for rows of ROWS."""
    rng = np.random.default_rng(0)
    ids, squares = [], 0
    for row in rows:
        tokens = []
        for part in row:
            if part == "square":
                tokens += [IMAGE] * spec.frame_side**2
                squares += 1
            else:
                tokens += rng.integers(3, 60, part).tolist()
        ids.append(tokens)
    arrays = padded(ids, left=left)
    if squares:
        shape = (squares, 3, SIDE, SIDE)
        arrays["pixel_values"] = rng.standard_normal(shape).astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """opened(kind): transformers' model and ours."""

    @functools.cache
    def opened(kind):
        theirs, folder = made(**KINDS[kind]), tmp_path_factory.mktemp("internvl")
        theirs.save_pretrained(folder)
        return theirs, load_model(folder)

    return opened


@pytest.fixture(scope="module", params=KINDS)
def pair(request, opened):
    return opened(request.param)


@pytest.fixture(scope="module")
def one(opened):
    return opened("of InternViT-300M, untied")


def compare(pair, rows):
    theirs, ours = pair
    for left in (False, True):  # where rows are padded
        arrays = asked(rows, ours.spec, left=left)
        with torch.no_grad():
            want = logits(theirs, arrays).numpy()
        real = arrays["attention_mask"] > 0
        assert np.abs(want[real]).max() > 0.3  # something to compare
        agree(reference_logits(ours, **arrays)[real], want[real], 1e-5, of="internvl")


def test_logits_are_those_of_transformers(pair):
    compare(pair, ROWS["unequal rows"])


def test_logits_of_text(one):
    compare(one, ROWS["text"])


def test_folders_go_both_ways(pair, tmp_path):
    theirs, ours = pair
    save_model(tmp_path, ours, dtype="float32")
    assert read_spec(tmp_path) == ours.spec
    again = transformers.InternVLForConditionalGeneration.from_pretrained(tmp_path)
    arrays = asked(ROWS["a square"], ours.spec)
    with torch.no_grad():
        np.testing.assert_array_equal(logits(again, arrays).numpy(), logits(theirs, arrays).numpy())


def test_bfloat16_is_as_good_as_theirs(one):
    bfloat16_agrees(*one, asked(ROWS["a square"], one[1].spec), of="internvl")


def test_gradients_of_the_loss_are_those_of_transformers(one):
    theirs, ours = one
    got = loss_gradients(theirs, ours, asked(ROWS["a square"], ours.spec))
    model = theirs.model
    tower, layer = got["tower"], model.vision_tower.encoder.layer[0]
    for ours_, theirs_ in (
        (tower["layers"]["attn"]["q"]["kernel"][...][0].T, layer.attention.q_proj.weight),
        (tower["layers"]["scale1"][...][0], layer.lambda_1),
        (tower["position"][...], model.vision_tower.embeddings.position_embeddings),
        (tower["class_token"][...], model.vision_tower.embeddings.cls_token),
        (got["projector"]["norm"]["bias"][...], model.multi_modal_projector.layer_norm.bias),
        (got["projector"]["fc1"]["kernel"][...].T, model.multi_modal_projector.linear_1.weight),
        (
            got["decoder"]["layers"]["mlp"]["up"]["kernel"][...][1].T,
            model.language_model.layers[1].mlp.up_proj.weight,
        ),
    ):
        want = theirs_.grad.numpy()
        gradients_agree(np.reshape(ours_, want.shape), want, of="internvl")


def test_weights_that_do_not_fit_are_listed(one, tmp_path):
    from safetensors.numpy import load_file, save_file

    one[0].save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["vision_tower.encoder.layer.1.lambda_2"]
    position = "vision_tower.embeddings.position_embeddings"
    tensors[position] = np.concatenate([tensors[position]] * 2)
    tensors["vision_tower.embeddings.mask_token"] = np.zeros((1, 1, 16), np.float32)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError) as error:
        load_model(tmp_path)
    for line in (
        "missing: vision_tower.encoder.layer.1.lambda_2",
        f"wrong shape: {position} in model.safetensors is [2, 17, 16]",
        "not used: vision_tower.embeddings.mask_token",
    ):
        assert line in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"downsample_ratio": 0.3}, "downsample_ratio is 0.3, a picture has 4 patches along"),
        ({"vision_feature_select_strategy": "full"}, "strategy is 'full', the internvl family"),
        ({"vision_feature_layer": [1, 2]}, r"vision_feature_layer is \[1, 2\], not one layer"),
        ({"vision_config": {"image_size": [28, 56]}}, r"image_size is \[28, 56\], no square"),
        ({"vision_config": {"norm_type": "batch"}}, "norm_type is 'batch'; what is read: layer_n"),
        ({"vision_config": {"use_mask_token": True}}, "use_mask_token is True, the internvl fami"),
        ({"vision_config": {"windows": 3}}, "vision_config.windows=3 is a field that is not known"),
        ({"text_config": {"rope_scaling": {"type": "yarn"}}}, "rope_type is 'yarn'; what is read"),
    ],
)
def test_a_config_that_is_not_read(change, message):
    config = {"model_type": "internvl", "vision_config": VISION, "text_config": TEXT}
    for name, value in change.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=message):
        spec_of(config)


@pytest.mark.parametrize(
    ("version", "whole", "text", "tied"),
    [("5.1.0", None, False, True), ("4.52.0", None, None, False), ("4.52.0", None, True, True),
     ("5.1.0", False, True, False)],
)  # fmt: skip
def test_who_says_that_the_head_is_the_embedding(version, whole, text, tied):
    given = {} if whole is None else {"tie_word_embeddings": whole}
    within = TEXT if text is None else TEXT | {"tie_word_embeddings": text}
    config = {"model_type": "internvl", "vision_config": VISION, "text_config": within} | given
    assert spec_of(config | {"transformers_version": version}).text.tied is tied


def test_rows_beyond_dynamic_positions_are_an_error():
    text = TEXT | {"rope_scaling": DYNAMIC}
    spec = spec_of({"model_type": "internvl", "vision_config": VISION, "text_config": text}).text
    with pytest.raises(ValueError, match="rows of 257 tokens: dynamic.*computed up to 256"):
        rope_table(spec, jnp.arange(257)[None])


def test_squares_that_do_not_fit_their_tokens(one):
    arrays = asked(ROWS["a square"], one[1].spec)
    ids = np.where(arrays["input_ids"] == IMAGE, 5, arrays["input_ids"])
    with pytest.raises(ValueError, match="0 tokens of id 63 for 4 vision tokens"):
        reference_logits(one[1], **arrays | {"input_ids": ids})
    arrays["pixel_values"] = arrays["pixel_values"][..., :28]
    with pytest.raises(ValueError, match="pictures of 30 x 28 pixels, the tower takes 30"):
        reference_logits(one[1], **arrays)
