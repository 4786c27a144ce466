"""vjax: fine-tunes Video-LLMs in JAX on labels that come from the video itself (SF2T).

What is listed here is imported on first use: `import vjax` is instant, and workers import no jax.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["fragments", "interop", "load", "prompts"]

_HOME = {
    "fragments": ("vjax.fragments", None),
    "interop": ("vjax.interop", None),
    "load": ("vjax.interop", "load"),
    "prompts": ("vjax.prompts", None),
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'vjax' has no attribute {name!r}")
    module, attribute = _HOME[name]
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__():
    return sorted([*globals(), *__all__])
