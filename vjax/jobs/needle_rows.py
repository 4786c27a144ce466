"""Writes conversations in which a needle is hidden among frames, for a model to learn the task."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from vjax.config import Config
from vjax.console import UserError, progress, say
from vjax.data import needles
from vjax.data.needles import Needle
from vjax.jobs import _haystack, _model
from vjax.video.files import written_whole
from vjax.video.rng import philox

ROWS = "rows.jsonl"
ROOM = 1 << 30  # bytes of frames: of a larger folder the first


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Writes workdir/rows.jsonl, which --config.data.mixture takes, its videos and its pictures.

    Row n hides a needle at a drawn depth in a drawn stretch of frames, as many as are drawn from 1
    to config.needle.trained. A video is a list of images (`vjax.video.images`). The needles are
    cards that no evaluation shows, or, of config.needle.file, the very ones that it names.

    Raises:
      UserError: no length, no clips, or fewer frames than that.
    """
    options, most = config.needle, config.needle.trained
    if not most:
        raise UserError("up to how many frames are the rows to have? needle.trained")
    model = _model.interface(config)
    known = _haystack.hidden(config, model) if options.file else []
    with _haystack.opened(config, model, "train", most) as haystack:
        room = ROOM // (3 * model.video.image_size**2)
        frames = haystack.frames(0, min(len(haystack), max(room, most)))
    for n, frame in enumerate(frames):
        _save(workdir / "frames" / f"{n:06}.png", frame)
    for n, needle in enumerate(known):
        _save(workdir / "needles" / f"{n:06}.png", needle.image)
    lines = []
    for n in progress(range(options.rows), desc="needle rows", unit="row"):
        rng, number = philox("needle rows", options.seed, n), n
        if known:
            number = int(rng.integers(len(known)))
            needle = known[number]
        else:
            needle = needles.any_card(rng, model.video.image_size)
            _save(workdir / "needles" / f"{n:06}.png", needle.image)
        length = int(rng.integers(1, most + 1))
        start = int(rng.integers(len(frames) - length + 1))
        names = [f"../frames/{at:06}.png" for at in range(start, start + length)]
        names.insert(int(rng.integers(length + 1)), f"../needles/{number:06}.png")
        video = f"videos/{n:06}.frames.json"
        with written_whole(workdir / video) as partial:
            partial.write_text(json.dumps({"fps": options.fps, "frames": names}))
        lines.append(json.dumps(_row(needle, video)))
    with written_whole(workdir / ROWS) as partial:
        partial.write_text("".join(line + "\n" for line in lines))
    say(f"{workdir / ROWS}: {len(lines)} rows of 1 to {most} frames and a needle")


def _row(needle: Needle, video: str) -> dict:
    asked = needles.prompt(needle, [])
    question = "".join(text for kind, text in asked.parts if kind == "text")
    return {
        "videos": [video],
        "messages": [
            {"role": "user", "content": f"<video>{question}"},
            {"role": "assistant", "content": asked.answer},
        ],
    }


def _save(path: Path, image: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
