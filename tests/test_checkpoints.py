"""The checkpoint set: equal to the bit, atomic, and clear about what does not fit."""

import logging
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import nnx

from tests.models import tiny
from vjax.checkpoints import Checkpoints
from vjax.console import UserError
from vjax.models import lora
from vjax.models.layers import LoRAParam
from vjax.train import optimizer

pytestmark = pytest.mark.smoke

COUNTERS = {"step": 3, "data_position": 2**53 + 1, "tokens": 123456789012, "seed": 0}
CONFIG = {"lr": 1e-3, "name": "é", "spec": {"fps": 4.0, "tags": [1, None, True]}}


def state():
    """Adapters of a tiny model and an optimizer that has taken a step."""
    model = tiny.model()
    lora.add(model, rank=2, alpha=4.0, dropout=0.0, targets="decoder/.*/(q|down)", rngs=nnx.Rngs(0))
    trainable = nnx.state(model, LoRAParam)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.constant_schedule(1e-3)))
    grads = jax.tree.map(jnp.ones_like, trainable)
    updates, optimizer = tx.update(grads, tx.init(trainable), trainable)
    return optax.apply_updates(trainable, updates), optimizer


@pytest.fixture(scope="module")
def trees():
    return state()


def save(checkpoints, step, trees, **kwargs):
    return checkpoints.save(step, *trees, COUNTERS | {"step": step}, CONFIG, **kwargs)


def like(trees):
    """The same trees as shapes: nothing of the values is needed to restore."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), trees)
    return dict(zip(("trainable", "optimizer"), shapes, strict=True))


def test_round_trip_is_bit_equal(tmp_path, trees):
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert save(checkpoints, 3, trees)
    again = Checkpoints(tmp_path / "c").restore(like=like(trees))
    assert again.step == 3
    assert again.counters == COUNTERS
    assert again.config == CONFIG
    got = again.trainable, again.optimizer
    assert jax.tree.structure(got) == jax.tree.structure(trees)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(trees), strict=True):
        assert a.dtype == b.dtype and isinstance(a, jax.Array)
        np.testing.assert_array_equal(a, b)
    assert any(x.dtype == jnp.int32 and x == 1 for x in jax.tree.leaves(got[1]))  # the count


def test_an_optimizer_in_groups_comes_back(tmp_path):
    """Optax leaves an empty node in a group's state for every variable of another group."""
    trainable, _ = state()
    tx = optimizer.make(
        trainable, optax.constant_schedule(1e-3), b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.0,
        clip_norm=1.0, groups=("decoder/.*/q/.*=0.5",),
    )  # fmt: skip
    trees = trainable, tx.init(trainable)
    with Checkpoints(tmp_path) as checkpoints:
        assert save(checkpoints, 3, trees)
    again = Checkpoints(tmp_path).restore(like=like(trees))
    assert jax.tree.structure(again.optimizer) == jax.tree.structure(trees[1])
    jax.tree.map(np.testing.assert_array_equal, again.optimizer, trees[1])


def test_odd_values_and_dtypes(tmp_path):
    values = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
    tree = {
        "f": jnp.asarray(values),
        "b": jnp.asarray(values.astype(ml_dtypes.bfloat16)),
        "n": np.arange(3, dtype=np.int32),
        "list": [jnp.uint8(7)],
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, tree, {"count": jnp.int32(0)}, {}, {})
        got = checkpoints.restore(like={"trainable": tree}).trainable
    for name in "fbn":
        assert np.asarray(got[name]).tobytes() == np.asarray(tree[name]).tobytes()
    assert got["list"][0] == 7


def test_what_nobody_asks_for_is_not_read(tmp_path, trees):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, trees)
        again = checkpoints.restore(like={})
    assert again.trainable is None and again.optimizer is None
    assert again.config == CONFIG


def test_arrays_go_to_the_sharding_asked_for(tmp_path, trees):
    mesh = jax.make_mesh((1,), ("data",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    asked = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=spread), trees[0]
    )
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, trees)
        got = checkpoints.restore(like={"trainable": asked}).trainable
    assert {x.sharding for x in jax.tree.leaves(got)} == {spread}


def test_only_the_newest_are_kept(tmp_path, trees):
    with Checkpoints(tmp_path, max_to_keep=2) as checkpoints:
        for step in (1, 2, 3):
            assert save(checkpoints, step, trees)
        assert not save(checkpoints, 3, trees)  # it is there already
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
        assert checkpoints.latest_step() == 3
        assert checkpoints.restore(2, like={}).counters["step"] == 2


def test_save_interval(tmp_path, trees):
    with Checkpoints(tmp_path, save_interval=10) as checkpoints:
        assert [save(checkpoints, step, trees) for step in (9, 10, 11)] == [False, True, False]
        assert save(checkpoints, 12, trees, force=True)
        checkpoints.wait()
        assert checkpoints.steps() == [10, 12]


def test_donated_buffers_do_not_reach_the_disk(tmp_path):
    """On CPU a host array may share memory with the device's: the next step overwrites it."""
    bump = jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)
    tree = bump({str(i): jnp.zeros(200_000) for i in range(5)})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree, {"count": jnp.int32(1)}, {}, {})
        for _ in range(30):
            tree = bump(tree)
        got = checkpoints.restore(like={"trainable": tree}).trainable
    assert {float(x.min()) for x in got.values()} == {float(x.max()) for x in got.values()} == {1.0}


def test_an_empty_directory(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.latest_step() is None
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="no checkpoint of step None; found none"):
        checkpoints.restore(like={})


def half_written(directory, kind, step):
    whole = directory / "2"
    if kind == "killed while writing":
        shutil.copytree(whole / "trainable", directory / f"{step}.orbax-checkpoint-tmp/trainable")
    else:
        shutil.copytree(whole, directory / str(step))
        shutil.rmtree(directory / str(step) / "optimizer")


@pytest.mark.parametrize("kind", ["killed while writing", "copied in part"])
def test_half_written_steps_are_ignored_with_a_warning(tmp_path, trees, kind, caplog):
    with Checkpoints(tmp_path, max_to_keep=2) as checkpoints:
        save(checkpoints, 1, trees)
        save(checkpoints, 2, trees)
    half_written(tmp_path, kind, 5)
    logging.getLogger("absl").propagate = True
    with caplog.at_level("WARNING"), Checkpoints(tmp_path, max_to_keep=2) as checkpoints:
        assert f"{tmp_path}/5" in caplog.text and "half-written" in caplog.text
        assert checkpoints.latest_step() == 2
        assert checkpoints.restore(like={}).step == 2
        caplog.clear()
        assert save(checkpoints, 3, trees)  # though 5 is "later"
        assert save(checkpoints, 5, trees)
        checkpoints.wait()
        assert checkpoints.steps() == [3, 5]
        checkpoints.restore(5, like=like(trees))
    assert not caplog.records  # nothing else to say


def test_another_tree_names_its_leaves(tmp_path, trees):
    saved = {"a": jnp.ones(3), "b": jnp.ones(3), "same": jnp.ones(2)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, saved, {"count": jnp.int32(1)}, {}, {})
        asked = {"a": jnp.ones(4), "layers": {"c": jnp.ones(3)}, "same": jnp.ones(2)}
        with pytest.raises(UserError, match="trainable holds other arrays") as error:
            checkpoints.restore(like={"trainable": asked})
        lines = str(error.value).splitlines()[1:]
        assert lines == [
            "  a: saved ((3,), 'float32'), asked for ((4,), 'float32')",
            "  not in the checkpoint: layers/c",
            "  only in the checkpoint: b",
        ]


def test_a_broken_step_says_which(tmp_path, trees):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 4, trees)
    for file in (tmp_path / "4" / "counters").iterdir():
        file.write_text("{")
    with pytest.raises(UserError, match=r"4: broken"):
        Checkpoints(tmp_path).restore(like={})
