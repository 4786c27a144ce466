"""Shards of a frame store as a Beam pipeline; what is sent to workers is found there by name."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import create_runner

from vjax.video.errors import VideoError
from vjax.video.files import written_whole
from vjax.video.reader import Reader
from vjax.video.shard_writer import quarantine_file, write_shard


@dataclasses.dataclass(frozen=True)
class Work:
    """What every worker is told: paths that it sees too, and how to read."""

    directory: Path
    root: Path
    total: int  # files of the corpus
    workers: int
    deadline: float
    on_bad: str
    max_bad_share: float


class WriteShard(beam.DoFn):
    """Shard numbers in, the same numbers out once the shard is there."""

    def __init__(self, work: Work):
        self.work = work
        self.reader: Reader | None = None

    def setup(self):
        work = self.work
        self.reader = Reader(
            work.total,
            workers=work.workers,
            deadline=work.deadline,
            on_bad=work.on_bad,
            max_bad_share=work.max_bad_share,
            quarantine=quarantine_file(work.directory),
        )

    def process(self, number: int):
        work = self.work
        try:
            write_shard(work.directory, work.root, number, self.reader, work.workers + 1)
        except VideoError as error:  # runners make text of errors, with a traceback around it
            with written_whole(stop_file(work.directory)) as partial:
                partial.write_text(str(error), encoding="utf-8")
            raise
        yield number

    def teardown(self):
        if self.reader is not None:
            self.reader.close()


def stop_file(directory: Path) -> Path:
    """What is wrong with the clip that ended a run."""
    return directory / "stopped.txt"


def write_shards(work: Work, numbers: Sequence[int], runner: str, flags: Sequence[str]):
    """Runs the pipeline to its end.

    Args:
        work: for every worker.
        numbers: of the shards to write.
        runner: Beam's name of it; flags: for Beam and the runner.

    Raises:
        ValueError, ImportError: no such runner, or one whose package is not there.
        RuntimeError: the pipeline failed.
    """
    # DirectRunner would first fetch Prism, a program, from the net, and come to this one without it
    engine = FnApiRunner() if runner.lower() == "directrunner" else create_runner(runner)
    options = PipelineOptions([f"--runner={runner}", *flags])
    pipeline = beam.Pipeline(runner=engine, options=options)
    (
        pipeline
        | "shards" >> beam.Create(list(numbers))
        | "spread" >> beam.Reshuffle()
        | "write" >> beam.ParDo(WriteShard(work))
    )
    state = pipeline.run().wait_until_finish()
    if state not in (None, "DONE"):
        raise RuntimeError(f"the pipeline ended as {state}; see what {runner} says of it")
