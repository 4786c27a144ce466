"""Features of a frozen tower from disk: the losses of a run that computes them, to the bit."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from tests.jobs.conftest import losses
from vjax.config import ConfigError
from vjax.console import UserError
from vjax.jobs import _corpus, _features, _fit, _model, train
from vjax.sharding import make_mesh

FROZEN = ("--config.lora.targets=decoder/layers/mlp/down|projector/fc1", "--config.train.steps=4",
          "--config.model.tower_batch=3")  # fmt: skip


@pytest.fixture
def train_only(parsed, tmp_path):
    """train_only(name, flag, ...): what steps without any evaluation lose."""

    def fit(name, *flags, change=lambda loaded: loaded):
        workdir = tmp_path / name
        config = parsed(workdir, *FROZEN, *flags).config
        loaded = change(_model.load(config))
        tools = _fit.make_tools(config, loaded.trainable)
        make_batch, _ = train.make_batches(config, _corpus.prepare(config), loaded)
        workdir.mkdir()
        _fit.fit(config, workdir, make_batch, loaded.parts, loaded.video, *tools)
        return losses(workdir)

    return fit


@pytest.mark.parametrize(
    "mesh", [{}, pytest.param({"fsdp": 2, "context": 2, "tensor": 2}, marks=pytest.mark.slow)],
    ids=str,
)  # fmt: skip
def test_losses_with_and_without_are_the_same_to_the_bit(train_only, tmp_path, mesh, capsys):
    if np.prod([*mesh.values(), 1]) > jax.device_count():
        pytest.skip("needs 8 devices")
    flags = [f"--config.mesh.{axis}={size}" for axis, size in mesh.items()]
    want = train_only("without", *flags)
    kept = f"--config.model.vision_cache={tmp_path / 'features'}"
    assert train_only("cold", kept, *flags) == want
    assert ", of which 0 went" not in capsys.readouterr().out
    assert train_only("warm", kept, *flags) == want
    assert ", of which 0 went through the tower" in capsys.readouterr().out


def test_altered_features_end_the_run_and_are_named(train_only, tmp_path):
    folder = tmp_path / "features"
    train_only("cold", f"--config.model.vision_cache={folder}")
    for file in folder.glob("*.npy"):
        file.write_bytes(file.read_bytes()[:128].ljust(file.stat().st_size, b"\0"))
    said = rf"model.vision_cache: {folder}/\w+\.npy: row \d+ is not what its checksum"
    with pytest.raises(UserError, match=said):
        train_only("warm", f"--config.model.vision_cache={folder}")


def test_each_count_of_pictures_is_of_what_was_done_since_the_last(parsed, tmp_path, capsys):
    kept = f"--config.model.vision_cache={tmp_path / 'features'}"
    config = parsed(tmp_path / "run", *FROZEN, kept).config
    loaded = _model.load(config)
    made = _features.make(config, loaded.parts, make_mesh())
    side = loaded.video.image_size
    images = np.zeros((2, side, side, 3), np.uint8)
    images[1] = 255
    for what in ("before", "after"):
        made({"images": images})
        made.close(what)
    lines = [line.split(";")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == [
        "before: 2 pictures, of which 2 went through the tower",
        "after: 2 pictures, of which 0 went through the tower",
    ]


def test_a_folder_that_cannot_be_is_refused(parsed, tmp_path):
    (tmp_path / "file").touch()
    config = parsed(
        tmp_path / "run", *FROZEN, f"--config.model.vision_cache={tmp_path}/file"
    ).config
    with pytest.raises(UserError, match="model.vision_cache: .*/file: no features can be kept"):
        _features.make(config, _model.load(config).parts, make_mesh())


def test_another_tower_s_features_are_refused(parsed, tmp_path):
    kept = f"--config.model.vision_cache={tmp_path / 'features'}"
    config = parsed(tmp_path / "run", *FROZEN, kept).config
    loaded = _model.load(config)
    _features.make(config, loaded.parts, make_mesh())

    def other(path, leaf):
        return leaf + 1e-3 if "tower" in path and "patch" in path else leaf

    flat = nnx.to_flat_state(loaded.frozen)
    moved = [(path, other(path, leaf)) for path, leaf in flat]
    changed = dataclasses.replace(loaded, frozen=nnx.from_flat_state(moved))
    with pytest.raises(UserError, match=r"otherwise:\n  weights: '\w{32}' -> '\w{32}'\nname"):
        _features.make(config, changed.parts, make_mesh())
    larger = dataclasses.replace(
        config, model=dataclasses.replace(config.model, dtype="bfloat16", tower_batch=4)
    )
    with pytest.raises(UserError, match=r"dtype: 'float32' -> 'bfloat16'\n  tower_batch: 3 -> 4"):
        _features.make(larger, loaded.parts, make_mesh())


def test_a_tower_that_trains_has_no_features_to_keep(parsed, tmp_path):
    kept = f"--config.model.vision_cache={tmp_path / 'features'}"
    config = parsed(tmp_path / "run", kept, "--config.model.tower_batch=3").config
    with pytest.raises(UserError, match=r"tower/layers/attn/q/lora_\w trains: leave the tower out"):
        _features.make(config, _model.load(config).parts, make_mesh())


def test_parts_of_one_size_have_to_be_asked_for(parsed, tmp_path):
    with pytest.raises(ConfigError, match="needs parts of one size.*model.tower_batch=8"):
        parsed(tmp_path, f"--config.model.vision_cache={tmp_path}")


@pytest.mark.slow
def test_a_whole_run_scores_every_item_the_same(run, tmp_path):
    kept = f"--config.model.vision_cache={tmp_path / 'features'}"
    run(tmp_path / "without", *FROZEN)
    run(tmp_path / "with", *FROZEN, kept)
    names = sorted(path.name for path in (tmp_path / "without" / "eval").iterdir())
    assert len(names) == 4  # two suites, before and after
    for name in names:
        want, got = ((tmp_path / of / "eval" / name).read_text() for of in ("without", "with"))
        assert got == want, name
