"""The small marks that tell species apart, by part and name.

Each is painted in the frame of its part and stays within 11.5 units of its part's location, so that two birds
that differ in one mark differ in nothing further away. The marks of a part that tell a family's species apart
share their colours and nearly their extent, or pair up the same few colours, so that a mark must be seen as a
whole: its edge alone says little.

The file is long because it is one catalogue: a few lines of outline for each of some fifty marks.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from glimpse_env.datasets.birds.brush import Brush, Frame, Outline, Points, shade, spline
from glimpse_env.datasets.birds.scenery import Colour

LEG = 10.5
"""Length of a leg from hip to sole."""

VENT = spline(((-7, 10.6), (-8, 7), (-14, 4), (-21.5, 1.5), (-23.8, 4.2), (-19.8, 9), (-14, 11.8), (-8.8, 12.2)))
"""Outline of the undertail in the body's frame."""

_DARK: Colour = (38, 32, 34)
_WHITE: Colour = (248, 246, 238)
_BLACK: Colour = (26, 24, 28)
_RED: Colour = (218, 34, 38)
_YELLOW: Colour = (250, 208, 32)
_BLUE: Colour = (38, 128, 232)
_GREEN: Colour = (60, 170, 62)

Mark = Callable[[Brush, Frame], None]


def _plain(brush: Brush, frame: Frame) -> None:
    """No mark."""


def _beak(upper: Outline, lower: Outline, tip: Outline = ()) -> Mark:
    top, bottom = spline(upper, 4), spline(lower, 4)
    end = spline(tip, 4) if tip else None

    def paint(brush: Brush, frame: Frame) -> None:
        brush.fill(frame, bottom, shade(_YELLOW, 0.78))
        brush.fill(frame, top, _YELLOW)
        brush.outline(frame, bottom, _DARK, 170)
        brush.outline(frame, top, _DARK, 220)
        brush.disc(frame, 9.6, -0.6, 0.4, _DARK, 170)
        if end is not None:
            brush.fill(frame, end, _BLACK)

    return paint


_GILT = shade(_YELLOW, 0.5)
"""Edges of crests."""


def _crest(outline: Points, ribs: Sequence[Points] = ()) -> Mark:
    def paint(brush: Brush, frame: Frame) -> None:
        brush.fill(frame, outline, _YELLOW)
        brush.outline(frame, outline, _GILT, 220)
        for rib in ribs:
            brush.line(frame, rib, _GILT, 0.7, 200)

    return paint


_FAN_PLUME = ((0, 0), (5.5, 1.5), (9, 1.6), (10, 0), (9, -1.6), (5.5, -1.5))


def _fan_crest(brush: Brush, frame: Frame) -> None:
    for step in range(6):
        angle = math.radians(-156 + 21 * step)
        along, across = (
            np.array((math.cos(angle), math.sin(angle))),
            np.array((-math.sin(angle), math.cos(angle))),
        )
        root = np.array((-1.0, -5.6))
        plume = [root + along * far + across * wide for far, wide in _FAN_PLUME]
        brush.fill(frame, np.array(plume), _YELLOW)
        brush.outline(frame, np.array(plume), _GILT, 200)
        x, y = root + along * 6.6
        brush.disc(frame, float(x), float(y), 1.15, _BLACK)


def _plume_crest(brush: Brush, frame: Frame) -> None:
    quill = spline(((-5.5, -7), (-5.8, -11.5), (-3, -14), (-0.5, -14.2)), 4, closed=False)
    for grown, colour in ((0.5, _GILT), (0.0, _YELLOW)):
        brush.line(frame, quill, colour, 1.6 + 2 * grown)
        brush.disc(frame, 2.2, -13.2, 3.4 + grown, colour)


def _horn_crest(brush: Brush, frame: Frame) -> None:
    for root, tip in ((-4.8, -8.4), (2.8, 5.2)):
        horn = spline(((root - 2.6, -6.2), (tip - 0.8, -13.0), (tip, -16.6), (tip + 1.6, -12.0), (root + 2.8, -7.0)), 4)
        brush.fill(frame, horn, _YELLOW)
        brush.outline(frame, horn, _GILT, 220)


_PANEL = spline(((6.4, -5.0), (7.2, 0), (6.4, 5.0), (0, 5.4), (-6.6, 4.8), (-7.2, 0), (-6.6, -4.6), (0, -5.2)), 4)


def _panelled(*motif: Points) -> Mark:
    """White shapes on the same dark panel."""

    def paint(brush: Brush, frame: Frame) -> None:
        brush.fill(frame, _PANEL, _BLACK)
        for shape in motif:
            brush.fill(frame, shape, _WHITE)

    return paint


def _bar(column: float, half: float) -> Points:
    """Upright and a little bent."""
    edge = ((half + 0.6, -4.5), (half - 0.4, 0.0), (half + 0.4, 4.5))
    return spline([*((column + x, y) for x, y in edge), *((column + x - 2 * half, y) for x, y in edge[::-1])], 3)


_SPOT = np.array([(4.2 * math.cos(turn), 4.2 * math.sin(turn)) for turn in np.linspace(0, 2 * math.pi, 24)])
_CHEQUERS = [
    np.array(((x, y), (x + 3, y), (x + 3, y + 3), (x, y + 3)))
    for x, y in ((-6, -4.5), (0, -4.5), (-3, -1.5), (3, -1.5), (-6, 1.5), (0, 1.5))
]


def _wing_mirror(brush: Brush, frame: Frame) -> None:
    for share, colour in ((1.0, _BLACK), (0.82, _WHITE), (0.45, _BLACK)):
        brush.fill(frame, _PANEL * share, colour)


def tail_half(x: float) -> float:
    """Half the width of a tail at x, in the tail's frame."""
    return 3.4 + 2.2 * -x / 22


def _tail_band(brush: Brush, frame: Frame, near: float, far: float, colour: Colour) -> None:
    a, b = tail_half(near) + 0.15, tail_half(far) + 0.15
    brush.fill(frame, [(near, -a), (far, -b), (far - 0.5, 0), (far, b), (near, a), (near - 0.6, 0)], colour)


def _tail_tip(brush: Brush, frame: Frame) -> None:
    _tail_band(brush, frame, -12.5, -22, _BLACK)
    _tail_band(brush, frame, -18, -22.3, _WHITE)


def _tail_girdle(brush: Brush, frame: Frame) -> None:
    _tail_band(brush, frame, -12.5, -22.3, _WHITE)
    _tail_band(brush, frame, -15.4, -19.2, _BLACK)


def _tail_red(brush: Brush, frame: Frame) -> None:
    _tail_band(brush, frame, -13.5, -22.4, _RED)
    for y in (-1.9, 1.9):
        brush.line(frame, [(-13.5, y * 0.8), (-22, y)], shade(_RED, 0.6), 0.4)


def _tail_bars(brush: Brush, frame: Frame) -> None:
    _tail_band(brush, frame, -12.5, -22.3, _WHITE)
    for near in (-12.5, -15.7, -18.9):
        _tail_band(brush, frame, near, near - 1.6, _BLACK)


def _tail_eye(brush: Brush, frame: Frame) -> None:
    for radius, colour in ((6.0, _DARK), (5.4, _WHITE), (2.6, _BLACK)):
        brush.disc(frame, -18, 0, radius, colour)


def _tail_fork(brush: Brush, frame: Frame) -> None:
    for side in (-1.0, 1.0):
        prong = spline(
            ((-12, 0.4 * side), (-12, 4.4 * side), (-18, 6.4 * side), (-24.0, 7.6 * side), (-19, 2.6 * side)),
            4,
        )
        brush.fill(frame, prong, _WHITE)
        brush.outline(frame, prong, _BLACK, 220)


def _tail_lozenge(brush: Brush, frame: Frame) -> None:
    lozenge = [(-10.6, 0.0), (-16.5, -7.2), (-26, 0.0), (-16.5, 7.2)]
    brush.fill(frame, lozenge, _WHITE)
    brush.outline(frame, lozenge, _BLACK, 220)
    brush.line(frame, [(-10.6, 0.0), (-25, 0.0)], _BLACK, 0.8)


# Where a tail ends in a shape of its own, the feathers stop short of it.
TAIL_ENDS = {"fork": -13.0, "lozenge": -14.5}


_THIGH = ((-2.3, -0.2), (0.0, -1.8), (2.3, -0.2), (1.9, 2.8), (1.1, 6.0), (-1.4, 6.0), (-1.9, 2.8))


def _legs(upper: Colour, lower: Colour | None = None) -> Mark:
    """Thigh and upper shin in one colour, lower shin and toes in the same or another."""
    foot = upper if lower is None else lower

    def paint(brush: Brush, frame: Frame) -> None:
        for hip, gain in ((-2.8, 0.82), (2.6, 1.0)):
            knee, ankle = (hip - 0.3, 5.6), (hip + 0.6, LEG - 0.7)
            toes = [[ankle, (hip + far, LEG + drop)] for far, drop in ((4.4, 0.1), (3.6, 1.0), (-1.8, 0.6))]
            for width, tone in ((2.8, 0.45), (2.1, gain)):
                for line in ([knee, ankle], *toes):
                    brush.line(frame, line, shade(foot, tone), width if line[0] == knee else width * 0.75)
            thigh = spline([(hip + x, y) for x, y in _THIGH], 4)
            brush.fill(frame, thigh, shade(upper, gain))
            brush.outline(frame, thigh, shade(upper, 0.45), 190)

    return paint


def _breast_spots(brush: Brush, frame: Frame) -> None:
    for x, y in ((10.2, 0.4), (13.6, -0.8), (16.2, 1.6), (11.6, 3.6), (15.0, 4.6), (9.4, 6.4), (12.8, 7.4)):
        brush.disc(frame, x, y, 1.35, _BLACK)


def _breast_streaks(brush: Brush, frame: Frame) -> None:
    for x, top, bottom in ((9.6, 0.8, 8.6), (11.9, -1.4, 8.2), (14.2, -2.0, 7.0), (16.4, -0.6, 5.6)):
        brush.fill(
            frame,
            [(x, top), (x + 0.95, (top + bottom) / 2), (x, bottom), (x - 0.95, (top + bottom) / 2)],
            _BLACK,
        )


def _breast_chevrons(brush: Brush, frame: Frame) -> None:
    for y in (0.6, 4.0, 7.4):
        brush.line(frame, [(9.0, y - 1.6), (12.8, y + 1.6), (16.6, y - 1.6)], _BLACK, 1.6)


def _breast_heart(brush: Brush, frame: Frame) -> None:
    heart = spline(
        (
            (12.8, 9.2),
            (8.6, 4.4),
            (8.8, 0.4),
            (11.2, -0.8),
            (12.9, 0.9),
            (14.8, -0.9),
            (16.8, 0.4),
            (16.6, 4.4),
        ),
        4,
    )
    brush.fill(frame, heart, _BLACK)


def _breast_bars(brush: Brush, frame: Frame) -> None:
    for y in (-0.6, 2.4, 5.4, 8.2):
        brush.line(frame, [(8.8, y + 0.6), (12.8, y), (16.7 - max(0, y - 5) * 0.4, y - 0.5)], _BLACK, 1.3)


def _breast_crescent(brush: Brush, frame: Frame) -> None:
    moon = spline(
        (
            (8.4, -2.0),
            (9.0, 5.4),
            (13.2, 8.8),
            (16.8, 6.2),
            (17.4, -0.6),
            (15.4, 2.6),
            (12.9, 3.6),
            (10.4, 1.8),
        ),
        4,
    )
    brush.fill(frame, moon, _BLACK)


def _eye_rings(*rings: tuple[float, Colour]) -> Mark:
    """Discs of these radii and colours, the largest first."""

    def paint(brush: Brush, frame: Frame) -> None:
        for radius, colour in rings:
            brush.disc(frame, 2.0, -1.5, radius, colour)

    return paint


def _eye_shape(outline: Outline) -> Mark:
    curve = spline(outline, 4)

    def paint(brush: Brush, frame: Frame) -> None:
        brush.fill(frame, curve, _WHITE)
        brush.outline(frame, curve, _DARK, 180)

    return paint


_REAR_VENT = VENT[VENT @ (0.88, 0.47) < -9.9]


def _vent(front: Colour, rear: Colour) -> Mark:
    def paint(brush: Brush, frame: Frame) -> None:
        brush.fill(frame, VENT, front)
        brush.fill(frame, _REAR_VENT, rear)
        brush.outline(frame, VENT, _DARK, 150)

    return paint


_PAIRS: dict[str, tuple[Colour, Colour]] = {
    "red-yellow": (_RED, _YELLOW),
    "red-blue": (_RED, _BLUE),
    "yellow-red": (_YELLOW, _RED),
    "yellow-blue": (_YELLOW, _BLUE),
    "blue-red": (_BLUE, _RED),
    "blue-yellow": (_BLUE, _YELLOW),
}
"""Either half of a two-coloured mark leaves two candidates."""

MARKS: dict[str, dict[str, Mark]] = {
    "beak": {
        "cone": _beak(
            ((7.2, -4.6), (12.6, -3.0), (18.6, 1.6), (7.2, 1.6)),
            ((7.2, 1.2), (18.0, 1.7), (12.2, 5.0), (7.0, 5.2)),
        ),
        "needle": _beak(
            ((7.6, -1.9), (13.0, -0.9), (23.0, 0.4), (13.0, 0.7), (7.6, 0.9)),
            ((7.6, 0.7), (13.0, 0.6), (22.0, 0.6), (13.0, 1.8), (7.6, 2.4)),
        ),
        "hook": _beak(
            ((7.0, -4.0), (11.2, -4.8), (15.2, -2.4), (16.5, 2.0), (15.0, 6.8), (13.4, 2.4), (7.2, 1.6)),
            ((7.2, 1.4), (12.8, 1.8), (12.2, 4.4), (7.0, 4.0)),
            ((14.6, -2.8), (16.4, 1.0), (15.2, 6.9), (13.8, 2.2)),
        ),
        "sickle": _beak(
            ((7.4, -2.9), (13.4, -2.2), (18.6, 2.4), (19.6, 9.4), (16.4, 4.4), (12.2, 1.2), (7.4, 0.9)),
            ((7.4, 0.7), (12.0, 0.9), (16.2, 4.2), (19.2, 9.2), (14.8, 5.6), (11.0, 3.0), (7.4, 2.8)),
        ),
        "spoon": _beak(
            ((7.6, -1.9), (14.6, -1.1), (17.6, -3.6), (21.2, -2.8), (22.6, 0.7), (14.6, 0.8), (7.6, 0.9)),
            ((7.6, 0.7), (14.6, 0.7), (22.5, 0.9), (21.0, 4.2), (17.6, 4.9), (14.6, 2.4), (7.6, 2.6)),
        ),
        "great": _beak(
            ((6.6, -5.8), (13.0, -6.6), (19.4, -2.2), (21.0, 3.2), (14.0, 1.6), (6.8, 1.6)),
            ((6.8, 1.4), (14.0, 1.6), (19.6, 3.4), (13.4, 5.4), (6.8, 5.2)),
            ((17.8, -3.8), (20.2, -0.8), (21.2, 3.6), (17.6, 2.6)),
        ),
    },
    "crown": {
        "": _plain,
        "spikes": _crest(
            np.array(
                (
                    (-7.8, -4.6),
                    (-8.8, -14.0),
                    (-4.8, -9.8),
                    (-1.0, -16.8),
                    (2.6, -9.8),
                    (6.8, -14.0),
                    (6.8, -4.6),
                    (0.0, -6.8),
                )
            )
        ),
        "point": _crest(
            spline(
                (
                    (6.6, -5.4),
                    (2.4, -10.2),
                    (-3.4, -14.4),
                    (-9.4, -16.6),
                    (-7.4, -11.4),
                    (-7.8, -5.6),
                    (-1.0, -6.4),
                )
            )
        ),
        "fan": _fan_crest,
        "plume": _plume_crest,
        "horns": _horn_crest,
        "turban": _crest(
            spline(((7.2, -4.8), (6.8, -11), (2.6, -15.4), (-3, -16.2), (-8.2, -13), (-8.8, -5.4), (-1, -6.4))),
            ribs=(
                spline(((-8.6, -8.8), (-3, -10.6), (1.2, -15.8)), 4, closed=False),
                spline(((-6.8, -6.0), (1.2, -8.6), (5.4, -13.0)), 4, closed=False),
            ),
        ),
    },
    "wing": {
        "": _plain,
        "bar": _panelled(_bar(0.0, 1.9)),
        "bars": _panelled(_bar(-3.4, 1.5), _bar(3.4, 1.5)),
        "spot": _panelled(_SPOT),
        "mirror": _wing_mirror,
        "chequers": _panelled(*_CHEQUERS),
        "petal": _panelled(spline(((5.4, -4.2), (6.2, 0), (5.4, 4.2), (-1, 2.8), (-6.6, 0.2), (-1, -2.6)), 4)),
    },
    "tail": {
        "": _plain,
        "red": _tail_red,
        "tip": _tail_tip,
        "girdle": _tail_girdle,
        "bars": _tail_bars,
        "eye": _tail_eye,
        "fork": _tail_fork,
        "lozenge": _tail_lozenge,
    },
    "feet": {
        "red": _legs(_RED),
        "yellow": _legs(_YELLOW),
        "black": _legs(_BLACK),
        "white": _legs(_WHITE),
        "green": _legs(_GREEN),
        **{name: _legs(*pair) for name, pair in _PAIRS.items()},
    },
    "breast": {
        "": _plain,
        "spots": _breast_spots,
        "streaks": _breast_streaks,
        "chevrons": _breast_chevrons,
        "heart": _breast_heart,
        "bars": _breast_bars,
        "crescent": _breast_crescent,
    },
    "eye": {
        "": _plain,
        "gold": _eye_rings((4.2, _DARK), (3.7, _YELLOW)),
        "ring": _eye_rings((4.2, _DARK), (3.7, _WHITE)),
        "goggle": _eye_rings((5.8, _DARK), (5.3, _WHITE), (4.0, _DARK), (3.0, _WHITE)),
        "mask": _eye_shape(
            (
                (8.2, -1.8),
                (4.0, -4.2),
                (-1.0, -3.6),
                (-7.6, -0.8),
                (-7.2, 1.8),
                (-1.0, 1.6),
                (4.0, 1.6),
                (8.2, 0.2),
            ),
        ),
        "brow": _eye_shape(
            ((7.6, -3.2), (3.4, -6.6), (-2.0, -6.4), (-8.0, -2.6), (-7.4, -0.8), (-2.0, -3.4), (3.0, -3.4)),
        ),
        "cheek": _eye_shape(((1.6, 0.6), (-1.6, -1.2), (-5.6, 0.0), (-6.2, 3.8), (-2.4, 6.2), (1.4, 4.4))),
        "tear": _eye_shape(((2.4, -0.4), (4.6, 2.6), (5.4, 6.0), (3.4, 8.4), (1.2, 6.4), (1.2, 2.8))),
    },
    "vent": {
        "": _plain,
        **{name: _vent(*pair) for name, pair in _PAIRS.items()},
    },
}
"""Marks by part and name."""
