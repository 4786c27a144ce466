"""What `save_model` writes, read by transformers."""

import json

import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from vjax.families import llava, read_spec, spec_of
from vjax.interop import load_model, reference_logits, save_model
from vjax.models import lora

SPECS = {
    "tied": tiny.spec(),
    "untied": tiny.spec(tied=False, kv_heads=2, head_dim=16, select_layer=-1),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_transformers_opens_it_and_agrees(spec, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = tiny.model(spec)
    save_model(tmp_path, model, dtype="float32")
    theirs, info = transformers.LlavaForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    arrays = tiny.inputs(spec)
    real = arrays["attention_mask"] > 0
    got, want = reference_logits(model, **arrays)[real], tiny.reference(theirs, arrays)[real]
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_config_json_comes_back(spec, tmp_path):
    assert llava.spec(json.loads(json.dumps(llava.config_json(spec)))) == spec
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(llava.config_json(spec)))
    transformers.AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert read_spec(tmp_path / "again") == spec


def test_what_is_saved_comes_back_to_the_bit(tmp_path):
    model = tiny.model()
    extra = tmp_path / "tokenizer.json"
    extra.write_text("{}")
    save_model(tmp_path / "out", model, dtype="float32", files=[extra])
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    again = dict(nnx.to_flat_state(nnx.state(load_model(tmp_path / "out"))))
    for path, v in nnx.to_flat_state(nnx.state(model)):
        np.testing.assert_array_equal(again[path][...], v[...], err_msg=str(path))


def test_a_model_with_adapters_is_refused(tmp_path):
    model = tiny.model()
    lora.add(model, rank=2, alpha=4.0, dropout=0.0, targets=".*attn/q", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="merge them first"):
        save_model(tmp_path, model)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vision_feature_select_strategy": "default"}, "vision_feature_select_strategy is 'def"),
        ({"frame_token_id": None}, "'frame_token_id' is missing"),
        ({"text_config": {"hidden_act": "gelu"}}, "text_config.hidden_act is 'gelu'"),
        ({"text_config": {"rope_parameters": {"rope_type": "yarn"}}}, "rope_type is 'yarn'"),
    ],
)
def test_configs_that_are_not_read(change, message):
    config = llava.config_json(tiny.SPEC)
    for key, value in change.items():
        if value is None:
            del config[key]
        elif isinstance(value, dict):
            config[key] |= value
        else:
            config[key] = value
    with pytest.raises(ValueError, match=message):
        spec_of(config)
