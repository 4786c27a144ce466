"""Where numbers of a run go: metrics.jsonl always, TensorBoard beside it."""

import json
import os
from pathlib import Path

import tensorboardX


class Metrics:
    """Appends one JSON line a step to metrics.jsonl, and the same numbers to TensorBoard.

    Args:
      workdir: where both go.
      step: the step a resumed run starts from; lines after it are cut away.
    """

    def __init__(self, workdir: str | Path, step: int = 0):
        self.path = Path(workdir) / "metrics.jsonl"
        kept = [row for row in read_metrics(self.path) if row["step"] <= step]
        partial = self.path.with_suffix(".tmp")
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(partial, self.path)
        self.file = open(self.path, "a", encoding="utf-8")
        self.board = tensorboardX.SummaryWriter(
            str(Path(workdir) / "tensorboard"),
            purge_step=step + 1 if step else None,
            filename_suffix=f".{step}",  # its names have whole seconds only
        )

    def write(self, step: int, values: dict[str, float]):
        """`values` are plain floats; float32 numbers come back from JSON exactly."""
        self.file.write(json.dumps({"step": step} | values) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def flush(self):
        self.file.flush()
        self.board.flush()

    def close(self):
        self.file.close()
        self.board.close()


class Unwritten:
    """In place of `Metrics` where another process writes them."""

    def write(self, step: int, values: dict[str, float]): ...

    def flush(self): ...

    def close(self): ...


def read_metrics(path: str | Path) -> list[dict]:
    """Rows of metrics.jsonl in order; a last line that was cut short by a kill is left out."""
    path = Path(path)
    rows = []
    if not path.exists():
        return rows
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}:{number}: not JSON ({error})") from error
    return rows
