"""Draws the report of a finished run again, and a picture of it that may be published."""

from pathlib import Path

from vjax.config import Config
from vjax.console import UserError, say
from vjax.evals import summary
from vjax.evals.files import write_text
from vjax.evals.picture import write_picture
from vjax.evals.report import write_report
from vjax.jobs import _corpus, _model, _scores, _suites
from vjax.train.metrics import read_metrics

SUITE = "fragments/procedural"


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Writes report.html, report.png and results.md from results.json, metrics.jsonl and eval/.

    The picture shows procedural clips alone.

    Raises:
      UserError: the run is not finished.
    """
    if not (workdir / "results.json").exists():
        raise UserError(f"{workdir} is not finished (no results.json); train first")
    results = summary.read_results(workdir / "results.json")
    loaded = _model.load(config)
    corpus = _corpus.prepare(config)
    suites, _ = _suites.make(config, corpus, loaded)
    before, after = (_scores.read(workdir, suites, what) for what in ("before", "after"))
    for suite, items in suites.items():
        missing = {item.id for item in items} - {item.id for item in after[suite]}
        if missing:
            raise UserError(
                f"{workdir}: {suite} was scored on other items (no {min(missing)}); this version "
                "draws others than the one that made the run: train again with --fresh"
            )
    chosen = _scores.strips(suites, corpus, before, after)
    write_report(workdir / "report.html", results, read_metrics(workdir / "metrics.jsonl"), chosen)
    write_picture(workdir / "report.png", results, chosen, SUITE)
    flags = f"--config=experiments/{config.name}.py:{config.preset}"
    page = summary.markdown(results, f"./launch/local python -m vjax.main {flags}")
    write_text(workdir / "results.md", page)
    say("  ".join(str(workdir / name) for name in ("report.html", "report.png", "results.md")))
