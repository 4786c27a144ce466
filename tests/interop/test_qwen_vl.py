"""Qwen-VL families against transformers: logits, gradients, positions and folders."""

import json

import jax
import numpy as np
import pytest
from flax import nnx
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
from vjax.families import family_of, read_spec, spec_of
from vjax.interop import load_model, reference_logits, save_adapter, save_model
from vjax.models import lora
from vjax.models.layers import LoRAParam
from vjax.prompts.positions import mrope_positions

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

START, END, IMAGE, VIDEO = 60, 61, 62, 63
TEXT = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0, "max_position_embeddings": 512,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
}  # fmt: skip
VISION = {"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2}
FAMILIES = {
    "qwen2_vl": ("Qwen2VL", VISION | {"embed_dim": 16, "mlp_ratio": 3, "hidden_size": 32}),
    # windows of 4 x 4 patches, with some left over in most of the pictures below
    "qwen2_5_vl": ("Qwen2_5_VL", VISION | {
        "depth": 3, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32,
        "window_size": 16, "fullatt_block_indexes": [1], "tokens_per_second": 2,
    }),
    # one tap between layers, one after the last; a table larger and smaller than the pictures
    "qwen3_vl": ("Qwen3VL", VISION | {
        "depth": 3, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32,
        "num_position_embeddings": 25, "deepstack_visual_indexes": [0, 2],
    }),
}  # fmt: skip
TEXTS = {
    "qwen3_vl": {
        "head_dim": 12, "num_hidden_layers": 3,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e6, "mrope_section": [3, 2, 1],
            "mrope_interleaved": True,
        },
    },
}  # fmt: skip
KINDS = {
    "untied": {},
    "tied, seven query heads a kv head": {
        "tie_word_embeddings": True,
        "text": {"hidden_size": 56, "num_attention_heads": 7, "num_key_value_heads": 1},
    },
    "one query head a kv head": {"text": {"num_key_value_heads": 4}},
}


def made(family, text=None, **more):
    """transformers' model, every parameter random."""
    name, vision = FAMILIES[family]
    text = TEXT | TEXTS.get(family, {}) | (text or {})
    out = "out_hidden_size" if "out_hidden_size" in vision else "hidden_size"
    config = getattr(transformers, f"{name}Config")(
        text_config=text, vision_config=vision | {out: text["hidden_size"]},
        image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=START,
        vision_end_token_id=END, **more,
    )  # fmt: skip
    return randomised(getattr(transformers, f"{name}ForConditionalGeneration")(config))


def asked(rows, *, left=False, timed=False):
    """Arguments of the forward. A row is a list of text lengths (int), images (h, w) and videos
    (t, h, w), sizes in patches. With `timed`, two tokens precede each t of a video."""
    rng = np.random.default_rng(0)
    grids = {IMAGE: [], VIDEO: []}
    ids = []
    for row in rows:
        tokens = []
        for part in row:
            if isinstance(part, int):
                tokens += rng.integers(3, 60, part).tolist()
                continue
            kind, grid = (IMAGE, (1, *part)) if len(part) == 2 else (VIDEO, part)
            grids[kind].append(grid)
            each = [START, *[kind] * (int(np.prod(grid)) // 4), END]
            if timed and kind == VIDEO:
                each = [7, 8, START, *[kind] * (grid[1] * grid[2] // 4), END] * grid[0]
            tokens += each
        ids.append(tokens)
    arrays = padded(ids, left=left)
    for kind, pixels, name in (
        (IMAGE, "pixel_values", "image_grid_thw"),
        (VIDEO, "pixel_values_videos", "video_grid_thw"),
    ):
        if grids[kind]:
            arrays[name] = np.array(grids[kind])
            count = int(arrays[name].prod(-1).sum())
            arrays[pixels] = rng.standard_normal((count, 3 * 2 * 4 * 4)).astype(np.float32)
    if grids[IMAGE] or grids[VIDEO]:
        ids = arrays["input_ids"]
        arrays["mm_token_type_ids"] = (ids == IMAGE) * 1 + (ids == VIDEO) * 2
    return arrays


def asked_of(spec, rows, **options):
    """With timestamps where the family has some."""
    return asked(rows, timed=spec.pictures == "timed_grids", **options)


def timed(spec, rows):
    """second_per_grid_ts where the family takes it: the videos of a row differ."""
    videos = sum(not isinstance(part, int) and len(part) == 3 for row in rows for part in row)
    seconds = {"second_per_grid_ts": np.array([0.5, 1 / 3, 2.2, 1.0][:videos], np.float32)}
    return seconds if spec.vision.time_rate and videos else {}


ROWS = {
    "a video longer than wide, an odd grid": [[2, (9, 4, 4), 3, (2, 10, 2), 6]],
    "an image of several windows, a video": [[3, (10, 12), 2, (3, 4, 6), 5]],
    "two videos and an image": [[1, (2, 4, 4), 3, (6, 4), 2, (1, 2, 6), 4]],
    "unequal rows": [[3, (2, 4, 4), 3], [7, (6, 6), 2], [5]],
    "text": [[9], [4]],
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def pair(family, tmp_path_factory):
    theirs = made(family)
    folder = tmp_path_factory.mktemp(family)
    theirs.save_pretrained(folder)
    return theirs, load_model(folder), folder


@pytest.mark.parametrize("name", [*ROWS, "unequal rows, padded left"])
def test_logits_are_those_of_transformers(pair, name):
    theirs, ours, _ = pair
    name, _, left = name.partition(", padded ")
    arrays = asked_of(ours.spec, ROWS[name], left=bool(left)) | timed(ours.spec, ROWS[name])
    theirs.model.rope_deltas = None  # it remembers those of the call before
    with torch.no_grad():
        want = logits(theirs, arrays).numpy()
    real = arrays["attention_mask"] > 0
    assert np.abs(want[real]).max() > 0.3  # something to compare
    agree(reference_logits(ours, **arrays)[real], want[real], 1e-5, of=ours.spec.family)


@pytest.mark.parametrize(
    ("family", "kind"),
    [*(("qwen2_vl", kind) for kind in KINDS), *((f, "tied, seven query heads a kv head")
     for f in FAMILIES if f != "qwen2_vl")],
)  # fmt: skip
def test_folders_go_both_ways(family, kind, tmp_path):
    theirs = made(family, **KINDS[kind])
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    arrays = asked_of(ours.spec, ROWS["two videos and an image"])
    with torch.no_grad():
        want = logits(theirs, arrays).numpy()
    np.testing.assert_allclose(reference_logits(ours, **arrays), want, atol=1e-5)
    save_model(tmp_path / "ours", ours, dtype="float32")
    assert read_spec(tmp_path / "ours") == ours.spec
    again = type(theirs).from_pretrained(tmp_path / "ours")
    with torch.no_grad():
        np.testing.assert_array_equal(logits(again, arrays).numpy(), want)


@pytest.mark.parametrize("name", ["two videos and an image"])
def test_bfloat16_is_as_good_as_theirs(pair, name):
    theirs, ours, _ = pair
    theirs.model.rope_deltas = None
    bfloat16_agrees(theirs, ours, asked_of(ours.spec, ROWS[name]), of=ours.spec.family)


def test_gradients_of_the_loss_are_those_of_transformers(pair):
    theirs, ours, _ = pair
    arrays = asked_of(ours.spec, ROWS["two videos and an image"])
    got = loss_gradients(theirs, ours, arrays)
    visual, layer = theirs.model.visual, theirs.model.language_model.layers[0]
    pairs = [
        (got["tower"]["layers"]["attn"]["qkv"]["kernel"][...][1].T, visual.blocks[1].attn.qkv),
        (got["decoder"]["layers"]["attn"]["k"]["kernel"][...][0].T, layer.self_attn.k_proj),
    ]
    fc1 = got["projector"]["fc1"]["kernel"][...].T
    if ours.spec.vision.taps:
        last, taps = visual.merger, got["projector"]["taps"]
        pairs.append((fc1, last.linear_fc1))
        tap = visual.deepstack_merger_list[1].linear_fc2
        pairs.append((taps["fc2"]["kernel"][...][1].T, tap))
        pairs.append((got["tower"]["table"][...], visual.pos_embed))
    else:
        pairs.append((fc1, visual.merger.mlp[0]))
    for ours_, theirs_ in pairs:
        want = theirs_.weight.grad.numpy()
        gradients_agree(ours_, want, of=ours.spec.family)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"], indirect=True)
def test_the_layout_and_config_that_are_published(pair, tmp_path):
    """Language keys at the top of config.json, `visual...` and `model.layers...` in the file."""
    _, ours, folder = pair
    family = family_of(ours.spec.family)
    name, vision = FAMILIES[ours.spec.family]
    tensors = load_file(folder / "model.safetensors")
    published = {family.file_name(family.module_name(name)): w for name, w in tensors.items()}
    assert {name.split(".")[0] for name in published} == {"visual", "model", "lm_head"}
    assert not any(name.startswith("model.visual") for name in published)
    save_file(published, tmp_path / "model.safetensors")
    text = dict(TEXT)
    rope = text.pop("rope_parameters")
    config = text | {
        "architectures": [f"{name}ForConditionalGeneration"],
        "model_type": ours.spec.family,
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_start_token_id": START,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vision_config": vision | {"in_chans": 3, "spatial_patch_size": 4},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = load_model(tmp_path)
    assert again.spec == ours.spec
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(ours))


@pytest.mark.parametrize("rows", [rows for rows in ROWS.values() if len(rows) == 1])
def test_positions_by_rule_hf5_are_those_of_transformers(pair, rows):
    theirs, ours, _ = pair
    arrays, seconds = asked_of(ours.spec, rows), timed(ours.spec, rows)
    rate, grids, steps = iter(seconds.get("second_per_grid_ts", ())), [], []
    for part in rows[0]:
        if isinstance(part, int):
            continue
        here = [part] if len(part) == 3 else [(1, *part)]
        if ours.spec.pictures == "timed_grids" and len(part) == 3:
            here = [(1, *part[1:])] * part[0]
        grids += here
        steps += [2 * next(rate) if seconds and len(part) == 3 else 1.0] * len(here)
    got = mrope_positions(arrays["mm_token_type_ids"][0], grids, merge=2, rule="hf5", steps=steps)
    names = ("image_grid_thw", "video_grid_thw")
    given = {name: arrays[name] for name in names if name in arrays} | seconds
    want, _ = theirs.model.get_rope_index(
        torch.from_numpy(arrays["input_ids"]), torch.from_numpy(arrays["mm_token_type_ids"]),
        **{name: torch.from_numpy(value) for name, value in given.items()},
    )  # fmt: skip
    np.testing.assert_array_equal(got.T, want[:, 0])


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"], indirect=True)
def test_language_keys_in_both_places(pair):
    """As transformers 4.5x saves folders that were published with them at the top."""
    config = json.loads((pair[2] / "config.json").read_text())
    text = {"vision_start_token_id": START, "vision_token_id": 59, "video_token_id": None}
    twice = {"hidden_size": 32, "rope_scaling": {"type": "mrope"}, "sliding_window": 32768}
    twice = config | twice | {"text_config": config["text_config"] | text}
    assert spec_of(twice) == pair[1].spec
    with pytest.raises(ValueError, match="hidden_size is 64 at its top, 32 in text_config"):
        spec_of(config | {"hidden_size": 64})


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("qwen2_vl", {"hidden_size": 48}, "vision_config.hidden_size is 48, the decoder is 32"),
        ("qwen2_5_vl", {"window_size": 4}, "window_size is 4 pixels, less than a block of 8"),
        ("qwen2_5_vl", {"out_hidden_size": 8}, "out_hidden_size is 8, the decoder is 32 wide"),
        ("qwen2_5_vl", {"num_position_embeddings": 9}, "num_position_embeddings=9 is a field that"),
        ("qwen3_vl", {"num_position_embeddings": 24}, "num_position_embeddings is 24, no square"),
        ("qwen3_vl", {"deepstack_visual_indexes": [2, 0]}, r"\[2, 0\]: rising numbers of the"),
        ("qwen3_vl", {"deepstack_visual_indexes": [3]}, "of the tower's 3 layers, at most as many"),
    ],
    indirect=["family"],
)
def test_towers_that_are_not_read(pair, change, message):
    config = json.loads((pair[2] / "config.json").read_text())
    with pytest.raises(ValueError, match=message):
        spec_of(config | {"vision_config": config["vision_config"] | change})


@pytest.mark.slow
def test_adapters_in_every_part_compute_in_peft_what_they_do_here(pair, tmp_path):
    peft = pytest.importorskip("peft")
    theirs, _, folder = pair
    ours = load_model(folder)
    lora.add(ours, rank=2, alpha=4.0, dropout=0.0, targets=".*", rngs=nnx.Rngs(0))
    state = nnx.state(ours, LoRAParam)
    nnx.update(ours, jax.tree.map(lambda x: x + 0.02, state))  # B = 0 would change nothing
    save_adapter(tmp_path, ours, "base")
    model = peft.PeftModel.from_pretrained(type(theirs).from_pretrained(folder), tmp_path).eval()
    arrays = asked_of(ours.spec, ROWS["two videos and an image"])
    theirs.model.rope_deltas = None
    with torch.no_grad():
        want, base = (logits(m, arrays).numpy() for m in (model, theirs))
    np.testing.assert_allclose(reference_logits(ours, **arrays), want, atol=1e-5)
    assert np.abs(want - base).max() > 0.1


def test_pixels_that_do_not_fit(pair):
    arrays = asked_of(pair[1].spec, [[4, (3, 4, 6), 5]])
    with pytest.raises(ValueError, match="64 patches of pixels for video grids"):
        reference_logits(pair[1], **arrays | {"pixel_values_videos": np.zeros((64, 96))})
    ids = np.where(arrays["input_ids"] == VIDEO, 5, arrays["input_ids"])
    with pytest.raises(ValueError, match="0 tokens of id 63 for 18 vision tokens"):
        reference_logits(pair[1], **arrays | {"input_ids": ids})
