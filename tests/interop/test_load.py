"""Loading against transformers: same logits from one folder, and clear errors from bad ones."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from tests.models import tiny
from vjax.console import UserError
from vjax.families import llava, read_spec
from vjax.interop import load, reference_logits, save_model

SPECS = {
    "tied, one kv head, layer -2": tiny.spec(),
    "untied, two kv heads, wide heads, layer -1": tiny.spec(
        tied=False, kv_heads=2, head_dim=16, select_layer=-1
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What `save_model` writes; transformers checks that in test_save."""
    path = tmp_path_factory.mktemp("model")
    save_model(path, tiny.model(), dtype="float32")
    return path


@pytest.fixture
def broken(folder, tmp_path):
    """Copies the folder with changed tensors."""

    def make(change):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        shutil.copy(folder / "config.json", tmp_path)
        save_file(tensors, tmp_path / "model.safetensors")
        return tmp_path

    return make


def flat(model):
    return {path: np.asarray(v[...]) for path, v in nnx.to_flat_state(nnx.state(model))}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_logits_are_those_of_transformers(spec, tmp_path):
    pytest.importorskip("transformers")
    theirs = tiny.llava(spec)
    theirs.save_pretrained(tmp_path)
    assert read_spec(tmp_path) == spec
    arrays = tiny.inputs(spec)
    want = tiny.reference(theirs, arrays)
    got = reference_logits(load(tmp_path), **arrays)
    real = arrays["attention_mask"] > 0
    assert np.abs(want[real]).max() > 0.5  # something to compare
    np.testing.assert_allclose(got[real], want[real], atol=1e-5, rtol=1e-5)


def test_text_without_images(tmp_path):
    pytest.importorskip("transformers")
    theirs = tiny.llava()
    theirs.save_pretrained(tmp_path)
    arrays = {"input_ids": np.array([[7, 8, 9, 10]])}
    want = tiny.reference(theirs, arrays)
    np.testing.assert_allclose(reference_logits(load(tmp_path), **arrays), want, atol=1e-5)


def test_what_llava_does_not_use_is_left_out(broken):
    def change(tensors):
        for name in ("vision_tower.head.probe", "language_model.lm_head.weight"):
            tensors[name] = np.zeros((1, 1, 32), np.float32)

    load(broken(change))


@pytest.mark.parametrize("layout", ["published", "modules of 4.52", "transformers 5"])
def test_key_layouts_of_all_releases(folder, broken, layout):
    rename = {
        "published": llava.file_name,
        "modules of 4.52": lambda name: name.replace("vision_tower.", "vision_tower.vision_model."),
        "transformers 5": lambda name: llava.file_name(name).replace("vision_model.", ""),
    }[layout]

    def change(tensors):
        renamed = {rename(llava.module_name(name)): w for name, w in tensors.items()}
        tensors.clear()
        tensors.update(renamed)

    want = flat(load(folder))
    got = flat(load(broken(change)))
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_shards_and_bfloat16(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    index = {}
    for i in range(2):
        file = f"model-{i}.safetensors"
        part = {name: tensors[name].astype(jnp.bfloat16) for name in names[i::2]}
        save_file(part, tmp_path / file)
        index |= dict.fromkeys(part, file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    shutil.copy(folder / "config.json", tmp_path)
    want = flat(load(folder))
    got = flat(load(tmp_path))
    for path in want:
        assert got[path].dtype == np.float32
        np.testing.assert_array_equal(got[path], want[path].astype(jnp.bfloat16))
    assert {w.dtype for w in flat(load(tmp_path, dtype=jnp.bfloat16)).values()} == {
        jnp.dtype(jnp.bfloat16)
    }


NORM, FC1 = "language_model.model.norm.weight", "multi_modal_projector.linear_1.weight"


def test_every_tensor_that_does_not_fit_is_named(broken):
    def change(tensors):
        del tensors[NORM]
        tensors["language_model.model.extra.weight"] = np.zeros(3, np.float32)
        tensors[FC1] = tensors[FC1][:5].copy()

    with pytest.raises(UserError, match=r"3 tensor\(s\) do not fit") as error:
        load(broken(change))
    assert f"missing: {NORM}" in str(error.value)
    assert "not used: language_model.model.extra.weight" in str(error.value)
    assert f"wrong shape: {FC1} in model.safetensors is [32, 5]" in str(error.value)


def test_a_layer_too_many(broken):
    def change(tensors):
        for name in [n for n in tensors if "language_model.model.layers.1" in n]:
            tensors[name.replace("layers.1", "layers.2")] = tensors[name]

    with pytest.raises(UserError, match=r"not used: language_model.model.layers.2.input_layernorm"):
        load(broken(change))


def test_a_tensor_twice(broken):
    def change(tensors):
        tensors["model.language_model.norm.weight"] = tensors[NORM]

    with pytest.raises(UserError, match=r"1 tensor.*\n  twice: model.language_model.norm.weight"):
        load(broken(change))


def test_a_truncated_file(broken):
    file = broken(lambda tensors: None) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model.safetensors: not a whole safetensors file"):
        load(file.parent)


def test_no_weights(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"neither model.safetensors nor"):
        load(tmp_path)


def test_image_tokens_without_their_images():
    arrays = tiny.inputs()
    with pytest.raises(ValueError, match=r"12 image tokens for 8 patches"):
        reference_logits(tiny.model(), arrays["input_ids"], None, arrays["pixel_values"][:2])
