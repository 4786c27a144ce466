"""FLOPs of a traced function, by part: its products counted one by one, loops as often as they run.

XLA's own analysis counts the body of a loop once, and layers are one loop here.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping

from jax.extend import core
from jax.interpreters import partial_eval

# a part's name is the jax.named_scope that an equation was traced in
PARTS = ("tower", "projector", "decoder", "head")


def count(jaxpr: core.ClosedJaxpr) -> Counter:
    """(part, "attention" or "products") -> FLOPs; a multiplication and an addition are two.

    Only products (dot_general, convolutions) count: elementwise work does not. Of a branch, the
    most expensive one counts.

    Raises:
      ValueError: a loop of unknown length, or a program of one device of a mesh.
    """
    # gradients that nobody reads are in what was traced, and in no program
    used, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return _count(used, "")


def of_step(jaxpr: core.ClosedJaxpr) -> Counter:
    """`count` of a train step traced with the backend `xla`: causal attention counts half."""
    found = count(jaxpr)
    found["decoder", "attention"] //= 2
    return found


def _count(jaxpr, outer: str) -> Counter:
    found: Counter = Counter()
    for eqn in jaxpr.eqns:
        scope = f"{outer}/{eqn.source_info.name_stack}"
        name = eqn.primitive.name
        if name in ("dot_general", "conv_general_dilated"):
            work = _dot(eqn) if name == "dot_general" else _convolution(eqn)
            found[_part(scope)] += work
        elif name == "scan":
            found += _times(_count(eqn.params["jaxpr"].jaxpr, scope), eqn.params["length"])
        elif name == "cond":
            branches = [_count(branch.jaxpr, scope) for branch in eqn.params["branches"]]
            found += max(branches, key=lambda branch: sum(branch.values()))
        elif name in ("while", "shard_map", "pallas_call"):
            raise ValueError(f"{name}: how often it runs is not known, in {scope}")
        elif name == "custom_vjp_call" or name == "custom_jvp_call":
            found += _count(_open(eqn.params["call_jaxpr"]), scope)
        else:
            for inner in _inner(eqn.params):
                found += _count(inner, scope)
    return found


def _inner(params: Mapping):
    for value in params.values():
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, core.ClosedJaxpr | core.Jaxpr):
                yield _open(one)


def _open(jaxpr):
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def _times(counts: Counter, n: int) -> Counter:
    return Counter({name: n * work for name, work in counts.items()})


def _part(scope: str) -> tuple[str, str]:
    named = re.findall(r"\b(" + "|".join(PARTS) + r")\b", scope)
    kind = "attention" if re.search(r"\battend\b", scope) else "products"
    return (named[0] if named else "other"), kind


def _dot(eqn) -> int:
    (contracting, _), _ = eqn.params["dimension_numbers"]
    left = eqn.invars[0].aval.shape
    return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(left[n] for n in contracting)


def _convolution(eqn) -> int:
    numbers, kernel = eqn.params["dimension_numbers"], eqn.invars[1].aval.shape
    per_output = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    return 2 * math.prod(eqn.outvars[0].aval.shape) * per_output
