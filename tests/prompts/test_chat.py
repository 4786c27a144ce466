"""From a prompt to tokens: the template's text, expanded images, and what is an answer."""

import dataclasses
import json

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from tests.data import made_up
from tests.data.made_up import ASSISTANT, END, FRAME, IMAGE, SPEC, USER, question
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat
from vjax.prompts.tokenizer import TINY_TEMPLATE

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def chat():
    return made_up.chat()


def plain(chat, text):
    return chat.tokenizer.encode(text).ids


def test_a_question_is_laid_out_as_the_template_says(chat):
    prompt = question("How many frames do you see?", "4", images=2)
    got = chat.encode(prompt)
    P = SPEC.vision.patches
    want = [USER, FRAME, *[IMAGE] * P, FRAME, *[IMAGE] * P]
    want += [*plain(chat, "How many frames do you see?"), ASSISTANT, *plain(chat, "4"), END]
    assert got.tokens.tolist() == want
    assert got.tokens.dtype == np.int32


def test_an_image_without_boundary_and_text_between(chat):
    frame = np.zeros((16, 16, 3), np.uint8)
    other = np.ones((16, 16, 3), np.uint8)
    prompt = Prompt(
        (("frame", 1), ("text", "Where is "), ("image", 0), ("text", "?")), (frame, other), "1"
    )
    got = chat.encode(prompt, with_answer=False)
    P = SPEC.vision.patches
    want = [USER, FRAME, *[IMAGE] * P, *plain(chat, "Where is "), *[IMAGE] * P, *plain(chat, "?")]
    assert got.tokens.tolist() == [*want, ASSISTANT]
    assert [image[0, 0, 0] for image in got.images] == [1, 0]  # in the order of their slots


def test_the_answer_mask_is_the_answer_and_the_end_of_turn(chat):
    prompt = question("Count the frames.", "a red square", images=3)
    got = chat.encode(prompt)
    assert got.tokens[got.answer].tolist() == [*plain(chat, "a red square"), END]
    n = got.answer.sum()
    assert got.answer[-n:].all() and not got.answer[:-n].any()


def test_without_its_answer_a_prompt_is_the_beginning_of_the_example(chat):
    prompt = question("Count the frames.", "4")
    whole, asked = chat.encode(prompt), chat.encode(prompt, with_answer=False)
    np.testing.assert_array_equal(asked.tokens, whole.tokens[~whole.answer])
    assert not asked.answer.any()


def test_turns_follow_each_other_and_all_answers_count(chat):
    first = question("What happens here?", "a square moves", images=2)
    second = Prompt((("text", "How fast?"),), (), "slow")
    got = chat.encode([first, second])
    one = chat.encode(first).tokens.tolist()
    two = [USER, *plain(chat, "How fast?"), ASSISTANT, *plain(chat, "slow"), END]
    assert got.tokens.tolist() == one + two
    replies = [*plain(chat, "a square moves"), END, *plain(chat, "slow"), END]
    assert got.tokens[got.answer].tolist() == replies
    left = chat.encode([first, second], with_answer=False)
    assert left.tokens[left.answer].tolist() == replies[: len(plain(chat, "a square moves")) + 1]


def test_the_length_is_that_of_the_tokens(chat):
    first = question("What happens here?", "a square moves", images=2)
    second = Prompt((("text", "How fast?"),), (), "slow")
    for turns in (first, second, [first, second], [second, first]):
        assert chat.length(turns) == len(chat.encode(turns).tokens)


@pytest.mark.parametrize("token", ["<image>", "<|end|>", "<|frame|>", "<|assistant|>"])
def test_special_tokens_in_a_users_text_are_refused(chat, token):
    with pytest.raises(ValueError, match=f"holds the special token '{token.replace('|', '.')}'"):
        chat.encode(question(f"What is {token} this?", "4"))


def test_special_tokens_in_an_answer_are_refused(chat):
    with pytest.raises(ValueError, match="holds the special token '<image>'"):
        chat.encode(question("What is this?", "an <image>"))


@pytest.mark.parametrize("text", ["2,4,1,3", "Yes", "a red square pushes", "3"])
def test_candidates_decode_to_their_text(chat, text):
    ids = chat.candidate(text)
    assert ids[-1] == END and chat.candidate(text, end=False) == ids[:-1]
    assert chat.decode(ids) == text


def test_decoding_stops_at_the_end_of_turn(chat):
    said = [*chat.candidate("Yes"), *chat.candidate("No"), made_up.PAD]
    assert chat.decode(said) == "Yes"
    assert chat.decode(np.array([END, *chat.candidate("No")])) == ""
    assert chat.decode([*plain(chat, "slow"), made_up.PAD, made_up.PAD]) == "slow"


def test_letters_are_one_token(chat):
    """What scoring a multiple choice by its letter needs."""
    for letter in "ABCDE":
        assert len(chat.candidate(letter, end=False)) == 1


def test_a_checkpoint_folder_gives_its_chat(chat, tmp_path):
    chat.tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(FileNotFoundError, match="chat_template.jinja: no chat template"):
        Chat.from_folder(tmp_path, SPEC)
    (tmp_path / "chat_template.jinja").write_text(TINY_TEMPLATE)
    asked = question("x", "4")
    np.testing.assert_array_equal(
        Chat.from_folder(tmp_path, SPEC).encode(asked).tokens, chat.encode(asked).tokens
    )


@pytest.mark.parametrize("file", ["chat_template.json", "tokenizer_config.json"])
def test_older_releases_keep_their_template_in_a_json_file(chat, tmp_path, file):
    chat.tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / file).write_text(json.dumps({"chat_template": TINY_TEMPLATE}))
    asked = question("x", "4")
    np.testing.assert_array_equal(
        Chat.from_folder(tmp_path, SPEC).encode(asked).tokens, chat.encode(asked).tokens
    )


def test_a_template_that_ends_answers_otherwise_is_an_error(chat, tmp_path):
    chat.tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(TINY_TEMPLATE.replace("<|end|>", "<|pad|>"))
    with pytest.raises(ValueError, match="ends an answer with '<.pad.>'"):
        Chat.from_folder(tmp_path, SPEC)


def test_the_end_of_turn_is_the_templates(chat, tmp_path):
    """Of a base model, or one with several: config.json names another first."""
    chat.tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(TINY_TEMPLATE)
    opened = Chat.from_folder(tmp_path, dataclasses.replace(SPEC, end_token_id=ASSISTANT))
    assert opened.candidate("Yes") == [*plain(chat, "Yes"), END]
    assert opened.decode([*plain(chat, "Yes"), END, *plain(chat, "No")]) == "Yes"


def test_templates_may_tell_the_past_otherwise(chat):
    """Qwen3's shows empty thoughts before the newest answer alone."""
    opening = "{% if add_generation_prompt %}<|assistant|>"
    template = TINY_TEMPLATE.replace(opening, opening + "think ")
    thinking = Chat(chat.tokenizer, template, SPEC, chat.media)
    turns = [question("Fast?", "Yes"), Prompt((("text", "Slow?"),), (), "No")]
    got = thinking.encode(turns)
    want = chat.encode(turns)
    assert got.tokens.tolist() != want.tokens.tolist()
    assert got.tokens[got.answer].tolist() == want.tokens[want.answer].tolist()
    text = chat.tokenizer.decode(got.tokens, skip_special_tokens=False)
    assert text.endswith("Yes<|end|><|user|>Slow?<|assistant|>think No<|end|>")


def test_words_that_begin_with_a_space_stay_as_the_tokenizer_has_them():
    """SentencePiece's way: a text that is cut in pieces would get spaces of its own."""
    pieces = {
        t: n
        for n, t in enumerate(["<unk>", "</s>", "\u2581", "\u2581Yes", "\u2581No", "Yes", "No"])
    }
    pieces |= {c: len(pieces) + n for n, c in enumerate("[INST]/Fast?low ")}
    bpe = tokenizers.Tokenizer(
        models.WordPiece(pieces, unk_token="<unk>", continuing_subword_prefix="")
    )
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    bpe.add_special_tokens(["</s>"])
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content[0].text }} [/INST]"
        "{% else %} {{ m.content[0].text }} </s>{% endif %}{% endfor %}"
    )
    chat = Chat(bpe, template, dataclasses.replace(SPEC, end_token_id=1), made_up.chat().media)
    turns = [Prompt((("text", "Fast?"),), (), "Yes"), Prompt((("text", "Slow?"),), (), "No")]
    got = chat.encode(turns)
    whole = "[INST] Fast? [/INST] Yes </s>[INST] Slow? [/INST] No </s>"
    assert got.tokens.tolist() == bpe.encode(whole, add_special_tokens=False).ids
    yes, no = ([pieces["\u2581" + word], pieces["\u2581"], 1] for word in ("Yes", "No"))
    assert got.tokens[got.answer].tolist() == yes + no


def test_a_template_that_loses_an_answer_is_an_error(chat):
    forgetful = TINY_TEMPLATE.replace("in messages", "in messages[-1:]")
    chat = Chat(chat.tokenizer, forgetful, SPEC, chat.media)
    with pytest.raises(ValueError, match="drops, repeats or changes earlier answers"):
        chat.encode([question("Fast?", "Yes"), Prompt((("text", "Slow?"),), (), "No")])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"end_token_id": 9999}, "token 9999 is the end of turn; tokenizer.json has none"),
        ({"image_token_id": 9999}, "where config.json's token 9999 for it does not"),
        ({"text": dataclasses.replace(SPEC.text, vocab=300)}, "config.json's vocab_size is 300"),
    ],
)
def test_a_tokenizer_of_another_checkpoint_is_an_error(chat, tmp_path, changed, message):
    chat.tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(TINY_TEMPLATE)
    with pytest.raises(ValueError, match=message):
        Chat.from_folder(tmp_path, dataclasses.replace(SPEC, **changed))


def test_a_template_cannot_reach_into_python(chat):
    evil = Chat(chat.tokenizer, "{{ messages.__class__.__mro__ }}", SPEC, chat.media)
    with pytest.raises(Exception, match="unsafe"):
        evil.encode(question("x", "4"))


def test_tokenizers_without_special_tokens_take_any_text():
    words = tokenizers.Tokenizer(models.WordLevel({"<image>": 0, "a": 1}, unk_token="a"))
    spec = dataclasses.replace(SPEC, image_token_id=9, end_token_id=1)
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    chat = Chat(words, "{{ messages[0].content[0].text }}", spec, made_up.chat().media)
    prompt = Prompt((("text", "a <image> a"),), (), "a")
    assert chat.encode(dataclasses.replace(prompt), with_answer=False).tokens.tolist() == [1, 0, 1]


def test_tokens_do_not_depend_on_the_day(chat):
    dated = Chat(chat.tokenizer, "{{ strftime_now('%d %B %Y') }}" + chat.source, SPEC, chat.media)
    text = chat.tokenizer.decode(dated.encode(made_up.question("What?", "Yes")).tokens.tolist())
    assert text.startswith("26 July 2024")
