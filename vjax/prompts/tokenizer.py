"""Tokenizers: reading tokenizer.json, and training the small one of vjax-tiny."""

import pathlib
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

PAD, END, USER, ASSISTANT, FRAME, IMAGE = (
    "<|pad|>",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|frame|>",
    "<image>",
)
SPECIAL = (PAD, END, USER, ASSISTANT, FRAME, IMAGE)

TINY_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}"
    "{{ raise_exception('there is no system message') }}{% endif %}"
    "{{ '<|user|>' if message.role == 'user' else '<|assistant|>' }}"
    "{% for part in message.content %}"
    "{% if part.type == 'frame' %}<|frame|><image>"
    "{% elif part.type == 'image' %}<image>"
    "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train(texts: Iterable[str], vocab: int) -> tokenizers.Tokenizer:
    """A byte-level BPE with the special tokens first, digits apart; any text can be encoded."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load(folder: str | pathlib.Path) -> tokenizers.Tokenizer:
    """tokenizer.json of a checkpoint folder.

    Raises:
      FileNotFoundError: the folder holds none.
      ValueError: the file is broken.
    """
    path = pathlib.Path(folder) / "tokenizer.json"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no tokenizer.json in this checkpoint folder")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the binding raises nothing more special
        raise ValueError(f"{path}: no whole tokenizer ({error}); fetch it again") from None
