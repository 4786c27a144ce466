"""What a config names, opened: conversations by number, labelled clips of public data sets."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vjax.data import contamination, moments, something
from vjax.data.labelled import QUESTION, Record, Records
from vjax.data.rows import open_rows
from vjax.data.samples import BadRow, Sample, read_row
from vjax.data.tfds_source import PREFIX, TfdsRecords

DATASETS = {"something": something, "moments": moments}


def is_labelled(name: str) -> bool:
    """Whether a config's text names labelled clips: `something:FOLDER/SPLIT`, `tfds:NAME/SPLIT`."""
    return name.partition(":")[0] in (*DATASETS, PREFIX.removesuffix(":")) and ":" in name


def open_labelled(
    name: str, *, mvbench: str = "", missing: str = "error", data_dir: str = "", cache: Path
) -> Records | TfdsRecords:
    """The records of a split, but those that MVBench asks about; prints how many these are.

    Args:
        name: `something:FOLDER/SPLIT`, `moments:FOLDER/SPLIT` or `tfds:NAME/SPLIT`.
        mvbench: its folder; "" compares nothing, and says so.
        missing: `error` or `drop`, of labelled clips without a file.
        data_dir: of TensorFlow Datasets.
        cache: folder for the videos of TensorFlow Datasets.

    Raises:
        FileNotFoundError, ValueError: a folder, a split or a label file that is not there, or none.
    """
    kind, _, rest = name.partition(":")
    if kind == PREFIX.removesuffix(":"):
        records = TfdsRecords(name, data_dir, cache)
        known = records.dataset in contamination.TASKS
        return contamination.exclude(records, mvbench) if known else records
    folder, _, split = rest.rpartition("/")
    return contamination.exclude(DATASETS[kind].open(folder, split, missing=missing), mvbench)


class Labelled:
    """The samples of labelled clips: each is asked one question, its label is the answer.

    Args:
        path: what messages call them.
        records: the clips.
        question: `labelled.QUESTION` where it is empty.
    """

    def __init__(self, path: str, records: Sequence[Record], question: str = ""):
        self.path, self.records, self.question = path, records, question or QUESTION

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, n: int) -> Sample:
        """Raises BadRow for a clip without a label."""
        try:
            return self.records[n].sample(self.question)
        except ValueError as error:
            raise BadRow(f"{self.name(n)}: {error}") from error

    def name(self, n: int) -> str:
        return f"{self.path}, row {n}"


class Conversations:
    """The samples of a file of rows; `len(samples)`, and `samples[n]` from any thread.

    Args:
        path: .json, .jsonl or .parquet, see `vjax.data.rows`.
        cache: folder for the lines of JSON arrays.
        folder: what paths in the rows are relative to; the file's own where it is None.
        prompt: a line put after each question, as LLaVA's response formats are (arXiv 2310.03744,
            section 3.2).

    Raises:
        BadFile: a file that is none of these.
    """

    def __init__(
        self, path: str | Path, cache: str | Path, *, folder: str | Path | None = None, prompt=""
    ):
        self.path, self.prompt = Path(path), prompt
        self.folder = self.path.parent if folder is None else Path(folder)
        self.rows = open_rows(path, cache)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, n: int) -> Sample:
        """Raises BadRow or BadFile, naming file and row."""
        sample = read_row(self.rows[n], self.name(n), self.folder)
        if not self.prompt:
            return sample
        turns = tuple(
            dataclasses.replace(turn, asked=(*turn.asked, f"\n{self.prompt}"))
            for turn in sample.turns
        )
        return dataclasses.replace(sample, turns=turns)

    def name(self, n: int) -> str:
        """What messages call a row."""
        return self.rows.where(n)
