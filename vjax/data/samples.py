"""Conversations about media as users have them on disk, brought to one form.

Read are LLaVA's conversations json, messages jsonl with `videos` and `images` (ms-swift,
LLaMA-Factory), OpenAI's content parts, and Parquet files with any of these as columns.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

KINDS = ("image", "video")
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "system": "system",
}  # fmt: skip
_FIELDS = ("video", "videos", "image", "images", "conversations", "messages")
_PLACE = re.compile(r"<(image|video)>\n?")


@dataclasses.dataclass(frozen=True)
class Medium:
    """An image or a video; `start` and `end` in seconds cut a video, None leaves that end."""

    kind: str
    path: Path
    start: float | None = None
    end: float | None = None


Part = str | Medium


@dataclasses.dataclass(frozen=True)
class Turn:
    """What the user shows and asks, in order, and what is answered."""

    asked: tuple[Part, ...]
    answer: str


@dataclasses.dataclass(frozen=True)
class Sample:
    """A conversation.

    Attributes:
        id: the row's own, or its file and number.
        turns: at least one; media stand where the row's placeholders do.
        system: what comes before, or "".
    """

    id: str
    turns: tuple[Turn, ...]
    system: str = ""

    @property
    def media(self) -> list[Medium]:
        """Everything that is shown, in order."""
        return [p for turn in self.turns for p in turn.asked if isinstance(p, Medium)]


class BadRow(ValueError):
    """A row that is no conversation; the message names its file, its number and what is wrong."""


def read_row(row: Mapping, name: str, folder: str | Path) -> Sample:
    """A row of any known form as a sample.

    Media stand where `<image>` and `<video>` are in the texts, or where content parts have them. A
    row with media and no placeholder shows them before its first question, as ms-swift does.

    Args:
        row: what JSON or Parquet gave.
        name: its file and number, for messages and as id of a row without one.
        folder: what paths in the row are relative to.

    Raises:
        BadRow: an unknown form, other numbers of placeholders than of media, turns that do not
            alternate, or no answer.
    """
    try:
        return _read(row, name, Path(folder))
    except BadRow as error:
        raise BadRow(f"{name}: {error}") from None


def _read(row: Mapping, name: str, folder: Path) -> Sample:
    if not isinstance(row, Mapping):
        raise BadRow(f"a {type(row).__name__}, no object")
    for key in row:
        if meant := _meant(str(key)):
            raise BadRow(f"it has {key!r}; did you mean {meant!r}?")
    messages = next((row[key] for key in ("conversations", "messages") if row.get(key)), None)
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise BadRow(f"neither conversations nor messages among {', '.join(map(str, row))}")
    media = {kind: _listed(row, kind, folder) for kind in KINDS}
    said = [_message(message, n, folder) for n, message in enumerate(messages)]
    inline = any(isinstance(part, Medium) for _, parts in said for part in parts)
    if inline and any(media.values()):
        raise BadRow("media both in content parts and in lists beside them; which come first?")
    if not inline:
        said = _placed(said, media)
    system = ""
    if said and said[0][0] == "system":
        system, said = "".join(p for p in said[0][1] if isinstance(p, str)), said[1:]
    roles = [role for role, _ in said]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise BadRow(f"turns are {', '.join(roles) or 'none'}; user and assistant must alternate")
    turns = []
    for (_, asked), (_, answer) in zip(said[::2], said[1::2], strict=True):
        if not all(isinstance(part, str) for part in answer):
            raise BadRow("an answer holds media")
        turns.append(Turn(tuple(asked), "".join(answer)))
        if not turns[-1].answer.strip():
            raise BadRow(f"answer {len(turns)} is empty: there is nothing to learn from it")
    return Sample(str(row.get("id", name)), tuple(turns), system)


@functools.lru_cache(1000)
def _meant(key: str) -> str | None:
    """The field that a key is a slip of; rows may have others, which mean nothing here."""
    if key.startswith(_FIELDS):
        return None
    return next(iter(difflib.get_close_matches(key, _FIELDS, n=1, cutoff=0.8)), None)


def _message(message, number: int, folder: Path) -> tuple[str, list[Part]]:
    """Role, and texts with media where they are content parts."""
    if not isinstance(message, Mapping):
        raise BadRow(f"message {number} is a {type(message).__name__}, no object")
    role = message.get("from", message.get("role"))
    content = message.get("value", message.get("content"))
    if role not in _ROLES:
        raise BadRow(f"message {number} is from {role!r}, none of {', '.join(_ROLES)}")
    if isinstance(content, str):
        return _ROLES[role], [content]
    if not isinstance(content, Sequence):
        raise BadRow(f"message {number} has neither value nor content")
    return _ROLES[role], [_part(part, number, folder) for part in content]


def _part(part, number: int, folder: Path) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    bare = kind.removesuffix("_url") if isinstance(kind, str) else None
    if bare in KINDS and part.get(kind):
        where = part[kind]
        if isinstance(where, Mapping) and "url" in where:
            where = {"path": where["url"]} | {k: v for k, v in where.items() if k != "url"}
        cut = {k: part[k] for k in ("start", "end", "video_start", "video_end") if k in part}
        return _medium(bare, where, folder, cut)
    raise BadRow(f"message {number} has a part of type {kind!r}; known: text, image, video")


def _listed(row: Mapping, kind: str, folder: Path) -> list[Medium]:
    """Media of a kind that stand beside the messages, under its name or its plural."""
    found = next((row[key] for key in (kind, kind + "s") if row.get(key)), [])
    found = [found] if isinstance(found, str | Mapping) else list(found)
    cut = {k: row[k] for k in ("start", "end", "video_start", "video_end") if k in row}
    return [_medium(kind, where, folder, cut if kind == "video" else {}) for where in found]


def _medium(kind: str, where, folder: Path, cut: Mapping) -> Medium:
    if isinstance(where, Mapping):
        cut = {**cut, **where}
        where = where.get("path", where.get(kind))
    if not isinstance(where, str) or not where:
        raise BadRow(f"a {kind} without a path: {where!r}")
    if re.match(r"[a-z]+://|data:", where) and not where.startswith("file://"):
        raise BadRow(f"{where[:60]}: only files are read; fetch it and name its path")
    ends = []
    for name in ("start", "end"):
        value = cut.get(name, cut.get("video_" + name))
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadRow(f"{where}: {name} is {value!r}, seconds are needed")
        ends.append(None if value is None else float(value))
    start, end = ends
    if end is not None and end <= (start or 0.0):
        raise BadRow(f"{where}: ends at {end} s, starts at {start or 0.0} s")
    return Medium(kind, folder / where.removeprefix("file://"), start, end)


def _placed(
    said: list[tuple[str, list[Part]]], media: Mapping[str, list[Medium]]
) -> list[tuple[str, list[Part]]]:
    """Placeholders in the users' texts replaced by the media, in order."""
    asked = [part for role, parts in said if role == "user" for part in parts]
    found = [match[1] for text in asked for match in _PLACE.finditer(text)]
    for kind in KINDS:
        count, there = found.count(kind), len(media[kind])
        if count != there and (count or found):
            raise BadRow(f"{count} <{kind}> in the texts, {there} {kind}s in the row")
    if not found:
        shown = [medium for kind in KINDS for medium in media[kind]]
        first = next((n for n, (role, _) in enumerate(said) if role == "user"), None)
        if first is not None:
            said[first] = ("user", [*shown, *said[first][1]])
        return said
    left = {kind: iter(media[kind]) for kind in KINDS}
    placed = []
    for role, parts in said:
        if role != "user":
            placed.append((role, parts))
            continue
        here: list[Part] = []
        for text in parts:
            at = 0
            for match in _PLACE.finditer(text):
                here += [text[at : match.start()]] if match.start() > at else []
                here.append(next(left[match[1]]))
                at = match.end()
            here += [text[at:]] if at < len(text) else []
        placed.append((role, here))
    return placed
