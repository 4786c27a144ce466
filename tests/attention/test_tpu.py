"""Programs compiled for TPUs that are not there: v5e, 2 x 2 chips. Needs `pip install libtpu`."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding

from vjax.attention import Mask, attend
from vjax.sharding import MESH_AXES, partition_spec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu is not installed: nothing is compiled for TPUs",
    ),
]

B, T, N, K = 4, 4096, 8, 4


@pytest.fixture
def compiled(monkeypatch):
    """(mesh shape, head size, packed, options of attend) -> scheduled HLO of loss and gradients."""
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")  # or it asks the network what machine this is
    from jax.experimental import topologies

    chips = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")

    def build(shape, H=128, *, packed=True, **options):
        types = (AxisType.Auto,) * 4
        mesh = Mesh(np.array(chips).reshape(shape), MESH_AXES, axis_types=types)

        def loss(q, k, v, ids):
            mask = (
                Mask(causal=True, q_segments=ids, kv_segments=ids) if packed else Mask(causal=True)
            )
            return jnp.square(attend(q, k, v, mask, **options).astype(jnp.float32)).sum()

        split = "length" if mesh.shape["context"] > 1 else None
        where = NamedSharding(mesh, partition_spec(("batch", split)))
        shapes = [((B, T, heads, H), "bfloat16") for heads in (N, K, K)] + [((B, T), "int32")]
        args = (jax.ShapeDtypeStruct(*x, sharding=where) for x in shapes)
        with jax.set_mesh(mesh):
            return jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*args).compile().as_text()

    return build


@pytest.mark.parametrize("H", [64, 128])
@pytest.mark.parametrize("packed", [True, False])
def test_long_rows_take_splash(compiled, H, packed):
    text = compiled((2, 1, 1, 2), H, packed=packed)
    kernels = set(re.findall(r"splash_mha_(?:fwd|dq|dkv)\w*", text))
    kind = "segmented_" if packed else ""
    assert {f"splash_mha_{part}_{kind}no_residuals" for part in ("dq", "dkv")} <= kernels


def test_ulysses_takes_splash(compiled):
    text = compiled((1, 1, 4, 1), context_parallel="ulysses")
    assert "splash_mha_fwd" in text
    assert "all-to-all" in text


def test_the_next_keys_of_the_ring_travel_while_blocks_are_computed(compiled):
    text = compiled((1, 1, 4, 1), context_parallel="ring")
    assert "all-gather" not in text
    events = re.compile(r"(collective-permute-start|collective-permute-done|while)\(")
    hops = 0
    for body in text.split("\n\n"):
        order = events.findall(body)
        if "collective-permute-start" not in order:
            continue
        at = order.index("while")  # the first loop over blocks
        assert "collective-permute-start" in order[:at]
        assert "collective-permute-done" in order[at:]
        hops += 1
    assert hops == 3  # the middle of both rounds; their first and last hops, side by side
