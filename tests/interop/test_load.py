"""Loading against transformers: same logits from one folder, and clear errors from bad ones."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from tests.models import tiny
from vjax.console import UserError
from vjax.families import llava, read_spec
from vjax.interop import load_model, reference_logits, save_model

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
    from tests.interop.theirs import agree

    theirs = tiny.llava(spec)
    theirs.save_pretrained(tmp_path)
    assert read_spec(tmp_path) == spec
    arrays = tiny.inputs(spec)
    want = tiny.reference(theirs, arrays)
    got = reference_logits(load_model(tmp_path), **arrays)
    real = arrays["attention_mask"] > 0
    assert np.abs(want[real]).max() > 0.5  # something to compare
    agree(got[real], want[real], 1e-5, of="llava")


def test_text_without_images(tmp_path):
    pytest.importorskip("transformers")
    theirs = tiny.llava()
    theirs.save_pretrained(tmp_path)
    arrays = {"input_ids": np.array([[7, 8, 9, 10]])}
    want = tiny.reference(theirs, arrays)
    np.testing.assert_allclose(reference_logits(load_model(tmp_path), **arrays), want, atol=1e-5)


def test_what_llava_does_not_use_is_left_out(broken):
    def change(tensors):
        for name in ("vision_tower.head.probe", "language_model.lm_head.weight"):
            tensors[name] = np.zeros((1, 1, 32), np.float32)

    load_model(broken(change))


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

    want = flat(load_model(folder))
    got = flat(load_model(broken(change)))
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
    want = flat(load_model(folder))
    got = flat(load_model(tmp_path))
    for path in want:
        assert got[path].dtype == np.float32
        np.testing.assert_array_equal(got[path], want[path].astype(jnp.bfloat16))
    assert {w.dtype for w in flat(load_model(tmp_path, dtype=jnp.bfloat16)).values()} == {
        jnp.dtype(jnp.bfloat16)
    }


NORM, FC1 = "language_model.model.norm.weight", "multi_modal_projector.linear_1.weight"


def test_every_tensor_that_does_not_fit_is_named(broken):
    def change(tensors):
        del tensors[NORM]
        tensors["language_model.model.extra.weight"] = np.zeros(3, np.float32)
        tensors[FC1] = tensors[FC1][:5].copy()

    with pytest.raises(UserError, match=r"3 tensor\(s\) do not fit") as error:
        load_model(broken(change))
    assert f"missing: {NORM}" in str(error.value)
    assert "not used: language_model.model.extra.weight" in str(error.value)
    assert f"wrong shape: {FC1} in model.safetensors is [32, 5]" in str(error.value)


def test_a_layer_too_many(broken):
    def change(tensors):
        for name in [n for n in tensors if "language_model.model.layers.1" in n]:
            tensors[name.replace("layers.1", "layers.2")] = tensors[name]

    with pytest.raises(UserError, match=r"not used: language_model.model.layers.2.input_layernorm"):
        load_model(broken(change))


def test_a_tensor_twice(broken):
    def change(tensors):
        tensors["model.language_model.norm.weight"] = tensors[NORM]

    with pytest.raises(UserError, match=r"1 tensor.*\n  twice: model.language_model.norm.weight"):
        load_model(broken(change))


def test_a_truncated_file(broken):
    file = broken(lambda tensors: None) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model.safetensors: not a whole safetensors file"):
        load_model(file.parent)


def test_no_weights(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"neither model.safetensors nor"):
        load_model(tmp_path)


def test_shards_that_nothing_lists(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    shutil.copy(folder / "model.safetensors", tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match="model-00001-of-00002.safetensors need it.*fetch it"):
        load_model(tmp_path)


def test_a_pointer_in_the_place_of_a_file(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(UserError, match="model.safetensors: a pointer of git-lfs.*git lfs pull"):
        load_model(tmp_path)


def test_image_tokens_without_their_images():
    arrays = tiny.inputs()
    with pytest.raises(ValueError, match=r"12 tokens of id 5 for 8 vision tokens"):
        reference_logits(
            tiny.model(), input_ids=arrays["input_ids"], pixel_values=arrays["pixel_values"][:2]
        )


def test_numbers_that_are_not_finite(broken):
    def change(tensors):
        tensors[FC1] = tensors[FC1].copy()
        tensors[FC1][0, :2] = np.nan, np.inf

    with pytest.raises(UserError, match=f"2 numbers of {FC1} are not finite"):
        load_model(broken(change))


def test_integers_are_no_weights(broken):
    def change(tensors):
        tensors[FC1] = tensors[FC1].astype(np.int8)

    with pytest.raises(UserError, match=f"wrong dtype: {FC1} in model.safetensors is I8, not one"):
        load_model(broken(change))


def test_pickles_are_refused(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="pytorch_model.bin is a pickle, which runs whatever code"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {NORM: "../other/model.safetensors"}}, "is outside the folder"),
        ({"weight_map": [NORM]}, "not an index of shards"),
        ({}, "not an index of shards"),
    ],
)
def test_an_index_that_cannot_be(folder, tmp_path, index, message):
    shutil.copy(folder / "config.json", tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        load_model(tmp_path)


def test_an_index_that_names_a_tensor_twice(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    text = f'{{"weight_map": {{"{NORM}": "a.safetensors", "{NORM}": "b.safetensors"}}}}'
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=f"{NORM} is there twice"):
        load_model(tmp_path)


MEMORY = """
import re, sys, threading, time
import jax, jax.numpy as jnp
from vjax.interop import load_model

def anonymous():  # MiB; pages of a mapped file are the system's to drop
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

jax.jit(lambda: jnp.zeros(8))().block_until_ready()
peak, stop = [0.0], threading.Event()

def watch():
    while not stop.is_set():
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.001)

threading.Thread(target=watch, daemon=True).start()
model = load_model(sys.argv[1], dtype=jnp.bfloat16)
jax.block_until_ready(jax.tree.leaves(model))
stop.set()
print(peak[0] - anonymous())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_beside_the_model_no_more_than_a_tensor_is_in_memory(tmp_path):
    """Six layers of 16 MiB and an embedding of 64 MiB (as float32), loaded as bfloat16."""
    spec = tiny.spec()
    text = dataclasses.replace(spec.text, layers=6, ffn=131_072, vocab=2**19)
    spec = dataclasses.replace(spec, text=text)
    save_model(tmp_path, tiny.model(spec), dtype="float32")
    run = subprocess.run(
        [sys.executable, "-c", MEMORY.replace("\\\\", "\\"), str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(run.stdout) < 64


def test_a_field_that_nothing_reads_is_named_with_the_nearest(tmp_path, folder):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["num_hidden_layer"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="text_config.num_hidden_layer=3 .* num_hidden_layers?"):
        load_model(tmp_path)


def test_fields_that_switch_nothing_on_are_passed_over(tmp_path, folder):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"_attn_implementation": "eager", "rope_interleaved": False, "quantizer": None}
    config |= {"unsloth_fixed": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    load_model(tmp_path)
