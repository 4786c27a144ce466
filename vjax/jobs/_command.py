"""The command line that a config comes from, for pages that say what made them."""

import shlex
from pathlib import Path

from vjax import config as config_lib
from vjax.config import Config
from vjax.console import UserError

PROGRAM = "./launch/local python -m vjax.main"


def command(config: Config, job: str, workdir: Path) -> str:
    """The command that runs `job` with this config in `workdir`, with every override.

    It names the experiment's file where that is found, below experiments/ of the current folder,
    and else the run whose config was changed: that of `workdir`.
    """
    asked = [] if job == "train" else [f"--job={job}"]
    spec, base = _experiment(config)
    if base is None:
        base, asked = config_lib.saved(workdir) or config, [*asked, f"--workdir={workdir}"]
    else:
        asked.insert(0, f"--config={spec}")
        if workdir != config_lib.workdir(config, base, job):
            asked.append(f"--workdir={workdir}")
    values = config_lib.flatten(config_lib.to_dict(config))
    changed = [f"--config.{key}={values[key]}" for key in config_lib.diff(base, config)]
    return f"{PROGRAM} {shlex.join([*asked, *changed])}"


def _experiment(config: Config) -> tuple[str, Config | None]:
    """FILE:PRESET of the experiment that a config is of, and that one's own, None if not found."""
    file = Path("experiments") / f"{config.name}.py"
    spec = f"{file}:{config.preset}" if config.preset != "default" else str(file)
    if not file.is_file():
        return spec, None
    try:
        base = config_lib.read(spec)
    except (KeyError, TypeError, ValueError, UserError):  # another file of that name
        return spec, None
    same = (base.name, base.preset) == (config.name, config.preset)
    return spec, base if same else None
