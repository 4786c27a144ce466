"""What devices send each other in a compiled program, read from its text."""

import dataclasses
import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

UNTOLD = " (a loop of unknown length, once)"
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all")
SIZES = {"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2,
         "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}  # fmt: skip
_SHAPE = re.compile(r"\b(" + "|".join(SIZES) + r")\[([\d,]*)\]")
_TRIPS = re.compile(r'known_trip_count\\?"?:\s*\{\\?"n\\?":\\?"(\d+)')
_OP = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Collectives of a kind over the same axes of the mesh, in one step.

    Attributes:
      kind: of KINDS.
      axes: of the mesh, `data+fsdp`; "?" where groups follow no axes. Of a loop that runs nobody
        can tell how often, counted once, that is said too.
      count: how often a device takes part.
      bytes: that a device sends, by a ring over its group.
    """

    kind: str
    axes: str
    count: int
    bytes: float


def traffic(text: str, shape: Mapping[str, int]) -> list[Traffic]:
    """All collectives of a program, those in loops as often as the loop runs.

    Args:
      text: of the compiled program (optimised HLO), for a mesh of this shape in the order of its
        devices.
    """
    bodies, calls, entry = _computations(text)
    runs: Counter = Counter()
    untold = set()
    pending = [(entry, 1, False)]
    while pending:
        name, times, lost = pending.pop()
        runs[name] += times
        untold |= {name} if lost else set()
        pending += [(callee, times * (n or 1), lost or not n) for callee, n in calls[name]]
    groups = _groups(shape)
    found: dict = defaultdict(lambda: [0, 0.0])
    for name, lines in bodies.items():
        for line in lines if runs[name] else ():
            parsed = _collective(line, groups)
            if parsed:
                kind, axes, sent = parsed
                axes += UNTOLD if name in untold else ""
                found[kind, axes][0] += runs[name]
                found[kind, axes][1] += runs[name] * sent
    return [Traffic(*key, *values) for key, values in sorted(found.items())]


def _computations(text: str):
    """Lines by computation; what each calls, how often (0: nobody can tell); the entry's name."""
    bodies, calls, entry, name = {}, defaultdict(list), "", ""
    for line in text.splitlines():
        if head := re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$", line):
            name = head[2]
            bodies[name] = []
            entry = name if head[1] else entry
        elif line.rstrip() == "}":  # attributes of kernels go over several lines
            name = ""
        elif name:
            bodies[name].append(line)
            for callee in re.findall(r"\b(?:calls|to_apply)=%?([\w.\-]+)", line):
                calls[name].append((callee, 1))
            for listed in re.findall(r"branch_computations=\{([^}]*)\}", line):
                calls[name] += [(one.strip().lstrip("%"), 1) for one in listed.split(",")]
            for callee in re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line):
                calls[name].append((callee, 1))
    for name, lines in bodies.items():
        for line in lines:
            if body := re.search(r"\bbody=%?([\w.\-]+)", line):
                calls[name].append((body[1], _trips(line, bodies)))
    return bodies, calls, entry


def _trips(line: str, bodies: Mapping[str, list[str]]) -> int:
    """How often a loop runs; 0 where nobody can tell.

    XLA says so on CPU and GPU. In its programs for TPUs it is read off the condition: loops of JAX
    count from 0 in ones, and go on while the counter is less than a constant.
    """
    if told := _TRIPS.search(line):
        return int(told[1])
    named = re.search(r"\bcondition=%?([\w.\-]+)", line)
    condition = "\n".join(bodies[named[1]])
    less = re.search(r"ROOT .* compare\(%?[\w.\-]+, %?([\w.\-]+)\), direction=LT", condition)
    stop = less and re.search(rf"%?{re.escape(less[1])} = \S+ constant\((\d+)\)", condition)
    return int(stop[1]) if stop else 0


def _collective(line: str, groups) -> tuple[str, str, float] | None:
    op = _OP.match(line)
    if not op:
        return None
    kind = op[3].removesuffix("-start")
    if kind not in KINDS:
        return None
    shapes = [math.prod(map(int, dims.split(","))) * SIZES[kind_] if dims else SIZES[kind_]
              for kind_, dims in _SHAPE.findall(op[2])]  # fmt: skip
    size = max(shapes, default=0.0) if op[3].endswith("-start") else sum(shapes)
    if kind == "collective-permute":
        pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", line)
        axes = _axes_of_pairs(pairs[1] if pairs else "", groups)
        return kind, axes, size
    members = _members(line)
    n = len(members[0]) if members else max(len(g[0]) for g in groups.values())
    axes = next((name for name, of in groups.items() if of == members), "?")
    share = (n - 1) / max(n, 1)
    sent = {
        "all-gather": size * share,  # of the result
        "reduce-scatter": size * (n - 1),  # of the result
        "all-reduce": 2 * size * share,
        "all-to-all": size * share,
    }[kind]
    return kind, axes, sent


def _members(line: str) -> tuple[tuple[int, ...], ...]:
    """Groups of devices, each and all in rising order."""
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line):
        shape, dims = ([int(n) for n in iota[k].split(",")] for k in (1, 2))
        ids = np.arange(math.prod(dims)).reshape(dims)
        if iota[3]:
            ids = ids.transpose([int(n) for n in iota[3].split(",")])
        return _sorted(ids.reshape(shape).tolist())
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        axes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named[1])}
        chosen = re.findall(r"'([^']+)'(?!:)", named[2])
        return _along(axes, chosen) if ":" not in named[2] else ()
    if listed := re.search(r"replica_groups=\{(\{.*?\})\}", line):
        groups = re.findall(r"\{([\d,]+)\}", listed[1])
        return _sorted([[int(n) for n in group.split(",")] for group in groups])
    return ()


def _sorted(groups) -> tuple[tuple[int, ...], ...]:
    return tuple(sorted(tuple(sorted(group)) for group in groups))


def _groups(shape: Mapping[str, int]) -> dict[str, tuple]:
    """Names of sets of axes -> the groups of devices that differ along them alone."""
    axes = [axis for axis, size in shape.items() if size > 1]
    some = (of for k in range(1, len(axes) + 1) for of in itertools.combinations(axes, k))
    return {"+".join(of): _along(shape, of) for of in some}


def _along(shape: Mapping[str, int], axes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    ids = np.arange(math.prod(shape.values())).reshape(tuple(shape.values()))
    at = [list(shape).index(axis) for axis in axes]
    last = np.moveaxis(ids, at, range(-len(at), 0))
    return _sorted(last.reshape(-1, math.prod(shape[axis] for axis in axes)).tolist())


def _axes_of_pairs(pairs: str, groups) -> str:
    hops = [tuple(map(int, pair)) for pair in re.findall(r"\{?(\d+),(\d+)", pairs)]
    for name, of in groups.items():
        of_device = {device: n for n, group in enumerate(of) for device in group}
        if hops and all(of_device.get(a) == of_device.get(b) for a, b in hops):
            return name
    return "?"
