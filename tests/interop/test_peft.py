"""Adapters against PEFT: the same folder gives the same logits and gradients there and here."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from tests.models import tiny
from vjax.console import UserError
from vjax.interop import (
    load_adapter,
    load_model,
    merge,
    reference_logits,
    save_adapter,
    save_model,
)
from vjax.models import lora
from vjax.models.layers import LoRAParam

TARGETS = {
    "decoder": ("decoder/layers/(attn/[qv]|mlp/down)", "lora"),
    "everything": (".*", "lora"),
    "everything, DoRA": (".*", "dora"),
    "decoder, rsLoRA": ("decoder/.*", "rslora"),
}
KEY = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"


def add(model, targets, kind="lora", rank=3):
    """An adapter whose B is not zero, nor its magnitude neutral."""
    lora.add(model, rank=rank, alpha=5.0, dropout=0.0, targets=targets, rngs=nnx.Rngs(1), kind=kind)
    rng = np.random.default_rng(2)
    for path, v in nnx.to_flat_state(nnx.state(model, LoRAParam)):
        if path[-1] == "lora_b":
            v[...] = jnp.asarray(0.1 * rng.standard_normal(v.shape), jnp.float32)
        if path[-1] == "magnitude":
            v[...] = v[...] * jnp.asarray(rng.uniform(0.5, 2, v.shape), jnp.float32)
    return model


@pytest.fixture(scope="module", params=TARGETS.values(), ids=TARGETS.keys())
def case(request, tmp_path_factory):
    """(our model with an adapter, folder of the base, folder of the adapter)"""
    base, adapter = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("adapter")
    model = tiny.model()
    save_model(base, model, dtype="float32")
    add(model, *request.param)
    save_adapter(adapter, model, str(base))
    return model, base, adapter


def name_in_file(name):
    """What PEFT calls one of its parameters when it saves it."""
    return name.replace("_vector.default.weight", "_vector").replace(".default", "")


def peft_model(base, adapter, **kwargs):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.LlavaForConditionalGeneration.from_pretrained(base)
    return peft.PeftModel.from_pretrained(theirs, adapter, **kwargs)


def test_peft_computes_the_same(case):
    model, base, adapter = case
    theirs = peft_model(base, adapter)
    arrays = tiny.inputs()
    real = arrays["attention_mask"] > 0
    got, want = reference_logits(model, **arrays)[real], tiny.reference(theirs, arrays)[real]
    assert (
        np.abs(got - reference_logits(load_model(base), **arrays)[real]).max() > 0.1
    )  # it does matter
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)


def test_peft_adapts_our_layers_and_no_other(case):
    _, base, adapter = case
    theirs = peft_model(base, adapter)
    named = theirs.state_dict()
    there = {name_in_file(n) for n in named if ".lora_" in n}
    assert there == set(load_file(adapter / "adapter_model.safetensors"))


@pytest.mark.parametrize(
    "case",
    [TARGETS["everything"], TARGETS["everything, DoRA"]],
    ids=["LoRA", "DoRA"],
    indirect=True,
)
def test_gradients_are_those_of_torch(case, tmp_path):
    torch = pytest.importorskip("torch")
    model, base, adapter = case
    arrays = tiny.inputs()
    real = arrays["attention_mask"] > 0
    weights = np.random.default_rng(3).standard_normal((*real.shape, 64)) * real[..., None]
    graphdef, train, rest = nnx.split(model, LoRAParam, ...)

    def loss(train):
        logits = reference_logits(nnx.merge(graphdef, train, rest), **arrays)
        return (logits * weights).sum()

    grads = jax.grad(loss)(train)
    graded = nnx.merge(graphdef, grads, rest)
    save_adapter(tmp_path, graded, "gradients")  # in PEFT's names and layouts
    got = load_file(tmp_path / "adapter_model.safetensors")

    theirs = peft_model(base, adapter, is_trainable=True)
    logits = theirs(**{k: torch.from_numpy(v) for k, v in arrays.items()}).logits
    (logits * torch.from_numpy(weights).float()).sum().backward()
    compared = 0
    for name, p in theirs.named_parameters():
        if ".lora_" in name and p.grad is not None:
            want = p.grad.numpy()
            scale = np.abs(want).max()
            have = got[name_in_file(name)]
            np.testing.assert_allclose(have / scale, want / scale, atol=1e-4, err_msg=name)
            compared += scale > 0
    assert compared >= 12


def test_an_adapter_comes_back_to_the_bit(case):
    model, base, adapter = case
    again = load_model(base)
    add(again, "projector/fc1", rank=2)  # goes away
    load_adapter(adapter, again)
    want = nnx.to_flat_state(nnx.state(model))
    got = dict(nnx.to_flat_state(nnx.state(again)))
    assert got.keys() == {path for path, _ in want}
    for path, v in want:
        np.testing.assert_array_equal(got[path][...], v[...], err_msg=str(path))
    arrays = tiny.inputs()
    np.testing.assert_array_equal(
        reference_logits(again, **arrays), reference_logits(model, **arrays)
    )


def test_merged_weights_compute_the_same(case):
    model, *_ = case
    arrays = tiny.inputs()
    before = reference_logits(model, **arrays)
    merged = merge(model)
    assert not nnx.to_flat_state(nnx.state(merged, LoRAParam))
    np.testing.assert_allclose(reference_logits(merged, **arrays), before, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(reference_logits(model, **arrays), before)  # left as it was


@pytest.fixture
def small(tmp_path):
    """A model with an adapter on q, and that adapter's folder."""
    model = add(tiny.model(), "decoder/layers/attn/q")
    save_adapter(tmp_path, model, "base")
    return model, tmp_path


def test_every_tensor_that_does_not_fit_is_named(small):
    model, folder = small
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[KEY.replace("q_proj", "z_proj")] = tensors.pop(KEY)
    b = KEY.replace("lora_A", "lora_B")
    tensors[b] = tensors[b][:, :2].copy()
    save_file(tensors, file)
    with pytest.raises(UserError, match="does not fit") as error:
        load_adapter(folder, model)
    name = "model.language_model.layers.0.self_attn."
    assert f"missing: {name}q_proj.lora_A.weight" in str(error.value)
    assert f"not used: {name}z_proj.lora_A.weight" in str(error.value)
    assert f"wrong shape: {name}q_proj.lora_B.weight is [2, 32]" in str(error.value)


def test_settings_that_are_not_read(small):
    model, folder = small
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"bias": "all"}))
    with pytest.raises(UserError, match="not read: bias='all'"):
        load_adapter(folder, model)


def test_rslora_as_peft_has_it(case):
    """The settings PEFT writes, on one adapter: alpha / sqrt(R) there and here."""
    _, base, adapter = case
    config = adapter / "adapter_config.json"
    plain = json.loads(config.read_text())
    try:
        config.write_text(json.dumps(plain | {"use_rslora": True}))
        arrays = tiny.inputs()
        real = arrays["attention_mask"] > 0
        want = tiny.reference(peft_model(base, adapter), arrays)
        ours = load_model(base)
        load_adapter(adapter, ours)
        np.testing.assert_allclose(
            reference_logits(ours, **arrays)[real], want[real], atol=1e-5, rtol=1e-5
        )
    finally:
        config.write_text(json.dumps(plain))


def test_names_in_the_file_are_those_peft_writes(case, tmp_path):
    _, base, adapter = case
    peft_model(base, adapter).save_pretrained(tmp_path)
    got, want = (load_file(f / "adapter_model.safetensors") for f in (adapter, tmp_path))
    assert {name: w.shape for name, w in got.items()} == {n: w.shape for n, w in want.items()}


def test_a_truncated_adapter(small):
    model, folder = small
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="no whole PEFT adapter"):
        load_adapter(folder, model)


def test_no_adapter_or_a_mixed_one_is_not_saved(tmp_path):
    model = tiny.model()
    with pytest.raises(ValueError, match="no adapters"):
        save_adapter(tmp_path, model, "base")
    add(model, "decoder/layers/attn/q", rank=2)
    add(model, "decoder/layers/attn/k", rank=3)
    with pytest.raises(ValueError, match="several"):
        save_adapter(tmp_path, model, "base")
