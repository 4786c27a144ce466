"""Scene -> pixels. Signed-distance shapes with one pixel of analytic coverage, window by window."""

from __future__ import annotations

import numpy as np

from vjax.video.world import motion, texture
from vjax.video.world import scene as scene_lib

SIZE = motion.SIZE
_DARK, _LIGHT = np.array([22.0, 20, 24]), np.array([225.0, 225, 225])


def _rgb(name: str) -> np.ndarray:
    return np.array(scene_lib.COLOURS[name], np.float32)


def _box(x, y, half_x, half_y):
    return np.maximum(np.abs(x) - half_x, np.abs(y) - half_y)


def _star(x, y):
    """Five-pointed star of outer radius 1 (Quilez, sdStar5: two folds and one edge)."""
    k1, k2 = (0.809016994375, -0.587785252292), (-0.809016994375, -0.587785252292)
    x, y = np.abs(x), -y
    for kx, ky in (k1, k2):
        fold = 2 * np.maximum(kx * x + ky * y, 0)
        x, y = x - fold * kx, y - fold * ky
    x, y = np.abs(x), y - 1.0
    bx, by = 0.45 * 0.587785252292, 0.45 * 0.809016994375 - 1.0
    h = np.clip((x * bx + y * by) / (bx * bx + by * by), 0, 1)
    return np.hypot(x - bx * h, y - by * h) * np.sign(y * bx - x * by)


# Signed distance (inside < 0) in units of the radius.
SHAPES = {
    "circle": lambda x, y: np.sqrt(x * x + y * y) - 0.97,
    "square": lambda x, y: _box(x, y, 0.86, 0.92),
    "triangle": lambda x, y: np.maximum(np.abs(x) * 0.8944 - (y + 1) * 0.4472, y - 0.92),
    "star": lambda x, y: _star(x / 1.12, (y - 0.06) / 1.12) * 1.12,
    "cross": lambda x, y: np.minimum(_box(x, y, 0.95, 0.34), _box(x, y, 0.34, 0.95)),
    "ring": lambda x, y: np.abs(np.sqrt(x * x + y * y) - 0.7) - 0.27,
    "lid": lambda x, y: _box(x, y, 0.97, 0.97),
}


class _Canvas:
    """float32 frames [I, 96, 96, 3] that shapes are blended into, all frames at once."""

    def __init__(self, backdrop: np.ndarray, n_frames: int):
        self.frames = np.repeat(backdrop[None], n_frames, 0)

    def window(self, centre: np.ndarray, half: float):
        """Top-left corners [I, 2] and pixel offsets x, y [I, k, k] from `centre`, in pixels."""
        k = min(SIZE, int(np.ceil(2 * half)) + 3)
        corner = np.clip(np.floor(centre - k / 2), 0, SIZE - k).astype(int)
        at = (corner[:, :, None] + np.arange(k) + 0.5 - centre[:, :, None]).astype(np.float32)
        return corner, at[:, 0, None, :], at[:, 1, :, None]

    def blend(self, corner: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
        """Mixes in `colour` ([3] or [I, k, k, 3]) by `cover` [I, k, k]."""
        k = cover.shape[-1]
        for i, (x, y) in enumerate(corner):
            patch = self.frames[i, y : y + k, x : x + k]
            fill = colour if colour.ndim == 1 else colour[i]
            patch += cover[i, ..., None] * (fill - patch)

    def box(self, x0, y0, x1, y1, colour) -> None:
        """Fills the rectangles [x0, x1] x [y0, y1] (numbers or [I]) with exact coverage."""
        spans = []
        for low, high in ((x0, x1), (y0, y1)):
            low, high = np.atleast_1d(low)[:, None], np.atleast_1d(high)[:, None]
            at = np.arange(max(int(low.min()), 0), min(int(np.ceil(high.max())), SIZE))
            spans.append((at, np.clip(np.minimum(at + 1, high) - np.maximum(at, low), 0, 1)))
        (xs, across), (ys, down) = spans
        if not xs.size or not ys.size:
            return
        patch = self.frames[:, ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
        cover = (down[:, :, None] * across[:, None, :])[..., None].astype(np.float32)
        patch += cover * (np.asarray(colour, np.float32) - patch)

    def ellipse(self, x, y, half_x, half_y, colour) -> None:
        """Fills ellipses; x, y, half_x, half_y are numbers or [I], in pixels."""
        n = len(self.frames)
        x, y, rx, ry = (np.broadcast_to(np.float64(v), n) for v in (x, y, half_x, half_y))
        corner, dx, dy = self.window(np.stack([x, y], 1), max(rx.max(), ry.max()))
        rx, ry = (np.maximum(v, 1e-3)[:, None, None].astype(np.float32) for v in (rx, ry))
        distance = (np.sqrt((dx / rx) ** 2 + (dy / ry) ** 2) - 1) * np.minimum(rx, ry)
        cover = np.clip(0.5 - distance, 0, 1) * (np.minimum(rx, ry) > 0.05)
        self.blend(corner, cover, np.asarray(colour, np.float32))


def _draw_body(canvas, body: motion.Body, shape: str, colour: str, paint: str) -> None:
    fill, fresh = _rgb(colour), _rgb(paint)
    outline = (_LIGHT if colour == "black" else _DARK).astype(np.float32)
    mark = (_DARK if colour in ("white", "yellow", "orange") else _LIGHT).astype(np.float32)
    pieces = [(0, 0)]
    if body.spread.any():
        pieces = [(-1, -1), (1, -1), (-1, 1), (1, 1)]
    cos, sin = (f(body.angle)[:, None, None].astype(np.float32) for f in (np.cos, np.sin))
    r = np.float32(body.radius)
    sx, sy = (body.scale[:, a, None, None].astype(np.float32) for a in (0, 1))
    for px, py in pieces:
        # Pieces fly apart sideways and fall from where they are to the floor.
        height = 0.57 - 0.45 * (px * np.sin(body.angle) + py * np.cos(body.angle))
        side = px * (1.6 if py < 0 else 0.8)
        jump = np.stack([side * body.spread, height * body.spread**2], 1)
        half = body.radius * 1.13 * body.scale.max() * (1.42 if shape == "lid" else 1)
        corner, dx, dy = canvas.window(body.centre + jump * body.radius, half)
        dx, dy = dx / (r * sx), dy / (r * sy)
        x, y = cos * dx + sin * dy, cos * dy - sin * dx
        distance = SHAPES[shape](x, y)
        if px:
            whole = (body.spread == 0)[:, None, None]
            gap = np.where(whole, np.float32(-9), np.float32(0.05))
            distance = np.maximum(distance, np.maximum(gap - px * x, gap - py * y))
        pixels = r * np.minimum(sx, sy)
        distance = distance * pixels
        cover = np.clip(0.5 - distance, 0, 1)
        inner = np.clip(0.5 - (distance + (0.9 if px else 1.6)), 0, 1)[..., None]
        inside = np.broadcast_to(fill, inner.shape[:3] + (3,))
        if body.paint.any():
            front = (2.1 * body.paint - 1.05)[:, None, None].astype(np.float32)
            done = np.clip(0.5 + (front - 0.9 * x - 0.44 * y) * pixels, 0, 1)[..., None]
            inside = fill + done * (fresh - fill)
        if body.marked:
            on = np.clip(0.5 - _box(x, y + 0.42, 0.17, 0.42) * pixels, 0, 1)
            cover = np.maximum(cover, on) if shape == "ring" and not px else cover
            inside = inside + on[..., None] * (mark - inside)
            inner = np.maximum(inner, on[..., None] * (shape == "ring"))
        cover = cover * body.alpha[:, None, None].astype(np.float32)
        canvas.blend(corner, cover, outline + inner * (inside - outline))


def _draw_trail(canvas, brush: np.ndarray, colour: str) -> None:
    """Paints all of the brush's path up to each frame: it only ever grows."""
    before = np.concatenate([brush[:1], brush[:-1]])
    step = brush - before
    reach = np.abs(step).max() / 2 + 6
    corner, x, y = canvas.window((brush + before) / 2, reach)
    ux, uy = (step[:, a, None, None].astype(np.float32) for a in (0, 1))
    x, y = x + ux / 2, y + uy / 2
    along = np.clip((x * ux + y * uy) / np.maximum(ux * ux + uy * uy, 1e-6), 0, 1)
    cover = np.clip(4.5 - np.hypot(x - along * ux, y - along * uy), 0, 1)
    moved = (np.abs(step).sum(1) > 0)[:, None, None]
    mask, k = np.zeros(canvas.frames.shape[:3], np.float32), x.shape[-1]
    for i, (cx, cy) in enumerate(corner):
        mask[i, cy : cy + k, cx : cx + k] = (cover * moved)[i]
    mask = np.maximum.accumulate(mask, 0)[..., None]
    used = np.flatnonzero(mask[-1].any((1, 2)))
    if used.size:
        rows = slice(used[0], used[-1] + 1)
        canvas.frames[:, rows] += mask[:, rows] * (_rgb(colour) - canvas.frames[:, rows])


def _draw_ambient(canvas, kind: str, t: motion.Timeline, rng: np.random.Generator) -> None:
    """The irreversible process in the background, on a shelf or hanging from the top."""
    a, x, k = t.ambient, t.ambient_x, t.ambient_scale
    shelf = rng.uniform(37, 42)
    tint = rng.uniform(0.85, 1.0, 3)
    if kind in ("candle", "sand", "plant", "glass"):
        canvas.box(x - 16, shelf, x + 16, shelf + 3.5, (70, 48, 34))
    if kind == "candle":
        top = shelf - k * (30 - 27 * a)
        canvas.box(x - 5 * k, top, x + 5 * k, shelf, tint * (245, 235, 215))
        canvas.ellipse(x, top - 4, 3.4, 5.0, (250, 120, 20))
        canvas.ellipse(x, top - 3, 1.8, 3.0, (255, 240, 120))
    elif kind == "bar":
        top, width = 3 + (shelf - 37) * 1.5, 78
        canvas.box(8, top, 10 + width, top + 12, (30, 30, 34))
        canvas.box(9.5, top + 1.5, 9.5 + (width - 1) * a, top + 10.5, tint * (90, 235, 120))
    elif kind == "sand":
        height, half = k * (2 + 27 * a**0.8), 3 + 15 * a**0.8
        canvas.box(x - 1.6, 0, x + 1.6, shelf - height + 2, tint * (240, 205, 110))
        for j in range(8):  # a pile is a stack of ever shorter layers
            reach, low = half * (1 - j / 8), shelf - height * j / 8
            canvas.box(x - reach, low - height / 8, x + reach, low, tint * (240, 205, 110))
    elif kind == "plant":
        canvas.box(x - 6, shelf - 7, x + 6, shelf, (165, 80, 50))
        height = k * (3 + 27 * a)
        canvas.box(x - 1.6, shelf - 7 - height, x + 1.6, shelf - 7, (40, 130, 40))
        for j in range(4):
            size = np.clip((height - 7 * j) / 9, 0, 1)
            side = 1 if j % 2 else -1
            canvas.ellipse(x + side * 6 * size, shelf - 8 - 7 * j - 2 * size, 6.5 * size,
                           3.4 * size, (70, 190, 60))  # fmt: skip
        canvas.ellipse(x, shelf - 7 - height, 3, 3, (110, 220, 80))
    elif kind == "glass":
        canvas.box(x - 11, shelf - 31, x + 11, shelf, (205, 215, 220))
        canvas.box(x - 9, shelf - 31, x + 9, shelf - 2, (60, 66, 72))
        canvas.box(x - 1.6, 0, x + 1.6, shelf - 2, (80, 170, 245))
        canvas.box(x - 9, shelf - 3 - 27 * a, x + 9, shelf - 2, (80, 170, 245))
    elif kind == "drip":
        shade = np.array(tint) * rng.permutation([235, 60, 110])
        canvas.box(x - 17, 0, x + 17, 4, shade)
        for j, reach in enumerate(rng.uniform(30, 48, 3)):
            canvas.box(x - 15 + 11 * j, 0, x - 8 + 11 * j, 5 + reach * a, shade)
            canvas.ellipse(x - 11.5 + 11 * j, 5 + reach * a, 3.5, 4, shade)


def render(scene: scene_lib.Scene) -> np.ndarray:
    """Draws the scene: uint8 RGB [I, 96, 96, 3], I = scene.n_frames; a pure function of it."""
    t = motion.simulate(scene)
    rng = scene_lib.scene_rng(scene.split, scene.seed, "look")
    canvas = _Canvas(texture.backdrop(scene.background, t.ground, rng), scene.n_frames)
    _draw_ambient(canvas, scene.ambient, t, rng)
    if t.puddle.any():
        body, colour = t.actor, scene.actor_colour
        if scene.subject == "target":
            body, colour = t.target, scene.target_colour
        wet = np.where(t.puddle > 0, 1.5 + 0.16 * t.puddle, 0)
        canvas.ellipse(body.centre[:, 0], t.ground + 2.5, t.puddle, wet, _rgb(colour) * 0.9)
    if scene.effect == "trail":
        _draw_trail(canvas, t.brush, scene.paint_colour)
    if scene.action == "pull":
        y = (t.actor.centre[:, 1] + t.target.centre[:, 1]) / 2
        ends = np.sort(np.stack([t.actor.centre[:, 0], t.target.centre[:, 0]]), 0)
        canvas.box(ends[0], y - 2.6, ends[1], y + 2.6, (30, 22, 16))
        canvas.box(ends[0], y - 1.2, ends[1], y + 1.2, (225, 195, 140))
    drawn = [(t.target, scene.target_shape, scene.target_colour),
             (t.actor, scene.actor_shape, scene.actor_colour)]  # fmt: skip
    for body, shape, colour in drawn[::-1] if t.behind else drawn:
        if body is not None:
            _draw_body(canvas, body, shape, colour, scene.paint_colour)
    return (canvas.frames + 0.5).astype(np.uint8)  # a mix of colours stays within 0-255
