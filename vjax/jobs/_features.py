"""Features of a frozen tower, computed once: what is not in the store goes through the tower."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vjax import distributed
from vjax.config import Config
from vjax.console import UserError, say
from vjax.data.features import FeatureStore, Looked, Unusable, keys_of, looked
from vjax.jobs._model import dtype_of
from vjax.models.lora import path_str
from vjax.models.video_llm import look
from vjax.sharding import place

GB, MB = 10**9, 10**6


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Around all that reads and writes features: a folder that cannot serve is a UserError.

    It comes from the threads that make batches, too.
    """
    try:
        yield
    except Unusable as error:
        raise UserError(f"model.vision_cache: {error}") from error


def make(config: Config, parts: tuple, mesh: Mesh) -> "Features | None":
    """What model.vision_cache asks for; None where it asks for nothing.

    Args:
      parts: graphdef, trainable and frozen variables.

    Raises:
      UserError: a tower that trains, or a folder that cannot serve: of another one's features,
        damaged, or none.
    """
    if not config.model.vision_cache:
        return None
    try:
        return Features(config, parts, mesh)
    except ValueError as error:
        raise UserError(f"model.vision_cache: {error}") from error


class Features:
    """Batches with features in the place of pictures.

    The tower runs on parts of model.tower_batch pictures a device, as it does in the step of a run
    without the store: the same program gives the same bits. To be used where errors are `told`.

    Raises:
      ValueError: as `make`.
    """

    def __init__(self, config: Config, parts: tuple, mesh: Mesh):
        graphdef, trainable, frozen = parts
        names = (path_str(path) for path, _ in nnx.to_flat_state(trainable))
        if moving := [name for name in names if name.startswith(("tower/", "still_tower/"))]:
            raise ValueError(
                f"features are kept of a tower that stays as it is, and {moving[0]} trains: "
                "leave the tower out of lora.targets and train.trainable "
                "(--config.lora.targets='(projector|decoder)/.*'), or set no vision_cache"
            )
        model = nnx.merge(graphdef, trainable, frozen)
        options, self.mesh, dtype = config.model, mesh, dtype_of(config)
        how, state = nnx.split((model.tower, model.still_tower))
        with jax.set_mesh(mesh):
            self.state = place(mesh, state)
        vision = model.spec.vision
        count = options.tower_batch * mesh.size
        self.shape = (count, vision.image_size, vision.image_size, 3)
        self.lie = NamedSharding(mesh, PartitionSpec(mesh.axis_names))

        def features(state, images):
            return look(*nnx.merge(how, state), images, dtype=dtype)

        images = jax.ShapeDtypeStruct(self.shape, jnp.uint8)
        with jax.set_mesh(mesh):
            made = jax.eval_shape(features, self.state, images)
        layout = {name: (x.shape[1:], str(x.dtype)) for name, x in made.items()}
        self.look = jax.jit(features, out_shardings=self.lie)
        settings = {"weights": _hash(self.state), "dtype": options.dtype}
        for name in ("vision", "still_vision"):
            spec = getattr(model.spec, name)
            fields = dataclasses.asdict(spec) if spec is not None else {}
            settings |= {f"{name}.{key}": value for key, value in fields.items()}
        settings |= {"tower_batch": options.tower_batch, "attention": options.attention}
        settings |= {"jax": jax.__version__, "device": mesh.devices.flat[0].device_kind}
        most = options.vision_cache_gb * GB
        self.store = FeatureStore(options.vision_cache, settings, layout, most)
        self.seen = self.computed = 0

    def wrap(self, make_batch) -> Looked:
        """The same batches, with the features that are on disk already."""
        return Looked(make_batch, self.store)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The batch of numpy arrays with all its features and without pictures.

        To be called by all processes for the same batches.
        """
        if "known" not in batch:
            batch = looked(batch, self.store)
        batch = dict(batch)
        images, known = batch.pop("images"), batch.pop("known").reshape(-1)
        images = images.reshape(-1, *images.shape[-3:])
        self.seen += len(known)
        missing = np.flatnonzero(~known)
        keys = keys_of(images[missing])
        first = {key: n for n, key in reversed([*enumerate(keys)])}  # equal pictures once
        rows = self._features(images[missing[[*first.values()]]], [*first])
        order = {key: n for n, key in enumerate(first)}
        at = [order[key] for key in keys]
        for name, values in rows.items():
            whole = batch[name].copy()
            whole.reshape(len(known), *values.shape[1:])[missing] = values[at]
            batch[name] = whole
        return batch

    def _features(self, images: np.ndarray, keys: list[bytes]) -> dict[str, np.ndarray]:
        """Of pictures, in as many parts as the process with most of them needs."""
        known, fields = self.store.read(keys)  # others of this batch's time may have added some
        todo = np.flatnonzero(~known)
        slots = self.lie.addressable_devices_indices_map(self.shape).values()
        starts = sorted({index[0].indices(self.shape[0])[0] for index in slots})
        each = self.shape[0] // self.mesh.size
        here = each * len(starts)
        parts = -(-len(todo) // here)
        if distributed.several():
            parts = int(multihost_utils.process_allgather(np.array(parts)).max())
        for part in range(parts):
            some = todo[part * here : (part + 1) * here]
            block = np.zeros((here, *self.shape[1:]), np.uint8)
            block[: len(some)] = images[some]

            def piece(index, block=block):
                at = starts.index(index[0].indices(self.shape[0])[0]) * each
                return block[at : at + each]

            with jax.set_mesh(self.mesh):
                placed = jax.make_array_from_callback(self.shape, self.lie, piece)
                made = self.look(self.state, placed)
            made = {name: _local(x, starts)[: len(some)] for name, x in made.items()}
            self.store.add([keys[n] for n in some], made)
            for name, values in made.items():
                fields[name][some] = values
        self.computed += len(todo)
        return fields

    def close(self, what: str):
        """Writes what is not on disk yet, and says what the store was good for since the last time.

        Args:
          what: was done meanwhile.
        """
        self.store.flush()
        if self.seen and distributed.is_first():
            size, folder = self.store.bytes, self.store.directory
            kept = f"{size / GB:,.2f} GB" if size >= GB else f"{size / MB:,.2f} MB"
            say(
                f"{what}: {self.seen:,} pictures, of which {self.computed:,} went through the "
                f"tower; features of {len(self.store):,} ({kept}) are in {folder}"
            )
        self.seen = self.computed = 0


def _local(x: jax.Array, starts: list[int]) -> np.ndarray:
    """The rows that this process' devices hold, in order."""
    held = {shard.index[0].indices(len(x))[0]: shard.data for shard in x.addressable_shards}
    return np.concatenate([np.asarray(held[start]) for start in starts])


def _hash(state: nnx.State) -> str:
    """32 hex digits (BLAKE2b) of all variables."""
    said = hashlib.blake2b(digest_size=16)
    for path, leaf in sorted(nnx.to_flat_state(state), key=lambda item: path_str(item[0])):
        value = distributed.fetch(leaf[...])
        said.update(f"{path_str(path)} {value.shape} {value.dtype}".encode())
        said.update(np.ascontiguousarray(value).tobytes())
    return said.hexdigest()
