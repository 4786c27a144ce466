"""Scores the newest checkpoint of a run again, from its workdir alone, also under a control."""

import dataclasses
import json
from pathlib import Path

from vjax import distributed
from vjax.config import Config
from vjax.console import UserError, say
from vjax.evals import summary
from vjax.evals.files import write_text
from vjax.jobs import _corpus, _model, _scores, _suites


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Writes eval/SUITE.eval[-CONTROL].jsonl and eval/summary[-CONTROL].json, and prints the table.

    Raises:
      UserError: the workdir holds no checkpoint, or one whose video spec is not the base model's.
    """
    loaded = _model.load(config)
    saved = _model.restore(config, workdir, loaded)
    if saved.config["video_spec"] != dataclasses.asdict(loaded.video):
        raise UserError(
            f"{workdir}: trained with video spec {saved.config['video_spec']}, but {loaded.folder} "
            f"says {dataclasses.asdict(loaded.video)}"
        )
    corpus = _corpus.prepare(config)
    suites, _ = _suites.make(config, corpus, loaded)
    what = "eval" if config.eval.control == "none" else f"eval-{config.eval.control}"
    found = _suites.run(config, suites, loaded, saved.trainable, corpus, what)
    if not distributed.is_first():
        return
    folder = workdir / "eval"
    _scores.write(workdir, found, what)
    scores = summary.summarise(
        [item for items in found.values() for item in items], samples=config.eval.bootstrap
    )
    about = {
        "step": saved.step,
        "control": config.eval.control,
        "video_spec": saved.config["video_spec"],
        "chat_template": (loaded.folder / "chat_template.jinja").read_text(),
        "after": scores,
    }
    write_text(
        folder / f"summary{what.removeprefix('eval')}.json", json.dumps(about, indent=2) + "\n"
    )
    say(f"step {saved.step}, control {config.eval.control}")
    say(summary.table({"before": {}, "after": scores, "paired": {}}))
