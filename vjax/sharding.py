"""The mesh and the one table that says which array axis lies on which mesh axis."""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MESH_AXES = ("data", "fsdp", "context", "tensor")

# logical name -> mesh axes; an axis is named once, in the module that makes it
RULES: dict[str, tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "length": ("context",),
    "images": MESH_AXES,
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
      ValueError: fewer devices than the product asks for; or more, in several processes.
    """
    shape = (data, fsdp, context, tensor)
    need, have = int(np.prod(shape)), jax.device_count()
    if need < have and jax.process_count() > 1:
        raise ValueError(
            f"mesh data={data} fsdp={fsdp} context={context} tensor={tensor} takes {need} of "
            f"{have} devices, and {jax.process_count()} processes take all of theirs"
        )
    if need > have:
        raise ValueError(
            f"mesh data={data} fsdp={fsdp} context={context} tensor={tensor} needs {need} devices, "
            f"{have} found"
        )
    return mesh_over(jax.devices()[:need], shape)


def mesh_over(devices: Sequence, shape: tuple[int, ...]) -> Mesh:
    """A mesh over these devices; sizes as in MESH_AXES.

    Raises:
      ValueError: axes that are no products of the sides of a TPU's torus.
    """
    try:
        # jax.make_mesh defaults to Explicit axes; sharding by constraint wants Auto
        types = (AxisType.Auto,) * len(MESH_AXES)
        return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=devices)
    except NotImplementedError as error:
        sizes = " ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, shape, strict=True))
        raise ValueError(f"mesh {sizes} does not lie on these chips: {error}") from error


_platform: contextvars.ContextVar[str] = contextvars.ContextVar("platform", default="")


def platform() -> str:
    """What programs are made for: cpu, gpu or tpu."""
    return _platform.get() or jax.default_backend()


@contextlib.contextmanager
def programs_for(name: str) -> Iterator[None]:
    """Programs that are traced inside are for another platform than this one."""
    before = _platform.set(name)
    try:
        yield
    finally:
        _platform.reset(before)


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


def mesh_size() -> int:
    """Devices of that mesh; 1 without one."""
    return math.prod(mesh_axes().values())


def fitting_spec(axes: tuple[str | None, ...], shape: tuple[int, ...]) -> PartitionSpec:
    """`partition_spec`, but what the mesh that is set does not divide lies whole on it."""
    return _fitting(mesh_axes(), axes, shape)


def laid(x: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """x, told to lie by the table on the mesh that is set, as far as that divides it.

    Without it the compiler may split activations as it likes: along channels, rows whole.
    """
    spec = fitting_spec(axes, x.shape) if mesh_size() > 1 else ()
    if not any(spec):  # nothing of it can be split: not told to lie whole either
        return x
    return jax.lax.with_sharding_constraint(x, spec)


def spread(images: jax.Array) -> jax.Array:
    """Images over all devices, with as many zeros behind as make these divide their number."""
    ways, rest = _ways(mesh_axes(), "images"), images.ndim - 1
    if ways == 1:
        return images
    images = jnp.pad(images, [(0, -len(images) % ways), *[(0, 0)] * rest])
    return laid(images, ("images", *[None] * rest))


def pieces(name: str, *sizes: int) -> int:
    """Into how many the mesh that is set splits an axis by the table; 1 where it does not divide
    all of these sizes."""
    ways = _ways(mesh_axes(), name)
    return 1 if any(size % ways for size in sizes) else ways


def gathered(module: nnx.Module) -> nnx.Module:
    """The module with its variables whole on every device; what comes back lies as they do.

    For a layer whose rows are spread over all devices, so that none is left to split variables.
    """
    if mesh_size() == 1:
        return module
    graphdef, state = nnx.split(module)

    def brought(leaf):
        axes = leaf.get_metadata()["axes"]
        axes = axes[len(axes) - leaf.ndim :]  # a layer of a stack has lost the first
        return leaf.replace(whole(leaf[...], axes, *axes))

    return nnx.merge(graphdef, jax.tree.map(brought, state, is_leaf=_is_variable))


def whole(x: jax.Array, axes: tuple[str | None, ...], *names: str | None) -> jax.Array:
    """x, which lies by its axes, whole along those named; its gradient lies as x does."""
    if mesh_size() == 1:
        return x
    to = tuple(None if name in names else name for name in axes)
    return _moved(x, fitting_spec(to, x.shape), fitting_spec(axes, x.shape))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _moved(x: jax.Array, to: PartitionSpec, back: PartitionSpec) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, to)


_moved.defvjp(
    lambda x, to, back: (_moved(x, to, back), None),
    lambda to, back, _, dx: (jax.lax.with_sharding_constraint(dx, back),),
)


def sharding_of(mesh: Mesh, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> NamedSharding:
    """Where an array of these axes lies; what the mesh does not divide lies whole on it."""
    return NamedSharding(mesh, _fitting(mesh.shape, axes, shape))


def shardings(mesh: Mesh, tree):
    """Where a pytree's variables lie: by their `axes`; arrays that have none, on every device."""

    def of(leaf) -> NamedSharding:
        shape = getattr(leaf, "shape", None)  # none where optax masks a variable
        axes = leaf.get_metadata().get("axes", ()) if _is_variable(leaf) and shape else ()
        return sharding_of(mesh, axes, shape if axes else ())

    return jax.tree.map(of, tree, is_leaf=_is_variable)


def place(mesh: Mesh, tree):
    """Puts every array of a pytree where `shardings` says.

    Of several processes, each holds the whole of an array that does not lie on the mesh yet.
    """
    return _put(tree, shardings(mesh, tree))


def check_split(mesh: Mesh, tree, most: float = 0.02):
    """Refuses a mesh on which variables lie whole that its axes should split.

    Args:
      most: share of the variables' bytes that may.

    Raises:
      ValueError: more of them, with names and shapes of the largest.
    """
    whole, total = {}, 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_variable):
        if not _is_variable(leaf):
            continue
        size = math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
        total += size
        named = zip(leaf.get_metadata()["axes"], leaf.shape, strict=True)
        cuts = [(n, _ways(mesh.shape, name)) for name, n in named if _ways(mesh.shape, name) > 1]
        if cuts and all(n % ways for n, ways in cuts):
            whole[jax.tree_util.keystr(path, simple=True, separator="/")] = (size, leaf.shape)
    share = sum(size for size, _ in whole.values()) / max(total, 1)
    if share > most:
        largest = sorted(whole, key=lambda name: -whole[name][0])[:5]
        shown = ", ".join(f"{name} {'x'.join(map(str, whole[name][1]))}" for name in largest)
        shape = " ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
        raise ValueError(
            f"mesh {shape} leaves {share:.0%} of the parameters' bytes whole on every device, "
            f"because its axes do not divide them: {shown}"
        )


def _is_variable(leaf) -> bool:
    return isinstance(leaf, nnx.Variable)


def _ways(sizes: Mapping[str, int], name: str | None) -> int:
    """Into how many parts a mesh of these axis sizes cuts a logical axis."""
    return math.prod(sizes.get(axis, 1) for axis in RULES[name] or ()) if name else 1


def _fitting(sizes: Mapping[str, int], axes, shape) -> PartitionSpec:
    return partition_spec(
        tuple(
            name if name and size % _ways(sizes, name) == 0 else None
            for name, size in zip(axes, shape, strict=True)
        )
    )


class Share(NamedTuple):
    """Which blocks of a batch's rows a process makes, and into how many equal ones it is cut."""

    blocks: tuple[int, ...] = (0,)
    of: int = 1


def row_share(mesh: Mesh, *, coarse: bool = False) -> Share:
    """The blocks that this process' devices hold; one process holds all, as one block.

    Args:
      coarse: blocks as large as they can be, each of several devices; else one for each part that
        data x fsdp cuts rows into.
    """
    if jax.process_count() == 1:
        return Share()
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    owners = [{d.process_index for d in block} for block in mesh.devices.reshape(ways, -1)]
    size = 1
    while coarse and ways % (2 * size) == 0:
        runs = [owners[n : n + 2 * size] for n in range(0, ways, 2 * size)]
        if any(owner != run[0] for run in runs for owner in run):
            break
        size *= 2
    here = jax.process_index()
    mine = [n for n, owner in enumerate(owners[::size]) if here in owner]
    return Share(tuple(mine), ways // size)


def replicate(mesh: Mesh, tree):
    """Puts every array of a pytree whole on every device of the mesh."""
    return _put(tree, NamedSharding(mesh, PartitionSpec()))


def _put(tree, to):
    """`jax.device_put`, which for several processes would compare what each of them holds."""
    if jax.process_count() == 1:
        return jax.device_put(tree, to)

    def one(sharding: NamedSharding, array: jax.Array) -> jax.Array:
        if not array.is_fully_addressable:
            return jax.device_put(array, sharding)
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    if isinstance(to, NamedSharding):
        return jax.tree.map(lambda array: one(to, array), tree)
    return jax.tree.map(lambda at, part: jax.tree.map(lambda x: one(at, x), part), to, tree)


def shardings_of(tree):
    """The sharding of every array of a pytree: what `out_shardings` wants."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)
