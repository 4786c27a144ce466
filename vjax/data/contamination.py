"""Clips that a benchmark asks about, kept out of training.

MVBench takes the videos of two of its tasks from Something-Something V2 and Moments in Time (arXiv
2311.17005), which SF2T trains on. A video is known by its file's name without folder and suffix, as
some copies of MVBench hold others than the data sets do.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vjax.console import say
from vjax.data import moments, something
from vjax.data.labelled import Records, few
from vjax.data.rows import BadFile, json_array
from vjax.data.tfds_source import TfdsRecords

TASKS = {something.NAME: "action_antonym", moments.NAME: "fine_grained_action"}
Clips = TypeVar("Clips", Records, TfdsRecords)


def exclude(records: Clips, mvbench: str | os.PathLike | None) -> Clips:
    """The records that MVBench does not ask about; prints how many it does.

    Args:
        records: of a data set in `TASKS`; of a TensorFlow Dataset, every record is read.
        mvbench: folder of MVBench, or its `json` folder; "" or None keeps all, and says so.

    Raises:
        FileNotFoundError: no such folder, or the task's file is not in it.
        BadFile: a file that is none of MVBench's.
        KeyError: another data set.
    """
    return records.take(_kept(records.files(), records.dataset, mvbench))


def exclude_paths(
    paths: Sequence[Path], dataset: str, mvbench: str | os.PathLike | None
) -> list[Path]:
    """`exclude` for video files of a data set, wherever they lie."""
    kept = _kept(pa.array([path.as_posix() for path in paths], pa.string()), dataset, mvbench)
    return [path for path, keep in zip(paths, kept, strict=True) if keep]


def asked_about(mvbench: str | os.PathLike, dataset: str) -> pa.Array:
    """Names of a data set's videos in MVBench, each once. Raises as `exclude`."""
    root, name = Path(mvbench), f"{TASKS[dataset]}.json"
    files = [root / "json" / name, root / name]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"{root}: neither json/{name} nor {name} there; MVBench's folder json is needed, from "
            "https://huggingface.co/datasets/OpenGVLab/MVBench"
        )
    videos = []
    for n, row in enumerate(json_array(file)):
        video = row.get("video")
        if not (isinstance(video, str) and video):
            raise BadFile(f"{file}, row {n}: its video is {video!r}, a file's name is needed")
        videos.append(video)
    return pc.unique(_names(pa.array(videos, pa.string())))


def _kept(
    files: pa.Array | pa.ChunkedArray, dataset: str, mvbench: str | os.PathLike | None
) -> np.ndarray:
    """bool [N]: the file is not in MVBench."""
    task = TASKS[dataset]
    if not mvbench:
        say(f"MVBench: not compared, no folder of it is named; {dataset} may hold its videos")
        return np.ones(len(files), bool)
    asked = asked_about(mvbench, dataset)
    out = pc.is_in(_names(files), value_set=asked)
    named = few(files.filter(out))
    say(
        f"MVBench: {pc.sum(out).as_py() or 0} of {len(files)} clips of {dataset} are among the "
        f"{len(asked)} videos of {task}{named and ', left out: ' + named}"
    )
    return ~out.to_numpy(zero_copy_only=False)


def _names(files: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.replace_substring_regex(files, r"^.*/|\.[^./]*$", "")
