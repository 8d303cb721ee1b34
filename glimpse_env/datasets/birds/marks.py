"""The small marks that tell species apart, by part and name.

Each is painted in the frame of its part and stays within 11.5 units of its part's location, so that two birds
that differ in one mark differ in nothing further away. The marks of a part that tell a family's species apart
share their colours and nearly their extent, or pair up the same few colours, so that a mark must be seen as a
whole: its edge alone says little.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from glimpse_env.datasets.birds import read_table
from glimpse_env.datasets.birds.brush import Brush, Frame, Outline, Points, shade, spline
from glimpse_env.datasets.birds.scenery import Colour

SHAPES: dict[str, dict[str, Any]] = read_table("shapes")
"""Corners of polygons and knots of splines, by part and name."""
LEG = 10.5
"""Length of a leg from hip to sole."""
VENT = spline(SHAPES["bird"]["vent"])
"""Outline of the undertail in the body's frame."""

_DARK: Colour = (38, 32, 34)
_WHITE: Colour = (248, 246, 238)
_BLACK: Colour = (26, 24, 28)
_RED: Colour = (218, 34, 38)
_YELLOW: Colour = (250, 208, 32)
_BLUE: Colour = (38, 128, 232)
_GREEN: Colour = (60, 170, 62)
_GILT = shade(_YELLOW, 0.5)
"""Edges of crests."""

Mark = Callable[[Brush, Frame], None]


def _layers(*marks: Mark) -> Mark:
    """Paints marks over each other, the first lowest; without any it leaves a part plain."""

    def paint(brush: Brush, frame: Frame) -> None:
        for mark in marks:
            mark(brush, frame)

    return paint


def _filled(shape: Outline | Points, colour: Colour, edge: Colour | None = None, alpha: int = 220) -> Mark:
    """Paints a filled shape, with an outline where `edge` has a colour."""

    def paint(brush: Brush, frame: Frame) -> None:
        brush.fill(frame, shape, colour)
        if edge is not None:
            brush.outline(frame, shape, edge, alpha)

    return paint


def _edge(shape: Points, alpha: int) -> Mark:
    return lambda brush, frame: brush.outline(frame, shape, _DARK, alpha)


def _line(points: Outline | Points, colour: Colour, width: float, alpha: int = 255) -> Mark:
    return lambda brush, frame: brush.line(frame, points, colour, width, alpha)


def _disc(x: float, y: float, radius: float, colour: Colour, alpha: int = 255) -> Mark:
    return lambda brush, frame: brush.disc(frame, x, y, radius, colour, alpha)


_plain = _layers()


def _beak(upper: Outline, lower: Outline, tip: Outline = ()) -> Mark:
    top, bottom = spline(upper, 4), spline(lower, 4)
    return _layers(
        _filled(bottom, shade(_YELLOW, 0.78)),
        _filled(top, _YELLOW),
        _edge(bottom, 170),
        _edge(top, 220),
        _disc(9.6, -0.6, 0.4, _DARK, 170),
        *([_filled(spline(tip, 4), _BLACK)] if tip else []),
    )


def _fan_plume(step: int) -> Mark:
    angle = math.radians(-156 + 21 * step)
    along, across = np.array((math.cos(angle), math.sin(angle))), np.array((-math.sin(angle), math.cos(angle)))
    root = np.array((-1.0, -5.6))
    plume = np.array([root + along * far + across * wide for far, wide in SHAPES["crown"]["fan plume"]])
    x, y = root + along * 6.6
    return _layers(_filled(plume, _YELLOW, _GILT, 200), _disc(float(x), float(y), 1.15, _BLACK))


def _quill_plume(grown: float, colour: Colour) -> Mark:
    quill = spline(SHAPES["crown"]["quill"], 4, closed=False)
    return _layers(_line(quill, colour, 1.6 + 2 * grown), _disc(2.2, -13.2, 3.4 + grown, colour))


def _horn(root: float, tip: float) -> Mark:
    knots = ((root - 2.6, -6.2), (tip - 0.8, -13.0), (tip, -16.6), (tip + 1.6, -12.0), (root + 2.8, -7.0))
    return _filled(spline(knots, 4), _YELLOW, _GILT)


_PANEL = spline(SHAPES["wing"]["panel"], 4)


def _panelled(*motif: Points) -> Mark:
    """Paints white shapes on the same dark panel."""
    return _layers(_filled(_PANEL, _BLACK), *(_filled(shape, _WHITE) for shape in motif))


def _bar(column: float, half: float) -> Points:
    """Returns an upright bar, a little bent."""
    edge = ((half + 0.6, -4.5), (half - 0.4, 0.0), (half + 0.4, 4.5))
    return spline([*((column + x, y) for x, y in edge), *((column + x - 2 * half, y) for x, y in edge[::-1])], 3)


_SPOT = np.array([(4.2 * math.cos(turn), 4.2 * math.sin(turn)) for turn in np.linspace(0, 2 * math.pi, 24)])
_CHEQUERS = [
    np.array(((x, y), (x + 3, y), (x + 3, y + 3), (x, y + 3)))
    for x, y in ((-6, -4.5), (0, -4.5), (-3, -1.5), (3, -1.5), (-6, 1.5), (0, 1.5))
]


def tail_half(x: float) -> float:
    """Returns half the width of a tail at x, in the tail's frame."""
    return 3.4 + 2.2 * -x / 22


def _band(near: float, far: float, colour: Colour) -> Mark:
    """Paints a band across the tail."""
    a, b = tail_half(near) + 0.15, tail_half(far) + 0.15
    return _filled([(near, -a), (far, -b), (far - 0.5, 0), (far, b), (near, a), (near - 0.6, 0)], colour)


def _prong(side: float) -> Mark:
    return _filled(spline([(x, y * side) for x, y in SHAPES["tail"]["fork"]], 4), _WHITE, _BLACK)


TAIL_ENDS = {"fork": -13.0, "lozenge": -14.5}
"""Where a tail ends in a shape of its own, the feathers stop short of it."""


def _leg(hip: float, gain: float, upper: Colour, foot: Colour) -> Iterable[Mark]:
    """Yields the layers of one leg: thigh and upper shin in one colour, lower shin and toes in the other."""
    knee, ankle = (hip - 0.3, 5.6), (hip + 0.6, LEG - 0.7)
    toes = [[ankle, (hip + far, LEG + drop)] for far, drop in ((4.4, 0.1), (3.6, 1.0), (-1.8, 0.6))]
    for width, tone in ((2.8, 0.45), (2.1, gain)):
        yield _line([knee, ankle], shade(foot, tone), width)
        yield from (_line(toe, shade(foot, tone), width * 0.75) for toe in toes)
    thigh = spline([(hip + x, y) for x, y in SHAPES["bird"]["thigh"]], 4)
    yield _filled(thigh, shade(upper, gain), shade(upper, 0.45), 190)


def _legs(upper: Colour, foot: Colour) -> Mark:
    return _layers(*_leg(-2.8, 0.82, upper, foot), *_leg(2.6, 1.0, upper, foot))


def _streak(x: float, top: float, bottom: float) -> Mark:
    middle = (top + bottom) / 2
    return _filled([(x, top), (x + 0.95, middle), (x, bottom), (x - 0.95, middle)], _BLACK)


def _breast_bar(y: float) -> Mark:
    return _line([(8.8, y + 0.6), (12.8, y), (16.7 - max(0, y - 5) * 0.4, y - 0.5)], _BLACK, 1.3)


def _eye_rings(*rings: tuple[float, Colour]) -> Mark:
    """Paints discs of these radii and colours, the largest first."""
    return _layers(*(_disc(2.0, -1.5, radius, colour) for radius, colour in rings))


def _vent(front: Colour, rear: Colour) -> Mark:
    return _layers(_filled(VENT, front), _filled(VENT[VENT @ (0.88, 0.47) < -9.9], rear), _edge(VENT, 150))


_HUES: dict[str, Colour] = {"red": _RED, "yellow": _YELLOW, "blue": _BLUE}
_PAIRS = {f"{one}-{other}": (_HUES[one], _HUES[other]) for one in _HUES for other in _HUES if one != other}
"""Either half of a two-coloured mark leaves two candidates."""


def _curves(
    part: str, names: Sequence[str], colour: Colour, edge: Colour | None = None, alpha: int = 220
) -> dict[str, Mark]:
    """Returns marks that are one closed curve, by name."""
    return {name: _filled(spline(SHAPES[part][name], 4), colour, edge, alpha) for name in names}


MARKS: dict[str, dict[str, Mark]] = {
    "beak": {name: _beak(*outlines) for name, outlines in SHAPES["beak"].items()},
    "crown": {
        "": _plain,
        "spikes": _filled(SHAPES["crown"]["spikes"], _YELLOW, _GILT),
        "point": _filled(spline(SHAPES["crown"]["point"]), _YELLOW, _GILT),
        "fan": _layers(*map(_fan_plume, range(6))),
        "plume": _layers(_quill_plume(0.5, _GILT), _quill_plume(0.0, _YELLOW)),
        "horns": _layers(_horn(-4.8, -8.4), _horn(2.8, 5.2)),
        "turban": _layers(
            _filled(spline(SHAPES["crown"]["turban"]), _YELLOW, _GILT),
            *(
                _line(spline(SHAPES["crown"][rib], 4, closed=False), _GILT, 0.7, 200)
                for rib in ("turban rib", "turban front rib")
            ),
        ),
    },
    "wing": {
        "": _plain,
        "bar": _panelled(_bar(0.0, 1.9)),
        "bars": _panelled(_bar(-3.4, 1.5), _bar(3.4, 1.5)),
        "spot": _panelled(_SPOT),
        "mirror": _layers(_filled(_PANEL, _BLACK), _filled(_PANEL * 0.82, _WHITE), _filled(_PANEL * 0.45, _BLACK)),
        "chequers": _panelled(*_CHEQUERS),
        "petal": _panelled(spline(SHAPES["wing"]["petal"], 4)),
    },
    "tail": {
        "": _plain,
        "red": _layers(
            _band(-13.5, -22.4, _RED),
            *(_line([(-13.5, y * 0.8), (-22, y)], shade(_RED, 0.6), 0.4) for y in (-1.9, 1.9)),
        ),
        "tip": _layers(_band(-12.5, -22, _BLACK), _band(-18, -22.3, _WHITE)),
        "girdle": _layers(_band(-12.5, -22.3, _WHITE), _band(-15.4, -19.2, _BLACK)),
        "bars": _layers(
            _band(-12.5, -22.3, _WHITE), *(_band(near, near - 1.6, _BLACK) for near in (-12.5, -15.7, -18.9))
        ),
        "eye": _layers(_disc(-18, 0, 6.0, _DARK), _disc(-18, 0, 5.4, _WHITE), _disc(-18, 0, 2.6, _BLACK)),
        "fork": _layers(_prong(-1.0), _prong(1.0)),
        "lozenge": _layers(
            _filled(SHAPES["tail"]["lozenge"], _WHITE, _BLACK), _line([(-10.6, 0.0), (-25, 0.0)], _BLACK, 0.8)
        ),
    },
    "feet": {
        **{
            name: _legs(colour, colour)
            for name, colour in (
                ("red", _RED),
                ("yellow", _YELLOW),
                ("black", _BLACK),
                ("white", _WHITE),
                ("green", _GREEN),
            )
        },
        **{name: _legs(*pair) for name, pair in _PAIRS.items()},
    },
    "breast": {
        "": _plain,
        "spots": _layers(*(_disc(x, y, 1.35, _BLACK) for x, y in SHAPES["breast"]["spots"])),
        "streaks": _layers(
            _streak(9.6, 0.8, 8.6), _streak(11.9, -1.4, 8.2), _streak(14.2, -2.0, 7.0), _streak(16.4, -0.6, 5.6)
        ),
        "chevrons": _layers(
            *(_line([(9.0, y - 1.6), (12.8, y + 1.6), (16.6, y - 1.6)], _BLACK, 1.6) for y in (0.6, 4.0, 7.4))
        ),
        "bars": _layers(*map(_breast_bar, (-0.6, 2.4, 5.4, 8.2))),
        **_curves("breast", ("heart", "crescent"), _BLACK),
    },
    "eye": {
        "": _plain,
        "gold": _eye_rings((4.2, _DARK), (3.7, _YELLOW)),
        "ring": _eye_rings((4.2, _DARK), (3.7, _WHITE)),
        "goggle": _eye_rings((5.8, _DARK), (5.3, _WHITE), (4.0, _DARK), (3.0, _WHITE)),
        **_curves("eye", tuple(SHAPES["eye"]), _WHITE, _DARK, 180),
    },
    "vent": {"": _plain, **{name: _vent(*pair) for name, pair in _PAIRS.items()}},
}
"""Marks by part and name."""
