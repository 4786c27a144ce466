"""Squares of images and frames, as InternVLForConditionalGeneration takes them.

pixel_values [V, 3, H, W]: see `vjax.interop.arguments.squares`.
"""

from vjax.interop.arguments.squares import NAMES, take

__all__ = ["NAMES", "take"]
