"""What SF2T and long rows cost on TPU pods: steps compiled for machines that are not here.

    ./launch/local python benchmarks/plan.py [--only=PATTERN] [--out=docs/results/plan.md]

Needs libtpu (pip install libtpu), no TPU and no weights. On 2 cores a 7B step takes about two
minutes to compile. Rows are saved as they come, and taken from there when the command is given
again; without that file (--record) all are made anew.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.released import RELEASED, text
from vjax import config as config_lib
from vjax.console import say
from vjax.jobs import plan
from vjax.plan.machines import Machine
from vjax.plan.step import gib, suggest

SEVEN = text(3584, 28, 28, 4, 18944, 152064)
MODELS = {name: RELEASED[name] for name in ("Qwen2-VL-2B", "Qwen2-VL-7B", "LLaVA-OneVision-7B")}
MODELS["a decoder of 7B"] = SEVEN | {"model_type": "qwen2", "tie_word_embeddings": False}
PODS = ("v5e:4x4", "v5e:16x16", "v6e:16x16", "v5p:4x4x8")
LENGTHS = (1 << 17, 1 << 19, 1 << 20)


def recipes():
    """(name, model, machine, overrides) of every row of the page."""
    for model in list(MODELS)[:3]:
        for pod in PODS:
            chips = Machine.named(pod).count
            more = {"mesh.fsdp": chips, "train.batch_size": chips, "plan.frames": 64}
            more["model.image_size"] = 384 if "LLaVA" in model else 224
            if "LLaVA" in model and chips > 128:  # its tower's width of 1,152 into a side of these
                more = {"mesh.data": 16, **more, "mesh.fsdp": chips // 16}
            yield "SF2T, 64 frames, a row a chip", model, pod, more
    for length in LENGTHS:
        for method in ("ring", "all_gather"):
            chips = Machine.named("v5p:4x4x8").count
            more = {"mesh.context": chips, "train.batch_size": 1, "plan.tokens": length,
                    "model.context_parallel": method}  # fmt: skip
            yield f"a row of {length // 1024}K, {method}", "a decoder of 7B", "v5p:4x4x8", more


def config_of(folder: Path, more: dict):
    values = config_lib.defaults()
    values.model.path = str(folder)
    values.model.dtype = "bfloat16"
    values.train.remat = True
    values.lora.rank, values.lora.alpha = 32, 64.0
    values.lora.targets = "decoder/.*"
    for key, value in more.items():
        group, _, name = key.partition(".")
        setattr(values[group], name, value)
    return config_lib.freeze(values)


def planned(recipe) -> dict:
    """What `vjax.jobs.plan` says of a recipe, and the recipe."""
    name, model, pod, more = recipe
    machine, began = Machine.named(pod), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(MODELS[model]))
        config = config_of(Path(folder), more)
        made, sizes = plan.plan(config, machine)
    return {
        "recipe": recipe,
        **plan.as_json(made, sizes),
        "change": "" if made.fits else suggest(config, made.memory, machine.chip.memory),
        "compile": time.perf_counter() - began,
    }


def rows(
    recipes: Iterable, record: Path, only: str = "", minutes: float = 25, made: bool = False
) -> list[dict]:
    """A row for each recipe that `only` is found in: from the record, or made and put there.

    Each is made in a process of its own, so that one that takes too long or too much memory costs
    no other; such a row has `error` alone, and is made again by the next call. With `made` none is
    made now.
    """
    lines = record.read_text().splitlines() if record.exists() else []
    known = {json.dumps(row["recipe"]): row for row in map(json.loads, lines)}
    found = []
    for recipe in recipes:
        if not re.search(only, " ".join(recipe[:3])):
            continue
        key = json.dumps(recipe)
        if key not in known:
            row = _apart(key, minutes) if not made else {"recipe": recipe, "error": "no time yet"}
            say(json.dumps(row))
            known[key] = row
            if "error" not in row:
                record.parent.mkdir(parents=True, exist_ok=True)
                with record.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        found.append(known[key])
    return found


def _apart(key: str, minutes: float) -> dict:
    command = [sys.executable, __file__, f"--one={key}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * minutes)
    except subprocess.TimeoutExpired:
        return {"recipe": json.loads(key), "error": f"not compiled in {minutes:g} minutes"}
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return {"recipe": json.loads(key), "error": said}
    return json.loads(done.stdout.splitlines()[-1])


def changed(recipe, change: str):
    """The recipe with the settings that the planner suggests."""
    name, model, pod, more = recipe
    settings = dict(re.findall(r"--config\.(\S+)=(\S+)", change))
    says = "that row with " + ", ".join(f"{key}={value}" for key, value in settings.items())
    return says, model, pod, {**more, **{k: json.loads(v.lower()) for k, v in settings.items()}}


def arguments(about: str) -> argparse.ArgumentParser:
    """Those of a page that is made of `rows`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--record", type=Path, default=Path("runs/plan.jsonl"))
    parser.add_argument("--made", action="store_true", help="a page of what is in the record")
    return parser


def main():
    parser = arguments(__doc__)
    parser.add_argument("--one", help="of the recipes, as JSON: for this command itself")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(planned(json.loads(args.one))))
        return
    made = []
    for recipe in recipes():
        for row in rows([recipe], args.record, args.only, made=args.made):
            made.append(row)
            if row.get("change"):
                made += rows([changed(recipe, row["change"])], args.record, made=args.made)
    if args.out:
        args.out.write_text(page(made))


HEAD = """# What steps cost on TPU pods

Made by `./launch/local python benchmarks/plan.py --out=docs/results/plan.md` with libtpu's
compiler and no TPU: what `--job=plan` says of the mesh and the rows of a line with
`--config.lora.rank=32 --config.lora.targets="decoder/.*" --config.model.dtype=bfloat16
--config.train.remat=True`, rows as long as 64 frames of 224 pixels (LLaVA-OneVision: 384) and 128
tokens of text. Compiled: memory, which XLA's TPU compiler allots. Counted: FLOPs in what is traced,
collectives in what is compiled. Estimated from data sheets: the step, as long as the longest of
products, memory and links, and with it MFU; both are best cases, nothing was run.

"""
COLUMNS = (
    "run", "model", "machine", "mesh", "rows", "tokens a step", "arguments", "temporaries",
    "of a chip", "step", "bound by", "MFU",
)  # fmt: skip


def page(rows) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |\n", "|---" * len(COLUMNS) + "|\n"]
    for row in rows:
        name, model, pod, more = row["recipe"]
        if "error" in row:
            lines.append(f"| {name} | {model} | {pod} | not made: {row['error']} |\n")
            continue
        mesh = " ".join(f"{key[5:]}={n}" for key, n in more.items() if key[:5] == "mesh." and n > 1)
        memory = row["memory"]
        verdict = limit = gib(memory["limit"])
        if not row["fits"]:
            verdict = f"{limit}: **does not fit**, {row['change']}"
        # links count in what is compiled, and nothing is where the compiler refuses
        known = row["traffic"] or row["fits"]
        step = f"{row['seconds'][row['bound']]:.2f} s | {row['bound']} | {row['mfu']:.0%}"
        size = f"{mesh} | {more['train.batch_size']} | {row['tokens']:,}"
        needs = f"{gib(memory['arguments'])} | {gib(memory['temporaries'])} | {verdict}"
        lines.append(
            f"| {name} | {model} | {pod} | {size} | {needs} | {step if known else ' | | '} |\n"
        )
    return HEAD + "".join(lines) + long_rows(rows)


def long_rows(rows) -> str:
    """How temporaries grow with a device's part of a row, and where all_gather no longer fits."""
    parts = ["\n## Rows that 128 chips share\n"]
    for method in ("ring", "all_gather"):
        found = [
            (row["tokens"] // row["recipe"][3]["mesh.context"], row["memory"]["temporaries"], row)
            for row in rows
            if row["recipe"][3].get("model.context_parallel") == method and "error" not in row
        ]
        if len(found) < 3:
            continue
        local, temporaries, made = zip(*sorted(found, key=lambda one: one[0]), strict=True)
        power, _ = np.polyfit(np.log(local), np.log(temporaries), 1)
        slope, start = np.polyfit(local, temporaries, 1)
        above, _ = np.polyfit(np.log(local), np.log(np.array(temporaries) - start), 1)
        memory = made[-1]["memory"]
        room = memory["limit"] - memory["arguments"] - memory["code"] - start
        most = int(room / slope) * made[-1]["recipe"][3]["mesh.context"]
        each = ", ".join(f"{1e-3 * n:,.0f}" for n in np.diff(temporaries) / np.diff(local))
        parts.append(
            f"`{method}`: temporaries at local lengths of {', '.join(f'{n:,}' for n in local)} "
            f"tokens grow as length to the power {power:.2f} (fitted), and to the power "
            f"{above:.2f} above the {gib(start)} that do not grow: from one length to the next "
            f"{each} kB a token. Along that line a chip of {made[-1]['machine']} is full at a row "
            f"of {most / 1e6:.1f}M tokens (extrapolated).\n"
        )
    return "\n".join(parts) if len(parts) > 1 else ""


if __name__ == "__main__":
    main()
