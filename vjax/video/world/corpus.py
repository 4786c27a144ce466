"""A split of the world as files: `world/SPLIT/SEED.mp4` and one `truth.jsonl` beside them."""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import typing

from vjax.video.world import encode, render
from vjax.video.world import scene as scene_lib

TRUTH = "truth.jsonl"


class StaleTruthError(ValueError):
    """The split on disk was made by another version of the generator."""


def _truth_path(directory: str | os.PathLike, split: str) -> pathlib.Path:
    return pathlib.Path(directory) / "world" / split / TRUTH


def _write_clip(directory: str, scene: scene_lib.Scene) -> None:
    path = pathlib.Path(directory) / scene.video_id
    encode.write_mp4(path, render.render(scene), scene.fps)


def read_truth(directory: str | os.PathLike, split: str) -> dict[str, scene_lib.Scene]:
    """Scenes of a split by video id (`world/SPLIT/SEED.mp4`), in the order of the file.

    Raises FileNotFoundError where no corpus was made, StaleTruthError for one of another generator
    version, ValueError with file and line for a line that is no scene.
    """
    path = _truth_path(directory, split)
    if not path.exists():
        raise FileNotFoundError(f"{path} not found: make the split with make_corpus first")
    scenes = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            version = row.pop("version")
            if version != scene_lib.VERSION:
                raise StaleTruthError(
                    f"{path}:{number}: made by world generator version {version}, this is version "
                    f"{scene_lib.VERSION}: run make_corpus again"
                )
            scene = scene_lib.Scene(**row)
        except StaleTruthError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path}:{number}: not a scene ({error!r}): delete {path.parent} and make it again"
            ) from error
        scenes[scene.video_id] = scene
    return scenes


def make_corpus(
    directory: str | os.PathLike, split: str, seeds: typing.Iterable[int], *,
    speed: str | None = None, workers: int = 0,
    on_clip: typing.Callable[[], None] | None = None,
) -> list[pathlib.Path]:  # fmt: skip
    """Renders and encodes the clips of `seeds`; returns their paths in the order of `seeds`.

    What exists from the same generator version is kept, so a call that was cut short is finished
    by calling it again. Truth of other seeds of the split stays. `speed` asks for that speed (files
    `SEED-SPEED.mp4`); `workers` > 1 uses that many processes; `on_clip` is called per new clip.
    One caller per split at a time.
    With workers, the calling script needs the usual `if __name__ == "__main__"` guard.
    """
    scenes = [scene_lib.sample_scene(int(seed), split, speed=speed) for seed in seeds]
    truth_path = _truth_path(directory, split)
    truth_path.parent.mkdir(parents=True, exist_ok=True)
    try:
        known = read_truth(directory, split)
    except FileNotFoundError:
        known = {}
    except StaleTruthError:  # made by another generator: make all again
        known = {}
        truth_path.unlink()
        for stale in truth_path.parent.glob("*.mp4"):
            stale.unlink()
    # The truth is written first: a clip without truth cannot be, and a truth may await its clip.
    known |= {scene.video_id: scene for scene in scenes}
    rows = [{**dataclasses.asdict(s), "version": scene_lib.VERSION} for s in known.values()]
    partial = truth_path.with_name(f".{TRUTH}.{os.getpid()}.part")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(partial, truth_path)

    paths = {scene: pathlib.Path(directory) / scene.video_id for scene in scenes}
    missing = [scene for scene, path in paths.items() if not path.exists()]
    write = functools.partial(_write_clip, str(directory))
    if workers > 1 and len(missing) > 1:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for _ in pool.imap_unordered(write, missing, chunksize=8):
                if on_clip:
                    on_clip()
    else:
        for scene in missing:
            write(scene)
            if on_clip:
                on_clip()
    return [paths[scene] for scene in scenes]
