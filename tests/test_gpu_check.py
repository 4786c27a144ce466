"""launch/gpu_check without a GPU: in miniature on a CPU, and lowered for one that is not here."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import gpu_check
from tests.attention import dense
from tests.attention.test_cudnn import as_if_on_a_gpu  # noqa: F401 - a fixture
from vjax.attention import api
from vjax.plan.machines import CHIPS, chip_of
from vjax.sharding import programs_for

SCRIPT = gpu_check.ROOT / "launch" / "gpu_check"


def check(path, *flags):
    """The exit code, what is printed, and the JSON."""
    done = subprocess.run(
        [SCRIPT, f"--out={path}", "--miniature", *flags],
        env=os.environ | {"PYTHON": sys.executable, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    return done, json.loads(path.read_text()) if path.exists() else None


def complete(result):
    """What every result says, whatever was asked for."""
    assert result["miniature"] is True
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", result["made"])
    about = result["machine"]
    assert about["platform"] == "cpu"
    assert about["chip"] is None
    assert set(about["absent"]) >= {"cudnn", "splash"}
    assert {"jax", "jaxlib", "flax", "numpy"} <= set(about["versions"])
    for row in result["attention"]:
        assert row["verdict"] == "equal", row
        assert set(row["errors"]) == {"out", "dq", "dk", "dv"}
    for row in result["speed"] + result["step"]:
        assert row["verdict"] == "ran"
        assert row["seconds"] > 0
    for row in result["ring"]:
        assert row["bytes"]["backward"] > row["bytes"]["forward"] > 0
        assert all(of["forward"] > 0 and of["backward"] > 0 for of in row["hides"].values())


def test_a_hop_and_what_is_not_here(tmp_path):
    done, result = check(tmp_path / "made.json", "--only=ring|attention (splash|cudnn)")
    assert done.returncode == 0, done.stderr
    complete(result)
    assert [(s["name"], s["status"]) for s in result["sections"]] == [
        ("attention cudnn", "not here"),
        ("attention splash", "not here"),
        ("ring", "done"),
    ]
    assert "attention splash: not here: a TPU; this is cpu" in done.stdout
    # keys, values and ids there; float32 gradients of keys and values beside them on the way back
    assert result["ring"][0]["bytes"] == {"forward": 4224, "backward": 4224 + 8192}


@pytest.mark.slow
def test_all_of_it_in_miniature(tmp_path):
    done, result = check(tmp_path / "made.json")
    assert done.returncode == 0, done.stdout + done.stderr
    complete(result)
    assert [s["name"] for s in result["sections"]] == list(gpu_check.SECTIONS)
    assert {row["backend"] for row in result["attention"]} >= {"xla", "chunked"}
    assert [row["model"] for row in result["step"]] == ["Qwen2-VL-7B", "Qwen2-VL-2B"]
    for row in result["step"]:
        assert row["mfu"] is None  # of a chip that is not in the table
        assert row["model_flops"] > 0
        assert row["losses"][-1] < row["losses"][0]


def test_a_section_that_hangs_costs_no_other(monkeypatch, tmp_path, capsys):
    """And what there is no time for is named."""
    about = {"platform": "cpu", "absent": {}, "device": "cpu", "driver": ""}
    monkeypatch.setattr(gpu_check, "_apart_machine", lambda: about)
    monkeypatch.setattr(gpu_check, "SECTIONS", ("ring", "step 2B 64"))
    monkeypatch.setattr(gpu_check, "LIMIT", {"ring": 0.2, "step": 0.2})
    monkeypatch.setattr(gpu_check, "LEAST", 0.1)
    clock = iter([0, 0, 440, 446, 446])
    monkeypatch.setattr(gpu_check.time, "monotonic", lambda: next(clock, 446))
    out = tmp_path / "new" / "made.json"  # in a folder that is made
    monkeypatch.setattr(sys, "argv", ["gpu_check", f"--out={out}", "--minutes=7.5"])
    assert gpu_check.main() == 1
    result = json.loads(out.read_text())
    said = [(s["status"], s["why"]) for s in result["sections"]]
    assert said == [("timed out", "killed after 0 s"), ("left out", "no time left")]
    assert "step 2B 64: left out, no time left" in capsys.readouterr().out


def test_wheels_are_pinned_and_pure():
    done = subprocess.run(
        [SCRIPT, "--wheels"],
        env=os.environ | {"PYTHON": sys.executable, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    names = {line.partition("==")[0] for line in lines if not line.startswith("#")}
    assert {"flax", "optax", "einops", "jaxtyping"} <= names
    assert not {"jax", "jaxlib", "numpy", "pytest", "torch"} & names
    assert "msgpack" in "".join(line for line in lines if line.startswith("#"))


def test_packages_of_the_tests_are_not_needed():
    absent = ("pytest", "hypothesis", "beartype", "torch", "transformers", "skimage")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import benchmarks.gpu_check"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=gpu_check.ROOT
    )
    assert done.returncode == 0, done.stderr


def test_a_python_without_jax_is_told_in_a_line_where_the_wheels_are_listed(tmp_path):
    bare = tmp_path / "python3"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # sees no installed package
    bare.chmod(0o755)
    done = subprocess.run(
        [SCRIPT, "--wheels"], env=os.environ | {"PYTHON": str(bare)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "has no jax" in done.stderr and "gpu_check --wheels" in done.stderr


@pytest.fixture
def nothing_runs(monkeypatch):
    """nothing_runs(flag, ...): the exit code of a call that must end before any section."""
    monkeypatch.delattr(gpu_check, "everything")

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["gpu_check", *flags])
        return gpu_check.main()

    return call


@pytest.mark.parametrize(
    ("only", "said"),
    [("rinng", "is found in no section: attention xla, "), ("(", "is no regular expression: ")],
)
def test_a_pattern_of_no_section_is_refused(nothing_runs, tmp_path, capsys, only, said):
    out = tmp_path / "made.json"
    assert nothing_runs(f"--out={out}", f"--only={only}") == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"launch/gpu_check: --only={only} {said}")
    assert output.err.count("\n") == 1 and not out.exists()


def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(
    nothing_runs, tmp_path, capsys
):
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "made.json"):
        assert nothing_runs(f"--out={out}") == 2
        assert f"--out={out} cannot be written: " in capsys.readouterr().err


def test_an_option_is_not_guessed_from_its_beginning(nothing_runs, capsys):
    with pytest.raises(SystemExit):
        nothing_runs("--onl=ring")
    assert "unrecognized arguments: --onl=ring" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["xla", "chunked", "cudnn"])
def test_backends_lower_for_a_gpu(as_if_on_a_gpu, backend):  # noqa: F811
    for name, (B, T, S, N, K, H), fields in gpu_check.cases(small=False):
        sizes = ((B, T, N, H), (B, S, K, H), (B, S, K, H), (B, T, N, H))
        given = [jax.ShapeDtypeStruct(size, jnp.bfloat16) for size in sizes]
        mask = dense.as_mask(fields)
        if api.BACKENDS[backend].lacks(given[0], given[1], mask):
            assert (backend, name) == ("cudnn", "causal, odd length")
            continue
        traced = gpu_check.both(backend, mask).trace(*given)
        assert ("cudnn" in traced.lower(lowering_platforms=("cuda",)).as_text()) == (
            backend == "cudnn"
        )


@pytest.mark.parametrize(("model", "frames"), [("2B", 16), ("7B", 64)])
def test_steps_lower_for_a_gpu(as_if_on_a_gpu, model, frames):  # noqa: F811
    with programs_for("gpu"):
        call, _, shapes, _, needed = gpu_check.made_step(model, frames, small=False)
        text = call.trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmhaScaleBiasSoftmaxBackward" in text
    weights = {"2B": 1.5e9, "7B": 7.6e9}[model]  # of the decoder: 4 FLOPs for each and token
    assert needed > 0.8 * 4 * weights * shapes[2]["tokens"].size


def test_what_is_seen_is_what_the_reference_says():
    for name, (B, T, S, *_), fields in gpu_check.cases(small=True):
        want = dense.see(B, T, S, **fields)
        assert (gpu_check.see(B, T, S, **fields) == want).all(), name


def test_chips_by_the_name_that_jax_has():
    assert chip_of("NVIDIA H200") is CHIPS["h200"]
    assert chip_of("NVIDIA H100 PCIe") is None
    assert chip_of("TPU v5 lite") is CHIPS["v5e"]
