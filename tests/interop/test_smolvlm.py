"""SmolVLM2 against transformers: logits, gradients, padded squares and folders."""

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
from vjax.models.resize import resize_positions
from vjax.models.vit import fractional_cells, patch_grid

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

IMAGE = 63
PATCH, TABLE, SHUFFLE = 4, 6, 3
SIDE = 26  # 6 patches of 4 and a rest, as 384 pixels are 27 of 14
TEXT = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 2, "rope_theta": 1e5,
}  # fmt: skip
VISION = {
    "model_type": "smolvlm_vision", "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": PATCH,
}  # fmt: skip
# rows of text lengths (int) and squares (real rows and columns of pixels), the squares' side
ROWS = {
    "squares": (SIDE, [[3, (26, 26), 1, (26, 26), 2, (26, 26), 4]]),
    "unequal rows": (SIDE, [[1, (26, 26), 4], [2, (26, 26), 2, (26, 26)], [5]]),
    "larger squares": (36, [[(36, 36), 2], [3, (36, 36)]]),
    "padded squares": (SIDE, [[2, (26, 26), 1, (10, 26), 3], [(26, 9), 4]]),
    "larger padded squares": (36, [[2, (36, 20), (17, 36), 3]]),
    "text": (SIDE, [[7], [4]]),
}


def made(**more):
    """transformers' model, every parameter random."""
    config = transformers.SmolVLMConfig(
        text_config=TEXT, vision_config=VISION, image_token_id=IMAGE, scale_factor=SHUFFLE, **more
    )
    return randomised(transformers.SmolVLMForConditionalGeneration(config))


def asked(side, rows, *, left=False):
    """Arguments of the forward for rows of ROWS."""
    rng = np.random.default_rng(0)
    ids = []
    sizes = [[part for part in row if not isinstance(part, int)] for row in rows]
    N = max(map(len, sizes))
    pixels = np.zeros((len(rows), N, 3, side, side), np.float32)
    mask = np.zeros((len(rows), N, side, side), np.int64)
    for b, row in enumerate(rows):
        tokens = []
        for part in row:
            if isinstance(part, int):
                tokens += rng.integers(3, 60, part).tolist()
            else:
                tokens += [IMAGE] * (side // PATCH // SHUFFLE) ** 2
        ids.append(tokens)
        for n, (h, w) in enumerate(sizes[b]):
            pixels[b, n, :, :h, :w] = rng.standard_normal((3, h, w))
            mask[b, n, :h, :w] = 1
    arrays = padded(ids, left=left)
    if N:
        arrays |= {"pixel_values": pixels, "pixel_attention_mask": mask}
    return arrays


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    theirs = made()
    folder = tmp_path_factory.mktemp("smolvlm")
    theirs.save_pretrained(folder)
    return theirs, load_model(folder)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_logits_are_those_of_transformers(pair, rows):
    theirs, ours = pair
    for left in (False, True):  # where rows are padded
        arrays = asked(*rows, left=left)
        with torch.no_grad():
            want = logits(theirs, arrays).numpy()
        real = arrays["attention_mask"] > 0
        assert np.abs(want[real]).max() > 0.3  # something to compare
        agree(reference_logits(ours, **arrays)[real], want[real], 1e-5, of="smolvlm")


def test_squares_without_a_mask_are_whole(pair):
    arrays = asked(*ROWS["squares"])
    del arrays["pixel_attention_mask"]
    with torch.no_grad():
        want = logits(pair[0], arrays).numpy()
    agree(reference_logits(pair[1], **arrays), want, 1e-5, of="smolvlm")


def test_what_is_padding_in_a_square_counts_for_nothing(pair):
    arrays = asked(*ROWS["padded squares"])
    noise = np.random.default_rng(1).standard_normal(arrays["pixel_values"].shape)
    padding = 1 - arrays["pixel_attention_mask"][:, :, None]
    there = arrays["pixel_values"].any((2, 3, 4), keepdims=True)
    # whole patches of it; a block of the grid that is padding alone gives tokens of its own
    padding[:, :, :, :12, :12] = 0
    other = arrays | {"pixel_values": arrays["pixel_values"] + (noise * padding * there)}
    other["pixel_values"] = other["pixel_values"].astype(np.float32)
    with torch.no_grad():
        want = logits(pair[0], other).numpy()
    real = arrays["attention_mask"] > 0
    agree(reference_logits(pair[1], **other)[real], want[real], 1e-5, of="smolvlm")


@pytest.mark.parametrize("table", [6, 14, 16, 27, 32])
def test_positions_are_the_cells_of_transformers(table):
    config = transformers.SmolVLMVisionTransformer.config_class(
        hidden_size=2, image_size=table, patch_size=1, num_attention_heads=1, num_hidden_layers=0
    )
    embeddings = transformers.SmolVLMVisionTransformer(config).embeddings
    with torch.no_grad():
        embeddings.patch_embedding.weight.zero_()
        embeddings.patch_embedding.bias.zero_()
        cells = torch.cartesian_prod(torch.arange(table), torch.arange(table))
        embeddings.position_embedding.weight.copy_(cells)
        for rows, columns in ((table, table), (6, 9), (20, 33), (48, 12), (1, 2)):
            mask = torch.ones(1, rows, columns, dtype=torch.bool)
            want = embeddings(torch.zeros(1, 3, rows, columns), mask)[0].numpy()
            got = fractional_cells(patch_grid(rows, columns, 1), (rows, columns), table)
            np.testing.assert_array_equal(got, want)


def test_folders_go_both_ways(tmp_path):
    theirs = made(tie_word_embeddings=True)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    save_model(tmp_path / "ours", ours, dtype="float32")
    assert read_spec(tmp_path / "ours") == ours.spec
    again = transformers.SmolVLMForConditionalGeneration.from_pretrained(tmp_path / "ours")
    arrays = asked(*ROWS["unequal rows"])
    with torch.no_grad():
        np.testing.assert_array_equal(logits(again, arrays).numpy(), logits(theirs, arrays).numpy())


def test_another_picture_size_keeps_the_table(pair, tmp_path):
    ours = resize_positions(pair[1], 36)
    save_model(tmp_path, ours, dtype="float32")
    again = transformers.SmolVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert read_spec(tmp_path).vision.table_side == TABLE
    arrays = asked(*ROWS["larger squares"])
    with torch.no_grad():
        want = logits(again, arrays).numpy()
    real = arrays["attention_mask"] > 0
    agree(reference_logits(ours, **arrays)[real], want[real], 1e-5, of="smolvlm")


def test_bfloat16_is_as_good_as_theirs(pair):
    bfloat16_agrees(*pair, asked(*ROWS["squares"]), of="smolvlm")


def test_gradients_of_the_loss_are_those_of_transformers(pair):
    theirs, ours = pair
    got = loss_gradients(theirs, ours, asked(*ROWS["larger padded squares"]))
    model = theirs.model
    layer, embeddings = model.vision_model.encoder.layers[0], model.vision_model.embeddings
    for ours_, theirs_ in (
        (got["tower"]["layers"]["attn"]["q"]["kernel"][...][0].T, layer.self_attn.q_proj.weight),
        (got["tower"]["position"][...], embeddings.position_embedding.weight),
        (got["tower"]["post_norm"]["scale"][...], model.vision_model.post_layernorm.weight),
        (got["projector"]["fc1"]["kernel"][...].T, model.connector.modality_projection.proj.weight),
        (
            got["decoder"]["layers"]["mlp"]["up"]["kernel"][...][1].T,
            model.text_model.layers[1].mlp.up_proj.weight,
        ),
    ):
        gradients_agree(ours_, theirs_.grad.numpy(), of="smolvlm")


def released():
    """As a release's config.json is: defaults left out, settings of the training's own code."""
    return {
        "model_type": "smolvlm", "image_token_id": 49190, "pad_token_id": 128002, "scale_factor": 4,
        "tie_word_embeddings": False, "use_reentrant_checkpointing": False, "vocab_size": 49280,
        "text_config": {
            "_flash_attn_2_enabled": True, "head_dim": 64, "hidden_size": 2048,
            "intermediate_size": 8192, "is_llama_config": True, "model_type": "llama",
            "neftune_noise_alpha": 0.0, "num_hidden_layers": 24, "pad_token_id": 2,
            "perceiver_config": {"attention_dropout": 0.0}, "pixel_shuffle_factor": 4,
            "qk_layer_norms": False, "rms_norm_eps": 1e-05, "rope_interleaved": False,
            "rope_theta": 130000, "transformers.js_config": {"dtype": {}}, "use_resampler": False,
            "vocab_size": 49280,
        },
        "vision_config": {
            "hidden_size": 768, "image_size": 512, "max_image_size": {"longest_edge": 512},
            "model_type": "smolvlm_vision", "num_attention_heads": 12, "patch_size": 16,
            "size": {"longest_edge": 2048}, "tie_word_embeddings": False, "use_base_siglip": True,
        },
    }  # fmt: skip


def test_a_released_config_is_read_as_transformers_reads_it():
    spec = spec_of(released())
    theirs = transformers.SmolVLMConfig(**released())
    vision, text = theirs.vision_config, theirs.text_config
    assert (spec.vision.layers, spec.vision.ffn) == (12, vision.intermediate_size)
    assert spec.text.heads == spec.text.kv_heads == text.num_attention_heads == 32
    assert (spec.end_token_id, spec.pad_token_id) == (text.eos_token_id, text.pad_token_id)
    assert spec.frame_side**2 == 64 and not spec.text.tied


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale_factor": 5}, "scale_factor is 5, a picture has 32 patches along a side"),
        ({"image_token_id": None}, "image_token_id"),
        ({"vision_config": {"model_type": "resnet"}}, "model_type is 'resnet'; towers that are"),
        ({"vision_config": {"num_channels": 4}}, "vision_config.num_channels is 4, not 3"),
        ({"text_config": {"attn_sinks": 3}}, "text_config.attn_sinks=3 is a field that is not"),
        ({"scale_facto": 2}, "scale_facto=2 is a field that is not known; did you mean scale_fac"),
    ],
)
def test_a_config_that_is_not_read(change, message):
    config = released()
    for name, value in change.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
        if value is None:
            del config[name]
    with pytest.raises(ValueError, match=message):
        spec_of(config)


def test_weights_that_do_not_fit_are_listed(pair, tmp_path):
    from safetensors.numpy import load_file, save_file

    pair[0].save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    proj = "model.connector.modality_projection.proj"
    tensors["model.connector.proj.weight"] = tensors.pop(f"{proj}.weight")
    tensors[f"{proj}.bias"] = np.zeros(32, np.float32)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError) as error:
        load_model(tmp_path)
    for line in (f"missing: {proj}.weight", f"not used: {proj}.bias", "connector.proj.weight"):
        assert line in str(error.value)


def test_squares_that_do_not_fit_their_tokens(pair):
    arrays = asked(*ROWS["squares"])
    ids = np.where(arrays["input_ids"] == IMAGE, 5, arrays["input_ids"])
    with pytest.raises(ValueError, match="0 tokens of id 63 for 12 vision tokens"):
        reference_logits(pair[1], **arrays | {"input_ids": ids})
    with pytest.raises(ValueError, match="20 x 20 pixels are no square grid of blocks of 12"):
        reference_logits(pair[1], input_ids=ids, pixel_values=np.ones((1, 1, 3, 20, 20)))
