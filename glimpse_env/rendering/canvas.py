"""A canvas to draw on, the colours, and the pieces that several pictures share."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

INK: Colour = (240, 241, 245)
FAINT: Colour = (148, 154, 170)
BACKGROUND: Colour = (20, 22, 30)
TRACK: Colour = (38, 42, 55)
BAR: Colour = (86, 156, 214)
RIGHT: Colour = (92, 200, 130)
WRONG: Colour = (240, 108, 100)
BEST: Colour = (236, 40, 130)

HEAT = np.array(
    [(253, 231, 37), (122, 209, 81), (34, 168, 132), (42, 120, 142), (65, 68, 135), (68, 1, 84)], dtype=np.float64
)
"""Colours from the lowest to the highest value of a map: viridis, bright where it is best to look."""

ROW = 47
"""Height of a class in :func:`draw_bars`."""

_OVERSAMPLING = 2
"""Factor by which pictures are drawn larger and then reduced."""


class Canvas:
    """A picture that is being drawn, ``width`` x ``height`` units; coordinates are units from its top-left corner."""

    def __init__(self, width: float, height: float, zoom: float = 1.0):
        """
        Args:
            width, height: in units.
            zoom: pixels per unit in the finished picture.
        """
        self._scale = _OVERSAMPLING * zoom
        size = (round(width * zoom) * _OVERSAMPLING, round(height * zoom) * _OVERSAMPLING)
        self._picture = Image.new("RGB", size, BACKGROUND)
        self._draw = ImageDraw.Draw(self._picture)

    def finished(self) -> np.ndarray:
        """Returns the picture, (height * zoom, width * zoom, 3) uint8."""
        return np.asarray(self._picture.reduce(_OVERSAMPLING))

    def image(self, place: tuple[float, float], pixels: np.ndarray, side: float) -> None:
        """Draws an image (H, W, 3) uint8 as a square of ``side``, its top-left corner at ``place``."""
        size = round(side * self._scale)
        enlarged = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
        self._picture.paste(enlarged, (round(place[0] * self._scale), round(place[1] * self._scale)))

    def box(
        self,
        box: Sequence[float],
        *,
        fill: Colour | None = None,
        outline: Colour | None = None,
        width: float = 1,
        radius: float = 0,
    ) -> None:
        """Draws a rectangle over ``box`` (left, top, right, bottom), its outline inside."""
        left, top, right, bottom = (round(value * self._scale) for value in box)
        self._draw.rounded_rectangle(
            (left, top, right - 1, bottom - 1),
            radius * self._scale,
            fill=fill,
            outline=outline,
            width=round(width * self._scale),
        )

    def text(self, place: tuple[float, float], text: str, size: int, colour: Colour, anchor: str = "la") -> None:
        """Draws text; ``anchor``, as in Pillow, is the point of the text that is at ``place``."""
        left, top = place[0] * self._scale, place[1] * self._scale
        self._draw.text((left, top), text, colour, self._font(size), anchor=anchor)

    def text_width(self, text: str, size: int) -> float:
        return self._draw.textlength(text, self._font(size)) / self._scale

    def fitted(self, text: str, size: int, width: float) -> str:
        """Returns ``text``, cut to ``width``."""
        if self.text_width(text, size) <= width:
            return text
        while text and self.text_width(text + "...", size) > width:
            text = text[:-1]
        return text.rstrip() + "..."

    def _font(self, size: int) -> Any:
        pixels = max(round(size * self._scale), 1)
        if pixels not in _FONTS:
            _FONTS[pixels] = ImageFont.load_default(pixels)
        return _FONTS[pixels]


_FONTS: dict[int, Any] = {}


def heat(
    epe_map: np.ndarray,
    size: int,
    glimpse_size: int,
    stride: float,
    *,
    offset: int = 0,
    bounds: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Colours a map, a cell around the centre of each location's glimpse.

    Args:
        epe_map: (L,): a value at each location of a square grid, row-major; NaN leaves a cell without colour.
        size: H = W, of the image in pixels.
        glimpse_size: in pixels.
        stride: pixels between neighbouring locations.
        offset: row, and column, of the first location.
        bounds: lowest and highest value of the colours; default the map's own.

    Returns:
        (H, W, 3) float64 colours in 0..255, and (H, W, 1) bool, False outside all cells.
    """
    side = math.isqrt(len(epe_map))
    low, high = map_bounds(epe_map) if bounds is None else bounds
    values = epe_map.astype(np.float64).reshape(side, side)
    colours = blend_all(HEAT, (np.where(np.isnan(values), low, values) - low) / max(high - low, 1e-12))
    edges = _cell_edges(side, glimpse_size, stride, offset)
    cells = edges.searchsorted(np.arange(size), side="right") - 1  # (H,), -1 and side outside the map
    inside = (cells >= 0) & (cells < side)
    which = np.ix_(cells.clip(0, side - 1), cells.clip(0, side - 1))
    return colours[which], ((inside[:, None] & inside) & ~np.isnan(values)[which])[..., None]


def map_bounds(epe_map: np.ndarray) -> tuple[float, float]:
    """Returns the lowest and highest value of a map (L,), some of which may be NaN."""
    return float(np.nanmin(epe_map)), float(np.nanmax(epe_map))


def heat_cell(location: int, side: int, glimpse_size: int, stride: float, offset: int = 0) -> np.ndarray:
    """Returns the cell of a location in :func:`heat`: left, top, right, bottom in pixels of the image, (4,) int64."""
    row, col = divmod(location, side)
    edges = _cell_edges(side, glimpse_size, stride, offset)
    return edges[[col, row, col + 1, row + 1]]


def _cell_edges(side: int, glimpse_size: int, stride: float, offset: int) -> np.ndarray:
    """Returns the pixels, down or across, at which the cells of :func:`heat` begin, and the last one ends.

    (side + 1,) int64; a pixel belongs to the cell that has its middle.
    """
    starts = offset + (glimpse_size - stride) / 2 + np.arange(side + 1) * max(stride, 1)
    return np.ceil(starts - 0.5).astype(np.int64)


def draw_ramp(canvas: Canvas, left: float, top: float, right: float, bottom: float) -> None:
    """Draws the scale of colours of :func:`heat`, lowest on the left."""
    count = round(right - left)
    for x in range(count):
        canvas.box((left + x, top, left + x + 1, bottom), fill=blend(HEAT, x / (count - 1)))


def draw_bars(
    canvas: Canvas,
    place: tuple[float, float],
    width: float,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    label: int | None,
    count: int,
) -> None:
    """Draws bars of the most probable classes, the true one always among them once it may be shown.

    Args:
        canvas: to draw on.
        place: left and top.
        width: of a bar of probability 1.
        probabilities: (classes,).
        class_names: of all classes.
        label: the true class, marked; None before it may be shown.
        count: of bars, each ``ROW`` high.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    best = most_probable(p, label, count)
    left, right = place[0], place[0] + width
    for rank, k in enumerate(best):
        y = place[1] + ROW * rank
        colour = RIGHT if k == label else WRONG if label is not None and rank == 0 else BAR
        ink = INK if label is None or rank == 0 or k == label else FAINT
        canvas.text((left, y), canvas.fitted(class_names[k], 14, width - 56), 14, ink)
        canvas.text((right, y), f"{100 * p[k]:.1f} %", 14, ink, "ra")
        canvas.box((left, y + 21, right, y + 33), fill=TRACK, radius=3)
        canvas.box((left, y + 21, left + max(4.0, width * p[k]), y + 33), fill=colour, radius=3)


def most_probable(probabilities: np.ndarray, label: int | None, count: int) -> np.ndarray:
    """Returns (count,) int64: the most probable classes of (classes,), the last one given up for ``label`` where that
    is not among them."""
    best = np.argsort(-probabilities, kind="stable")[:count]
    if label is not None and label not in best:
        best[-1] = label
    return best


def blend(colours: np.ndarray, where: float) -> Colour:
    """Returns the colour at ``where`` in 0..1 between the colours (n, 3)."""
    red, green, blue = blend_all(colours, np.array(where)).round().astype(int).tolist()
    return red, green, blue


def blend_all(colours: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Returns the colours (..., 3) at ``where`` (...) in 0..1 between the colours (n, 3)."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(where, stops, channel) for channel in colours.T], axis=-1)
