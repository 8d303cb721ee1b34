"""Paints a picture-book bird, given its pose, its plumage and its surroundings.

A bird is drawn in frames of its own (body, head, wing, tail, legs) in which the beak points to +x, y goes
down and a unit is one of the picture at scale 1, a pixel where no other size than `SIZE` is asked for. Its marks, which
tell species apart, are looked up by name.
"""

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from glimpse_env.datasets.birds import anatomy, scenery
from glimpse_env.datasets.birds.anatomy import Pose, Skeleton
from glimpse_env.datasets.birds.brush import ZOOM, Brush, Frame, Points, mix, shade, zoom_of
from glimpse_env.datasets.birds.marks import MARKS, TAIL_ENDS, VENT, tail_half
from glimpse_env.datasets.birds.scenery import SIZE, Colour, Floats, Scenery


@dataclass(frozen=True)
class Palette:
    """Colours of the plumage, which tell the family."""

    back: Colour
    flank: Colour
    belly: Colour
    head: Colour
    throat: Colour
    wing: Colour
    flight: Colour
    """The long feathers of the wing."""
    tail: Colour


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The name of a mark for each part that can tell species apart; an empty name leaves the part plain."""

    beak: str
    crown: str = ""
    wing: str = ""
    tail: str = ""
    feet: str
    breast: str = ""
    eye: str = ""
    vent: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            name = getattr(self, field.name)
            if name not in MARKS[field.name]:
                known = ", ".join(repr(mark) for mark in MARKS[field.name])
                raise ValueError(f"the mark of the {field.name} must be one of {known}, got {name!r}")


@dataclass(frozen=True)
class Plumage:
    """The looks of a bird in any pose."""

    palette: Palette
    pattern: str
    """Pattern of the wing and the mantle, one of `PATTERNS`."""
    marks: Marks


@dataclass(frozen=True)
class Scene:
    """Everything in a picture but the species."""

    pose: Pose
    scenery: Scenery
    hue: float
    """Turn of the plumage's hues, in turns."""
    richness: float
    """Gain of the plumage's saturation."""


@dataclass(frozen=True)
class Drawing:
    """A finished picture."""

    image: npt.NDArray[np.uint8]
    """(size, size, 3) uint8."""
    parts: Floats
    """(P, 3) float32, in the order of `PART_NAMES`: row and column in pixels from the upper left corner of
    the image (the middle of its first pixel is at 0.5, 0.5), and 1 where inside the image, else 0."""
    mask: npt.NDArray[np.bool_]
    """(size, size) bool: body, head, wing and tail."""


def _scallops(brush: Brush, frame: Frame, palette: Palette) -> None:
    for row in range(4):
        for step in range(4 - row // 3):
            x, y = 0.6 - 3.1 * step - 1.5 * (row % 2), 0.2 + 2.9 * row + 0.3 * step
            arc = [(x + 1.4, y + 0.3), (x, y + 1.5), (x - 1.6, y + 1.1), (x - 1.9, y - 0.3)]
            brush.line(frame, arc, palette.flight, 0.5, 190)


def _stripes(brush: Brush, frame: Frame, palette: Palette) -> None:
    for step in range(5):
        y = 0.6 + 2.3 * step
        brush.line(frame, [(1.4 - 0.3 * step, y), (-5, y + 0.1), (-10.5, y + 0.5)], palette.flight, 0.7, 190)


def _speckles(brush: Brush, frame: Frame, palette: Palette) -> None:
    for step in range(16):
        x, y = -0.2 - 3.0 * (step % 4) - 1.2 * (step // 4 % 2), 1.0 + 2.8 * (step // 4)
        brush.disc(frame, x, y, 0.75, palette.belly, 220)


PATTERNS: dict[str, Callable[[Brush, Frame, Palette], None]] = {
    "scallops": _scallops,
    "stripes": _stripes,
    "speckles": _speckles,
    "smooth": lambda brush, frame, palette: None,
}
"""Patterns of the wing's small feathers by name."""


def _turn_hue(colour: Colour, hue: float, richness: float) -> Colour:
    h, s, v = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    red, green, blue = colorsys.hsv_to_rgb((h + hue) % 1, min(1.0, s * richness), v)
    return round(red * 255), round(green * 255), round(blue * 255)


def _worn(palette: Palette, scene: Scene) -> Palette:
    """Returns the palette with the hues of this individual."""
    return Palette(*(_turn_hue(getattr(palette, field.name), scene.hue, scene.richness) for field in fields(palette)))


Box = tuple[int, int, int, int]


def _coordinates(frame: Frame, box: Box, pixel: float) -> tuple[Floats, Floats]:
    """Returns the frame's x and y at the middle of each pixel of a box, (rows, columns) float32; `pixel` in units."""
    (a, b), (c, d) = np.linalg.inv(frame.axes).astype(np.float32)
    left, top, right, bottom = box
    step = np.float32(pixel)
    x = (np.arange(left, right, dtype=np.float32) * step + np.float32(0.5 * pixel - frame.origin[0]))[None, :]
    y = (np.arange(top, bottom, dtype=np.float32) * step + np.float32(0.5 * pixel - frame.origin[1]))[:, None]
    return x * a + y * c, x * b + y * d


def _step(values: Floats, middle: float, width: float) -> Floats:
    """Returns 0 well below `middle` and 1 well above, with a trailing axis for the channels."""
    t = ((values - np.float32(middle)) / np.float32(width) + np.float32(0.5)).clip(0, 1)
    smooth: Floats = (t * t * (3 - 2 * t))[..., None]
    return smooth


def _plumage_field(bird: Skeleton, palette: Palette, texture: Floats, box: Box) -> Image.Image:
    """Paints the colours of body and head within a box of pixels, blending softly from back to belly."""
    left, top, right, bottom = box
    ragged, pixel = texture[top:bottom, left:right] - 0.5, SIZE / len(texture)
    x, y = _coordinates(bird.body, box, pixel)
    y = y + ragged * 4
    layers = np.array((palette.back, palette.flank, palette.belly, palette.head, palette.throat), dtype=np.float32)
    field = layers[0] + (layers[1] - layers[0]) * _step(y, -4.0, 5.0)
    field += (layers[2] - field) * _step(y + 0.35 * x, 5.0, 6.0)
    x, y = _coordinates(bird.head, box, pixel)
    hood = 1 - _step(np.hypot(x, y) + ragged * 2, 9.2, 2.4)
    face = layers[3] + (layers[4] - layers[3]) * _step(y + 0.3 * x, 5.0, 2.0)
    field += (face - field) * hood
    return Image.fromarray(field.astype(np.uint8))


def _paste_plumage(canvas: Image.Image, trunk: Image.Image, bird: Skeleton, palette: Palette, texture: Floats) -> None:
    left, top, right, bottom = trunk.getbbox() or (0, 0, 1, 1)
    box = (left // ZOOM, top // ZOOM, -(-right // ZOOM), -(-bottom // ZOOM))
    large = (box[0] * ZOOM, box[1] * ZOOM, box[2] * ZOOM, box[3] * ZOOM)
    field = _plumage_field(bird, palette, texture, box)
    field = field.resize((large[2] - large[0], large[3] - large[1]), Image.Resampling.NEAREST)
    canvas.paste(field, large, trunk.crop(large))


def _silhouette(bird: Skeleton, shapes: Sequence[tuple[str, Points]], zoom: int) -> Image.Image:
    """Draws the union of shapes in their frames, L of the size of a canvas of `zoom` canvas pixels to the unit."""
    canvas = Image.new("L", (SIZE * zoom,) * 2)
    draw = ImageDraw.Draw(canvas)
    for frame, outline in shapes:
        draw.polygon((getattr(bird, frame)(outline) * zoom).ravel().tolist(), fill=255)
    return canvas


def _relief(share: npt.NDArray[np.uint8], radius: int) -> Floats:
    """Computes the roundness of a shape lit from above: near 1 at upper edges, -1 at lower, 0 inside; (size, size).

    `share` (size, size) is how much of each pixel the shape covers, of 255.
    """
    blurred = Image.fromarray(share).filter(ImageFilter.BoxBlur(radius))
    soft = np.asarray(blurred, dtype=np.float32) / np.float32(255)
    relief: Floats = np.zeros_like(soft)
    relief[radius:-radius] = soft[2 * radius :] - soft[: -2 * radius]
    return relief


def _paint_tail(brush: Brush, frame: Frame, palette: Palette, mark: str) -> None:
    end = TAIL_ENDS.get(mark, -22.0)
    # In two pieces, so that the first is the same to the pixel whatever the mark.
    _paint_tail_piece(brush, frame, palette.tail, 2.0, -11.0)
    _paint_tail_piece(brush, frame, palette.tail, -11.0, end)
    MARKS["tail"][mark](brush, frame)


def _paint_tail_piece(brush: Brush, frame: Frame, colour: Colour, near: float, far: float) -> None:
    a, b, dark = tail_half(near), tail_half(far), shade(colour, 0.62)
    brush.fill(frame, [(near, -a), (far, -b), (far, b), (near, a)], colour)
    brush.fill(frame, [(near, 0.3 * a), (far, 0.3 * b), (far, b), (near, a)], dark, 60)
    for share in (-0.5, 0.0, 0.5):
        brush.line(frame, [(near, share * a), (far, share * b)], dark, 0.4, 170)
    for side in (-1.0, 1.0):
        brush.line(frame, [(near, side * a), (far, side * b)], shade(colour, 0.4), 0.3, 150)


def _paint_wing(brush: Brush, frame: Frame, palette: Palette, pattern: str) -> None:
    brush.fill(frame, anatomy.WING + np.array((0.6, 1.4)), shade(palette.flank, 0.45), 90)  # its shadow on the flank
    brush.fill(frame, anatomy.WING, palette.flight)
    middle, dark = mix(palette.flight, palette.wing, 0.55), shade(palette.flight, 0.6)
    for step in range(5):  # long feathers, the lowest first
        feather = [(-8, 11.5 - 1.9 * step), (-17, 11.2 - 1.1 * step), (-32.0 + 3.4 * step, 9.0 - 0.1 * step)]
        brush.line(frame, feather, dark, 0.5, 190)
        brush.line(frame, [(x, y - 0.7) for x, y in feather], middle, 0.6, 170)
    for step in range(5):
        covert = anatomy.LONG_COVERT + np.array((-6.0 - 0.9 * (step % 4 == 0), 0.4 + 2.4 * step))
        brush.fill(frame, covert, middle)
        brush.outline(frame, covert, dark, 170)
    brush.fill(frame, anatomy.COVERTS, palette.wing)
    brush.outline(frame, anatomy.COVERTS, dark, 80)
    PATTERNS[pattern](brush, frame, palette)
    brush.outline(frame, anatomy.WING, shade(palette.flight, 0.45), 150)


def _paint_eye(brush: Brush, frame: Frame) -> None:
    brush.disc(frame, 2.0, -1.5, 2.1, (92, 70, 50))
    brush.disc(frame, 2.0, -1.5, 1.7, (16, 14, 18))
    brush.disc(frame, 2.6, -2.2, 0.65, (255, 255, 255))


def paint(scene: Scene, plumage: Plumage, size: int = SIZE) -> Drawing:
    """Paints a bird in a scene, `size` pixels high and wide, a multiple of 32.

    The same arguments always give the same picture. Another size gives the same bird in the same scene, its details as
    fine as the pixels allow.
    """
    zoom = zoom_of(size)
    rng = np.random.Generator(np.random.PCG64(scene.scenery.texture_seed))
    bird, palette, marks = anatomy.skeleton(scene.pose), _worn(plumage.palette, scene), plumage.marks
    texture = scenery.noise(rng, 24, 24, size)
    canvas = scenery.paint_backdrop(scene.scenery, rng, size).resize((size * ZOOM,) * 2, Image.Resampling.NEAREST)
    scenery.paint_perch(ImageDraw.Draw(canvas, "RGBA"), scene.scenery, rng, bird.foot(), zoom)
    brush = Brush(canvas, scene.pose.scale, zoom)

    _paint_tail(brush, bird.tail, palette, marks.tail)
    nape = anatomy.neck(bird)
    trunk = _silhouette(bird, (("body", anatomy.BODY), ("body", VENT), ("head", anatomy.HEAD), ("body", nape)), zoom)
    _paste_plumage(canvas, trunk, bird, palette, texture)
    brush.outline(bird.body, anatomy.BODY, shade(palette.flank, 0.4), 70)
    for x, y in anatomy.DOWN:
        stroke = [(x + 1.2, y + 0.5), (x, y + 1.0), (x - 1.3, y + 0.4)]
        brush.line(bird.body, stroke, shade(palette.flank, 0.55), 0.45, 90)
    MARKS["feet"][marks.feet](brush, bird.legs)
    MARKS["vent"][marks.vent](brush, bird.body)
    MARKS["breast"][marks.breast](brush, bird.body)
    _paint_wing(brush, bird.wing, palette, plumage.pattern)
    MARKS["wing"][marks.wing](brush, bird.wing.moved(*anatomy.PART_PLACES["wing"][1]))
    MARKS["crown"][marks.crown](brush, bird.head)
    MARKS["beak"][marks.beak](brush, bird.head)
    MARKS["eye"][marks.eye](brush, bird.head)
    _paint_eye(brush, bird.head)

    trunk_share, wing_share, tail_share = (
        np.asarray(shape.reduce(ZOOM))
        for shape in (
            trunk,
            _silhouette(bird, (("wing", anatomy.WING),), zoom),
            _silhouette(bird, (("tail", anatomy.TAIL),), zoom),
        )
    )
    roundness = 0.42 * _relief(trunk_share, zoom) + 0.12 * _relief(wing_share, round(zoom / 2))
    downy = 0.10 * (texture - 0.5)
    gain = 1 + (roundness + downy) * (trunk_share / np.float32(255))  # (size, size)
    pixels = np.asarray(canvas.reduce(ZOOM), dtype=np.float32) * gain[..., None]
    pixels *= scenery.light_field(scene.scenery.light, size)
    mask = np.maximum(np.maximum(trunk_share, wing_share), tail_share) > 127
    return Drawing(pixels.clip(0, 255).astype(np.uint8), _locations(bird, size), mask)


def _locations(bird: Skeleton, size: int) -> Floats:
    """Returns row and column in pixels and visibility of the parts, (P, 3) float32."""
    places = bird.parts()[:, ::-1] * (size / SIZE)
    visible = ((places >= 0) & (places < size)).all(axis=1, keepdims=True)
    locations: Floats = np.concatenate([places, visible], axis=1).astype(np.float32)
    return locations
