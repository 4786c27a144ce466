"""Clips for a run: fetched, found or made, decoded once, split by source clip."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence, Sized
from pathlib import Path

import numpy as np

from vjax.config import Config, cache_root
from vjax.console import UserError, progress, say
from vjax.data.labelled import Record
from vjax.data.sources import is_labelled, open_labelled
from vjax.families.spec import VIDEO_SPEC
from vjax.packages import Unavailable
from vjax.video import clips as sample_clips
from vjax.video.errors import VideoError
from vjax.video.folder import scan
from vjax.video.frames import Clip
from vjax.video.probe import written
from vjax.video.rng import philox
from vjax.video.store import ClipStore, Drop
from vjax.video.world import corpus as world
from vjax.video.world.scene import Scene

SHIPPED = ("", "random", "smollm2")  # model.path of what is shown the frames of vjax-tiny
HELDOUT_SHARE = 0.25  # of the source clips in a user's folder
SHOWN = 10  # bad files in a message

Parts = dict[str, list[Path]]  # files by split: `train`, `heldout`


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
    check_policy(config)
    data = config.data
    store = ClipStore(cache_root() / "frames")
    corpus = Corpus(ClipCache(store), {}, {}, {}, [], {}, {})

    def build(parts: Parts, root: Path, what: str) -> dict[str, list[str]]:
        keys, dropped = {}, []
        for split, paths in parts.items():
            desc = f"decode {what}, {split}"
            with progress(total=len(paths), desc=desc, unit="clip") as bar:
                try:
                    built = store.build(
                        paths,
                        root=root,
                        workers=data.workers,
                        deadline=data.deadline_s,
                        on_bad=data.on_bad_clip,
                        progress=lambda *_, bar=bar: bar.update(),
                        **decoding(config),
                    )
                except VideoError as error:
                    raise UserError(
                        f"{error}\n--config.data.on_bad_clip=skip leaves such files out, up to "
                        f"data.max_bad_share={data.max_bad_share:g} of all; --job=check finds them"
                    ) from error
                bar.update(len(paths) - bar.n)
            keys[split] = built.keys
            dropped += built.dropped
            judge(config, parts, dropped)
        corpus.dropped += dropped
        return keys

    if data.source != "procedural":
        _real(config, corpus, build)
    if data.source == "procedural" or data.procedural_share > 0:
        corpus.train["procedural"] = _world(config, corpus, "train", data.procedural_clips, build)
    corpus.heldout["procedural"] = _world(config, corpus, "eval", data.procedural_eval_clips, build)
    return corpus


def check_policy(config: Config):
    """Refuses data.on_bad_clip=blank."""
    if config.data.on_bad_clip == "blank":
        raise UserError("no fragment can be asked of blank frames: data.on_bad_clip=skip")


def decoding(config: Config) -> dict:
    """Options of `vjax.video.decode.cut`: what a run makes of a file."""
    return dict(
        seed=config.seed,
        min_s=config.data.window_min_s,
        max_s=config.data.window_max_s,
        store_size=config.data.store_size,
        resize=resize_of(config),
        signal="ssim" if config.fragments.sampler == "ssim" else "luma",
    )


def judge(config: Config, parts: Parts, bad: Sequence[Drop]):
    """Whether a run may go on without the bad files; training and --job=check both ask here.

    Args:
      parts: all files of the corpus, by split.
      bad: those known to be bad so far. More of them never make the answer better, so a run can
        ask after each split.

    Raises:
      UserError: a bad file with data.on_bad_clip=error, more of all files than
        data.max_bad_share, or a split of which nothing is left.
    """
    if not bad:
        return
    data, total = config.data, sum(map(len, parts.values()))
    reasons = [f"  {drop.error}: {drop.reason}" for drop in bad[:SHOWN]]
    if len(bad) > SHOWN:
        reasons.append(f"  and {len(bad) - SHOWN} more")
    count = "\n".join([f"{len(bad)} of {total} files are bad", *reasons])
    if data.on_bad_clip == "error":
        raise UserError(
            f"{count}\nremove them, or go on without them: {skipping(config, bad, total)}"
        )
    if len(bad) > data.max_bad_share * total:
        raise UserError(f"{count}\nmore than data.max_bad_share={data.max_bad_share:g}")
    names = {drop.path for drop in bad}
    for split, paths in parts.items():
        if paths and names.issuperset(written(str(path)) for path in paths):
            raise UserError(f"{count}\nand so all {len(paths)} of the {split} clips are")


def skipping(config: Config, bad: Sized, total: int) -> str:
    """The flags with which a run goes on without the bad files, of `total`."""
    flags, share = "--config.data.on_bad_clip=skip", len(bad) / max(total, 1)
    if share <= config.data.max_bad_share:
        return flags
    enough = math.ceil(100 * share) / 100
    return f"{flags} --config.data.max_bad_share={enough:g}"


def resize_of(config: Config) -> str:
    """How frames are scaled: as the config, else the checkpoint, else its family says."""
    if config.data.resize != "auto":
        return config.data.resize
    if config.model.path in SHIPPED:
        return "swscale"
    file = Path(config.model.path) / VIDEO_SPEC
    return json.loads(file.read_text())["resize"] if file.exists() else "reference"


def open_clips(config: Config, name: str, data_dir: str = "") -> Sequence[Record]:
    """The labelled clips that `name` names, without those that MVBench asks about.

    Raises:
      UserError: they are not there as they should be.
    """
    data = config.data
    missing = "error" if data.on_bad_clip == "error" else "drop"
    cache = cache_root() / "tfds"
    try:
        return open_labelled(
            name, mvbench=data.mvbench, missing=missing, data_dir=data_dir, cache=cache
        )
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise UserError(f"{name}: {error}") from error


def real_files(config: Config) -> tuple[Path, list[Path], Counter[str]]:
    """The corpus folder, its videos, and the suffixes of what is passed over there.

    Raises:
      UserError: sample clips that cannot be had, a folder without videos or that may not be looked
        into, or a config of procedural clips alone.
    """
    if config.data.source == "procedural":
        raise UserError(
            "data.source=procedural has no files; name a folder, --config.data.clips=DIR"
        )
    if config.data.source == "sample":
        try:
            local = sample_clips.fetch(cache_root())
        except Unavailable as error:
            raise UserError(str(error)) from error
        say(sample_clips.licences())
        return cache_root() / "clips", [item.path for item in local], Counter()
    if is_labelled(config.data.clips):
        records = open_clips(config, config.data.clips)
        return Path(records.folder), [record.path for record in records], Counter()
    try:
        return Path(config.data.clips), *scan(config.data.clips)
    except FileNotFoundError as error:
        raise UserError(f"--config.data.clips: {error}") from error
    except OSError as error:
        raise UserError(
            f"--config.data.clips: {error.filename}: {error.strerror}; "
            "make that folder readable, or move it elsewhere"
        ) from error


def by_split(config: Config, root: Path, paths: Sequence[Path]) -> Parts:
    """The files of `real_files`, each in one split; of a folder's, HELDOUT_SHARE are held out.

    Raises:
      UserError: too few files to hold one out.
    """
    if config.data.source == "sample":
        held = {root / clip.name for clip in sample_clips.CLIPS if clip.split == "heldout"}
    else:
        if len(paths) < 2:
            raise UserError(f"{root}: {len(paths)} video; at least 2 are needed, to hold one out")
        order = philox("heldout", config.seed).permutation(len(paths))
        held = {paths[n] for n in order[: max(1, round(HELDOUT_SHARE * len(paths)))]}
    return {
        "train": [path for path in paths if path not in held],
        "heldout": [path for path in paths if path in held],
    }


def _real(config: Config, corpus: Corpus, build: Callable):
    root, paths, _ = real_files(config)
    if config.data.source == "sample":
        for clip in sample_clips.CLIPS:
            corpus.credits[clip.name] = (f"{clip.name} ({clip.licence})", clip.showable)
    parts = by_split(config, root, paths)
    corpus.files["real"] = len(paths)
    keys = build(parts, root, "clips")
    corpus.train["real"], corpus.heldout["real"] = keys["train"], keys["heldout"]


def _world(config: Config, corpus: Corpus, split: str, count: int, build: Callable) -> list[str]:
    root = cache_root() / "procedural"
    with progress(total=count, desc=f"procedural {split}", unit="clip") as bar:
        paths = world.make_corpus(
            root, split, range(count), workers=config.data.workers, on_clip=bar.update
        )
        bar.update(count - bar.n)
    corpus.files[f"procedural-{split}"] = count
    keys = build({split: paths}, root, "procedural clips")[split]
    truth = world.read_truth(root, split)
    for key in keys:
        video_id = corpus.clip_of.store.entry(key).table.video_id
        corpus.scenes[key] = truth[video_id]
        corpus.credits[video_id] = (f"{video_id} (procedural, ours)", True)
    return keys
