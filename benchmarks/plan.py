"""What SF2T and long rows cost on TPU pods: steps compiled for machines that are not here.

    ./launch/local python benchmarks/plan.py [--only=PATTERN] [--out=docs/results/plan.md]

Needs libtpu (pip install libtpu), no TPU and no weights. On 2 cores a 7B step takes about two
minutes to compile.
"""

import argparse
import dataclasses
import json
import re
import tempfile
import time
from pathlib import Path

from tests.interop.test_sizes import RELEASED, text  # sizes of released models, no weights
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for name, model, pod, more in recipes():
        if not re.search(args.only, f"{name} {model} {pod}"):
            continue
        machine, began = Machine.named(pod), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(MODELS[model]))
            config = config_of(Path(folder), more)
            made, _ = plan.plan(config, machine)
        memory = made.memory
        row = {
            "run": name, "model": model, "machine": pod, "tokens": made.tokens,
            **{k: v for k, v in dataclasses.asdict(memory).items()},
            "fits": made.fits, "bound": made.bound,
            "step": max(made.seconds.values()), "mfu": made.mfu,
            "change": "" if made.fits else suggest(config, memory, machine.chip.memory),
            "compile": time.perf_counter() - began,
        }  # fmt: skip
        say(json.dumps(row))
        rows.append(row)
    if args.out:
        args.out.write_text(page(rows))


HEAD = """# What steps cost on TPU pods

Made by `./launch/local python benchmarks/plan.py --out=docs/results/plan.md` with libtpu's
compiler and no TPU. LoRA of rank 32 on the decoder, bfloat16, layers rematerialised; rows as long
as 64 frames of 224 pixels (LLaVA-OneVision: 384) and 128 tokens of text. Compiled: memory, which
XLA's TPU compiler allots. Counted: FLOPs in what is traced, collectives in what is compiled.
Estimated from data sheets: the step, as long as the longest of products, memory and links, and with
it MFU; both are best cases, nothing was run.

"""
COLUMNS = (
    "run", "model", "machine", "tokens a step", "arguments", "temporaries", "of a chip", "step",
    "bound by", "MFU",
)  # fmt: skip


def page(rows) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |\n", "|---" * len(COLUMNS) + "|\n"]
    for row in rows:
        limit = gib(Machine.named(row["machine"]).chip.memory)
        verdict = limit if row["fits"] else f"{limit}: **does not fit**, {row['change']}"
        lines.append(
            f"| {row['run']} | {row['model']} | {row['machine']} | {row['tokens']:,} | "
            f"{gib(row['arguments'])} | {gib(row['temporaries'])} | {verdict} | "
            f"{row['step']:.2f} s | {row['bound']} | {row['mfu']:.0%} |\n"
        )
    return HEAD + "".join(lines)


if __name__ == "__main__":
    main()
