"""Asks for a picture that is hidden among frames, by the frames' number and the picture's depth."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from vjax import distributed
from vjax.checkpoints import Checkpoints
from vjax.config import Config, saved
from vjax.console import UserError, many, progress, say
from vjax.data import needles
from vjax.data.needles import Needle
from vjax.evals import needle_page, svg
from vjax.evals.files import write_text
from vjax.evals.needle import (
    SCHEMA_VERSION,
    Answer,
    judge,
    markdown,
    sentences,
    summarise,
    table,
    warnings,
)
from vjax.families.fields import read_json
from vjax.generate import ask
from vjax.jobs import _command, _haystack, _model, _scores
from vjax.prompts import Prompt

FOLDER, ANSWERS = "needle", "answers.jsonl"
LIMIT = "max_position_embeddings"
NEW_TOKENS = 12


@dataclasses.dataclass(frozen=True)
class Question:
    """A prompt and where in the grid it stands.

    Attributes:
      key: the same wherever the same is asked of the same model.
      tokens: of the question with its answer.
    """

    key: str
    needle: Needle
    length: int
    depth: float | None
    haystack: int
    prompt: Prompt
    tokens: int

    @property
    def place(self) -> dict:
        names = ("length", "depth", "haystack", "tokens")
        return {name: getattr(self, name) for name in names}


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Asks the newest checkpoint of the run in `workdir`, or, if it holds none, the base model.

    Writes workdir/needle/: answers.jsonl as they come, so that the same command goes on where it
    was, and asks of a larger grid only what is new (`fresh`: all); needle.json with every cell and
    answer, needle.html, needle.svg and needle.md.

    Raises:
      UserError: a bad needle, too few frames, more tokens than the model has positions, or a line
        of answers.jsonl that is none.
    """
    options, folder = config.needle, workdir / FOLDER
    model = _model.load(config)
    hidden = _haystack.hidden(config, model)
    state, step = model.trainable, None
    if Checkpoints(workdir / "checkpoints").latest_step() is not None:
        newest = _model.restore(config, workdir, model)
        state, step = newest.trainable, newest.step
    base = config.model.path or model.folder.name
    asked = f"step {step} of {workdir}" if step is not None else f"{base}, as it is"
    parts = (model.graphdef, state, model.frozen)
    if fresh and distributed.is_first():
        (folder / ANSWERS).unlink(missing_ok=True)
    distributed.agree("needle", "ready")
    known = _known(folder / ANSWERS)
    distributed.agree("needle answers", _digest(*sorted(known)))  # all ask the same
    lengths, depths = sorted(set(options.lengths)), sorted(set(options.depths))
    _check_length(config, model, hidden, lengths[-1])
    count = len(lengths) * options.haystacks * len(hidden) * (len(depths) + 1)
    say(
        f"{asked}: {many(len(hidden), 'needle')} in {many(options.haystacks, 'haystack')} of "
        f"{', '.join(map(str, lengths))} frame{'s' if lengths != [1] else ''}, at "
        f"{many(len(depths), 'depth')} and not at all"
    )
    answers, example = [], None  # of a question as people see it, its answer too
    who = _identity(config, model, workdir, step)
    with _haystack.opened(config, model, "eval", lengths[-1]) as haystack:
        with (
            jax.set_mesh(_model.mesh_of(config)),
            progress(total=count, desc="needle", unit="question") as bar,
        ):
            for length, number in itertools.product(lengths, range(options.haystacks)):
                frames = haystack.frames(number, length)
                for group in _groups(model, hidden, frames, depths, number, who):
                    found = _answered(config, model, parts, group, known, folder / ANSWERS)
                    example = example or (group[len(depths) // 2], found[len(depths) // 2])
                    answers += found
                    bar.update(len(found))
    if not distributed.is_first():
        return
    results = {
        "schema_version": SCHEMA_VERSION,
        "model": asked,
        "step": step,
        "trained": options.trained if step is not None else 0,
        "haystacks": options.haystacks,
        **summarise(answers, samples=config.eval.bootstrap),
        "answers": [dataclasses.asdict(one) | {"right": one.right} for one in answers],
        "config": dataclasses.asdict(config),
        "versions": _scores.versions(),
    }
    _write(config, workdir, results, hidden, example)


def _write(
    config: Config,
    workdir: Path,
    results: Mapping,
    hidden: Sequence[Needle],
    example: tuple[Question, Answer],
):
    folder, (shown, said) = workdir / FOLDER, example
    write_text(folder / "needle.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_text(folder / "needle.svg", svg.heat_map(results) + "\n")
    needle_page.write_page(
        folder / "needle.html",
        results,
        title=f"{config.name}-{config.preset}: needle in a haystack",
        pictures={one.id: one.image for one in hidden},
        example=shown.prompt,
        place=needles.place(shown.depth, shown.length),
        said=said,
    )
    write_text(folder / "needle.md", markdown(results, _commands(config, workdir, results["step"])))
    say(table(results))
    for sentence in sentences(results):
        say(sentence)
    for warning in warnings(results):
        say(f"warning: {warning}")
    say(f"{folder / 'needle.html'}")


def _commands(config: Config, workdir: Path, step: int | None) -> str:
    """Those that lead here: of the rows that were learnt from, of the training, and this one."""
    lines = [_command.command(config, "needle", workdir)]
    if step is not None:
        trained = saved(workdir)
        lines.insert(0, _command.command(trained, "train", workdir))
        if config.needle.trained and config.data.mixture:
            folder = Path(config.data.mixture[0].path).parent
            if made := saved(folder):  # else other rows, which no job has made
                lines.insert(0, _command.command(made, "needle_rows", folder))
    return "\n".join(lines)


def _groups(
    model: _model.Loaded,
    hidden: Sequence[Needle],
    frames: Sequence[np.ndarray],
    depths: Sequence[float],
    haystack: int,
    who: str,
) -> Iterator[list[Question]]:
    """The questions about each needle in these frames: every depth, and the control last."""
    digests = [_digest(frame) for frame in frames]
    for needle in hidden:
        group = []
        for depth in (*depths, None):
            shown, told = frames, digests
            if depth is not None:
                shown = needles.hide(frames, needle, depth)
                at = needles.place(depth, len(frames))
                told = [*digests[:at], _digest(needle.image), *digests[at:]]
            prompt = needles.prompt(needle, shown)
            parts = [value for kind, value in prompt.parts if kind == "text"]
            said = json.dumps([who, told, parts, prompt.candidates])
            tokens = model.chat.length(prompt)
            group.append(
                Question(_digest(said), needle, len(frames), depth, haystack, prompt, tokens)
            )
        yield group


def _answered(
    config: Config,
    model: _model.Loaded,
    parts: tuple,
    group: Sequence[Question],
    known: dict[str, dict],
    file: Path,
) -> list[Answer]:
    """Answers to a group, what is not known yet from the model."""
    new = {one.key: one for one in group if one.key not in known}
    if new:
        pictures = max(len(one.prompt.images) for one in group)
        # as many rows as have room for their pictures in a batch of `ask`
        rows = config.needle.batch_size
        while rows > 1 and rows * pictures > 4 * rows + 8:
            rows -= 1
        told = ask(
            [one.prompt for one in new.values()],
            parts,
            model.chat,
            image_size=model.video.image_size,
            pad_token_id=model.spec.pad_token_id,
            batch_size=rows,
            max_new_tokens=NEW_TOKENS,
            dtype=_model.dtype_of(config),
            prefill_chunk=config.eval.prefill_chunk,
        )
        lines = []
        for (key, one), (scores, text) in zip(new.items(), told, strict=True):
            known[key] = {"scores": np.asarray(scores, float).tolist(), "generated": text}
            about = {"key": key, "needle": one.needle.id} | one.place
            lines.append(json.dumps(about | known[key]) + "\n")
        if distributed.is_first():
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "a", encoding="utf-8") as out:
                out.write("".join(lines))
    return [
        judge(one.needle, one.prompt, key=one.key, **known[one.key], **one.place) for one in group
    ]


def _known(file: Path) -> dict[str, dict]:
    """What was answered before, by key; a line that was cut short by a stop is cut off.

    Raises:
      UserError: another line that is no answer.
    """
    if not file.exists():
        return {}
    lines, known = file.read_bytes().splitlines(keepends=True), {}
    short = bool(lines) and not lines[-1].endswith(b"\n")
    for number, line in enumerate(lines[:-1] if short else lines, 1):
        try:
            row = json.loads(line)
            scores = [float(score) for score in row["scores"]]
            known[str(row["key"])] = {"scores": scores, "generated": str(row["generated"])}
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{file}:{number}: no answer ({type(error).__name__}: {error}); delete this line, "
                "and it is asked again, or ask all again with --fresh"
            ) from error
    if short and distributed.is_first():
        write_text(file, b"".join(lines[:-1]).decode())
    return known


def _digest(*parts: str | np.ndarray) -> str:
    """32 hex digits (blake2b) of texts and pictures."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        told = part.encode() if isinstance(part, str) else np.ascontiguousarray(part).tobytes()
        digest.update(told)
    return digest.hexdigest()


def _identity(config: Config, model: _model.Loaded, workdir: Path, step: int | None) -> str:
    """Of everything but the prompt that an answer depends on."""
    weights = [
        (file.name, file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(model.folder.glob("*.safetensors"))
    ]
    run_of = [str(workdir.resolve()), step] if step is not None else None
    options = dataclasses.asdict(config.model)
    names = ("path", "dtype", "image_size", "rope", "rope_factor", "rope_alpha")
    seed = config.seed if config.model.path == "random" else None
    said = [weights, run_of, [options[name] for name in names], seed, model.chat.fingerprint]
    return json.dumps(said)


def _check_length(config: Config, model: _model.Loaded, hidden: Sequence[Needle], length: int):
    """Refuses more frames than the model is shown, and more tokens than it has positions."""
    try:
        shown = [[one.image] * (length + 1) for one in hidden]
        prompts = [needles.prompt(*one) for one in zip(hidden, shown, strict=True)]
        tokens = max(model.chat.length(prompt) for prompt in prompts) + NEW_TOKENS
    except ValueError as error:
        raise UserError(f"needle.lengths: {length} frames and a needle: {error}") from error
    settings = read_json(model.folder / "config.json")
    text = settings.get("text_config") or settings
    limit = text.get(LIMIT, settings.get(LIMIT))
    if limit is None:
        say(f"config.json has no {LIMIT}: whether {tokens:,} tokens are too many is not known")
        return
    most = int(limit * config.model.rope_factor)
    if tokens > most and not config.needle.beyond:
        raise UserError(
            f"needle.lengths: {length} frames are {tokens:,} tokens, and {model.folder} has "
            f"{most:,} positions ({LIMIT}); shorter haystacks, slower positions (model.rope, "
            "model.rope_factor), or --config.needle.beyond=True to ask all the same"
        )
