"""Checkpoint families: a spec from config.json and a weight-name map. Data, not classes."""

from vjax.families.registry import family_of, read_spec, spec_of

__all__ = ["family_of", "read_spec", "spec_of"]
