"""vjax.load: whatever a user has, opened with all that is needed to talk to it."""

import json
import shutil

import numpy as np
import pytest

import vjax
from vjax.console import UserError
from vjax.interop.checkpoint import PRESETS
from vjax.prompts import Prompt
from vjax.prompts.media import Native, Squares

pytestmark = pytest.mark.smoke


def test_a_preset_opens_by_its_name_and_can_be_talked_to():
    opened = vjax.load("vjax-tiny")
    assert opened.folder == PRESETS / "vjax-tiny" and isinstance(opened.chat.media, Squares)
    frame = np.zeros((48, 48, 3), np.uint8)
    asked = opened.chat.encode(Prompt((("frame", 0), ("text", "What is there?")), (frame,), "Yes"))
    assert (asked.vision >= 0).sum() == opened.chat.patches
    assert opened.model.spec == opened.spec and opened.generation == {}


def test_a_folder_without_a_chat_template_has_no_chat(tmp_path):
    folder = shutil.copytree(PRESETS / "vjax-tiny", tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.7}))
    opened = vjax.load(folder)
    assert opened.chat is None and opened.generation == {"temperature": 0.7}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantization_config": {"bits": 4}}, "quantised weights are not read"),
        ({"text_config": None}, "a setting is of the wrong type"),
        ({"text_config": {"model_type": "qwen2"}}, "' is missing"),
        ({"residual_scale": 0.5}, "residual_scale=0.5 is a field that is not known"),
        ({"residual_scale": 0.5}, "changes nothing that the model computes, delete it"),
        ({"model_type": "internvl_chat"}, "authors' own code; take the same model in"),
        ({"model_type": "internvl_chat"}, "OpenGVLab/InternVL3-8B-hf"),
    ],
)
def test_what_is_wrong_with_a_config_is_said_with_its_path(tmp_path, change, message):
    folder = shutil.copytree(PRESETS / "vjax-tiny", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError) as error:
        vjax.load(folder)
    assert message in str(error.value) and str(folder / "config.json") in str(error.value)


def test_a_part_that_a_chat_does_not_show_is_named():
    chat = vjax.load("vjax-tiny").chat
    with pytest.raises(ValueError, match="kind 'video' is not shown.*knows text, frame, image"):
        chat.encode(Prompt((("video", (0,)),), (np.zeros((48, 48, 3), np.uint8),), "Yes"))


def test_what_is_nowhere_is_named_with_what_there_is(tmp_path):
    with pytest.raises(UserError, match="no checkpoint folder, no GGUF file.*vjax-tiny"):
        vjax.load(tmp_path / "nothing")


def test_a_family_with_a_processor_of_its_own_lays_pictures_as_it_does(tmp_path):
    transformers = pytest.importorskip("transformers")
    from tests.prompts.test_reference_chat import CONVERSATIONS, Qwen, theirs

    family = Qwen(tmp_path)
    transformers.Qwen2VLForConditionalGeneration(family.config).save_pretrained(tmp_path)
    opened = vjax.load(tmp_path)
    assert isinstance(opened.chat.media, Native)
    ((parts, shown),) = CONVERSATIONS["two videos"]
    got = opened.chat.encode(Prompt(parts, shown, "Yes"), with_answer=False)
    want = theirs(family, "two videos", with_answer=False)["input_ids"][0]
    assert got.tokens.tolist() == want.tolist()


@pytest.mark.parametrize("name", ["Qwen", "Qwen25", "Qwen3", "Smol", "Intern", "Llama3", "Llama2"])
def test_logits_of_a_conversation_are_those_of_processor_and_class(tmp_path, name):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.prompts import test_reference_chat as chat

    family = getattr(chat, name)(tmp_path)
    asked = "a video with times"
    model = family.reference().eval()
    model.save_pretrained(tmp_path)
    given = chat.theirs(family, asked, with_answer=False)
    with torch.no_grad():
        want = model(**{name: torch.from_numpy(np.asarray(x)) for name, x in given.items()}).logits
    opened = vjax.load(tmp_path)
    got = vjax.interop.reference_logits(opened.model, **opened.chat.arguments(chat.turns_of(asked)))
    # pixels may differ by a step of 255
    np.testing.assert_allclose(got, want.numpy(), atol=0.01 * np.abs(want.numpy()).max())


def test_the_position_rule_is_the_one_that_was_saved(tmp_path):
    transformers = pytest.importorskip("transformers")
    from tests.prompts.test_reference_chat import Qwen

    family, saved = Qwen(tmp_path), tmp_path / "video_spec.json"
    transformers.Qwen2VLForConditionalGeneration(family.config).save_pretrained(tmp_path)
    assert vjax.load(tmp_path).chat.position_rule == "hf5"
    saved.write_text(json.dumps({"position_rule": "qwen"}))
    assert vjax.load(tmp_path).chat.position_rule == "qwen"
    assert vjax.load(tmp_path, position_rule="hf5").chat.position_rule == "hf5"
    saved.write_text(json.dumps({"position_rule": "hf6"}))
    with pytest.raises(ValueError, match="position rule 'hf6' is not known; known: qwen, hf5"):
        vjax.load(tmp_path)
