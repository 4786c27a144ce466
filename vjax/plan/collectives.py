"""What devices send each other in a compiled program, read from its text."""

import dataclasses
import functools
import itertools
import math
import re
from collections import defaultdict
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
    """All collectives of a program: those in loops as often as the loop runs, and of branches
    those of the one that sends most.

    Args:
      text: of the compiled program (optimised HLO), for a mesh of this shape in the order of its
        devices.
    """
    computations, entry = _computations(text)
    groups = _groups(shape)

    @functools.cache
    def of(name: str) -> dict[tuple[str, str], np.ndarray]:
        """[count, bytes] by (kind, axes) of a computation and all that it calls."""
        found: dict = defaultdict(lambda: np.zeros(2))
        lines = computations.get(name, [])
        for line in [] if _goes_on(name, lines) else lines:
            if parsed := _collective(line, groups):
                kind, axes, sent = parsed
                found[kind, axes] += 1, sent
        for line in lines:
            for times, callees in _calls(line, computations):
                most = max(map(of, callees), key=lambda sent: sum(n for _, n in sent.values()))
                for (kind, axes), sent in most.items():
                    told = axes if times or axes.endswith(UNTOLD) else axes + UNTOLD
                    found[kind, told] += (times or 1) * sent
        return found

    return [
        Traffic(*key, count=int(count), bytes=float(sent))
        for key, (count, sent) in sorted(of(entry).items())
    ]


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Lines by computation; the entry's name."""
    bodies, entry, name = {}, "", ""
    for line in text.splitlines():
        if head := re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$", line):
            name = head[2]
            bodies[name] = []
            entry = name if head[1] else entry
        elif line.rstrip() == "}":  # attributes of kernels go over several lines
            name = ""
        elif name:
            bodies[name].append(line)
    return bodies, entry


def _calls(line: str, computations: Mapping) -> list[tuple[int, list[str]]]:
    """How often (0: nobody can tell) a line calls one of which computations."""
    calls = [(1, [name]) for name in re.findall(r"\b(?:calls|to_apply)=%?([\w.\-]+)", line)]
    if listed := re.search(r"branch_computations=\{([^}]*)\}", line):
        calls.append((1, [name.strip().lstrip("%") for name in listed[1].split(",")]))
    if either := re.findall(r"\b(?:true|false)_computation=%?([\w.\-]+)", line):
        calls.append((1, either))
    if body := re.search(r"\bbody=%?([\w.\-]+)", line):
        calls.append((_trips(line, computations), [body[1]]))
    return calls


def _goes_on(name: str, lines: Sequence[str]) -> bool:
    """Whether it is a step of a transfer that another computation starts.

    XLA for TPUs cuts a transfer into a start, steps inside matrix products and an end, and writes
    the whole of it into each.
    """
    steps = name.startswith("async_collective_fusion")
    return steps or any('custom_call_target="AsyncCollectiveDone"' in line for line in lines)


def _trips(line: str, bodies: Mapping[str, list[str]]) -> int:
    """How often a loop runs; 0 where nobody can tell.

    XLA says so on CPU and GPU. In its programs for TPUs it is read off condition and body: a
    counter goes up from 0, and on while it is less than a constant.
    """
    if told := _TRIPS.search(line):
        return int(told[1])
    condition, body = (
        "\n".join(bodies[re.search(rf"\b{of}=%?([\w.\-]+)", line)[1]])
        for of in ("condition", "body")
    )
    less = re.search(r"ROOT .* compare\(%?([\w.\-]+), %?([\w.\-]+)\), direction=LT", condition)
    if not less:
        return 0
    stop = _constant(less[2], condition)
    counter = re.search(rf"%?{re.escape(less[1])} = .*, index=(\d+)", condition)
    return -(-stop // _rise(int(counter[1]), body)) if counter else stop


def _rise(index: int, body: str) -> int:
    """What a turn adds to that part of what a loop carries: 1, or 2 where XLA unrolled it."""
    carried = re.search(r"ROOT .* tuple\((.*?)\)", body)
    names = re.findall(r"%([\w.\-]+)", carried[1]) if carried else []
    added = index < len(names) and re.search(
        rf"%{re.escape(names[index])} = \S+ add\(%[\w.\-]+, %([\w.\-]+)\)", body
    )
    return (_constant(added[1], body) if added else 0) or 1


def _constant(name: str, text: str) -> int:
    """Its value; 0 where it is none."""
    found = re.search(rf"%?{re.escape(name)} = \S+ constant\((\d+)\)", text)
    return int(found[1]) if found else 0


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
