"""From a Prompt to token ids, through the checkpoint's own chat template."""

import dataclasses
import datetime
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Sequence

import jinja2
import jinja2.ext
import jinja2.sandbox
import numpy as np
import tokenizers

from vjax.families.fields import read_json
from vjax.families.spec import NO_TOKEN, ModelSpec
from vjax.prompts import tokenizer as tokenizer_lib
from vjax.prompts.media import Media, Squares
from vjax.prompts.pixels import Laid, Picture
from vjax.prompts.positions import IMAGE, TEXT, VIDEO, check_rule, mrope_positions
from vjax.prompts.prompt import Prompt

BARE, NEWLINE = -1, -2  # in Encoded.vision: text, and the model's newline
MARK, MARK_0 = "\ue000", 0xE001  # of private use: no text holds them
LATELY = 64  # texts whose tokens are kept: a sample is measured first, and then laid out
# For templates that tell the date, that which Llama 3.1's falls back on: a run that goes on on
# another day has the same tokens.
TODAY = datetime.date(2024, 7, 26)
TEMPLATE, OLD_TEMPLATE = "chat_template.jinja", "chat_template.json"
SETTINGS = "tokenizer_config.json"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One tokenised example.

    Attributes:
      tokens: int32 [T]; every image is as many copies of its placeholder as it has tokens.
      answer: bool [T]; true where a token is answer or end of turn.
      images: uint8 [H, W, 3] each, in the order of their placeholders.
      vision: int32 [T]; token of the bank of all pictures, `Chat.patches` each, which are counted
        from 0; BARE elsewhere, NEWLINE at newlines.
      rope: int32 [T, 3]; positions where the decoder has M-RoPE, else None.
    """

    tokens: np.ndarray
    answer: np.ndarray
    images: tuple[np.ndarray, ...]
    vision: np.ndarray
    rope: np.ndarray | None = None


class Chat:
    """A tokenizer, a chat template and how pictures stand in text.

    Args:
      tokenizer: with the special tokens of the checkpoint.
      template: jinja2 source in transformers' dialect, called with `messages`,
        `add_generation_prompt` and `names`.
      spec: of the model: its token ids, and whether positions follow grids (M-RoPE).
      media: `Squares` as jobs show pictures, or `Native` as the family's processor does.
      names: texts of special tokens that templates call by name (`bos_token`, ...).
      position_rule: of M-RoPE; see `vjax.prompts.positions`.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        template: str,
        spec: ModelSpec,
        media: Media,
        *,
        names: dict[str, str] | None = None,
        position_rule: str = "qwen",
    ):
        self.tokenizer, self.spec, self.media, self.source = tokenizer, spec, media, template
        try:
            self.template = _environment().from_string(template)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"the chat template, line {error.lineno}: {error}") from None
        self.names = names or {}
        self.position_rule = position_rule
        if spec.text.mrope:
            check_rule(position_rule)
        self.placeholders = {kind.token for kind in media.kinds.values()}
        self.special = [
            t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special
        ]
        # one scan of a text, where some tokenizers have hundreds of them
        kept = [*self.special, *(kind.text for kind in media.kinds.values() if kind.text)]
        self._any_special = re.compile("|".join(map(re.escape, kept)) or "(?!)")
        self._tokenised = functools.lru_cache(LATELY)(tokenizer.encode)

    @classmethod
    def from_folder(
        cls, folder: str | pathlib.Path, spec: ModelSpec, media: Media | None = None, **options
    ) -> "Chat":
        """The chat of a checkpoint folder; `media` is `Squares.of(spec)` if None.

        Raises:
          FileNotFoundError: the folder holds no tokenizer or no chat template.
          ValueError: a tokenizer or a template that does not fit config.json.
        """
        template, names = _template(pathlib.Path(folder))
        media = media or Squares.of(spec)
        chat = cls(tokenizer_lib.load(folder), template, spec, media, names=names, **options)
        chat.check()
        return chat

    def __reduce__(self):  # a compiled template does not travel to another process
        options = dict(names=self.names, position_rule=self.position_rule)
        made = functools.partial(Chat, **options)
        return made, (self.tokenizer, self.source, self.spec, self.media)

    @property
    def fingerprint(self) -> str:
        """32 hex digits (blake2b) of everything that tokens depend on."""
        parts = [self.tokenizer.to_str(), self.source, self.names, repr(self.spec)]
        parts += [repr(self.media), self.position_rule]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    @property
    def patches(self) -> int:
        """Tokens of a picture in the model's bank of vision tokens, where all have one size."""
        return self.media.patches

    def encode(
        self, turns: Prompt | Sequence[Prompt], *, with_answer: bool = True, system: str = ""
    ) -> Encoded:
        """Tokenises one question, or several turns of one conversation.

        Args:
          turns: later turns may show no image of their own and still speak of the earlier ones.
          with_answer: False leaves the last answer out, ready for generation.
          system: the system's message; where it is empty, the template's own, if it has one.

        Raises:
          ValueError: a text or an answer that holds a special token, or a template that does not
            keep the order of what it is given.
        """
        turns, pictures = _shown(turns)
        laid = self.media.lay(pictures)
        text, spans = self._laid_out(turns, system, pictures, laid)
        found = self._tokenised(text, add_special_tokens=self._opens(text))
        reply = self.candidate(turns[-1].answer) if with_answer else []
        tokens = np.array([*found.ids, *reply])
        answer = np.arange(len(tokens)) >= len(tokens) - len(reply)
        if spans:
            at, stop = np.array(found.offsets).T
            for a, b in spans:
                answer[: len(at)] |= (a < stop) & (at < b)
        return self._expanded(tokens, answer, pictures, laid)

    def length(self, turns: Prompt | Sequence[Prompt], *, system: str = "") -> int:
        """Tokens that `encode` makes of it, counted without laying them out; raises as `encode`."""
        turns, pictures = _shown(turns)
        laid = self.media.lay(pictures)
        text, _ = self._laid_out(turns, system, pictures, laid)
        ids = self._tokenised(text, add_special_tokens=self._opens(text)).ids
        self._check_places([i for i in ids if i in self.placeholders], pictures, laid)
        extra = sum(block.tokens - 1 for one in laid for block in one.blocks or (one,))
        return len(ids) + extra + len(self.candidate(turns[-1].answer))

    def arguments(self, turns: Prompt | Sequence[Prompt]) -> dict[str, np.ndarray]:
        """A conversation up to its last answer, as the reference class's forward takes it.

        What the family's processor makes of it: input_ids and attention_mask [1, T], and pixels by
        the names that `vjax.interop.reference_logits` lists.

        Raises as `encode`.
        """
        turns, pictures = _shown(turns)
        ids = self.encode(turns, with_answer=False).tokens[None].astype(np.int64)
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return given | self.media.arguments(pictures)

    def _laid_out(
        self, turns: list[Prompt], system: str, pictures: Sequence[Picture], laid: Sequence[Laid]
    ) -> tuple[str, list[tuple[int, int]]]:
        """The conversation up to its last answer, and where earlier answers and their ends stand.

        The template is given marks in their place: an answer may occur elsewhere in its text.
        """
        messages: list[dict] = []
        if system:
            messages.append({"role": "system", "content": self._said(self._plain(system))})
        for n, turn in enumerate(turns):
            messages.append({"role": "user", "content": self._content(turn)})
            if n + 1 < len(turns):
                mark = MARK + chr(MARK_0 + n)
                messages.append({"role": "assistant", "content": self._said(mark)})
        text = self._render(messages, add_generation_prompt=True)
        text, *rest = self._written(text, pictures, laid).split(MARK)
        if [part[:1] for part in rest] != [chr(MARK_0 + n) for n in range(len(turns) - 1)]:
            raise ValueError("the chat template drops, repeats or changes earlier answers")
        spans = []
        for turn, part in zip(turns[:-1], rest, strict=True):
            start = len(text)
            text += self._plain(turn.answer) + part[1:]
            closes = self.closing if part[1:].startswith(self.closing) else ""
            spans.append((start, start + len(turn.answer) + len(closes)))
        return text, spans

    def _written(self, text: str, pictures: Sequence[Picture], laid: Sequence[Laid]) -> str:
        """With the texts of pictures that have some in the place of what the template shows."""
        if not any(one.text for one in laid):
            return text
        parts, at = [], 0
        for picture, one in zip(pictures, laid, strict=True):
            token = self.media.kinds[picture.kind].token
            shown = one.instead_of if one.by_rule in ("", self.position_rule) else ""
            shown = shown or self.tokenizer.id_to_token(token)
            start = text.find(shown, at)
            if start < 0:
                raise ValueError(f"the chat template does not show a {picture.kind} as {shown!r}")
            parts += [text[at:start], one.text or shown]
            at = start + len(shown)
        return "".join([*parts, text[at:]])

    def _expanded(self, ids, answer, pictures, laid) -> Encoded:
        """Every placeholder repeated as often as its picture has tokens."""
        images = tuple(image for picture in pictures for image in picture.frames)
        here = np.isin(ids, [*self.placeholders])
        at = np.flatnonzero(here)
        self._check_places(ids[at].tolist(), pictures, laid)
        laid = [block for one in laid for block in one.blocks or (one,)]
        copies = np.ones(len(ids), int)
        copies[at] = [one.tokens for one in laid]
        tokens = np.repeat(ids, copies)
        shown = np.repeat(here, copies)
        vision = np.full(len(tokens), BARE, np.int32)
        if len(at):
            ends = np.zeros(len(tokens), bool)
            ends[np.cumsum(copies)[at] - 1] = [one.newline for one in laid]
            vision[ends] = NEWLINE
            if any(one.places is not None for one in laid):
                seen = [n * self.patches + np.array(one.places) for n, one in enumerate(laid)]
                vision[shown & ~ends] = np.concatenate(seen)
            else:
                vision[shown & ~ends] = np.arange((shown & ~ends).sum())
        rope = None
        if self.spec.text.mrope:
            types = np.where(
                shown, np.where(tokens == self.spec.image_token_id, IMAGE, VIDEO), TEXT
            )
            rope = mrope_positions(
                types,
                [one.grid for one in laid],
                merge=self.spec.projector.merge,
                rule=self.position_rule,
                steps=[one.step for one in laid],
            )
        return Encoded(
            tokens.astype(np.int32), np.repeat(answer, copies).astype(bool), images, vision, rope
        )

    def _check_places(self, found: list[int], pictures: Sequence[Picture], laid: Sequence[Laid]):
        """That the placeholders found are those of the pictures."""
        want = []
        for picture, one in zip(pictures, laid, strict=True):
            want += [self.media.kinds[picture.kind].token] * (len(one.blocks) or 1)
        if found != want:
            raise ValueError(
                f"the chat template shows pictures as tokens {found}, the prompt has {want}: "
                "others, or in another order"
            )

    def candidate(self, text: str, *, end: bool = True) -> list[int]:
        """Token ids of an answer, with the end of turn; ValueError if it holds a special token."""
        ids = self._ids(self.opening + self._plain(text))
        return ids + self.end if end else ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, up to the end of turn."""
        ids = [int(i) for i in ids]
        if self.end[-1] in ids:
            ids = ids[: ids.index(self.end[-1])]
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    @functools.cached_property
    def opening(self) -> str:
        """White space that the template puts before an answer and not after its question.

        SmolVLM's asks with `Assistant:` and tells `Assistant: Yes`, whose last token has the space.
        """
        ask = {"role": "user", "content": self._said("?")}
        reply = {"role": "assistant", "content": self._said(MARK)}
        told, _, _ = self._render([ask, reply]).partition(MARK)
        asked = self._render([ask], add_generation_prompt=True)
        rest = told.removeprefix(asked)
        return rest if rest.isspace() else ""

    @functools.cached_property
    def closing(self) -> str:
        """What comes after an answer: the end of turn.

        It is what the template puts there, up to its first special token; where there is none and
        `template_ends` is not true of the model, the token that config.json calls the end.

        Raises:
          ValueError: there is none, or it is padding.
        """
        ask = {"role": "user", "content": self._said("?")}
        reply = {"role": "assistant", "content": self._said(MARK)}
        _, _, text = self._render([ask, reply]).partition(MARK)
        ends = [text.index(token) + len(token) for token in self.special if token in text]
        closing = text[: min(ends, default=0)]
        if not (closing or self.spec.template_ends):
            return self.tokenizer.id_to_token(self.spec.end_token_id)
        pad, end = self.spec.pad_token_id, self.spec.end_token_id
        if not closing or (self._ids(closing)[-1] == pad != end):
            raise ValueError(
                f"the chat template ends an answer with {text!r}, which is no end of turn; "
                f"config.json says that token {end} ends it"
            )
        return closing

    @functools.cached_property
    def end(self) -> list[int]:
        """Token ids of `closing`; the last of them ends a turn."""
        return self._ids(self.closing)

    def check(self):
        """Raises ValueError unless tokenizer, template and model speak of the same tokens."""
        size = self.tokenizer.get_vocab_size()
        if size > self.spec.text.vocab:
            raise ValueError(
                f"tokenizer.json has {size} tokens, config.json's vocab_size is "
                f"{self.spec.text.vocab}: they are not of one checkpoint"
            )
        end = self.spec.end_token_id
        if end != NO_TOKEN and self.tokenizer.id_to_token(end) is None:
            raise ValueError(
                f"config.json says that token {end} is the end of turn; tokenizer.json has none of "
                "that number: they are not of one checkpoint"
            )
        _ = self.end  # raises where the template ends no turn
        for kind, shown in self.media.kinds.items():
            content = self._content(Prompt(((kind, 0),), (), ""))
            text = self._render([{"role": "user", "content": content}])
            times, of = self._ids(text).count(shown.token), f"config.json's token {shown.token}"
            if shown.text:
                times, of = text.count(shown.text), repr(shown.text)
            if times != 1:
                raise ValueError(
                    f"the chat template shows a {kind} as {text!r}, where {of} for it does not "
                    "occur once: tokenizer, template and config are not of one checkpoint"
                )

    def _ids(self, text: str) -> list[int]:
        return self._tokenised(text, add_special_tokens=False).ids

    def _opens(self, text: str) -> bool:
        """Whether the tokenizer puts its own token before a conversation: processors let it, unless
        the template has written it; tokenizers of language models leave it to the template."""
        first = self.names.get("bos_token")
        return self.spec.vision is not None and not (first and text.startswith(first))

    def _render(self, messages: list[dict], *, add_generation_prompt: bool = False) -> str:
        try:
            return self.template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **self.names
            )
        except jinja2.TemplateError as error:
            raise ValueError(f"the chat template: {error}") from error

    def _content(self, prompt: Prompt) -> list[dict] | str:
        if not self.media.kinds:  # templates of language models alone take a text
            return "".join(self._plain(value) for _, value in prompt.parts)
        parts = []
        for kind, value in prompt.parts:
            if kind != "text" and kind not in self.media.kinds:
                raise ValueError(
                    f"a part of kind {kind!r} is not shown by this chat; "
                    f"it knows text, {', '.join(self.media.kinds)}"
                )
            if kind != "text":
                parts.append(dict(self.media.kinds[kind].part))
            else:
                parts.append({"type": "text", "text": self._plain(value)})
        # templates set every text apart; ours are one text wherever no picture is between
        joined: list[dict] = []
        for part in parts:
            if joined and joined[-1]["type"] == part["type"] == "text":
                joined[-1]["text"] += part["text"]
            else:
                joined.append(part)
        if self.spec.plain_content:
            return "".join(part["text"] for part in joined)
        return joined

    def _said(self, text: str) -> list[dict] | str:
        return self._content(Prompt((("text", text),), (), ""))

    def _plain(self, text: str) -> str:
        if found := self._any_special.search(text):
            raise ValueError(
                f"text {text!r} holds the special token {found[0]!r}; media come as parts"
            )
        return text


def _shown(turns: Prompt | Sequence[Prompt]) -> tuple[list[Prompt], list[Picture]]:
    """The turns as a list, and everything that they show, in order."""
    turns = [turns] if isinstance(turns, Prompt) else list(turns)
    pictures, run, before = [], 0, None
    for turn in turns:
        durations = iter(turn.durations)
        for kind, value in (("text", ""), *turn.parts):
            of = (kind, turn.videos[value] if kind == "frame" and turn.videos else None)
            run, before = run + (of != before), of
            if kind != "text":
                # the value of a `video` is a tuple of positions
                at = value if kind == "video" else (value,)
                times = tuple(turn.times[n] for n in at) if turn.times else ()
                lasts = next(durations, None) if kind == "video" else None
                frames = tuple(turn.images[n] for n in at)
                pictures.append(Picture(kind, frames, times, lasts, run))
    return turns, pictures


class _Generation(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}`, put around answers by transformers."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> jinja2.Environment:
    """What transformers' `render_jinja_template` gives a template."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )

    def refuse(message: str):
        raise jinja2.exceptions.TemplateError(message)

    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = TODAY.strftime
    environment.filters["tojson"] = lambda x, **options: json.dumps(
        x, ensure_ascii=False, **options
    )
    return environment


def _template(folder: pathlib.Path) -> tuple[str, dict[str, str]]:
    """The chat template, from any of the files that releases keep it in; and named tokens."""
    settings = {}
    if (folder / SETTINGS).exists():
        settings = read_json(folder / SETTINGS)
    names = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = settings.get(name)
        if value:
            names[name] = value if isinstance(value, str) else value["content"]
    if (folder / TEMPLATE).exists():
        return (folder / TEMPLATE).read_text(), names
    found = settings.get("chat_template")
    if (folder / OLD_TEMPLATE).exists():
        found = read_json(folder / OLD_TEMPLATE).get("chat_template")
    if isinstance(found, list):  # several, by name
        found = {one["name"]: one["template"] for one in found}.get("default")
    if not found:
        raise FileNotFoundError(
            f"{folder / TEMPLATE}: no chat template in this checkpoint folder, nor in "
            f"{OLD_TEMPLATE} or {SETTINGS}"
        )
    return found, names
