"""Motion curves and shot cuts from grey frames, in plain numpy: equal on every machine."""

import numpy as np

from vjax.video import errors

SIGNALS = ("luma", "ssim")


def change(a: np.ndarray, b: np.ndarray, signal: str = "luma") -> int:
    """How much changes from one grey frame to the next, a whole number on every machine.

    Args:
        a, b: uint8 [h, w]; small ones for `luma`, those of full size for `ssim`.
        signal: `luma`, the sum of absolute differences, or `ssim`, MGSampler's image-level signal
            1 - SSIM (arXiv 2104.09952), in millionths.

    Raises:
        ValueError: an unknown signal, or frames too small for SSIM.
    """
    if signal == "luma":
        return _distance(a, b)
    if signal == "ssim":
        if a.shape != b.shape or min(a.shape) < 7:
            raise errors.VideoError(
                f"SSIM needs frames of one size from 7x7, got {a.shape}, {b.shape}"
            )
        return round(1e6 * (1.0 - ssim(a, b)))
    raise ValueError(f"motion signal {signal!r} is unknown; use one of {', '.join(SIGNALS)}")


def motion_curve(luma: np.ndarray, signal: str = "luma") -> np.ndarray:
    """`change` between neighbouring frames: uint8 [I, h, w] -> int64 [I-1]."""
    _check_grey(luma)
    return np.array(
        [change(a, b, signal) for a, b in zip(luma[:-1], luma[1:], strict=True)], np.int64
    )


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two grey frames (Wang et al., 2004), at most 1.

    Equal to `skimage.metrics.structural_similarity` with its defaults on uint8: a uniform 7x7
    window, sample covariance, K1 = 0.01, K2 = 0.03, data range 255.

    Args:
        a, b: uint8 [h, w], sides of at least 7.
    """
    n = 49
    a, b = a.astype(np.int64), b.astype(np.int64)
    sums = [_box(x) for x in (a, b, a * a, b * b, a * b)]
    mean_a, mean_b = sums[0] / n, sums[1] / n
    var_a = (n * sums[2] - sums[0] ** 2) / (n * (n - 1))
    var_b = (n * sums[3] - sums[1] ** 2) / (n * (n - 1))
    cov = (n * sums[4] - sums[0] * sums[1]) / (n * (n - 1))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float((top / bottom).mean())


def shot_cuts(luma: np.ndarray) -> list[int]:
    """Indices of the frames at which a new shot begins (hard cuts; fades are not looked for).

    A cut changes the histogram as well as the pixels, stands at least threefold above the median
    change nearby (fast motion has neighbours as large), and stays: a photographer's flash, after
    which the picture is the old one, is no cut. All our choice.

    Args:
        luma: uint8 [I, h, w], 8-bit grey frames.

    Returns:
        Ascending frame indices in 1..I-1; frame k starts a shot when k-1 shows another one.
    """
    _check_grey(luma)
    if len(luma) < 3:
        return []
    pixels = luma[0].size
    steps = motion_curve(luma) / pixels  # mean grey levels
    skip = np.array([_distance(a, b) for a, b in zip(luma[:-2], luma[2:], strict=True)]) / pixels
    lasting = np.minimum(np.append(skip, np.inf), np.insert(skip, 0, np.inf))
    # 16 levels in each cell of a 2x2 grid: where the light is counts, small motion does not.
    histograms = np.stack([_histogram(frame) for frame in luma])
    shift = np.abs(np.diff(histograms, axis=0)).sum(1) / (2 * pixels)  # share of pixels, 0..1
    spike = np.minimum(steps, lasting)
    cuts = []
    for k in np.flatnonzero((spike >= 8) & (shift >= 0.25)):
        near = np.concatenate([steps[max(k - 8, 0) : k], steps[k + 1 : k + 9]])
        if spike[k] >= 3 * np.median(near):
            cuts.append(int(k) + 1)
    return cuts


def _check_grey(luma: np.ndarray) -> None:
    if luma.dtype != np.uint8 or luma.ndim != 3:
        raise ValueError(f"grey frames must be uint8 [I, h, w], got {luma.dtype} {luma.shape}")


def _distance(a: np.ndarray, b: np.ndarray) -> int:
    return int((np.maximum(a, b) - np.minimum(a, b)).sum(dtype=np.int64))


def _histogram(frame: np.ndarray) -> np.ndarray:
    rows = np.array_split(frame >> 4, 2)
    cells = [cell for row in rows for cell in np.array_split(row, 2, axis=1)]
    return np.concatenate([np.bincount(cell.ravel(), minlength=16) for cell in cells])


def _box(x: np.ndarray, side: int = 7) -> np.ndarray:
    """Sums over every window of `side` that lies inside the frame, exact: of whole numbers."""
    for axis in (0, 1):
        total = np.cumsum(x, axis, dtype=np.int64)
        ends = np.take(total, range(side - 1, x.shape[axis]), axis)
        starts = np.take(total, range(x.shape[axis] - side), axis)
        x = ends - np.pad(starts, [(1, 0) if k == axis else (0, 0) for k in (0, 1)])
    return x
