"""The sigmoid loss, in one piece and round a ring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.tiny_step import jit
from vjax.sharding import make_mesh
from vjax.train.contrastive import ring_sigmoid_loss, sigmoid_loss

pytestmark = pytest.mark.smoke

n, D = 16, 8


def arrays():
    rng = np.random.default_rng(0)
    images, texts = rng.standard_normal((2, n, D))
    images, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    return [jnp.asarray(x, jnp.float32) for x in (images, texts, np.log(10), -10)]


def by_hand(images, texts, log_scale, bias):
    """Loss and gradients, pair by pair, float64."""
    x, y, log_scale, bias = (np.asarray(a, np.float64) for a in (images, texts, log_scale, bias))
    loss, dx, dy, d_scale, d_bias = 0.0, np.zeros_like(x), np.zeros_like(y), 0.0, 0.0
    for i, j in np.ndindex(len(x), len(y)):
        z, dot, t = 1 if i == j else -1, x[i] @ y[j], np.exp(log_scale)
        loss += np.log1p(np.exp(-z * (t * dot + bias))) / len(x)
        g = -z / (1 + np.exp(z * (t * dot + bias))) / len(x)
        dx[i] += g * t * y[j]
        dy[j] += g * t * x[i]
        d_scale += g * t * dot
        d_bias += g
    return loss, (dx, dy, d_scale, d_bias)


def check(got, atol=1e-6):
    want = by_hand(*arrays())
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=atol), got, want)


def test_dense():
    check(jit(jax.value_and_grad(sigmoid_loss, argnums=(0, 1, 2, 3)))(*arrays()))


def test_dense_is_the_loss_of_siglip():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text = sizes | {"num_attention_heads": 2, "vocab_size": 32, "max_position_embeddings": 4}
    vision = sizes | {"num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    torch.manual_seed(0)
    model = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config=vision)
    )
    with torch.no_grad():
        model.logit_scale.fill_(np.log(10))
        model.logit_bias.fill_(-3)
        out = model(torch.randint(0, 32, (n, 4)), torch.randn(n, 3, 8, 8), return_loss=True)
    pair = (jnp.asarray(x.numpy()) for x in (out.image_embeds, out.text_embeds))
    got = sigmoid_loss(*pair, jnp.log(10.0), jnp.float32(-3))
    np.testing.assert_allclose(got, out.loss, rtol=1e-5)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize(
    ("mesh", "axis"),
    [
        ({"data": 2}, "data"),
        ({"data": 8}, "data"),
        ({"data": 2, "fsdp": 2, "context": 2}, ("data", "fsdp")),
    ],
)
def test_ring(mesh, axis):
    def loss(*args):
        return ring_sigmoid_loss(*args, axis)

    with jax.set_mesh(make_mesh(**mesh)):
        got = jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))(*arrays())
        alone = jit(loss)(*arrays())
    check(got)
    np.testing.assert_allclose(alone, got[0], rtol=1e-6)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_logits_of_all_pairs_exist_nowhere():
    rows, scalar = jax.ShapeDtypeStruct((4096, 16), "float32"), jax.ShapeDtypeStruct((), "float32")
    with jax.set_mesh(make_mesh(data=8)):
        fn = jax.value_and_grad(lambda *a: ring_sigmoid_loss(*a, "data"), argnums=(0, 1, 2, 3))
        program = jit(fn).lower(rows, rows, scalar, scalar).compile()
    tile = 4 * (4096 // 8) ** 2
    assert program.memory_analysis().temp_size_in_bytes < 8 * tile  # all pairs: 64 tiles
    assert "all-gather" not in program.as_text()
