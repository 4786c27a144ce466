"""Something-Something V2 (Goyal et al., arXiv 1706.04261) as it lies on disk.

Label files are those of either release; the class is the template without its brackets, and its
number is that of labels.json (TwentyBN's baseline sorts the classes anew, MMAction2 does not).
"""

import json
import os
from collections.abc import Iterator

from etils import epath

from vjax.data.labelled import Records, Row, collect, first
from vjax.data.rows import BadFile, json_array

NAME = "something_something_v2"
SUFFIX = ".webm"
SPLITS = {"train": 168_913, "validation": 24_777, "test": 27_157}  # official numbers of clips
FOLDERS = ("20bn-something-something-v2", "videos")  # the second is MMAction2's name
LAYOUT = """\
It is had from https://www.qualcomm.com/developer/software/something-something-v-2-dataset. Its \
folder must look like this:
  labels/labels.json, labels/train.json, labels/validation.json, labels/test.json
    (or something-something-v2-labels.json and so on, of the first release)
  labels/test-answers.csv    (where the test split is to have labels)
  20bn-something-something-v2/ID.webm    (cat 20bn-something-something-v2-?? | tar xz)"""


def open(root: str | os.PathLike, split: str, *, missing: str = "error") -> Records:
    """The records of a split.

    Args:
        root: the data set's folder.
        split: train, validation or test; the last has labels where test-answers.csv is there.
        missing: `error`, or `drop` to leave out, count and name clips without a file.

    Raises:
        FileNotFoundError: a label file or the folder of videos is not there.
        BadFile: a label file that is no such file; the message names the row.
        MissingVideos: labelled clips without a file, unless they are dropped.
        ValueError: another split.
    """
    file = annotations(root, split)[-1]
    folder = first(epath.Path(root), FOLDERS, LAYOUT)
    return collect(NAME, split, rows(root, split), folder, SUFFIX, file=file, missing=missing)


def annotations(root: str | os.PathLike, split: str) -> list[epath.Path]:
    """The files that a split's labels are read from, the one with its rows last."""
    if split not in SPLITS:
        raise ValueError(f"{NAME} has the splits {', '.join(SPLITS)}, no {split!r}")
    found = [_file(root, "labels.json"), _file(root, f"{split}.json")]
    answers = found[1].with_name("test-answers.csv")
    return [answers, *found] if split == "test" and answers.exists() else found


def rows(root: str | os.PathLike, split: str) -> Iterator[Row]:
    """The rows of a split's label file."""
    *answers, labels, file = annotations(root, split)
    numbers = _numbers(labels)
    known = _answers(answers[0], numbers) if answers else {}
    path = str(file)
    for n, row in enumerate(json_array(file)):
        at = f"{path}, row {n}"
        name = row.get("id")
        if not isinstance(name, str) or not name or "/" in name:
            raise BadFile(f"{at}: its id is {name!r}, a file's name is needed")
        if split == "test":
            category = known.get(name, "")
            if known and not category:
                raise BadFile(f"{at}: {name} is not in {answers[0].name}")
            yield name, category, category, numbers.get(category, -1), "", ()
            continue
        label, template, things = (row.get(key) for key in ("label", "template", "placeholders"))
        if not (isinstance(label, str) and label and isinstance(template, str)):
            raise BadFile(f"{at}: label {label!r} and template {template!r}; texts are needed")
        if not (isinstance(things, list) and all(isinstance(thing, str) for thing in things)):
            raise BadFile(f"{at}: placeholders are {things!r}, a list of texts is needed")
        category = template.replace("[", "").replace("]", "")
        if category not in numbers:
            raise BadFile(f"{at}: its class {category!r} is not in {labels}")
        yield name, label, category, numbers[category], template, things


def _file(root: str | os.PathLike, name: str) -> epath.Path:
    older = f"something-something-v2-{name}"
    return first(epath.Path(root), (f"labels/{name}", older, f"annotations/{older}"), LAYOUT)


def _numbers(file: epath.Path) -> dict[str, int]:
    """Number of each class."""
    try:
        found = json.loads(file.read_text())
        return {name: int(number) for name, number in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadFile(f'{file}: no object of class and number ("0") ({error})') from error


def _answers(file: epath.Path, numbers: dict[str, int]) -> dict[str, str]:
    """Class of each test clip."""
    found = {}
    for n, line in enumerate(file.read_text().splitlines(), 1):
        name, _, category = line.partition(";")
        if category not in numbers:
            raise BadFile(f"{file}, line {n}: {line!r} is no id;class of a class in labels.json")
        found[name] = category
    return found
