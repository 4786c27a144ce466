"""First stage of vjax-tiny: the tower learns to name what single frames show.

In one trial captions alone left a fresh tower at chance for some 880 steps: its features drifted
to one large vector. After five minutes of naming (and a lower learning rate and larger token
embeddings, changed at the same time and not told apart) the decoder named colours.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, UInt8

from vjax.models.layers import Dense, LayerNorm
from vjax.models.vit import Tower


class Naming(nnx.Module):
    """A tower and a linear reading of its features' mean and maximum over patches."""

    def __init__(self, tower: Tower, classes: tuple[int, ...], *, rngs: nnx.Rngs):
        self.tower = tower
        self.classes = classes
        width = tower.spec.width
        self.norm = LayerNorm(width, 1e-6, stack=())
        self.head = Dense(2 * width, sum(classes), ("embed", "ffn"), bias=True, stack=(), rngs=rngs)

    def __call__(self, images: UInt8[Array, "V H W 3"]) -> Float[Array, "V classes"]:
        x = self.norm(self.tower(images))
        return self.head(jnp.concatenate([x.mean(1), x.max(1)], axis=-1))


def naming_loss(model: Naming, batch: dict[str, Array]) -> Array:
    """Mean over images of the summed losses.

    `objects` [V, pairs] marks the (colour, shape) pairs that are there, each a yes or no;
    `background` and `ambient` [V] are one of many.
    """
    things, grounds, _ = model.classes
    logits = model(batch["images"])
    ce = optax.softmax_cross_entropy_with_integer_labels
    objects = optax.sigmoid_binary_cross_entropy(logits[:, :things], batch["objects"]).sum(-1)
    background = ce(logits[:, things : things + grounds], batch["background"])
    ambient = ce(logits[:, things + grounds :], batch["ambient"])
    return (objects + background + ambient).mean()


def train_tower(tower: Tower, classes, batch_of, *, steps: int, lr: float, seed: int, on_step):
    """The tower after `steps` batches of naming; `on_step(step, loss)` is for the log."""
    graphdef, state = nnx.split(Naming(tower, classes, rngs=nnx.Rngs(seed)))
    schedule = optax.warmup_cosine_decay_schedule(0.0, lr, max(1, steps // 12), steps, 0.05 * lr)
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, 0.9, 0.98, weight_decay=0.05)
    )

    @jax.jit
    def step(state, optimizer, batch):
        loss, grads = jax.value_and_grad(
            lambda state: naming_loss(nnx.merge(graphdef, state), batch)
        )(state)
        updates, optimizer = tx.update(grads, optimizer, state)
        return optax.apply_updates(state, updates), optimizer, loss

    optimizer = tx.init(state)
    for n in range(steps):
        state, optimizer, loss = step(state, optimizer, jax.tree.map(jnp.asarray, batch_of(n)))
        on_step(n + 1, loss)
    return nnx.merge(graphdef, state).tower
