"""First stage of vjax-tiny: the tower learns to see single frames.

From each frame's features small heads, thrown away afterwards, have to tell what is there (objects,
wall, background process), where and in what state it is, each patch's own pixels and whether there
is noise among them, and which of the other frames is the same moment.

In one trial captions alone left a fresh tower at chance for some 880 steps: its features drifted
to one large vector. After five minutes of naming (and a lower learning rate and larger token
embeddings, changed at the same time and not told apart) the decoder named colours.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import rearrange, reduce
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from vjax.data.sight import STATE
from vjax.models.layers import Dense, LayerNorm
from vjax.models.vit import Tower

CELL = 8  # pixels are told at CELL x CELL a patch
TEMPERATURE = 0.1


class Seeing(nnx.Module):
    """A tower and what reads its features.

    Attributes:
      name: from mean and maximum over patches, logits of all classes.
      queries, look, tell: a query per object picks patches by attention; a small MLP tells the
        object's state from them.
      pixels: from a patch's feature, its pixels.
      noise: from a patch's feature, the logit of noise in it.
      moment: from a patch's feature, a vector that equals that of any patch of the same moment, so
        that a decoder's attention finds a moment from any patch of it.
    """

    def __init__(self, tower: Tower, classes: tuple[int, ...], *, rngs: nnx.Rngs):
        self.tower = tower
        self.classes = classes
        D = tower.spec.width

        def dense(into, out):
            return Dense(into, out, ("embed", "ffn"), bias=True, stack=(), rngs=rngs)

        self.norm = LayerNorm(D, 1e-6, stack=())
        self.name = dense(2 * D, sum(classes))
        self.queries = nnx.Param(0.3 * rngs.params.normal((classes[0] + 1, D)))
        self.look = dense(D, D)
        self.tell1, self.tell2 = dense(2 * D, 2 * D), dense(2 * D, STATE)
        self.pixels = dense(D, 3 * CELL * CELL)
        self.noise = dense(D, 1)
        self.moment = dense(D, D)

    def __call__(self, images: UInt8[Array, "V H W 3"], asked: Int[Array, "V Q"]):
        """Logits [V, classes], states [V, Q, STATE], and of patches: pixels [V, P, 3 CELL^2],
        logits of noise [V, P], moments [V, P, D]."""
        x = self.norm(self.tower(images))
        whole = jnp.concatenate([x.mean(1), x.max(1)], axis=-1)
        q = self.queries[...][asked]
        scores = jnp.einsum("vqd,vpd->vqp", q, self.look(x)) / x.shape[-1] ** 0.5
        seen = jnp.einsum("vqp,vpd->vqd", jax.nn.softmax(scores), x)
        states = self.tell2(jax.nn.gelu(self.tell1(jnp.concatenate([seen, q], -1))))
        return self.name(whole), states, self.pixels(x), self.noise(x)[..., 0], self.moment(x)


def contrast(vectors: Float[Array, "V P D"], label: Int[Array, " V"]) -> Float[Array, "V P"]:
    """Supervised contrastive loss (arXiv 2004.11362, equation 2): equal labels are positives.

    Each patch looks for the other images of its label; an image is the mean over its patches.
    """
    x = vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    itself = jnp.eye(len(x), dtype=bool)
    scores = jnp.einsum("vpd,ud->pvu", x, x.mean(1)) / TEMPERATURE
    log_p = jax.nn.log_softmax(jnp.where(itself, -jnp.inf, scores))
    same = (label[:, None] == label) & ~itself
    return -(jnp.where(same, log_p, 0.0).sum(-1) / same.sum(-1)).T


def seeing_loss(model: Seeing, batch: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
    """Mean over images of the summed losses, and each of them.

    `batch` is that of vjax.data.sight.SightBatches. Objects are a yes or no each, background and
    ambient one of many; a state is nan where there is nothing to tell; pixels are those of the
    images themselves, at CELL x CELL a patch; a patch's noise is its share of the noise there is.
    """
    things, grounds, _ = model.classes
    logits, states, pixels, noise, moments = model(batch["images"], batch["asked"])
    ce = optax.softmax_cross_entropy_with_integer_labels
    known = ~jnp.isnan(batch["state"])
    off = jnp.where(known, jnp.abs(states - jnp.nan_to_num(batch["state"])), 0.0)
    size = model.tower.spec.patch_size
    cells = reduce(
        batch["images"].astype(jnp.float32) / 127.5 - 1, "v (h a) (w b) c -> v h w c", "mean",
        a=size // CELL, b=size // CELL,
    )  # fmt: skip
    cells = rearrange(cells, "v (h a) (w b) c -> v (h w) (a b c)", a=CELL, b=CELL)
    covered = reduce(
        batch["noise"].astype(jnp.float32), "v (h a) (w b) -> v (h w)", "sum", a=size, b=size
    )
    parts = {
        "objects": optax.sigmoid_binary_cross_entropy(logits[:, :things], batch["objects"]).sum(-1),
        "background": ce(logits[:, things : things + grounds], batch["background"]),
        "ambient": ce(logits[:, things + grounds :], batch["ambient"]),
        "state": off.sum((1, 2)),
        "pixels": jnp.square(pixels - cells).mean((1, 2)),
        "noise": optax.sigmoid_binary_cross_entropy(
            noise, covered / jnp.maximum(covered.sum(1, keepdims=True), 1.0)
        ).sum(-1),
        "moment": contrast(moments, batch["moment"]),
    }
    parts = {name: part.mean() for name, part in parts.items()}
    return sum(parts.values()), parts


def train_tower(
    tower: Tower, classes: tuple[int, ...], batch_of: Callable[[int], dict[str, np.ndarray]], *,
    steps: int, lr: float, seed: int, on_step: Callable[[int, dict[str, Array]], None],
) -> Tower:  # fmt: skip
    """The tower after `steps` batches of seeing; `on_step(step, losses)` is for the log."""
    graphdef, state = nnx.split(Seeing(tower, classes, rngs=nnx.Rngs(seed)))
    schedule = optax.warmup_cosine_decay_schedule(0.0, lr, max(1, steps // 12), steps, 0.05 * lr)
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, 0.9, 0.98, weight_decay=0.05)
    )

    @jax.jit
    def step(state, optimizer, batch):
        (_, parts), grads = jax.value_and_grad(
            lambda state: seeing_loss(nnx.merge(graphdef, state), batch), has_aux=True
        )(state)
        updates, optimizer = tx.update(grads, optimizer, state)
        return optax.apply_updates(state, updates), optimizer, parts

    optimizer = tx.init(state)
    for n in range(steps):
        state, optimizer, parts = step(state, optimizer, jax.tree.map(jnp.asarray, batch_of(n)))
        on_step(n + 1, parts)
    return nnx.merge(graphdef, state).tower
