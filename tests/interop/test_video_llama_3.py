"""VideoLLaMA3 against transformers: logits, gradients and folders."""

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
from vjax.families import read_spec, spec_of
from vjax.interop import load_model, reference_logits, save_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

IMAGE, VIDEO = 62, 63
TEXT = {
    "model_type": "qwen2", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "patch_size": 4, "num_channels": 3,
}  # fmt: skip
ROWS = {  # int: text tokens; (height, width): an image in patches; (frames, height, width): a video
    "a video": [[4, (3, 4, 6), 5]],
    "videos and images of odd sizes": [[1, (2, 10, 2), 3, (6, 3), 2, (1, 5), 4, (4, 4, 4)]],
    "unequal rows": [[3, (2, 4, 4), 3, (3, 3), 1], [7, (6, 6), 2, (1, 2, 6)], [5]],
    "text": [[9], [4]],
}


def made(**more):
    """transformers' model, every parameter random."""
    config = transformers.VideoLlama3Config(
        text_config=TEXT, vision_config=VISION, image_token_id=IMAGE, video_token_id=VIDEO, **more
    )
    return randomised(transformers.VideoLlama3ForConditionalGeneration(config))


def asked(rows, *, left=False, pruned=0.0):
    """Arguments of the forward; a share of videos' tokens is pruned."""
    rng = np.random.default_rng(0)
    grids, kept, ids = {IMAGE: [], VIDEO: []}, [], []
    for row in rows:
        tokens = []
        for part in row:
            if isinstance(part, int):
                tokens += rng.integers(3, 60, part).tolist()
            elif len(part) == 2:
                grids[IMAGE].append((1, *part))
                tokens += [IMAGE] * int(np.prod(part))
            else:
                grids[VIDEO].append(part)
                keep = rng.random(int(np.prod(part)) // 4) >= pruned
                kept.append(keep)
                tokens += [VIDEO] * int(keep.sum())
        ids.append(tokens)
    arrays = padded(ids, left=left)
    for token, kind, suffix, merge in ((IMAGE, "image", "", 1), (VIDEO, "video", "_videos", 2)):
        if grids[token]:
            arrays[f"{kind}_grid_thw"] = np.array(grids[token])
            arrays[f"{kind}_merge_sizes"] = np.full(len(grids[token]), merge)
            count = int(arrays[f"{kind}_grid_thw"].prod(-1).sum())
            pixels = rng.standard_normal((count, 3 * 4 * 4)).astype(np.float32)
            arrays[f"pixel_values{suffix}"] = pixels
    if kept and pruned:
        arrays["video_compression_mask"] = np.concatenate(kept)
    return arrays


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    theirs = made()
    folder = tmp_path_factory.mktemp("video_llama_3")
    theirs.save_pretrained(folder)
    return theirs, load_model(folder)


@pytest.mark.parametrize("name", [*ROWS, "padded left", "pruned"])
def test_logits_are_those_of_transformers(pair, name):
    theirs, ours = pair
    arrays = asked(
        ROWS.get(name, ROWS["unequal rows"]),
        left=name == "padded left",
        pruned=0.5 if name == "pruned" else 0.0,
    )
    with torch.no_grad():
        want = logits(theirs, arrays).numpy()
    real = arrays["attention_mask"] > 0
    assert np.abs(want[real]).max() > 0.3  # something to compare
    agree(reference_logits(ours, **arrays)[real], want[real], 1e-5, of="video_llama_3")


@pytest.mark.parametrize("tied", [False, True])
def test_folders_go_both_ways(tied, tmp_path):
    theirs = made(tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    assert ours.spec.text.tied == tied
    save_model(tmp_path / "ours", ours, dtype="float32")
    assert read_spec(tmp_path / "ours") == ours.spec
    again = transformers.VideoLlama3ForConditionalGeneration.from_pretrained(tmp_path / "ours")
    arrays = asked(ROWS["a video"])
    with torch.no_grad():
        np.testing.assert_array_equal(logits(again, arrays).numpy(), logits(theirs, arrays).numpy())


def test_a_broken_folder_is_described(tmp_path):
    made().save_pretrained(tmp_path / "theirs")
    (tmp_path / "broken").mkdir()
    a_broken_folder_is_described(tmp_path / "theirs", tmp_path / "broken")


def test_bfloat16_is_as_good_as_theirs(pair):
    bfloat16_agrees(*pair, asked(ROWS["a video"]), of="video_llama_3")


def test_gradients_of_the_loss_are_those_of_transformers(pair):
    theirs, ours = pair
    got = loss_gradients(theirs, ours, asked(ROWS["unequal rows"][:1]))
    tower, projector = theirs.model.vision_model, theirs.model.projector.readout
    layer = tower.encoder.layers[1].self_attn
    for ours_, theirs_ in (
        (got["tower"]["layers"]["attn"]["q"]["kernel"][...][1].T, layer.q_proj.weight),
        (got["tower"]["post_norm"]["scale"][...], tower.post_layernorm.weight),
        (got["projector"]["fc1"]["kernel"][...].T, projector[0].weight),
    ):
        gradients_agree(ours_, theirs_.grad.numpy(), of="video_llama_3")


def test_arguments_that_do_not_fit(pair):
    arrays = asked(ROWS["a video"])
    with pytest.raises(ValueError, match="18 tokens of id 63 for 17"):
        mask = np.arange(18) > 0
        reference_logits(pair[1], **arrays, video_compression_mask=mask)
    with pytest.raises(ValueError, match="64 patches of pixels for video grids"):
        reference_logits(pair[1], **arrays | {"pixel_values_videos": np.zeros((64, 48))})
    with pytest.raises(ValueError, match="video_merge_sizes are .1., of this model 2"):
        reference_logits(pair[1], **arrays | {"video_merge_sizes": np.array([1])})


def test_other_vision_models_are_refused():
    config = made().config.to_dict()
    config["vision_config"] = config["vision_config"] | {"rope_parameters": {"rope_type": "mixed"}}
    with pytest.raises(ValueError, match="rope_type is 'mixed', not 'axial'"):
        spec_of(config)
