"""A train step that runs a frozen tower beside one that reads its features from disk.

    ./launch/local python benchmarks/features.py [--steps=8]

Both in turn, in one process: batches of 24 rows of 128 tokens and four pictures, LoRA of rank 32 on
projector and decoder of vjax-tiny, behind its own tower and behind a larger one with random
weights. With features, a step's time is that of hashing pixels, reading, and the step.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from vjax.config import defaults, freeze
from vjax.console import say, table
from vjax.data import device
from vjax.families import read_spec
from vjax.families.spec import TowerSpec
from vjax.jobs import _features, _model
from vjax.models.video_llm import VideoLLM
from vjax.sharding import make_mesh
from vjax.train.step import TrainState, make_step

ROWS, LENGTH, FRAMES = 24, 128, 4
LARGE = TowerSpec(
    width=384, layers=12, heads=6, ffn=1536, image_size=96, patch_size=16, select_layer=-1
)


def config_of(cache: Path):
    values = defaults()
    values.lora.rank, values.lora.alpha = 32, 32.0
    values.lora.targets = "(projector|decoder)/.*"
    values.model.tower_batch = 8
    values.model.vision_cache = str(cache)
    return freeze(values)


def batch(spec, seed: int) -> dict[str, np.ndarray]:
    """Rows of four pictures each, then text, of which the last eighth is an answer."""
    rng, side, patches = np.random.default_rng(seed), spec.vision.image_size, spec.picture_tokens
    tokens = rng.integers(0, spec.text.vocab, (ROWS, LENGTH)).astype(np.int32)
    index = np.full((ROWS, LENGTH), -1, np.int32)
    shown = min(FRAMES * patches, LENGTH - 32)  # of each row
    for row in range(ROWS):
        index[row, :shown] = row * FRAMES * patches + np.arange(shown)
    weights = np.zeros((ROWS, LENGTH), np.float32)
    weights[:, -LENGTH // 8 :] = 1
    return {
        "tokens": tokens,
        "targets": np.roll(tokens, -1, axis=1),
        "loss_weights": weights,
        "positions": np.broadcast_to(np.arange(LENGTH, dtype=np.int32), tokens.shape).copy(),
        "segment_ids": np.ones((ROWS, LENGTH), np.int32),
        "vision_index": index,
        "images": rng.integers(0, 256, (ROWS * FRAMES, side, side, 3)).astype(np.uint8),
    }


def measure(name: str, spec, steps: int) -> tuple:
    mesh = make_mesh()
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(Path(folder))
        model = VideoLLM(spec, rngs=nnx.Rngs(0))
        _model.prepare(config, model)
        parts = graphdef, trainable, frozen = _model.parts_of(config, model)
        tx = optax.adam(1e-3)
        step = jax.jit(make_step(graphdef, tx))
        state = TrainState(trainable, tx.init(trainable), jnp.zeros((), jnp.int32))
        features = _features.make(config, parts, mesh)
        made = [batch(spec, seed) for seed in range(steps)]
        features(made[0])  # compiled, not measured
        began = time.perf_counter()
        for one in made[1:]:
            features(one)
        filled = (time.perf_counter() - began) / (steps - 1)
        features.store.flush()
        took, losses = {"with": [], "without": []}, {"with": [], "without": []}
        for one in [made[0], *made]:  # the first is not measured
            for how in took:
                began = time.perf_counter()
                given = features(one) if how == "with" else one
                _, metrics = step(state, frozen, device.put(given, mesh))
                losses[how].append(float(metrics["loss"]))
                took[how].append(time.perf_counter() - began)
        size = features.store.bytes / len(features.store)
    assert losses["with"] == losses["without"], "features gave other losses"
    without, cached = (statistics.median(took[how][1:]) for how in ("without", "with"))
    count = sum(x.size for x in jax.tree.leaves(nnx.state(model.tower)))
    columns = (f"{1e3 * x:.0f} ms" for x in (without, cached, filled))
    return (name, f"{count:,}", *columns, f"{cached / without:.2f}", f"{size / 1024:.1f} KiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    tiny = read_spec(_model.TINY)
    large = dataclasses.replace(tiny, vision=LARGE)
    rows = [measure("vjax-tiny's", tiny, args.steps), measure("random", large, args.steps)]
    columns = ("tower", "parameters", "step", "step with features", "computing a batch's")
    say(table((*columns, "ratio", "a picture"), rows))
    say("losses of both are equal to the bit")


if __name__ == "__main__":
    main()
