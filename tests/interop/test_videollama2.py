"""VideoLLaMA2 and 2.1 against transformers' towers and decoders with the connector between."""

import numpy as np
import pytest

from tests.interop.theirs import (
    a_broken_folder_is_described,
    agree,
    bfloat16_agrees,
    gradients_agree,
    logits,
    loss_gradients,
    padded,
    randomised,
)
from vjax.families import read_spec, spec_of, videollama2
from vjax.interop import load_model, reference_logits, save_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

VIDEO, SIDE, PATCH = 63, 24, 4
TEXT = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "tie_word_embeddings": False,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": SIDE, "patch_size": PATCH,
}  # fmt: skip
MM = {
    "mm_hidden_size": 16, "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch",
    "use_mm_proj": True, "image_aspect_ratio": "pad", "tune_mm_mlp_adapter": False,
    "tokenizer_model_max_length": 2048, "video_token_id": VIDEO,
}  # fmt: skip
KINDS = {
    "videollama2_mistral": {
        "model_type": "videollama2_mistral", "mm_projector_type": "stc_connector",
        "mm_vision_tower": "openai/clip-vit-large-patch14-336", "num_frames": 8,
        "vision_config": VISION | {"model_type": "clip_vision_model"}, "sliding_window": None,
    },
    "videollama2_qwen2": {
        "model_type": "videollama2_qwen2", "mm_projector_type": "stc_connector_v35",
        "mm_vision_tower": "google/siglip-so400m-patch14-384", "num_frames": 16,
        "vision_config": VISION | {"model_type": "siglip_vision_model", "vision_use_head": False},
        "use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 2,
    },
}  # fmt: skip
MISTRAL, QWEN2 = KINDS
ROWS = {  # int: text tokens; (frames,): a video
    "a video": [[4, (4,), 5]],
    "unequal rows, odd lengths": [[1, (3,), 4], [7, (3,), 2, (3,), 1], [5]],
    "text": [[9], [4]],
}


def made(kind):
    """Their model, every parameter random."""
    from tests.interop.videollama2 import VideoLlama2

    return randomised(VideoLlama2(TEXT | MM | KINDS[kind]))


def asked(rows, spec, *, left=False):
    """Arguments of the forward for rows of ROWS."""
    rng = np.random.default_rng(0)
    ids, frames = [], []
    for row in rows:
        tokens = []
        for part in row:
            if isinstance(part, int):
                tokens += rng.integers(3, 60, part).tolist()
            else:
                frames += part
                tokens += [VIDEO] * spec.clip_tokens(*part)
        ids.append(tokens)
    arrays = padded(ids, left=left)
    if frames:
        shape = (len(frames), frames[0], 3, SIDE, SIDE)
        arrays["pixel_values_videos"] = rng.standard_normal(shape).astype(np.float32)
    return arrays


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    theirs = made(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    return request.param, theirs, load_model(folder)


@pytest.mark.parametrize(
    "pair, name",
    [*((MISTRAL, name) for name in (*ROWS, "padded left")), (QWEN2, "unequal rows, odd lengths")],
    indirect=["pair"],
)
def test_logits_are_those_of_transformers_and_the_connector(pair, name):
    kind, theirs, ours = pair
    rows = ROWS.get(name, ROWS["unequal rows, odd lengths"])
    arrays = asked(rows, ours.spec, left=name == "padded left")
    with torch.no_grad():
        want = logits(theirs, arrays).numpy()
    real = arrays["attention_mask"] > 0
    assert np.abs(want[real]).max() > 0.3  # something to compare
    agree(reference_logits(ours, **arrays)[real], want[real], 1e-5, of=kind)


def test_folders_go_both_ways(pair, tmp_path):
    _, theirs, ours = pair
    save_model(tmp_path, ours, dtype="float32")
    assert read_spec(tmp_path) == ours.spec
    again = type(theirs).from_pretrained(tmp_path)
    arrays = asked(ROWS["a video"], ours.spec)
    with torch.no_grad():
        np.testing.assert_array_equal(logits(again, arrays).numpy(), logits(theirs, arrays).numpy())


def test_a_broken_folder_is_described(tmp_path):
    made(MISTRAL).save_pretrained(tmp_path / "theirs")
    (tmp_path / "broken").mkdir()
    a_broken_folder_is_described(tmp_path / "theirs", tmp_path / "broken")


@pytest.mark.parametrize("pair", [QWEN2], indirect=True)
def test_bfloat16_is_as_good_as_theirs(pair):
    kind, theirs, ours = pair
    bfloat16_agrees(theirs, ours, asked(ROWS["a video"], ours.spec), of=kind)


@pytest.mark.parametrize("pair", [MISTRAL], indirect=True)
def test_gradients_of_the_loss_are_those_of_torch(pair):
    kind, theirs, ours = pair
    got = loss_gradients(theirs, ours, asked(ROWS["a video"], ours.spec))
    stc, connector = theirs.model.mm_projector, got["projector"]
    tower = theirs.model.vision_tower.vision_tower
    patch = dict(tower.named_parameters())
    patch = next(w for name, w in patch.items() if name.endswith("patch_embedding.weight"))
    for ours_, theirs_ in (
        (connector["s1"]["b1"]["conv2"]["kernel"][...], stc.s1.b1.conv2.conv.weight),
        (connector["s1"]["b1"]["shortcut"]["kernel"][...], stc.s1.b1.downsample.conv.weight),
        (connector["sampler"]["kernel"][...], stc.sampler[0].weight),
        (connector["s2"]["b4"]["squeeze"]["kernel"][...], stc.s2.b4.se.fc1.weight),
        (connector["fc1"]["kernel"][...].T, stc.readout[0].weight),
        (got["tower"]["patch"]["kernel"][...], patch),
    ):
        want = theirs_.grad.numpy()
        if want.shape != ours_.shape:
            want = want.transpose(2, 3, 1, 0).reshape(ours_.shape)
        gradients_agree(ours_, want, of=kind)


def test_towers_are_known_by_name():
    config = TEXT | MM | KINDS[QWEN2] | {"mm_hidden_size": 1152}
    del config["vision_config"]
    spec = spec_of(config)
    vision, written = spec.vision, videollama2.config_json(spec)
    assert written["mm_vision_tower"] == config["mm_vision_tower"]
    assert (vision.width, vision.layers, vision.patches, vision.used_layers) == (1152, 27, 729, 26)
    assert spec_of(config | {"mm_vision_tower": "/x/siglip-so400m-patch14-384"}) == spec
    with pytest.raises(ValueError, match="mm_vision_tower is 'a/b'"):
        spec_of(config | {"mm_vision_tower": "a/b"})
    with pytest.raises(ValueError, match="mm_hidden_size is 16, the tower is 1152 wide"):
        spec_of(config | {"mm_hidden_size": 16})
    with pytest.raises(ValueError, match="mm_projector_type is 'mlp2x_gelu'"):
        spec_of(config | {"mm_projector_type": "mlp2x_gelu"})


def test_tensor_names_of_newer_towers_are_read():
    name = "model.vision_tower.vision_tower.encoder.layers.0.mlp.fc1.weight"
    read = videollama2.module_name(name)
    assert read == name.replace("tower.encoder", "tower.vision_model.encoder")
    assert videollama2.module_name(read) == read
