"""What a mixture names, opened: conversations by number."""

import dataclasses
from pathlib import Path

from vjax.data.rows import open_rows
from vjax.data.samples import Sample, read_row


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
        sample = read_row(self.rows[n], f"{self.path}:{n}", self.folder)
        if not self.prompt:
            return sample
        turns = tuple(
            dataclasses.replace(turn, asked=(*turn.asked, f"\n{self.prompt}"))
            for turn in sample.turns
        )
        return dataclasses.replace(sample, turns=turns)
