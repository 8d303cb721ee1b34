"""Frames of reference of a bird and the brush that paints in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from glimpse_env.datasets.birds.scenery import SIZE, Colour

ZOOM = 4
"""Canvas pixels to the pixel of the image, in rows and in columns."""

Points = npt.NDArray[np.float64]
Outline = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Frame:
    """Maps points of one frame of the bird, (N, 2) of x, y, to units of the picture."""

    axes: Points
    """(2, 2): rows are where the frame's x and y axes point, scaled."""
    origin: Points
    """(2,) x, y in units."""

    def moved(self, x: float, y: float) -> "Frame":
        """Returns the same frame with its origin at (x, y)."""
        return Frame(self.axes, self([(x, y)])[0])

    def __call__(self, points: Outline | Points) -> Points:
        return np.asarray(points, dtype=np.float64) @ self.axes + self.origin


def spline(points: Outline, steps: int = 5, closed: bool = True) -> Points:
    """Returns a Catmull-Rom curve through the points (N, 2)."""
    knots = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([knots[:1], knots, knots[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    weights = 0.5 * np.concatenate(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, 4, axis=0)  # (segments, 2, 4)
    curve = np.einsum("sk,ndk->nsd", weights, windows).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def zoom_of(size: int) -> int:
    """Returns the canvas pixels per unit of a picture that will be `size` pixels high and wide, a multiple of 32."""
    return ZOOM * size // SIZE


class Brush:
    """Paints shapes given in a frame onto a canvas of `zoom` canvas pixels to the unit of the picture."""

    def __init__(self, canvas: Image.Image, scale: float, zoom: int) -> None:
        self._draw = ImageDraw.Draw(canvas, "RGBA")
        self._zoom = zoom
        self.unit = scale * zoom
        """Canvas pixels a unit of the bird's frames."""

    def _place(self, frame: Frame, points: Outline | Points) -> list[float]:
        placed: list[float] = (frame(points) * self._zoom).ravel().tolist()
        return placed

    def fill(self, frame: Frame, points: Outline | Points, colour: Colour, alpha: int = 255) -> None:
        """Paints a filled polygon."""
        self._draw.polygon(self._place(frame, points), fill=(*colour, alpha))

    def line(self, frame: Frame, points: Outline | Points, colour: Colour, width: float, alpha: int = 255) -> None:
        """Paints a line `width` units of the bird's frames wide."""
        thick = max(1, round(width * self.unit))
        self._draw.line(self._place(frame, points), fill=(*colour, alpha), width=thick, joint="curve")

    def outline(self, frame: Frame, points: Outline | Points, colour: Colour, alpha: int = 120) -> None:
        """Paints a thin line around a closed curve."""
        placed = self._place(frame, points)
        self._draw.line(placed + placed[:2], fill=(*colour, alpha), width=round(self._zoom / 2))

    def disc(
        self,
        frame: Frame,
        x: float,
        y: float,
        radius: float,
        colour: Colour,
        alpha: int = 255,
        squash: float = 1.0,
    ) -> None:
        """Paints a disc, or an ellipse `squash` times as high as wide, upright on the canvas."""
        cx, cy = (frame([(x, y)])[0] * self._zoom).tolist()
        wide, high = radius * self.unit, radius * self.unit * squash
        self._draw.ellipse((cx - wide, cy - high, cx + wide, cy + high), fill=(*colour, alpha))


def shade(colour: Colour, gain: float) -> Colour:
    """Returns the colour made lighter or darker."""
    return (min(255, int(colour[0] * gain)), min(255, int(colour[1] * gain)), min(255, int(colour[2] * gain)))


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Returns `one` with a share of `other`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
