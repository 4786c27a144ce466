"""What pages without scripts or outside resources share: their templates and their pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

MAX_BYTES = 3_000_000


def environment() -> jinja2.Environment:
    """The templates of this room; what is put into them is escaped, what is missing an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(pixels: np.ndarray, side: int) -> str:
    """A JPEG picture for an `img`, made smaller where it is larger than `side`.

    Args:
        pixels: uint8 [H, W, 3] RGB.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise ValueError(f"a picture is uint8 [H, W, 3], got {pixels.dtype} {pixels.shape}")
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
