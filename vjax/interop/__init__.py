"""Weights in and out: safetensors folders, PEFT adapters, and the door for parity tests."""

from vjax.interop.checkpoint import Checkpoint, load
from vjax.interop.load import check_weights, load_model, load_weights
from vjax.interop.orbax import save_orbax
from vjax.interop.peft import load_adapter, merge, save_adapter
from vjax.interop.reference import reference_logits
from vjax.interop.save import save_model

__all__ = [
    "Checkpoint",
    "check_weights",
    "load",
    "load_adapter",
    "load_model",
    "load_weights",
    "merge",
    "reference_logits",
    "save_adapter",
    "save_model",
    "save_orbax",
]
