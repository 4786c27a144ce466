"""Goes over a folder of videos before training: which can be used, and why the others cannot."""

import json
from pathlib import Path

from vjax.config import Config
from vjax.console import progress, say, table
from vjax.jobs._corpus import SHOWN, by_split, check_policy, decoding, judge, real_files
from vjax.video.decode import cut
from vjax.video.errors import VideoError
from vjax.video.probe import probe, written
from vjax.video.store import Drop
from vjax.video.supervise import Children


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Reads every file and writes WORKDIR/check.jsonl, one line a file: ok, or the reason.

    Raises:
      UserError: training would not start with this corpus (`_corpus.judge`).
    """
    check_policy(config)
    root, paths, _ = real_files(config)
    parts = by_split(config, root, paths)
    options = decoding(config) if config.index.decode else None
    lines: dict[int, dict] = {}
    calls = [(path, root, options) for path in paths]
    with (
        Children(config.data.workers, deadline=config.data.deadline_s, beats=True) as children,
        progress(total=len(paths), desc="check", unit="file") as bar,
    ):
        for n, found in children.map(check_file, calls):
            name = {"path": written(paths[n].relative_to(root).as_posix())}
            if isinstance(found, VideoError):
                found = {"ok": False, "error": type(found).__name__, "reason": str(found)}
            lines[n] = name | found
            bar.update()
    report = workdir / "check.jsonl"
    report.write_text("".join(json.dumps(lines[n]) + "\n" for n in sorted(lines)))
    bad = [n for n in sorted(lines) if not lines[n]["ok"]]
    say(f"{len(lines) - len(bad)} of {len(lines)} files are usable; {report} has a line for each")
    drops = [
        Drop(written(str(paths[n])), lines[n]["error"], lines[n]["reason"])  # as a run lists them
        for n in bad
    ]
    judge(config, parts, drops)
    if bad:
        rows = [tuple(lines[n][key] for key in ("path", "error", "reason")) for n in bad[:SHOWN]]
        more = [(f"and {len(bad) - SHOWN} more", "", "")] if len(bad) > SHOWN else []
        say(table(("left out", "error", "reason"), rows + more))


def check_file(path: Path, root: Path, options: dict | None) -> dict:
    """What a usable file holds; raises VideoError for any other (runs in a child).

    With options of `decode.cut`, everything is decoded and cut into clips as a run does it.
    """
    source = probe(path, root)
    found = {"frames": len(source.packet_bytes), "width": source.width, "height": source.height}
    if options:
        found["clips"] = sum(1 for _ in cut(source, **options))
    return {"ok": True} | found
