"""The surroundings of a bird: backdrop, clutter, perch and light.

Everything here is softer and duller than the birds, so that a bird stands out, and nothing here knows the
species. Coordinates are units, of which a picture has `SIZE` in each direction, x to the right and y down, unless a
name says canvas. A unit is a pixel of a picture of the usual size; larger pictures are painted with more pixels a unit.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from glimpse_env.datasets.birds import read_table

SIZE = 128
"""Height and width of a picture in units, and in pixels where no other size is asked for."""

Colour = tuple[int, int, int]
Floats = npt.NDArray[np.float32]

_TABLE = read_table("scenery")
_BACKDROPS: dict[str, Any] = _TABLE["backdrops"]
"""For each backdrop two anchor colours and one that its texture leans towards; the cells down and across of a coarse
and a fine noise, and how far each carries; and the colour of the ground."""
BACKDROPS = tuple(_BACKDROPS)
PERCHES = ("branch", "mossy branch", "wire", "post", "stone", "ground")

_CLUTTER_SCALE = 2
"""Canvas pixels to the pixel of the image."""

_CLUTTER = ("leaf", "leaf", "leaf", "twig", "berries", "blossom", "stone")


@dataclass(frozen=True)
class Light:
    """The light in a picture."""

    brightness: float
    """Overall gain, about 0.8 to 1.1."""
    warmth: float
    """-1 (cool) to 1 (warm)."""
    slope: tuple[float, float]
    """Change of gain from the middle to the edge, down the rows and across the columns."""


@dataclass(frozen=True)
class Scenery:
    """Backdrop, perch and light of one picture; the texture seed stands for all the rest."""

    backdrop: str
    """One of `BACKDROPS`."""
    perch: str
    """One of `PERCHES`."""
    perch_slope: float
    """Rise of a branch or a wire, in units down for each unit to the right."""
    clutter: int
    """Number of leaves, twigs, berries, blossoms and stones that lie about."""
    light: Light
    texture_seed: int
    """Seeds every detail that has no field of its own."""

    def __post_init__(self) -> None:
        if self.backdrop not in BACKDROPS:
            raise ValueError(f"backdrop must be one of {BACKDROPS}, got {self.backdrop!r}")
        if self.perch not in PERCHES:
            raise ValueError(f"perch must be one of {PERCHES}, got {self.perch!r}")


def noise(rng: np.random.Generator, down: int, across: int, size: int) -> Floats:
    """Draws smooth noise of shape (size, size), float32 in [0, 1], with `down` x `across` cells."""
    cells = Image.fromarray(rng.random((down, across), dtype=np.float32))
    return np.asarray(cells.resize((size, size), Image.Resampling.BICUBIC)).clip(0, 1)


@lru_cache
def _ramps(size: int) -> tuple[Floats, Floats]:
    """Returns ramps from 0 to 1 down the rows and across the columns, each (size, size)."""
    rows, cols = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size - 1)
    return rows, cols


def paint_backdrop(scenery: Scenery, rng: np.random.Generator, size: int) -> Image.Image:
    """Paints the softened picture behind everything, RGB of size x size."""
    rows, cols = _ramps(size)
    backdrop = _BACKDROPS[scenery.backdrop]
    top, bottom, accent = np.array(backdrop["colours"], dtype=np.float32) + rng.uniform(-14, 14, (3, 3))
    ramp = rows if rng.random() < 0.7 else (rows + cols * np.float32(rng.uniform(-0.6, 0.6)))
    texture = sum(noise(rng, down, across, size) * carry for down, across, carry in backdrop["textures"])
    texture = ((texture - 0.25) * np.float32(1.2)).clip(0, 1)
    pixels = top + (bottom - top) * ramp[..., None]  # (size, size, 3)
    pixels = pixels + (accent - pixels) * texture[..., None]
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image = image.resize((size * _CLUTTER_SCALE,) * 2, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(scenery.clutter):
        _paint_clutter(draw, rng, size / SIZE)
    image = image.reduce(_CLUTTER_SCALE)
    return image.filter(ImageFilter.BoxBlur(float(rng.uniform(0.5, 1.3)) * size / SIZE))


def _paint_clutter(draw: ImageDraw.ImageDraw, rng: np.random.Generator, zoom: float) -> None:
    """Paints something that lies about, on a canvas of `_CLUTTER_SCALE` x `zoom` canvas pixels a unit."""
    kind = _CLUTTER[int(rng.integers(len(_CLUTTER)))]
    x, y, angle, size, shade = rng.random(5) * (SIZE, SIZE, 2 * math.pi, 1, 1)
    x, y = x * _CLUTTER_SCALE * zoom, y * _CLUTTER_SCALE * zoom
    alpha = int(120 + 70 * shade)
    choice = int(rng.integers(60))
    colours = _TABLE["colours"][kind]
    colour = colours[choice % len(colours)]
    if kind == "leaf":
        length, width = (14 + 16 * size) * zoom, (4 + 5 * size) * zoom
        paint_leaf(draw, x, y, angle, length, width, colour, alpha)
    elif kind == "twig":
        length = (30 + 60 * size) * zoom
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        draw.line([(x, y), end], fill=(*colour, alpha), width=int((2 + 3 * shade) * zoom))
    elif kind == "berries":
        for turn in range(3):
            a, far = angle + 2.1 * turn, 7 * zoom
            _disc(draw, x + far * math.cos(a), y + far * math.sin(a), (3.5 + 2 * size) * zoom, (*colour, alpha))
    elif kind == "blossom":
        radius = (3 + 2.5 * size) * zoom
        for turn in range(5):
            a = angle + 1.2566 * turn
            _disc(draw, x + 1.3 * radius * math.cos(a), y + 1.3 * radius * math.sin(a), radius, (*colour, alpha))
        _disc(draw, x, y, radius * 0.7, (196, 164, 96, alpha))
    else:
        wide, high = (7 + 12 * size) * zoom, (5 + 6 * size) * zoom
        y = SIZE * _CLUTTER_SCALE * zoom - y / 4  # stones lie low
        draw.ellipse((x - wide, y - high, x + wide, y + high), fill=(*colour, alpha))
        draw.ellipse((x - wide * 0.7, y - high * 0.8, x + wide * 0.5, y), fill=(220, 220, 214, 50))


def paint_leaf(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    angle: float,
    length: float,
    width: float,
    colour: Colour,
    alpha: int,
) -> None:
    """Paints a pointed leaf from (x, y) outwards, in the pixels of `draw`, with a paler midrib."""
    along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    outline = [
        (x + along[0] * length * t + across[0] * width * w, y + along[1] * length * t + across[1] * width * w)
        for t, w in _TABLE["leaf"]
    ]
    draw.polygon(outline, fill=(*colour, alpha))
    pale = (min(255, colour[0] + 30), min(255, colour[1] + 30), min(255, colour[2] + 24))
    draw.line([outline[0], outline[4]], fill=(*pale, alpha), width=max(1, round(width / 5)))


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: tuple[int, int, int, int]) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def paint_perch(
    draw: ImageDraw.ImageDraw,
    scenery: Scenery,
    rng: np.random.Generator,
    foot: tuple[float, float],
    zoom: int,
) -> None:
    """Paints the perch on a canvas of `zoom` canvas pixels to the unit.

    Its upper edge passes through `foot` (x, y in units).
    """
    x, y = foot[0] * zoom, foot[1] * zoom
    width = SIZE * zoom
    brown = np.array((112, 88, 70)) + rng.uniform(-22, 22) + rng.uniform(-8, 8, 3)
    if scenery.perch in ("branch", "mossy branch"):
        _paint_branch(draw, scenery, rng, x, y, zoom, brown)
    elif scenery.perch == "wire":
        ends = [
            (-zoom, y - (x + zoom) * scenery.perch_slope),
            (width + zoom, y + (width - x) * scenery.perch_slope),
        ]
        draw.line(ends, fill=(70, 70, 74, 255), width=round(1.8 * zoom))
        draw.line(ends, fill=(150, 150, 152, 120), width=round(0.5 * zoom))
    elif scenery.perch == "post":
        half = (7 + 5 * rng.random()) * zoom
        left, right = x - half * (0.8 + 0.4 * rng.random()), x + half
        draw.rectangle((left, y, right, width), fill=(*_rgb(brown + 14), 255))
        draw.rectangle((left + (right - left) * 0.62, y, right, width), fill=(*_rgb(brown - 14), 255))
        for share in rng.random(3):
            column = left + (right - left) * share
            draw.line(
                [(column, y + 2 * zoom), (column, width)],
                fill=(*_rgb(brown - 26), 110),
                width=max(1, zoom // 2),
            )
        draw.ellipse((left, y - zoom, right, y + 2.5 * zoom), fill=(*_rgb(brown + 34), 255))
    elif scenery.perch == "stone":
        grey = np.array((134, 132, 128)) + rng.uniform(-20, 16) + rng.uniform(-6, 6, 3)
        drop = SIZE * zoom - y
        wide = (18 + 14 * rng.random()) * zoom + 0.3 * drop
        shift = (rng.random() - 0.5) * wide * 0.5
        left, right, bottom = x + shift - wide, x + shift + wide, y + 1.5 * drop + 20 * zoom
        y -= 0.03 * (bottom - y)  # as high as this where the feet are, for the ellipse falls off to its sides
        draw.ellipse((left, y, right, bottom), fill=(*_rgb(grey - 20), 255))
        draw.ellipse((left + wide * 0.1, y, right - wide * 0.2, bottom), fill=(*_rgb(grey), 255))
        draw.ellipse((left + wide * 0.4, y + zoom, right - wide * 0.8, y + 9 * zoom), fill=(*_rgb(grey + 18), 150))
    else:
        _paint_ground(draw, scenery, rng, x, y, zoom)


def _paint_branch(
    draw: ImageDraw.ImageDraw,
    scenery: Scenery,
    rng: np.random.Generator,
    x: float,
    y: float,
    zoom: int,
    brown: npt.NDArray[np.float64],
) -> None:
    columns = np.linspace(-4 * zoom, (SIZE + 4) * zoom, 15)
    bend = 0.06 * np.sin((columns - x) / (zoom * (14 + 8 * rng.random()))) * zoom * 12
    upper = y + (columns - x) * scenery.perch_slope + bend
    taper = 1 if rng.random() < 0.5 else -1
    thick = zoom * (4.6 + 1.6 * rng.random() + taper * 1.6 * np.linspace(-1, 1, 15))
    for share in rng.random(4):  # twigs and their leaves go under the branch
        node = int(1 + share * 12)
        root = (float(columns[node]), float(upper[node] + thick[node] * 0.6))
        angle = (
            math.pi / 2 + float(rng.uniform(-1.1, 1.1)) if abs(root[0] - x) < 30 * zoom else 6.28 * float(rng.random())
        )
        reach = zoom * (7 + 8 * float(rng.random()))
        tip = (root[0] + reach * math.cos(angle), root[1] + reach * math.sin(angle))
        draw.line([root, tip], fill=(*_rgb(brown - 16), 255), width=round(1.4 * zoom))
        leaves = _TABLE["colours"]["leaf"]
        colour = leaves[int(rng.integers(len(leaves)))]
        for turn in (-0.7, 0.5):
            paint_leaf(draw, *tip, angle + turn, zoom * 9, zoom * 3.2, colour, 255)
    _band(draw, columns, upper, upper + thick, _rgb(brown - 18))
    _band(draw, columns, upper, upper + thick * 0.6, _rgb(brown + 4))
    _band(draw, columns, upper, upper + thick * 0.25, _rgb(brown + 26))
    if scenery.perch == "mossy branch":
        moss = np.array((110, 128, 74)) + rng.uniform(-16, 16, 3)
        _band(draw, columns, upper - 0.2 * zoom, upper + thick * (0.3 + 0.25 * rng.random(15)), _rgb(moss))


def _paint_ground(
    draw: ImageDraw.ImageDraw, scenery: Scenery, rng: np.random.Generator, x: float, y: float, zoom: int
) -> None:
    colour = np.array(_BACKDROPS[scenery.backdrop]["ground"]) + rng.uniform(-12, 12, 3)
    columns = np.linspace(0, SIZE * zoom, 12)
    edge = y - zoom * (3.5 + 2 * rng.random(12))
    for step in range(14):  # nearer ground is a little darker
        _band(draw, columns, edge + step * 2.5 * zoom, np.full(12, SIZE * zoom * 1.1), _rgb(colour - 2 * step))
    for tuft_x, tuft_y, lean in rng.random((14, 3)):
        root = (tuft_x * SIZE * zoom, y + (tuft_y - 0.08) * 40 * zoom)
        tip = (root[0] + (lean - 0.5) * 6 * zoom, root[1] - (3 + 4 * lean) * zoom)
        draw.line([root, tip], fill=(*_rgb(colour - 22), 200), width=zoom)
    draw.ellipse((x - 17 * zoom, y - 1.6 * zoom, x + 17 * zoom, y + 3.4 * zoom), fill=(50, 46, 44, 70))


def _band(
    draw: ImageDraw.ImageDraw,
    columns: npt.NDArray[np.float64],
    upper: npt.NDArray[np.float64],
    lower: npt.NDArray[np.float64],
    colour: Colour,
) -> None:
    there = np.stack([columns, upper], axis=1)
    back = np.stack([columns, lower], axis=1)[::-1]
    draw.polygon(np.concatenate([there, back]).ravel().tolist(), fill=(*colour, 255))


def _rgb(values: npt.NDArray[np.float64]) -> Colour:
    red, green, blue = values.clip(0, 255).tolist()
    return int(red), int(green), int(blue)


def light_field(light: Light, size: int) -> Floats:
    """Computes the gain of every pixel and channel, (size, size, 3) float32."""
    rows, cols = _ramps(size)
    gain = light.brightness * (1 + light.slope[0] * (2 * rows - 1) + light.slope[1] * (2 * cols - 1))
    warm = max(light.warmth, 0.0)
    cool = max(-light.warmth, 0.0)
    tint = np.array((1 + 0.06 * warm - 0.12 * cool, 1 - 0.02 * warm, 1 - 0.16 * warm + 0.08 * cool), dtype=np.float32)
    field: Floats = (gain[..., None] * tint).astype(np.float32)
    return field
