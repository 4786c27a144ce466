"""From tower features to decoder embeddings: a module a kind, found by its name.

Each has a class `Connector` with `frames` and `stills`, which take features [V, P, D] of pictures,
D being the tower's, and give tokens [V, Q, E], E being the decoder's; and `newline`, a learned
vector, where the spec says that there is one. Where the projector has a stride in time, `clips`
takes features [N, T, P, D] of videos. Where the tower has taps, D and E are as many times more.
"""

import importlib

from flax import nnx

from vjax.families.spec import ModelSpec


def connector(spec: ModelSpec, *, rngs: nnx.Rngs) -> nnx.Module:
    """The `Connector` of the module here that `spec.projector.kind` names."""
    kind = importlib.import_module(f"{__name__}.{spec.projector.kind}")
    return kind.Connector(spec, rngs=rngs)
