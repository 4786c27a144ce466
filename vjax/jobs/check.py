"""Goes over a folder of videos before training: which can be used, and why the others cannot."""

import json
from pathlib import Path

from vjax.config import Config
from vjax.console import UserError, progress, say, table
from vjax.jobs._corpus import real_files
from vjax.video.decode import timed_frames
from vjax.video.errors import VideoError
from vjax.video.probe import probe
from vjax.video.supervise import Children

SHOWN = 10


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Reads every file and writes WORKDIR/check.jsonl, one line a file: ok, or the reason.

    Raises:
      UserError: the corpus is not usable as the config stands: a bad file with
        data.on_bad_clip=error, or more of them than data.max_bad_share.
    """
    root, paths, _ = real_files(config)
    lines: dict[int, dict] = {}
    calls = [(path, root, config.index.decode) for path in paths]
    with (
        Children(config.data.workers, deadline=config.data.deadline_s, beats=True) as children,
        progress(total=len(paths), desc="check", unit="file") as bar,
    ):
        for n, found in children.map(check_file, calls):
            name = {"path": paths[n].relative_to(root).as_posix()}
            if isinstance(found, VideoError):
                found = {"ok": False, "error": type(found).__name__, "reason": str(found)}
            lines[n] = name | found
            bar.update()
    report = workdir / "check.jsonl"
    report.write_text("".join(json.dumps(lines[n]) + "\n" for n in sorted(lines)))
    bad = [line for line in lines.values() if not line["ok"]]
    say(f"{len(lines) - len(bad)} of {len(lines)} files are usable; {report} has a line for each")
    if not bad:
        return
    say(table(("file", "error", "reason"), _shown(bad)))
    share = len(bad) / len(lines)
    if config.data.on_bad_clip == "error":
        raise UserError(
            f"{len(bad)} of {len(lines)} files are bad; remove them, or train without them: "
            "--config.data.on_bad_clip=skip"
        )
    if share > config.data.max_bad_share:
        raise UserError(
            f"{len(bad)} of {len(lines)} files are bad, more than "
            f"data.max_bad_share={config.data.max_bad_share:g}"
        )


def check_file(path: Path, root: Path, decode: bool) -> dict:
    """What a usable file holds; raises VideoError for any other (runs in a child)."""
    source = probe(path, root)
    frames = sum(1 for _ in timed_frames(source)) if decode else len(source.packet_bytes)
    return {"ok": True, "frames": frames, "width": source.width, "height": source.height}


def _shown(bad: list[dict]) -> list[tuple]:
    rows = [(line["path"], line["error"], line["reason"]) for line in bad[:SHOWN]]
    return rows + ([(f"and {len(bad) - SHOWN} more", "", "")] if len(bad) > SHOWN else [])
