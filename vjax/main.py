"""Runs one job of one experiment.

  python -m vjax.main --config=experiments/sf2t.py:tiny --config.lora.rank=32
  python -m vjax.main --job=eval --workdir=runs/sf2t-tiny

The same command again resumes, or shows the results of a finished run.
"""

import argparse
import contextlib
import dataclasses
import importlib
import os
import re
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from vjax import config as config_lib
from vjax import console, schema
from vjax.config import Config
from vjax.console import UserError

MEETING = ("coordinator", "num_processes", "process_id", "heartbeat_timeout")
TOGETHER = ("train", "eval", "needle")  # jobs for several processes
EMPTYING = ("train", "pretrain", "ladder")  # jobs for which --fresh empties the workdir
SAVED = Path(__file__).parent / "saved.py"


@dataclasses.dataclass(frozen=True)
class Run:
    """What a command line asks for; `processes` as `vjax.distributed.Meeting` has it, or None."""

    job: str
    config: Config
    workdir: Path
    fresh: bool
    processes: Mapping[str, str | int | None]


def jobs() -> list[str]:
    """Names of the jobs there are: the files of vjax/jobs/."""
    files = (Path(__file__).parent / "jobs").glob("[!_]*.py")
    return sorted(path.stem for path in files)


def define_flags(values: flags.FlagValues, argv: Sequence[str] | None = None):
    """Defines this program's flags in `values`, for the command line `argv` (None: sys.argv)."""
    config_flags.DEFINE_config_file(
        "config",
        help_string="FILE.py[:PRESET]; --config.KEY=VALUE overrides a field.",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string("job", "train", f"One of {', '.join(jobs())}.", flag_values=values)
    flags.DEFINE_string(
        "workdir",
        None,
        "Where the run lives; runs/CONFIG-PRESET[-HASH of overrides] if not given. "
        "Without --config it names an earlier run, whose config --config.KEY=VALUE overrides.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "export.format",
        None,
        f"What --job=export writes, of {', '.join(schema.EXPORTS)}.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "plan.topology", None, "Machine that --job=plan compiles for: v5e:4x4.", flag_values=values
    )
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of process 0, where several run it.", flag_values=values
    )
    flags.DEFINE_integer("num_processes", None, "How many run it.", flag_values=values)
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", flag_values=values)
    flags.DEFINE_integer(
        "heartbeat_timeout",
        None,
        "Seconds without a sign of life after which a process is lost, and the others end.",
        flag_values=values,
    )
    flags.DEFINE_bool("fresh", False, "Start over: delete what is there.", flag_values=values)


def parse(argv: Sequence[str], values: flags.FlagValues | None = None) -> Run:
    """Reads a command line, program name first; `values` must hold this program's flags.

    Raises:
        UserError: a flag, config file, config key or value that is wrong.
    """
    if values is None:
        values = flags.FlagValues()
        define_flags(values, argv)
    argv = _last(_of_run(argv))
    _check_config_flags(argv)
    try:
        rest = values(argv)
    except flags.Error as error:
        override = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)
        if override:
            config_lib.check_value(*override.groups())
        said = str(error).strip()
        if "Traceback" in said:  # of the config file, in absl's message; its last line says why
            said = re.sub(r"^[\w.]+Error: ", "", said.splitlines()[-1])
        raise UserError(said) from None
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}: flags are written --name=value")
    if values.config is not None:
        spec = values["config"].config_filename
        overridden = [_overridden(arg) for arg in argv]
        clips = "data.clips" in overridden and values.config.data.clips
        if clips and "data.source" not in overridden:
            values.config.data.source = "folder"
        config = config_lib.named(values.config, spec)
        if values.workdir:
            workdir = Path(values.workdir)
        else:
            workdir = config_lib.workdir(config, config_lib.read(spec), values.job)
    elif values.workdir:
        workdir = Path(values.workdir)
        config = config_lib.saved(workdir)
        if config is None:
            raise UserError(
                f"{workdir} holds no run (no config.json); start one: --config=experiments/FILE.py"
            )
    else:
        raise UserError("pass --config=experiments/FILE.py (or --workdir=DIR of an earlier run)")
    if formats := values["export.format"].value:
        export = dataclasses.replace(config.export, format=tuple(formats))
        config = config_lib.freeze(config_lib.to_dict(dataclasses.replace(config, export=export)))
    if topology := values["plan.topology"].value:
        plan = dataclasses.replace(config.plan, topology=topology)
        config = dataclasses.replace(config, plan=plan)
    if values.job not in jobs():
        raise UserError(f"there is no job {values.job!r}; jobs: {', '.join(jobs())}")
    processes = {name: values[name].value for name in MEETING}
    return Run(values.job, config, workdir, values.fresh, processes)


def _overridden(arg: str) -> str | None:
    """The field that an argument overrides: lora.rank of --config.lora.rank=8."""
    match = re.match(r"--?(?:no)?config\.([^=]*)", arg)
    return match and match[1]


def _names_config(argv: Sequence[str]) -> bool:
    return any(re.match(r"--?config($|=)", arg) for arg in argv)


def _of_run(argv: Sequence[str]) -> Sequence[str]:
    """The command line; overrides of the run in --workdir alone get the config that they change."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-workdir", "--workdir", nargs="?")
    workdir = parser.parse_known_args(argv[1:])[0].workdir
    needed = any(map(_overridden, argv)) and not _names_config(argv)
    if not needed or not workdir or not config_lib.saved(Path(workdir)):
        return argv
    return [argv[0], f"--config={SAVED}:{workdir}", *argv[1:]]


def _last(argv: Sequence[str]) -> list[str]:
    """The command line with the last of several values of a field, as of other flags.

    ml_collections would join those of a tuple.
    """
    keys = [_overridden(arg) if "=" in arg else None for arg in argv]
    last = {key: n for n, key in enumerate(keys)}
    return [arg for n, arg in enumerate(argv) if keys[n] is None or last[keys[n]] == n]


def _check_config_flags(argv: Sequence[str]):
    """The config file must exist and every overridden key too; absl would show a traceback."""
    named = _names_config(argv)
    for i, arg in enumerate(argv):
        if (key := _overridden(arg)) is not None:
            if not named:
                raise UserError(f"{arg}: name the config that it overrides too, --config=FILE.py")
            config_lib.check_key(key)
        elif given := re.fullmatch(r"--?config(?:=(.*))?", arg):
            spec = given[1] if given[1] is not None else "".join(argv[i + 1 : i + 2])
            file = Path(spec.split(":")[0])
            if not file.is_file():
                found = ", ".join(sorted(map(str, Path("experiments").rglob("*.py")))) or "none"
                raise UserError(f"there is no config file {file}; found {found}")


def open_workdir(run: Run) -> bool:
    """Makes the workdir, or checks that it belongs to this config; `--fresh` training empties it.

    Returns:
        Whether it is new.

    Raises:
        UserError: it holds a run with another config (the message shows the difference), or
            `--fresh` would delete a folder that is no run.
    """
    workdir, file = run.workdir, run.workdir / "config.json"
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file: name a folder")
    if run.fresh and run.job in EMPTYING and workdir.exists():
        if not file.is_file() and any(workdir.iterdir()):
            raise UserError(f"--fresh would delete {workdir}, which holds no run (no config.json)")
        shutil.rmtree(workdir)
    saved = config_lib.saved(workdir)
    if saved is None:
        workdir.mkdir(parents=True, exist_ok=True)
        whole = file.with_suffix(".tmp")
        whole.write_text(config_lib.to_json(run.config))
        os.replace(whole, file)
        return True
    free = schema.EXECUTION + schema.FREE.get(run.job, schema.JUDGING)
    if differ := [key for key in config_lib.diff(saved, run.config) if not key.startswith(free)]:
        other = "start over with --fresh" if run.job in EMPTYING else "leave these as they were"
        raise UserError(
            f"{workdir} holds a run with another config:\n"
            f"{config_lib.describe_diff(saved, run.config, differ)}\n"
            f"choose another --workdir, or {other}"
        )
    return False


def _forget(workdir: Path):
    """Removes a new workdir in which no more than its config and what was said has come to be."""
    files = [*workdir.glob("config.json"), *workdir.glob("log*.txt")]
    if len(files) == len(list(workdir.iterdir())):
        with contextlib.suppress(OSError):  # of several processes another may write its log now
            for file in files:
                file.unlink()
            workdir.rmdir()


def start_jax():
    """Imports jax, lets it keep compiled programs between runs, and keeps its logging down."""
    import jax

    if not flags.FLAGS["verbosity"].present:  # jax and orbax tell a lot at INFO
        logging.set_verbosity(logging.WARNING)
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(config_lib.cache_root() / "compiled"))


def main(run: Run):
    """Runs it, as one of several processes where there are more.

    Raises:
        UserError: what the user can put right. Of several processes, each ends at once instead.
    """
    job = importlib.import_module(f"vjax.jobs.{run.job}")
    if "jax" not in sys.modules:  # jobs on files alone start without it
        _log(job, run, "log.txt", new=open_workdir(run))
        return
    start_jax()
    from vjax import distributed

    distributed.join(distributed.Meeting.of(os.environ, **run.processes))
    try:
        if distributed.several() and run.job not in TOGETHER:
            raise UserError(
                f"--job={run.job} runs in one process; {', '.join(TOGETHER)} in several"
            )
        new = distributed.is_first() and open_workdir(run)
        distributed.share(run.workdir)
        number = distributed.process()
        _log(job, run, f"log-{number}.txt" if number else "log.txt", new=new, quiet=number > 0)
    except BaseException as error:
        if not distributed.several():
            raise
        distributed.abandon(_told(error))
    distributed.part()


def _told(error: BaseException) -> int:
    """The exit code for an error, which the user is shown unless the log has it."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, UserError):
        print(f"vjax: {error}", file=sys.stderr)
        return error.code
    traceback.print_exception(error)
    return 1


def _log(job, run: Run, log: str, *, new: bool, quiet: bool = False):
    """Runs the job; what it prints is in the log too, and there alone if `quiet`.

    Args:
        new: the workdir came to be for this, and goes with an error of the user that leaves it so.
    """
    try:
        with console.log_to(run.workdir / log, quiet=quiet):
            try:
                job.run(run.config, run.workdir, fresh=run.fresh)
            except UserError:
                raise
            except Exception:
                traceback.print_exc()  # inside, so that the log has it too
                if quiet:
                    traceback.print_exc(file=sys.__stderr__)
                sys.exit(1)
    except UserError:
        if new:
            _forget(run.workdir)
        raise


def _plainly(function):
    """A user's error ends the program with its message alone."""

    def call(*args):
        try:
            return function(*args)
        except UserError as error:
            sys.exit(_told(error))

    return call


define_flags(flags.FLAGS)

if __name__ == "__main__":
    app.run(_plainly(main), flags_parser=_plainly(lambda argv: parse(argv, flags.FLAGS)))
