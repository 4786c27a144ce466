"""Data workers import what stands above the line: no jax may come with it."""

import subprocess
import sys
from pathlib import Path

import pytest

import vjax

ROOT = Path(vjax.__file__).parent
ROOMS = ("families", "video", "fragments", "prompts", "data")
WITH_JAX = {"vjax.data.device", "vjax.data.pipeline"}  # grain, which pipeline is for, imports jax
BUILDERS = "vjax.data.tfds_builders."  # import TensorFlow Datasets and Beam, which few need
HEAVY = (
    "jax", "jaxlib", "flax", "optax", "orbax", "grain", "torch", "transformers",
    "tensorflow", "tensorflow_datasets", "apache_beam",
)  # fmt: skip

pytestmark = pytest.mark.smoke


def modules_above_the_line() -> list[str]:
    files = [ROOT / f"{name}.py" for name in ("__init__", "schema", "config", "console", "main")]
    for room in ROOMS:
        files += sorted((ROOT / room).rglob("*.py"))
    names = [".".join(("vjax", *file.relative_to(ROOT).with_suffix("").parts)) for file in files]
    names = [name.removesuffix(".__init__") for name in names]
    return [n for n in names if n not in WITH_JAX and not n.startswith(BUILDERS)]


def test_modules_above_the_line_import_without_jax():
    code = (
        "import importlib, sys\n"
        f"for name in {modules_above_the_line()!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_of_main_imports_no_jax():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vjax.main", "--help"],
        capture_output=True,
        text=True,
    )
    assert "--config" in done.stdout, done.stderr
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "ml_collections" in imported  # the listing is there
    assert not imported & set(HEAVY)


def test_public_names_are_found_lazily():
    assert set(vjax.__all__) <= set(dir(vjax))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        vjax.lod  # noqa: B018
