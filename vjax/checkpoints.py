"""Training state on disk: the checkpoint set of WORKSPACE.md, by Orbax.

A step is one directory that appears whole or not at all. Arrays are saved under plain names
(`decoder/layers/attn/q/lora_a`, `1/0/mu/...`), so that no library's inner types are on disk.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from flax import nnx

from vjax.console import UserError

ARRAYS = ("trainable", "optimizer")
JSON = ("counters", "config")


@dataclasses.dataclass(frozen=True)
class CheckpointSet:
    """What `restore` gives. `trainable` and `optimizer` are None where nobody asked for them."""

    step: int
    trainable: Any
    optimizer: Any
    counters: dict
    config: dict


class Checkpoints:
    """The checkpoints of one run. Reading changes nothing; saving keeps the newest few.

    Args:
      directory: made on the first save; a path or a gs:// address.
      max_to_keep: older steps are deleted beyond it; None keeps all.
      save_interval: `save` acts on multiples of it, in steps.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        max_to_keep: int | None = None,
        save_interval: int = 1,
    ):
        remote = "://" in str(directory)
        self.directory = epath.Path(directory if remote else os.path.abspath(directory))
        self.max_to_keep = max_to_keep
        self.save_interval = save_interval
        self._manager: ocp.CheckpointManager | None = None
        for path in self._half_written():
            logging.warning("%s is half-written: ignored, the next save removes it", path)

    def steps(self) -> list[int]:
        """The whole checkpoints there are, oldest first."""
        if not self.directory.exists():
            return []
        named = (path for path in self.directory.iterdir() if path.name.isdigit())
        return sorted(int(path.name) for path in named if _is_whole(path))

    def latest_step(self) -> int | None:
        """The newest whole checkpoint, None if there is none."""
        return max(self.steps(), default=None)

    def save(
        self,
        step: int,
        trainable: Any,
        optimizer: Any,
        counters: Mapping,
        config: Mapping,
        *,
        force: bool = False,
    ) -> bool:
        """Saves in the background; waits only for a save that is still under way.

        Args:
          trainable, optimizer: pytrees of arrays (an nnx.State, an optax state, ...); they may be
            donated as soon as this returns.
          counters, config: JSON.
          force: save whatever `save_interval` says.

        Returns:
          Whether this step is saved: not between intervals, nor where it is already there.

        Raises:
          ValueError: a tree without arrays.
        """
        if step % self.save_interval and not force:
            return False
        manager = self._manager or self._open()
        manager.wait_until_finished()
        if step in manager.all_steps():
            return False
        trees = {"trainable": _named(trainable), "optimizer": _named(optimizer)}
        for name, tree in trees.items():
            if not tree:
                raise ValueError(f"step {step}: {name} holds no arrays, there is nothing to save")
        return manager.save(
            step,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardSave(tree) for name, tree in trees.items()},
                counters=ocp.args.JsonSave(dict(counters)),
                config=ocp.args.JsonSave(dict(config)),
            ),
            force=True,
        )

    def restore(self, step: int | None = None, *, like: Mapping[str, Any]) -> CheckpointSet:
        """Reads a checkpoint; arrays are equal to the bit and lie as `like` says.

        Args:
          step: None for the newest.
          like: {"trainable": tree, "optimizer": tree}, or one of them, or none. Leaves are arrays
            or jax.ShapeDtypeStruct; each saved array goes to its leaf's sharding (the default
            device where it has none).

        Raises:
          UserError: no such checkpoint, a broken one, or one whose arrays differ from `like` in
            name, shape or dtype, all named.
        """
        self.wait()
        found = self.steps()
        step = max(found, default=None) if step is None else step
        if step not in found:
            raise UserError(
                f"{self.directory}: no checkpoint of step {step}; found {found or 'none'}"
            )
        path = self.directory / str(step)
        try:
            values = _read(path, {name: like[name] for name in ARRAYS if name in like})
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: broken ({error}); delete it to go on from an older"
            ) from error
        return CheckpointSet(step=step, **dict.fromkeys(ARRAYS) | values)

    def wait(self):
        """Returns when what was saved is on disk; raises what went wrong there."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def close(self):
        """Waits, and lets go of threads."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _half_written(self) -> list[epath.Path]:
        if not self.directory.exists():
            return []
        steps = [path for path in self.directory.iterdir() if path.name.split(".")[0].isdigit()]
        return sorted(path for path in steps if not (path.name.isdigit() and _is_whole(path)))

    def _open(self) -> ocp.CheckpointManager:
        # one of them would count as the newest step
        for path in self._half_written() if jax.process_index() == 0 else ():
            path.rmtree()
        options = ocp.CheckpointManagerOptions(max_to_keep=self.max_to_keep)
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        return self._manager


def _is_whole(step: epath.Path) -> bool:
    return all((step / name).exists() for name in (*ARRAYS, *JSON, "_CHECKPOINT_METADATA"))


def _is_variable(leaf) -> bool:
    return isinstance(leaf, nnx.Variable)


def _named(tree) -> dict[str, jax.Array]:
    """name -> array (or ShapeDtypeStruct), in the order in which `jax.tree` sees the leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_variable)
    named = {
        jax.tree_util.keystr(path, simple=True, separator="/"): _value(leaf)
        for path, leaf in leaves
    }
    return {name: value for name, value in named.items() if hasattr(value, "shape")}


def _value(leaf: Any) -> Any:
    """An array; or what optax leaves in its place for a variable of another group."""
    return leaf.get_value() if _is_variable(leaf) else leaf


def _filled(leaf: Any, read: Iterator[jax.Array]) -> Any:
    """The leaf with the array read for it; one that holds none, as it is."""
    if not hasattr(_value(leaf), "shape"):
        return leaf
    return leaf.replace(next(read)) if _is_variable(leaf) else next(read)


def _read(path: epath.Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON items of a step, and the arrays of `like` in its trees and on its devices."""
    want = {item: _named(tree) for item, tree in like.items()}
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    handlers = {name: ocp.StandardCheckpointHandler() for name in ARRAYS}
    handlers |= {name: ocp.JsonCheckpointHandler() for name in JSON}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(**handlers)) as reader:
        there = reader.metadata(path).item_metadata
        args = {name: ocp.args.JsonRestore() for name in JSON}
        for item, leaves in want.items():
            _compare(path / item, there[item].tree, leaves)
            target = {
                name: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None) or here
                )
                for name, leaf in leaves.items()
            }
            args[item] = ocp.args.StandardRestore(target)
        values = dict(reader.restore(path, args=ocp.args.Composite(**args)))
    for item, tree in like.items():
        old, treedef = jax.tree_util.tree_flatten(tree, is_leaf=_is_variable)
        read = iter([values[item][name] for name in want[item]])
        new = [_filled(leaf, read) for leaf in old]
        values[item] = jax.tree_util.tree_unflatten(treedef, new)
    return values


def _compare(path: epath.Path, saved: Mapping[str, Any], asked: Mapping[str, Any]):
    """Raises UserError, with names, where the saved arrays are not those asked for."""
    problems = [f"only in the checkpoint: {name}" for name in saved.keys() - asked.keys()]
    problems += [f"not in the checkpoint: {name}" for name in asked.keys() - saved.keys()]
    for name in saved.keys() & asked.keys():
        one, two = ((tuple(x.shape), str(x.dtype)) for x in (saved[name], asked[name]))
        if one != two:
            problems.append(f"{name}: saved {one}, asked for {two}")
    if problems:
        raise UserError(f"{path} holds other arrays\n  " + "\n  ".join(sorted(problems)))
