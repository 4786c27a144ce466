"""Losses of pairs: CLIP's, and SigLIP's, whole or in tiles that go round a ring of devices."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from vjax.attention.ring import around
from vjax.models.dual import DualEncoder


def softmax_loss(
    images: Float[Array, "n D"], texts: Float[Array, "n D"], log_scale: Float[Array, ""]
) -> Float[Array, ""]:
    """Symmetric InfoNCE: each image among all texts, each text among all images, half and half.

    CLIP's (arXiv 2103.00020, figure 3). Logits of all pairs exist at once.

    Args:
      images, texts: of length 1; those of equal index belong together.
    """
    logits = jnp.exp(log_scale) * jnp.matmul(images, texts.T, preferred_element_type=jnp.float32)
    found = jnp.diagonal(jax.nn.log_softmax(logits)) + jnp.diagonal(jax.nn.log_softmax(logits.T))
    return -found.mean() / 2


def dual_loss(
    model: DualEncoder, images: Float[Array, "n D"], texts: Float[Array, "n D"]
) -> Float[Array, ""]:
    """The loss that the model is of: `sigmoid_loss` or `softmax_loss`."""
    scale = model.log_scale[...].reshape(())
    if model.bias is None:
        return softmax_loss(images, texts, scale)
    return sigmoid_loss(images, texts, scale, model.bias[...].reshape(()))


def sigmoid_loss(
    images: Float[Array, "n D"],
    texts: Float[Array, "n D"],
    log_scale: Float[Array, ""],
    bias: Float[Array, ""],
) -> Float[Array, ""]:
    """-sum over all pairs of log sigmoid(z (exp(log_scale) image . text + bias)) / n.

    z is 1 where image and text have the same index, and -1 elsewhere (arXiv 2303.15343,
    algorithm 1). Logits of all pairs exist at once.

    Args:
      images, texts: of length 1.
    """
    return _tile(images, texts, log_scale, bias, True) / len(images)


def ring_sigmoid_loss(
    images: Float[Array, "n D"],
    texts: Float[Array, "n D"],
    log_scale: Float[Array, ""],
    bias: Float[Array, ""],
    axis: str | tuple[str, ...] = ("data", "fsdp"),
) -> Float[Array, ""]:
    """`sigmoid_loss` of rows that are split over axes of the mesh that is set.

    Texts go round, and each device has logits of its images and one device's texts at a time
    (section 3.3 there). Gradients are made on the same round, of which a second is spared.

    Raises:
      ValueError: rows that the axes do not divide.
    """
    return _ring(images, texts, log_scale, bias, axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _ring(images, texts, log_scale, bias, axis):
    return _once_round(images, texts, log_scale, bias, axis, gradients=False)[0]


def _forward(images, texts, log_scale, bias, axis):
    return _once_round(images, texts, log_scale, bias, axis, gradients=True)


def _backward(axis, grads, dloss):
    return jax.tree.map(lambda grad: (grad * dloss).astype(grad.dtype), grads)


_ring.defvjp(_forward, _backward)


def _once_round(images, texts, log_scale, bias, axis, *, gradients: bool):
    """The loss, and its gradients or Nones."""
    n = len(images)

    def local(images, texts, *scalars):
        # as values of this device alone, or each tile's gradient of them would be summed at once
        scalars = lax.pcast(scalars, axis, to="varying")

        def meet(host, texts):
            own, (loss, d_images, d_scalars) = host
            if not gradients:
                loss = loss + _tile(images, texts, *scalars, own)
                return (jnp.zeros_like(own), (loss, None, None)), None
            more, (d_i, gift, *d_s) = jax.value_and_grad(_tile, argnums=(0, 1, 2, 3))(
                images.astype(jnp.float32), texts.astype(jnp.float32), *scalars, own
            )
            sums = jax.tree.map(jnp.add, (loss, d_images, d_scalars), (more, d_i, d_s))
            return (jnp.zeros_like(own), sums), gift

        zero = lax.pcast(jnp.float32(0), axis, to="varying")
        d_images, d_scalars = None, None
        if gradients:
            d_images, d_scalars = jnp.zeros_like(images, jnp.float32), [zero, zero]
        host = jnp.array(True), (zero, d_images, d_scalars)
        (_, (loss, d_images, d_scalars)), d_texts = around(meet, host, texts, axis)
        loss, d_scalars = lax.psum((loss, d_scalars), axis)
        return loss / n, jax.tree.map(lambda g: g / n, (d_images, d_texts, d_scalars))

    rows, whole = PartitionSpec(axis), PartitionSpec()
    loss, (d_images, d_texts, d_scalars) = jax.shard_map(
        local, in_specs=(rows, rows, whole, whole), out_specs=(whole, (rows, rows, whole))
    )(images, texts, log_scale, bias)
    if not gradients:
        return loss, None
    like = images, texts, log_scale, bias
    grads = d_images, d_texts, *d_scalars
    return loss, tuple(g.astype(x.dtype) for g, x in zip(grads, like, strict=True))


def _tile(images, texts, log_scale, bias, own):
    """Sum over pairs, float32; a pair of equal index matches in the tile of `own` texts."""
    logits = jnp.exp(log_scale) * jnp.matmul(images, texts.T, preferred_element_type=jnp.float32)
    z = jnp.where(own & jnp.eye(len(images), dtype=bool), 1.0, -1.0)
    return -jnp.sum(jax.nn.log_sigmoid(z * (logits + bias)))
