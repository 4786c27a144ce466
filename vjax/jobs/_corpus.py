"""Clips for a run: fetched, found or made, decoded once, split by source clip."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vjax.config import Config, cache_root
from vjax.console import UserError, progress, say
from vjax.packages import Unavailable
from vjax.video import clips as sample_clips
from vjax.video.errors import VideoError
from vjax.video.folder import scan
from vjax.video.frames import Clip
from vjax.video.rng import philox
from vjax.video.store import ClipStore, Drop
from vjax.video.world import corpus as world
from vjax.video.world.scene import Scene

VIDEO_SPEC = "video_spec.json"
SHIPPED = ("", "random", "smollm2")  # model.path of what is shown the frames of vjax-tiny
HELDOUT_SHARE = 0.25  # of the source clips in a user's folder


@dataclasses.dataclass
class Corpus:
    """What a run trains on and is judged by. Keys are those of the frame store.

    Attributes:
      train, heldout: keys by source ("real", "procedural").
      scenes: truth of procedural clips, by key.
      dropped: files left out, with the reason.
      files: how many files there were, by source.
      credits: by source clip, its name and licence as shown, and whether it may be published.
    """

    clip_of: Callable[[str], Clip]
    train: dict[str, list[str]]
    heldout: dict[str, list[str]]
    scenes: dict[str, Scene]
    dropped: list[Drop]
    files: dict[str, int]
    credits: dict[str, tuple[str, bool]]


class ClipCache:
    """Clips of a store, kept in memory up to `room` bytes and mapped from disk beyond it."""

    def __init__(self, store: ClipStore, room: int = 3 << 30):
        self.store, self.room, self.kept = store, room, {}

    def __call__(self, key: str) -> Clip:
        if key in self.kept:
            return self.kept[key]
        clip = self.store.get(key)
        if clip.frames.nbytes <= self.room:
            self.room -= clip.frames.nbytes
            clip = dataclasses.replace(clip, frames=np.array(clip.frames))
            self.kept[key] = clip
        return clip


def prepare(config: Config) -> Corpus:
    """Brings every clip of the run into the frame store.

    Raises:
      UserError: clips that cannot be had, unusable files (unless config.data.on_bad_clip is `skip`
        and their share is small), or too few source clips to hold some out.
    """
    data = config.data
    if data.on_bad_clip == "blank":
        raise UserError("no fragment can be asked of blank frames: data.on_bad_clip=skip")
    cache = cache_root()
    signal = "ssim" if config.fragments.sampler == "ssim" else "luma"
    store = ClipStore(cache / "frames")
    corpus = Corpus(ClipCache(store), {}, {}, {}, [], {}, {})

    def build(paths: Sequence[Path], root: Path | None, what: str) -> list[str]:
        with progress(total=len(paths), desc=f"decode {what}", unit="clip") as bar:
            try:
                built = store.build(
                    paths,
                    root=root,
                    workers=data.workers,
                    deadline=data.deadline_s,
                    on_bad=data.on_bad_clip,
                    seed=config.seed,
                    min_s=data.window_min_s,
                    max_s=data.window_max_s,
                    store_size=data.store_size,
                    resize=resize_of(config),
                    signal=signal,
                    progress=lambda *_: bar.update(),
                )
            except VideoError as error:
                raise UserError(
                    f"{error}\n--config.data.on_bad_clip=skip leaves such files out"
                ) from error
            bar.update(len(paths) - bar.n)
        corpus.dropped += built.dropped
        if len(built.dropped) > data.max_bad_share * len(paths):
            reasons = "\n".join(f"  {drop.path}: {drop.reason}" for drop in built.dropped)
            raise UserError(
                f"{len(built.dropped)} of {len(paths)} {what} are unusable, more than "
                f"data.max_bad_share={data.max_bad_share}:\n{reasons}"
            )
        return built.keys

    if data.source != "procedural":
        _real(config, corpus, build)
    if data.source == "procedural" or data.procedural_share > 0:
        corpus.train["procedural"] = _world(config, corpus, "train", data.procedural_clips, build)
    corpus.heldout["procedural"] = _world(config, corpus, "eval", data.procedural_eval_clips, build)
    return corpus


def resize_of(config: Config) -> str:
    """How frames are scaled: as the config, else the checkpoint, else its family says."""
    if config.data.resize != "auto":
        return config.data.resize
    if config.model.path in SHIPPED:
        return "swscale"
    file = Path(config.model.path) / VIDEO_SPEC
    return json.loads(file.read_text())["resize"] if file.exists() else "reference"


def real_files(config: Config) -> tuple[Path, list[Path], Counter[str]]:
    """The corpus folder, its videos, and the suffixes of what is passed over there.

    Raises:
      UserError: as `prepare`, or a config of procedural clips alone.
    """
    if config.data.source == "procedural":
        raise UserError(
            "data.source=procedural has no files; name a folder, --config.data.clips=DIR"
        )
    if config.data.source == "sample":
        return cache_root() / "clips", [item.path for item in _samples()], Counter()
    try:
        return Path(config.data.clips), *scan(config.data.clips)
    except FileNotFoundError as error:
        raise UserError(f"--config.data.clips: {error}") from error


def _samples() -> list[sample_clips.LocalClip]:
    try:
        local = sample_clips.fetch(cache_root())
    except Unavailable as error:
        raise UserError(str(error)) from error
    say(sample_clips.licences())
    return local


def _real(config: Config, corpus: Corpus, build: Callable):
    if config.data.source == "sample":
        local = _samples()
        parts = {
            split: [item.path for item in local if item.clip.split == split]
            for split in ("train", "heldout")
        }
        root = cache_root() / "clips"
        for item in local:
            credit = f"{item.clip.name} ({item.clip.licence})"
            corpus.credits[item.path.relative_to(root).as_posix()] = (credit, item.clip.showable)
    else:
        root, paths, _ = real_files(config)
        if len(paths) < 2:
            raise UserError(f"{root}: {len(paths)} video; at least 2 are needed, to hold one out")
        order = philox("heldout", config.seed).permutation(len(paths))
        held = set(order[: max(1, round(HELDOUT_SHARE * len(paths)))].tolist())
        parts = {
            "train": [path for n, path in enumerate(paths) if n not in held],
            "heldout": [path for n, path in enumerate(paths) if n in held],
        }
    corpus.files["real"] = len(parts["train"]) + len(parts["heldout"])
    corpus.train["real"] = build(parts["train"], root, "training clips")
    corpus.heldout["real"] = build(parts["heldout"], root, "held-out clips")
    for split in ("train", "heldout"):
        if not getattr(corpus, split)["real"]:
            raise UserError(
                f"no usable {split} clip among {len(parts[split])} files; see the drops above"
            )


def _world(config: Config, corpus: Corpus, split: str, count: int, build: Callable) -> list[str]:
    root = cache_root() / "procedural"
    with progress(total=count, desc=f"procedural {split}", unit="clip") as bar:
        paths = world.make_corpus(
            root, split, range(count), workers=config.data.workers, on_clip=bar.update
        )
        bar.update(count - bar.n)
    corpus.files[f"procedural-{split}"] = count
    keys = build(paths, root, f"procedural {split} clips")
    truth = world.read_truth(root, split)
    for key in keys:
        video_id = corpus.clip_of.store.entry(key).table.video_id
        corpus.scenes[key] = truth[video_id]
        corpus.credits[video_id] = (f"{video_id} (procedural, ours)", True)
    return keys
