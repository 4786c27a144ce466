"""The mesh and the one table that says which array axis lies on which mesh axis."""

import math

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MESH_AXES = ("data", "fsdp", "context", "tensor")

# logical name -> mesh axes; an axis is named once, in the module that makes it
RULES: dict[str, tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "length": ("context",),
    "images": ("data", "fsdp"),
    "layers": None,
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "ffn": ("tensor",),
    "vocab": ("tensor",),
    "patch": None,
    "position": None,
    "rank": None,
    "norm": None,
    "bias": None,
}


def make_mesh(data: int = 1, fsdp: int = 1, context: int = 1, tensor: int = 1) -> Mesh:
    """A mesh over the first data*fsdp*context*tensor devices.

    Raises:
      ValueError: fewer devices than the product asks for.
    """
    shape = (data, fsdp, context, tensor)
    need, have = int(np.prod(shape)), jax.device_count()
    if need > have:
        raise ValueError(
            f"mesh data={data} fsdp={fsdp} context={context} tensor={tensor} needs {need} devices, "
            f"{have} found"
        )
    # jax.make_mesh defaults to Explicit axes; sharding by constraint wants Auto
    return jax.make_mesh(
        shape, MESH_AXES, axis_types=(AxisType.Auto,) * 4, devices=jax.devices()[:need]
    )


def partition_spec(axes: tuple[str | None, ...]) -> PartitionSpec:
    """Logical names -> PartitionSpec through RULES.

    Raises:
      ValueError: a name that RULES does not hold, or two names of one array on one mesh axis.
    """
    used: dict[str, str] = {}
    parts = []
    for name in axes:
        if name is not None and name not in RULES:
            raise ValueError(f"logical axis {name!r} is not in sharding.RULES: {', '.join(RULES)}")
        on = RULES[name] if name is not None else None
        for mesh_axis in on or ():
            if mesh_axis in used:
                raise ValueError(
                    f"axes {axes}: {used[mesh_axis]!r} and {name!r} both lie on mesh axis "
                    f"{mesh_axis!r}"
                )
            used[mesh_axis] = name
        parts.append(on)
    return PartitionSpec(*parts)


def mesh_axes() -> dict[str, int]:
    """Sizes of the axes of the mesh that `jax.set_mesh` set; {} without one or inside shard_map."""
    mesh = jax.sharding.get_abstract_mesh()
    if AxisType.Manual in mesh.axis_types:
        return {}
    return dict(mesh.shape)


def fitting_spec(axes: tuple[str | None, ...], shape: tuple[int, ...]) -> PartitionSpec:
    """`partition_spec`, but what the mesh that is set does not divide lies whole on it."""
    sizes = mesh_axes()

    def fits(name, size):
        return name and size % math.prod(sizes[axis] for axis in RULES[name] or ()) == 0

    return partition_spec(
        tuple(name if fits(name, size) else None for name, size in zip(axes, shape, strict=True))
    )


def replicate(mesh: Mesh, tree):
    """Puts every array of a pytree whole on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shardings_of(tree):
    """The sharding of every array of a pytree: what `out_shardings` wants."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)
