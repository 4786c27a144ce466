"""From a Prompt to token ids, through the checkpoint's own chat template."""

import dataclasses
import pathlib
from collections.abc import Sequence

import jinja2.sandbox
import numpy as np
import tokenizers

from vjax.prompts import tokenizer as tokenizer_lib
from vjax.prompts.prompt import Prompt


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One tokenised example.

    Attributes:
      tokens: int32 [T]; every image is `patches` copies of the image token.
      answer: bool [T]; true where a token is answer or end of turn.
      images: uint8 [H, W, 3] each, in the order of their placeholders.
    """

    tokens: np.ndarray
    answer: np.ndarray
    images: tuple[np.ndarray, ...]


class Chat:
    """A tokenizer, a chat template and the number of tokens of an image.

    Args:
      tokenizer: with the special tokens of the checkpoint.
      template: jinja2 source, called with `messages` and `add_generation_prompt`. Parts of their
        content have a `type` of `frame` (boundary token and image), `image` or `text`.
      patches: vision tokens of one image.
      end_token_id, image_token_id: from the model spec.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        template: str,
        *,
        patches: int,
        end_token_id: int,
        image_token_id: int,
    ):
        self.tokenizer = tokenizer
        self.template = jinja2.sandbox.ImmutableSandboxedEnvironment().from_string(template)
        self.patches = patches
        self.end_token_id = end_token_id
        self.image_token_id = image_token_id
        self.special = [
            t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special
        ]

    @classmethod
    def from_folder(cls, folder: str | pathlib.Path, spec) -> "Chat":
        """The chat of a checkpoint folder; `spec` is its ModelSpec."""
        path = pathlib.Path(folder) / "chat_template.jinja"
        if not path.exists():
            raise FileNotFoundError(f"{path}: no chat template in this checkpoint folder")
        return cls(
            tokenizer_lib.load(folder),
            path.read_text(),
            patches=spec.vision.patches,
            end_token_id=spec.end_token_id,
            image_token_id=spec.image_token_id,
        )

    def _content(self, prompt: Prompt) -> list[dict]:
        content = []
        for kind, value in prompt.parts:
            if kind == "text":
                content.append({"type": "text", "text": self._plain(value)})
            else:
                content.append({"type": kind})
        return content

    def _plain(self, text: str) -> str:
        found = [token for token in self.special if token in text]
        if found:
            raise ValueError(
                f"text {text!r} holds the special token {found[0]!r}; media come as parts"
            )
        return text

    def encode(self, turns: Prompt | Sequence[Prompt], *, with_answer: bool = True) -> Encoded:
        """Tokenises one question, or several turns of one conversation.

        Args:
          turns: later turns may show no image of their own and still speak of the earlier ones.
          with_answer: False leaves the last answer out, ready for generation.

        Raises:
          ValueError: a text or an answer that holds a special token.
        """
        turns = [turns] if isinstance(turns, Prompt) else list(turns)
        messages, tokens, answer, images = [], [], [], []
        for n, turn in enumerate(turns):
            messages = [{"role": "user", "content": self._content(turn)}]
            asked = self.template.render(messages=messages, add_generation_prompt=True)
            ids = self.tokenizer.encode(asked, add_special_tokens=False).ids
            for token in ids:
                copies = self.patches if token == self.image_token_id else 1
                tokens += [token] * copies
                answer += [False] * copies
            images += [turn.images[value] for kind, value in turn.parts if kind != "text"]
            if with_answer or n + 1 < len(turns):
                reply = self.candidate(turn.answer)
                tokens += reply
                answer += [True] * len(reply)
        return Encoded(np.asarray(tokens, np.int32), np.asarray(answer, bool), tuple(images))

    def candidate(self, text: str, *, end: bool = True) -> list[int]:
        """Token ids of an answer, with the end of turn; ValueError if it holds a special token."""
        ids = self.tokenizer.encode(self._plain(text), add_special_tokens=False).ids
        return [*ids, self.end_token_id] if end else ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, up to the end of turn."""
        ids = [int(i) for i in ids]
        if self.end_token_id in ids:
            ids = ids[: ids.index(self.end_token_id)]
        return self.tokenizer.decode(ids, skip_special_tokens=True)
