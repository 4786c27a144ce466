"""The optimiser: its learning rate at named steps, its groups, and what decays."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.tiny_step import LR, adamw, flat, jit, parts
from vjax.train.optimizer import leaf_paths, make, schedule

pytestmark = pytest.mark.smoke


# some of every kind: what is compiled here grows with their number
SOME = (
    r"tower/(patch/\w+|position|layers/(norm1|attn/k)/\w+)"
    r"|projector/fc1/\w+|decoder/(embed|norm/scale|layers/norm2/scale)"
)


@pytest.fixture(scope="module")
def params():
    return parts(SOME)[1]


def moved(params, tx, gradient=1.0):
    """Largest change of every parameter in one step on constant gradients."""
    grads = jax.tree.map(lambda x: jnp.full_like(x, gradient), params)
    updates, _ = jit(lambda grads, params: tx.update(grads, tx.init(params), params))(grads, params)
    return {name: float(np.abs(x).max()) for name, x in flat(updates).items()}


# ---- schedule


def test_cosine_warms_up_linearly_and_falls_to_zero():
    lr = schedule("cosine", lr=0.8, steps=100, warmup=0.08)
    np.testing.assert_allclose(
        [lr(n) for n in (0, 1, 6, 7, 8)], [0.1, 0.2, 0.7, 0.8, 0.8], rtol=1e-6
    )
    for n in (20, 54, 99):
        want = 0.4 * (1 + math.cos(math.pi * (n - 8) / 92))
        np.testing.assert_allclose(lr(n), want, rtol=1e-4)
    assert 0 < lr(99) < 1e-3 and lr(100) == pytest.approx(0, abs=1e-8)


def test_linear_and_constant():
    linear = schedule("linear", lr=1.0, steps=100, warmup=0.2)
    np.testing.assert_allclose([linear(n) for n in (19, 20, 60, 100)], [1, 1, 0.5, 0], atol=1e-6)
    constant = schedule("constant", lr=1.0, steps=100, warmup=0.2)
    np.testing.assert_allclose([constant(n) for n in (0, 19, 50, 99)], [0.05, 1, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 1.0), (10, 1.0), (10, 0.0)])
def test_every_step_of_a_short_run_counts(steps, warmup):
    lr = schedule("cosine", lr=1.0, steps=steps, warmup=warmup)
    rates = [float(lr(n)) for n in range(steps)]
    assert all(0 < rate <= 1 for rate in rates) and max(rates) == 1


def test_an_unknown_schedule_names_those_there_are():
    with pytest.raises(ValueError, match="'cos' is none of cosine, linear, constant"):
        schedule("cos", lr=1.0, steps=10, warmup=0.1)


# ---- groups


def test_groups_multiply_the_learning_rate_and_zero_freezes(params):
    change = moved(params, adamw(params, groups=("tower/.*=0.1", "projector/.*=0", ".*/embed=2")))
    factor = {"tower": 0.1, "projector": 0.0, "decoder": 1.0}
    for name, got in change.items():
        want = 2.0 if name == "decoder/embed" else factor[name.split("/")[0]]
        np.testing.assert_allclose(got, LR * want, rtol=1e-4, err_msg=name)


def test_the_first_matching_group_counts(params):
    change = moved(params, adamw(params, groups=("tower/patch/.*=0.5", "tower/.*=0")))
    assert change["tower/patch/kernel"] == pytest.approx(LR / 2, rel=1e-4)
    assert change["tower/position"] == 0


def test_groups_follow_the_schedule(params):
    rate = schedule("linear", lr=1.0, steps=4, warmup=0.5)
    options = dict(b1=0.0, b2=0.0, eps=1e-8, weight_decay=0.0, clip_norm=0.0)
    tx = make(params, rate, groups=("tower/.*=0.1",), **options)
    state, grads = tx.init(params), jax.tree.map(jnp.ones_like, params)
    update = jit(tx.update)
    for n in range(4):
        updates, state = update(grads, state, params)
        change = flat(updates)
        np.testing.assert_allclose(change["decoder/embed"], -rate(n), rtol=1e-4)
        np.testing.assert_allclose(change["tower/position"], -0.1 * rate(n), rtol=1e-4)


def test_a_group_that_matches_nothing_is_an_error_that_lists_the_paths(params):
    with pytest.raises(
        ValueError, match="'tower' matches no trainable parameter; there are: decoder/em"
    ):
        adamw(params, groups=("tower=0.1",))


def test_paths_are_those_of_the_leaves_in_tree_order(params):
    paths = leaf_paths(params)
    assert paths[:3] == ["decoder/embed", "decoder/layers/norm2/scale", "decoder/norm/scale"]
    shapes = [x.shape for x in jax.tree.leaves(params)]
    assert shapes == [flat(params)[path].shape for path in paths]


# ---- weight decay and clipping


@pytest.mark.parametrize("groups", [(), ("tower/.*=0.5",)])
def test_weight_decay_is_on_matrices_alone(params, groups):
    """Biases and norms of stacked layers have two axes, and are no matrices."""
    change = moved(params, adamw(params, weight_decay=0.1, groups=groups), gradient=0.0)
    for name, got in change.items():
        matrix = name.rsplit("/")[-1] in ("kernel", "embed", "position", "head")
        assert (got > 0) == matrix, name
    want = LR * 0.1 * np.abs(flat(params)["decoder/embed"]).max()
    assert change["decoder/embed"] == pytest.approx(want, rel=1e-4)


def test_weight_decay_reaches_both_adapter_matrices():
    trainable = parts()[1]
    trainable = jax.tree.map(lambda x: x + 1.0, trainable)
    assert min(moved(trainable, adamw(trainable, weight_decay=0.1), gradient=0.0).values()) > 0


def norm_of(tree):
    return math.sqrt(sum(float(np.square(x).sum()) for x in flat(tree).values()))


@pytest.mark.parametrize(("clip_norm", "want"), [(1.0, 1.0), (0.0, None)])
def test_clipping_bounds_the_norm_of_all_gradients_together(params, clip_norm, want):
    """AdamW's update does not show the scale of a first gradient; its first moment does."""
    tx = adamw(params, clip_norm=clip_norm)
    grads = jax.tree.map(lambda x: jnp.full_like(x, 7.0), params)
    _, state = jit(lambda g, p: tx.update(g, tx.init(p), p))(grads, params)
    moments = [
        s.mu for s in jax.tree.leaves(state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(s, "mu")
    ]
    norm = norm_of(moments[0]) / 0.1  # 1 - b1
    assert norm == pytest.approx(want or norm_of(grads), rel=1e-4)
