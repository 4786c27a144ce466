"""LLaVA-OneVision and LLaVA-NeXT-Video against transformers: logits, gradients and folders."""

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
from vjax.families import read_spec, spec_of
from vjax.interop import load_model, reference_logits, save_model
from vjax.prompts.tiles import tile_count, tile_tokens

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

IMAGE, VIDEO = 62, 63
TILE = 30  # 7 patches of 4 and a rest, as 384 pixels are 27 of 14
TEXT = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": TILE, "patch_size": 4,
}  # fmt: skip
SIGLIP = VISION | {"model_type": "siglip_vision_model", "vision_use_head": False}
CLIP = VISION | {"model_type": "clip_vision_model"}
SIZES = [[TILE * h, TILE * w] for h in (1, 2, 3) for w in (1, 2, 3)]
ROWS = {  # int: text tokens; (frames,): a video; (height, width): a still
    "a video": [[3, (3,), 4]],
    "two videos": [[3, (2,), 2, (2,), 4]],
    "a wide still": [[2, (30, 80), 3]],
    "a tall still that is shrunk": [[2, (90, 70), 3]],
    "a small still": [[(20, 22), 3]],
    "stills together are not cut": [[2, (30, 80), 1, (50, 50), 3]],
    "a video and a still, unequal rows": [[1, (2,), 4], [2, (60, 33), 2], [5]],
    "text": [[7], [4]],
}
FAMILIES = {  # family -> class, its vision_config, its decoder, more of its config
    "llava_onevision": (
        "LlavaOnevision", SIGLIP, "qwen2", {"vision_aspect_ratio": "anyres_max_4"},
    ),
    "llava_next_video": ("LlavaNextVideo", CLIP, "llama", {}),
    "llava_next_video, Mistral": ("LlavaNextVideo", CLIP, "mistral", {}),
}  # fmt: skip


def made(family, **more):
    """transformers' model, every parameter random."""
    name, vision, text, options = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(
        text_config=TEXT | {"model_type": text}, vision_config=vision, image_token_index=IMAGE,
        video_token_index=VIDEO, image_grid_pinpoints=SIZES, **options, **more,
    )  # fmt: skip
    return randomised(getattr(transformers, f"{name}ForConditionalGeneration")(config))


def asked(rows, spec, *, left=False):
    """Arguments of the forward for rows of ROWS."""
    rng = np.random.default_rng(0)
    side = TILE // 4
    ids, stills, together, frames = [], [], [], []
    for row in rows:
        tokens, mine = [], [part for part in row if not isinstance(part, int) and len(part) == 2]
        for part in row:
            if isinstance(part, int):
                tokens += rng.integers(3, 60, part).tolist()
            elif len(part) == 1:
                ends = spec.projector.video_newline
                tokens += [VIDEO] * (part[0] * spec.frame_side**2 + ends)
                frames.append(part[0])
            elif len(mine) > 1 and spec.tiles.alone:
                tokens += [IMAGE] * (side**2 + 1)
            else:
                tokens += [IMAGE] * len(tile_tokens(*part, spec.tiles, TILE, side)[0])
        ids.append(tokens)
        stills += mine
        together += [len(mine)] if mine else []
    arrays = padded(ids, left=left)
    if frames:
        shape = (len(frames), frames[0], 3, TILE, TILE)
        arrays["pixel_values_videos"] = rng.standard_normal(shape).astype(np.float32)
    if stills:
        counts = [tile_count(*size, spec.tiles, TILE) for size in stills]
        shape = (len(stills), max(counts), 3, TILE, TILE)
        arrays["pixel_values"] = rng.standard_normal(shape).astype(np.float32)
        arrays["image_sizes"] = np.array(stills)
        if spec.tiles.alone:
            arrays["batch_num_images"] = np.array(together)
    return arrays


@pytest.fixture(scope="module", params=("llava_onevision", "llava_next_video"))
def pair(request, tmp_path_factory):
    theirs = made(request.param)
    folder = tmp_path_factory.mktemp("folder")
    theirs.save_pretrained(folder)
    return theirs, load_model(folder)


@pytest.mark.parametrize("left", [False, True], ids=["padded right", "padded left"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_logits_are_those_of_transformers(pair, rows, left):
    theirs, ours = pair
    arrays = asked(rows, ours.spec, left=left)
    with torch.no_grad():
        want = logits(theirs, arrays).numpy()
    real = arrays["attention_mask"] > 0
    assert np.abs(want[real]).max() > 0.3  # something to compare
    agree(reference_logits(ours, **arrays)[real], want[real], 1e-5, of=ours.spec.family)


@pytest.mark.parametrize("family", FAMILIES)
def test_folders_go_both_ways(family, tmp_path):
    theirs = made(family, tie_word_embeddings=True)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    save_model(tmp_path / "ours", ours, dtype="float32")
    assert read_spec(tmp_path / "ours") == ours.spec
    again = type(theirs).from_pretrained(tmp_path / "ours")
    arrays = asked(ROWS["a wide still"], ours.spec)
    with torch.no_grad():
        np.testing.assert_array_equal(logits(again, arrays).numpy(), logits(theirs, arrays).numpy())


def test_bfloat16_is_as_good_as_theirs(pair):
    arrays = asked(ROWS["a video"], pair[1].spec)
    bfloat16_agrees(*pair, arrays, of=pair[1].spec.family)


def test_gradients_of_the_loss_are_those_of_transformers(pair):
    theirs, ours = pair
    arrays = asked([[1, (2,), 2, (60, 33), 2]], ours.spec)
    got = loss_gradients(theirs, ours, arrays)
    theirs = theirs.model
    layer = theirs.vision_tower.encoder.layers[0].self_attn
    for ours_, theirs_ in (
        (got["tower"]["layers"]["attn"]["q"]["kernel"][...][0].T, layer.q_proj.weight),
        (got["projector"]["fc1"]["kernel"][...].T, theirs.multi_modal_projector.linear_1.weight),
        (got["projector"]["newline"][...], theirs.image_newline),
    ):
        want = theirs_.grad.numpy()
        gradients_agree(ours_, want, of=ours.spec.family)


def test_vision_tokens_that_do_not_fit(pair):
    arrays = asked(ROWS["a video"], pair[1].spec)
    ids = np.where(arrays["input_ids"] == VIDEO, 5, arrays["input_ids"])
    tokens = 3 * pair[1].spec.frame_side ** 2 + pair[1].spec.projector.video_newline
    with pytest.raises(ValueError, match=f"0 tokens of id 63 for {tokens} vision tokens"):
        reference_logits(pair[1], **arrays | {"input_ids": ids})


def test_arguments_that_are_not_taken(pair):
    with pytest.raises(ValueError, match="not taken: pixel_mask"):
        reference_logits(pair[1], input_ids=np.array([[5, 6]]), pixel_mask=np.ones(3))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("spatial_pool_mode", "max", "spatial_pool_mode is 'max', not 'average'"),
        ("vision_feature_select_strategy", "full", "is 'full', the llava_next_video family reads"),
        ("vision_feature_layer", [-2, -5], "not one layer"),
        ("spatial_pool_strides", 2, "did you mean spatial_pool_stride"),
    ],
)
def test_settings_that_are_not_read(key, value, said):
    config = made("llava_next_video").config.to_dict()
    with pytest.raises(ValueError, match=said):
        spec_of(config | {key: value})


def test_a_config_as_released():
    """Sizes that its class knows are left out of it."""
    read = spec_of(
        {
            "model_type": "llava_next_video", "image_token_index": 32001, "ignore_index": -100,
            "image_grid_pinpoints": [[336, 672]], "projector_hidden_act": "gelu",
            "spatial_pool_mode": "average", "spatial_pool_stride": 2, "video_token_index": 32000,
            "text_config": {
                "model_type": "llama", "vocab_size": 32064, "rms_norm_eps": 1e-5,
                "pad_token_id": 32002,
            },
            "tie_word_embeddings": False, "use_image_newline_parameter": True,
            "vision_config": {
                "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
                "model_type": "clip_vision_model", "num_attention_heads": 16,
                "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
                "vocab_size": 32000,
            },
            "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
        }
    )  # fmt: skip
    assert (read.text.width, read.text.ffn, read.text.layers) == (4096, 11008, 32)
    assert (read.frame_side, read.end_token_id, read.pad_token_id) == (12, 2, 32002)
