"""Goes over all data before training: which videos and rows can be used, and why others cannot."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from vjax.config import Config
from vjax.console import UserError, progress, say, table
from vjax.data.examples import TooLong
from vjax.data.sizes import KeptSizes
from vjax.jobs._corpus import SHOWN, by_split, check_policy, decoding, judge, real_files
from vjax.video.decode import cut, timed_frames, with_times
from vjax.video.errors import VideoError
from vjax.video.probe import Source, probe, written
from vjax.video.store import Drop
from vjax.video.supervise import Children

WINDOW = 1000  # rows between two steps of the bar


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Reads every file and writes WORKDIR/check.jsonl, one line a file: ok, or the reason.

    Of a run on rows the files are those that rows name; then every row is measured too, and one
    that is not used has a line as well.

    Raises:
      UserError: training would not start with this corpus (`_corpus.judge`), or would end at a row.
    """
    report = workdir / "check.jsonl"
    if config.train.questions == "rows":
        _check_rows(config, workdir, report)
        return
    check_policy(config)
    root, paths, _ = real_files(config)
    parts = by_split(config, root, paths)
    options = decoding(config) if config.index.decode else None
    lines = _check_files(config, check_file, [(path, root, options) for path in paths])
    _write(report, lines)
    bad = [n for n, line in enumerate(lines) if not line["ok"]]
    say(f"{len(lines) - len(bad)} of {len(lines)} files are usable; {report} has a line for each")
    drops = [
        Drop(written(str(paths[n])), lines[n]["error"], lines[n]["reason"])  # as a run lists them
        for n in bad
    ]
    judge(config, parts, drops)
    _tell([lines[n] for n in bad])


def _check_rows(config: Config, workdir: Path, report: Path):
    from vjax.jobs import _model, _rows  # these import jax, which a folder does not need

    made = _rows.make(config, workdir, _model.interface(config))
    index, examples = made.examples.footage.index, made.examples
    files = [index.root / path for path in index.paths]
    if config.index.decode:
        lines = _check_files(config, check_frames, [(path, index.root) for path in files])
    else:
        lines = _check_files(config, check_file, [(path, index.root, None) for path in files])
    bad = [line for line in lines if not line["ok"]]
    drops = [Drop(str(index.root / line["path"]), line["error"], line["reason"]) for line in bad]
    left: list[dict] = []

    def leave_out(number: int, error: Exception):
        left.append(_line(examples.name(number), error))

    asked = examples.within(examples.length, examples.pictures)
    asked.on_long, asked.on_bad, asked.on_left_out = "skip", "skip", leave_out
    sizes = KeptSizes(made.plan.sizes.file, len(examples.mixture), asked.sizes)
    with progress(total=len(examples.mixture), desc="measure", unit="row") as bar:
        for start in range(0, len(examples.mixture), WINDOW):
            numbers = range(start, min(start + WINDOW, len(examples.mixture)))
            sizes(numbers)
            bar.update(len(numbers))
    _write(report, lines + left)
    say(
        f"{len(lines) - len(bad)} of {len(lines)} files and {len(examples.mixture) - len(left)} of "
        f"{len(examples.mixture)} rows are usable; {report} says why others are not"
    )
    judge(config, {"rows": files}, drops)
    _tell(bad + left)
    long = [line["reason"] for line in left if line["error"] == TooLong.__name__]
    if long and config.data.on_long == "error":
        raise UserError(f"{len(long)} rows do not fit; the first: {long[0]}")
    if len(left) > len(long) and config.data.on_bad_clip == "error":
        first = next(line for line in left if line["error"] != TooLong.__name__)
        raise UserError(
            f"{len(left) - len(long)} rows cannot be shown; the first: {first['path']}: "
            f"{first['reason']}"
        )


def _check_files(config: Config, function: Callable, calls: Sequence[tuple]) -> list[dict]:
    """A line for each file, in order: what `function(path, root, ...)` says of it."""
    lines: dict[int, dict] = {}
    with (
        Children(config.data.workers, deadline=config.data.deadline_s, beats=True) as children,
        progress(total=len(calls), desc="check", unit="file") as bar,
    ):
        for n, found in children.map(function, calls):
            path, root, *_ = calls[n]
            name = written(path.relative_to(root).as_posix())
            bad = isinstance(found, VideoError)
            lines[n] = _line(name, found) if bad else {"path": name, "ok": True} | found
            bar.update()
    return [lines[n] for n in range(len(calls))]


def _line(path: str, error: Exception) -> dict:
    return {"path": path, "ok": False, "error": type(error).__name__, "reason": str(error)}


def _write(report: Path, lines: Sequence[dict]):
    report.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _tell(bad: Sequence[dict]):
    if not bad:
        return
    rows = [tuple(line[key] for key in ("path", "error", "reason")) for line in bad[:SHOWN]]
    more = [(f"and {len(bad) - SHOWN} more", "", "")] if len(bad) > SHOWN else []
    say(table(("left out", "error", "reason"), rows + more))


def check_file(path: Path, root: Path, options: dict | None) -> dict:
    """What a usable file holds; raises VideoError for any other (runs in a child).

    With options of `decode.cut`, everything is decoded and cut into clips as a run does it.
    """
    source = probe(path, root)
    found = _facts(source)
    if options:
        found["clips"] = sum(1 for _ in cut(source, **options))
    return found


def check_frames(path: Path, root: Path) -> dict:
    """`check_file`, with every frame decoded."""
    source = probe(path, root)
    return _facts(source) | {"frames": sum(1 for _ in timed_frames(with_times(source)))}


def _facts(source: Source) -> dict:
    return {"frames": len(source.packet_bytes), "width": source.width, "height": source.height}
