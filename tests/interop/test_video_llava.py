"""Video-LLaVA against transformers: logits, gradients and folders."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

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
from vjax.families import read_spec, spec_of, video_llava
from vjax.interop import load_model, reference_logits, save_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

IMAGE, VIDEO, SIDE = 62, 63, 16
TEXT = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
VISION = {
    "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8,
}  # fmt: skip
ROWS = {  # int: text tokens; "image"; "video"
    "a video": [[3, "video", 4]],
    "a video and an image": [[2, "image", 1, "video", 3]],
    "unequal rows of both": [[2, "video", 3], [4, "image", 1, "image"], [5]],
    "text": [[7], [4]],
}


def made(**more):
    """transformers' model, every parameter random."""
    config = transformers.VideoLlavaConfig(
        text_config=TEXT, vision_config=VISION, image_token_index=IMAGE, video_token_index=VIDEO,
        **more,
    )  # fmt: skip
    return randomised(transformers.VideoLlavaForConditionalGeneration(config))


def asked(rows, *, frames=8, left=False):
    """Arguments of the forward for rows of ROWS."""
    rng = np.random.default_rng(0)
    tokens = {"image": [IMAGE] * 4, "video": [VIDEO] * (5 * frames)}
    ids = [
        [t for part in row for t in (tokens.get(part) or rng.integers(3, 60, part).tolist())]
        for row in rows
    ]
    arrays = padded(ids, left=left)
    shown = [part for row in rows for part in row]
    for kind, name, shape in (
        ("image", "pixel_values", (3, SIDE, SIDE)),
        ("video", "pixel_values_videos", (frames, 3, SIDE, SIDE)),
    ):
        if kind in shown:
            pixels = rng.standard_normal((shown.count(kind), *shape))
            arrays[name] = pixels.astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    theirs = made()
    folder = tmp_path_factory.mktemp("video_llava")
    theirs.save_pretrained(folder)
    return theirs, load_model(folder), folder


@pytest.mark.parametrize("left", [False, True], ids=["padded right", "padded left"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_logits_are_those_of_transformers(pair, rows, left):
    theirs, ours, _ = pair
    arrays = asked(rows, left=left)
    with torch.no_grad():
        want = logits(theirs, arrays).numpy()
    real = arrays["attention_mask"] > 0
    assert np.abs(want[real]).max() > 0.3  # something to compare
    agree(reference_logits(ours, **arrays)[real], want[real], 1e-5, of="video_llava")


def test_folders_go_both_ways(pair, tmp_path):
    theirs, ours, _ = pair
    save_model(tmp_path, ours, dtype="float32")
    assert read_spec(tmp_path) == ours.spec
    again = type(theirs).from_pretrained(tmp_path)
    arrays = asked(ROWS["a video and an image"])
    with torch.no_grad():
        np.testing.assert_array_equal(logits(again, arrays).numpy(), logits(theirs, arrays).numpy())


def test_names_as_published(pair, tmp_path):
    """Files of 4.x have one level more."""
    _, ours, _ = pair
    save_model(tmp_path, ours, dtype="float32")
    names = load_file(tmp_path / "model.safetensors").keys()
    for name in (
        "image_tower.vision_model.embeddings.class_embedding",
        "video_tower.vision_model.pre_layrnorm.weight",
        "multi_modal_projector.linear_1.weight",
        "language_model.model.embed_tokens.weight",
        "language_model.lm_head.weight",
    ):
        assert name in names
        assert video_llava.file_name(video_llava.module_name(name)) == name


def test_a_tower_that_is_missing(pair, tmp_path):
    theirs, ours, _ = pair
    save_model(tmp_path, ours, dtype="float32")
    file = tmp_path / "model.safetensors"
    kept = {k: v for k, v in load_file(file).items() if not k.startswith("video_tower")}
    save_file(kept, file)
    with pytest.raises(UserError, match="missing: video_tower.vision_model.embeddings"):
        load_model(tmp_path)


def test_bfloat16_is_as_good_as_theirs(pair):
    bfloat16_agrees(*pair[:2], asked(ROWS["a video and an image"]), of="video_llava")


def test_gradients_of_the_loss_are_those_of_transformers(pair):
    theirs, ours, _ = pair
    got = loss_gradients(theirs, ours, asked(ROWS["a video and an image"]))
    theirs = theirs.model
    for name, tower in (("tower", theirs.video_tower), ("still_tower", theirs.image_tower)):
        want = tower.encoder.layers[0].self_attn.q_proj.weight.grad.numpy()
        mine = got[name]["layers"]["attn"]["q"]["kernel"][...][0].T
        gradients_agree(mine, want, of="video_llava")
        want = tower.embeddings.class_embedding.grad.numpy()
        gradients_agree(got[name]["class_token"][...], want, of="video_llava")


def test_vision_tokens_that_do_not_fit(pair):
    arrays = asked(ROWS["a video"])
    ids = np.where(arrays["input_ids"] == VIDEO, 5, arrays["input_ids"])
    with pytest.raises(ValueError, match="0 tokens of id 63 for 40 vision tokens"):
        reference_logits(pair[1], **arrays | {"input_ids": ids})


def test_a_config_as_released():
    """Sizes that its class knows are left out of it."""
    read = spec_of(
        {
            "model_type": "video_llava", "image_token_index": 32000, "video_token_index": 32001,
            "ignore_index": -100, "projector_hidden_act": "gelu", "image_seq_length": 256,
            "video_seq_length": 2056,
            "text_config": {
                "model_type": "llama", "vocab_size": 32064, "rms_norm_eps": 1e-5,
                "pad_token_id": 32002,
            },
            "vision_config": {
                "hidden_size": 1024, "intermediate_size": 4096,
                "model_type": "clip_vision_model", "num_attention_heads": 16,
                "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
                "vocab_size": 32000,
            },
            "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
        }
    )  # fmt: skip
    assert read.video_frames * read.frame_tokens == 2056
    assert read.still_vision.features == 256
