"""Plans of runs: their bytes are those of the live arrays, their tokens those of the batches."""

import dataclasses
import importlib.util
import json
import math

import jax
import numpy as np
import pytest

from vjax import main
from vjax.config import freeze, to_dict
from vjax.jobs import _fit, _model, plan
from vjax.jobs._fit import make_optimizer
from vjax.plan import machines
from vjax.plan.machines import CHIPS, Machine
from vjax.plan.step import Memory, refusal, suggest

ROOMY = Machine("cpu:1", CHIPS["cpu"], 1)


@pytest.fixture(scope="module")
def config(parsed, tmp_path_factory):
    return parsed(tmp_path_factory.mktemp("plan"), "--config.plan.frames=0").config


@pytest.fixture(scope="module")
def made(config):
    return plan.plan(config, ROOMY)


def with_settings(config, text):
    """The config with what a suggestion's flags set."""
    values = to_dict(config)
    for flag in text.split():
        if flag.startswith("--config."):
            key, _, value = flag.removeprefix("--config.").partition("=")
            group, _, name = key.partition(".")
            values[group][name] = json.loads(value.lower())
    return freeze(values)


def test_bytes_are_those_of_the_live_arrays(config, made):
    loaded = _model.load(config)
    tx, _ = make_optimizer(config, loaded.trainable)
    live = {
        "trainable": loaded.trainable,
        "frozen": loaded.frozen,
        "optimizer": tx.init(loaded.trainable),
    }
    for name, tree in live.items():
        leaves = jax.tree.leaves(tree)
        assert made[1][name] == (sum(x.size for x in leaves), sum(x.nbytes for x in leaves)), name


def test_tokens_are_those_of_the_batches(config, made):
    batch = plan._first_batch(config)
    assert made[0].tokens == batch["tokens"].size


def test_rows_of_frames_have_room_for_them(config):
    """Where no batches are made, rows as long as the frames of the plan and a question take."""
    spec = _model.slowed_spec(_model.interface(config).folder, config)
    some = dataclasses.replace(config, plan=dataclasses.replace(config.plan, frames=4))
    fields, tokens = plan.batch(some, spec, plan.mesh_over(jax.devices()[:1], (1, 1, 1, 1)))
    assert fields["images"].shape[0] == 4 * config.train.batch_size
    assert tokens == fields["tokens"].size >= config.train.batch_size * 4 * spec.frame_tokens


def test_a_plan_for_gpus_is_made_without_one(config):
    """By programs that this machine has: cuDNN's attention is not among them."""
    values = to_dict(config)
    values["model"]["dtype"] = "bfloat16"
    values["plan"] |= {"frames": 4, "tokens": 1024}
    made, _ = plan.plan(freeze(values), Machine.named("h200:1"))
    assert made.machine.chip.memory == 141e9
    assert made.fits


def needs(config):
    count = math.prod(dataclasses.astuple(config.mesh))
    return plan.plan(config, Machine(f"cpu:{count}", CHIPS["cpu"], count))[0].memory


@pytest.mark.parametrize(
    ("case", "remat", "rows", "tokens", "devices", "share"),
    [
        ("remat", False, 16, 1024, 1, 0.95),
        ("batch_size", True, 16, 1024, 1, 0.95),
        ("context", True, 2, 4096, 2, 0.8),
    ],
)
def test_what_is_suggested_makes_it_fit(config, case, remat, rows, tokens, devices, share):
    config = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, remat=remat, batch_size=rows),
        plan=dataclasses.replace(config.plan, frames=24, tokens=tokens),
        mesh=dataclasses.replace(config.mesh, fsdp=devices),
    )
    memory = needs(config)
    limit = int(share * memory.total)
    why = refusal(config, memory, limit)
    assert "most of it for temporaries" in why
    change = suggest(config, memory, limit)
    assert case in change
    assert change in why
    assert needs(with_settings(config, change)).total <= limit


def test_a_step_that_fits_is_not_refused(config):
    assert refusal(config, Memory(1, 1, 1, 1), 4) == ""


def test_a_run_that_does_not_fit_is_refused_before_any_step(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machines, "memory_of", lambda device: 1 << 20)
    monkeypatch.setattr(_fit, "platform", lambda: "gpu")
    workdir = tmp_path / "run"
    with pytest.raises(SystemExit):
        run(workdir, "--config.eval.items_procedural=0", "--config.eval.items_scene=0")
    said = capsys.readouterr().err
    assert "the step needs" in said
    assert "most of it for temporaries" in said
    assert "first thing to change: --config.train.remat=True" in said
    assert not (workdir / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--plan.topology=v9:4x4"], "chips that are known: v5e, v5p"),
        (["--plan.topology=v5e:4by4"], "write v5e:4x4"),
        (["--plan.topology=v5p:4x4"], "write v5p:4x4x8"),
        (["--plan.topology=cpu:8"], "has 8 chips, and the mesh"),
        (["--plan.topology=cpu:512", "--config.mesh.data=512"], "here are 8"),
    ],
)
def test_what_cannot_be_planned(run, tmp_path, capsys, flags, error):
    with pytest.raises(SystemExit):
        run(tmp_path / "run", "--job=plan", *flags)
    assert error in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_vjax_tiny_on_sixteen_tpus(tmp_path, capsys):
    flags = ["--job=plan", "--plan.topology=v5e:4x4", "--config.mesh.fsdp=16",
             "--config.train.batch_size=16", "--config.plan.frames=4"]  # fmt: skip
    main.main(main.parse(["vjax", "--config=experiments/sf2t.py", f"--workdir={tmp_path}", *flags]))
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["fits"]
    assert told["memory"]["limit"] == 16 << 30
    assert told["tokens"] == 16 * 192
    assert {row["axes"] for row in told["traffic"]} >= {"fsdp"}
    assert np.isfinite(told["mfu"])
    assert "bound by" in capsys.readouterr().out
