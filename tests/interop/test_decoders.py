"""Language models against transformers: same logits, gradients and config from one folder."""

import numpy as np
import pytest

from tests.interop.theirs import (
    agree,
    bfloat16_agrees,
    gradients_agree,
    logits,
    loss_gradients,
    randomised,
)
from vjax.families import read_spec
from vjax.interop import load_model, reference_logits, save_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
KINDS = {
    "llama": ("Llama", {}),
    "llama, biases, tied, one query head a kv head": (
        "Llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
        | {"num_key_value_heads": 4},
    ),
    "llama 3 positions": ("Llama", {"rope_parameters": LLAMA3, "max_position_embeddings": 128}),
    "linear positions": ("Llama", {"rope_parameters": LINEAR}),
    "mistral, a window": ("Mistral", {"sliding_window": 5, "head_dim": 16}),
    "mistral, no window": ("Mistral", {"sliding_window": None}),
    "qwen2, seven query heads a kv head": (
        "Qwen2",
        {"hidden_size": 28, "num_attention_heads": 7, "num_key_value_heads": 1},
    ),
    "qwen3, wide heads": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3, a window": (
        "Qwen3",
        {"head_dim": 8, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0},
    ),
}


def made(name, more):
    """transformers' model, every parameter random."""
    config = getattr(transformers, f"{name}Config")(**(SIZES | more))
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    return randomised(model)


def rows():
    """Three rows, padded right and left."""
    rng = np.random.default_rng(0)
    ids = rng.integers(3, 64, (3, 21))
    mask = np.ones((3, 21), np.int64)
    mask[1, 15:] = mask[2, :4] = 0
    return {"input_ids": np.where(mask > 0, ids, 0), "attention_mask": mask}


@pytest.mark.parametrize(("name", "more"), KINDS.values(), ids=KINDS)
def test_logits_are_those_of_transformers(name, more, tmp_path):
    theirs = made(name, more)
    theirs.save_pretrained(tmp_path / "theirs")
    arrays = rows()
    with torch.no_grad():
        want = logits(theirs, arrays).numpy()
    ours = load_model(tmp_path / "theirs")
    real = arrays["attention_mask"] > 0
    assert np.abs(want[real]).max() > 0.3  # something to compare
    agree(reference_logits(ours, **arrays)[real], want[real], 1e-5, of=ours.spec.family)

    save_model(tmp_path / "ours", ours, dtype="float32")
    assert read_spec(tmp_path / "ours") == ours.spec
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    with torch.no_grad():
        np.testing.assert_array_equal(logits(again, arrays).numpy()[real], want[real])


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_as_good_as_theirs(kind, tmp_path):
    theirs = made(*KINDS[kind])
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    bfloat16_agrees(theirs, ours, rows(), of=ours.spec.family)


@pytest.mark.parametrize("kind", ["qwen3, wide heads", "llama 3 positions"])
def test_gradients_of_the_loss_are_those_of_transformers(kind, tmp_path):
    theirs = made(*KINDS[kind])
    theirs.save_pretrained(tmp_path)
    arrays = {"input_ids": rows()["input_ids"][:1]}
    ours = loss_gradients(theirs, load_model(tmp_path), arrays)["decoder"]["layers"]
    layer = theirs.model.layers[1]
    for got, want in (
        (ours["attn"]["q"]["kernel"][...][1].T, layer.self_attn.q_proj.weight),
        (ours["mlp"]["down"]["kernel"][...][1].T, layer.mlp.down_proj.weight),
        (ours["norm1"]["scale"][...][1], layer.input_layernorm.weight),
    ):
        want = want.grad.numpy()
        gradients_agree(got, want, of=KINDS[kind][0].lower())


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("Llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("Qwen2", {"use_sliding_window": True, "max_window_layers": 1}, "max_window_layers"),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type is 'yarn'",
        ),
    ],
)
def test_what_is_not_read_is_named(name, more, message, tmp_path):
    getattr(transformers, f"{name}Config")(**(SIZES | more)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_spec(tmp_path)
