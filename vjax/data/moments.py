"""Moments in Time (Monfort et al., arXiv 1801.03150), version 1 or 2, as it lies on disk."""

import csv
import os
from collections.abc import Iterator

from etils import epath

from vjax.data.labelled import Records, Row, collect, first
from vjax.data.rows import BadFile

NAME = "moments_in_time"
SUFFIX = ".mp4"
SPLITS = {"train": "training", "validation": "validation"}  # its own words for them
CATEGORIES = "moments_categories.txt"
LAYOUT = """\
It is had from http://moments.csail.mit.edu. Its folder must look like this:
  moments_categories.txt, trainingSet.csv, validationSet.csv
  training/CLASS/NAME.mp4, validation/CLASS/NAME.mp4"""


def open(root: str | os.PathLike, split: str, *, missing: str = "error") -> Records:
    """The records of a split. Labels are the class with spaces where it has `+`.

    Args:
        root: the data set's folder.
        split: train or validation.
        missing: `error`, or `drop` to leave out, count and name clips without a file.

    Raises:
        FileNotFoundError: a label file or the folder of videos is not there.
        BadFile: a label file that is no such file; the message names the line.
        MissingVideos: labelled clips without a file, unless they are dropped.
        ValueError: another split.
    """
    file = annotations(root, split)[-1]
    inside = SPLITS[split]
    folder = first(epath.Path(root), (inside, f"videos/{inside}"), LAYOUT)
    return collect(NAME, split, rows(root, split), folder, SUFFIX, file=file, missing=missing)


def annotations(root: str | os.PathLike, split: str) -> list[epath.Path]:
    """The files that a split's labels are read from, the one with its rows last."""
    if split not in SPLITS:
        raise ValueError(f"{NAME} has the splits {', '.join(SPLITS)}, no {split!r}")
    names = (CATEGORIES, f"{SPLITS[split]}Set.csv")
    return [first(epath.Path(root), (name, f"annotations/{name}"), LAYOUT) for name in names]


def rows(root: str | os.PathLike, split: str) -> Iterator[Row]:
    """The rows of a split's label file."""
    categories, file = annotations(root, split)
    numbers = _numbers(categories)
    name = str(file)
    with file.open(encoding="utf-8") as lines:
        for n, row in enumerate(csv.reader(lines), 1):
            at = f"{name}, line {n}"
            if len(row) != 4:
                raise BadFile(f"{at}: {len(row)} fields, needed are {_FIELDS}")
            video, category, *votes = row
            if not (video.endswith(SUFFIX) and all(vote.isdecimal() for vote in votes)):
                raise BadFile(f"{at}: {','.join(row)} is no {_FIELDS}")
            if category not in numbers:
                raise BadFile(f"{at}: its class {category!r} is not in {categories}")
            label = category.replace("+", " ")
            yield video.removesuffix(SUFFIX), label, category, numbers[category], "", ()


_FIELDS = "CLASS/NAME.mp4,class,workers who agree,workers who do not"


def _numbers(file: epath.Path) -> dict[str, int]:
    """Number of each class."""
    found = {}
    for n, line in enumerate(file.read_text().splitlines(), 1):
        category, _, number = line.rpartition(",")
        if not (category and number.isdecimal()):
            raise BadFile(f"{file}, line {n}: {line!r} is no class,number")
        found[category] = int(number)
    return found
