"""Longer contexts in steps: a run for each rung, on the model that the rung before has exported."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from vjax.config import Config, to_json
from vjax.console import UserError, say, table
from vjax.families.ladder import Rung, length_ladder
from vjax.jobs import export, train
from vjax.video.files import written_whole

CONFIG, DONE = "config.json", "rung.json"


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Trains on data.mixture, rung by rung, as LWM did (arXiv 2402.08268); or goes on.

    Rung 65536 is the run WORKDIR/65536, with rows of 65,536 tokens: its rotary positions are slowed
    by as much as its rows are longer than those of the rung before, and its base is that one's
    WORKDIR/32768/model. A batch has as many tokens in every rung, one row at least.

    Raises:
      UserError: lengths that make no ladder, or training that is not on rows.
    """
    if config.train.questions != "rows":
        raise UserError("a ladder is climbed on conversations: --config.train.questions=rows")
    if not config.ladder.base:
        raise UserError(
            "of how many tokens are the rows that the model was trained on? ladder.base"
        )
    options = config.ladder
    try:
        rungs = length_ladder(options.base, options.lengths, kind=options.rope, alpha=options.alpha)
    except ValueError as error:
        raise UserError(f"ladder: {error}") from error
    if not rungs:
        raise UserError(f"ladder.lengths: none is longer than ladder.base={options.base}")
    configs = of_rungs(config, workdir, rungs)
    rows = [
        (rung.length, rung.scaling.factor, one.train.batch_size, _state(workdir / str(rung.length)))
        for rung, one in zip(rungs, configs, strict=True)
    ]
    say(table(("rows of", "times", "in a batch", "state"), rows))
    for rung, one in zip(rungs, configs, strict=True):
        folder = workdir / str(rung.length)
        if _state(folder) == "done":
            continue
        say(f"rung {rung.length}: {folder}")
        with written_whole(folder / CONFIG) as partial:
            partial.write_text(to_json(one))
        train.run(one, folder)
        export.run(one, folder)
        with written_whole(folder / DONE) as partial:
            partial.write_text(json.dumps(dataclasses.asdict(rung)))


def of_rungs(config: Config, workdir: Path, rungs: Sequence[Rung]) -> list[Config]:
    """The config of each rung's run."""
    found, path = [], config.model.path
    tokens = config.train.batch_size * rungs[0].length
    for rung in rungs:
        scaling = rung.scaling
        model = dataclasses.replace(
            config.model,
            path=path,
            rope=scaling.kind,
            rope_factor=scaling.factor,
            rope_alpha=scaling.alpha,
        )
        found.append(
            dataclasses.replace(
                config,
                model=model,
                data=dataclasses.replace(config.data, row_tokens=rung.length),
                train=dataclasses.replace(config.train, batch_size=max(1, tokens // rung.length)),
                export=dataclasses.replace(config.export, format=("hf",)),
            )
        )
        path = str(workdir / str(rung.length) / export.FOLDERS["hf"])
    return found


def _state(folder: Path) -> str:
    if (folder / DONE).exists():
        return "done"
    return "begun" if (folder / CONFIG).exists() else "to do"
