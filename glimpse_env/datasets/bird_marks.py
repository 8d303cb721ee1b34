"""The small marks that tell species apart, by part and name.

Each is painted in the frame of its part and stays within 11.5 units of its part's location, so that two birds
that differ in one mark differ in nothing further away. Colours of marks are few and far apart, so that light
and distance do not confuse them.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from glimpse_env.datasets.bird_brush import Brush, Frame, Outline, Points, mix, shade, spline
from glimpse_env.datasets.bird_scenery import Colour

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
_PINK: Colour = (240, 92, 172)
_ORANGE: Colour = (246, 134, 28)

Mark = Callable[[Brush, Frame], None]


def _plain(brush: Brush, frame: Frame) -> None:
    """No mark."""


def _billed(
    brush: Brush,
    frame: Frame,
    upper: Points,
    lower: Points,
    colour: Colour,
    under: Colour,
    nostril: float = 9.6,
) -> None:
    brush.fill(frame, lower, under)
    brush.fill(frame, upper, colour)
    brush.outline(frame, lower, _DARK, 150)
    brush.outline(frame, upper, _DARK, 190)
    brush.disc(frame, nostril, -0.6, 0.4, _DARK, 170)


def _beak(colour: Colour, upper: Outline, lower: Outline, tip: Outline = ()) -> Mark:
    top, bottom = spline(upper, 4), spline(lower, 4)
    end = spline(tip, 4) if tip else None

    def paint(brush: Brush, frame: Frame) -> None:
        _billed(brush, frame, top, bottom, colour, shade(colour, 0.78))
        if end is not None:
            brush.fill(frame, end, _BLACK)

    return paint


def _crest(colour: Colour, outline: Outline, edge: float = 0.6, ribs: Outline = ()) -> Mark:
    curve = spline(outline, 5)

    def paint(brush: Brush, frame: Frame) -> None:
        brush.fill(frame, curve, colour)
        brush.outline(frame, curve, shade(colour, edge), 220)
        for rib in ribs:
            brush.line(frame, [(0.0, -6.5), rib], shade(colour, edge), 0.4, 150)

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
        brush.outline(frame, np.array(plume), shade(_YELLOW, 0.62), 170)
        x, y = root + along * 9.2
        brush.disc(frame, float(x), float(y), 1.5, _BLACK)


def _plume_crest(brush: Brush, frame: Frame) -> None:
    brush.line(frame, spline(((-1, -7), (-2.2, -11.5), (0, -15), (3, -16.2)), 4, closed=False), _BLACK, 1.3)
    brush.fill(frame, spline(((0.5, -15.4), (3.6, -18), (7.0, -15.8), (6.6, -12), (3.8, -12.8)), 4), _BLACK)
    brush.fill(frame, spline(((-5, -6.6), (0, -9.3), (5, -6.8), (0, -6.8)), 4), _BLACK)


def _horn_crest(brush: Brush, frame: Frame) -> None:
    for root, tip in ((-4.6, -8.2), (2.4, 4.0)):
        horn = spline(((root - 2.4, -6.4), (tip - 0.6, -13.5), (tip, -17.2), (tip + 1.4, -12.5), (root + 2.6, -7.2)), 4)
        brush.fill(frame, horn, _PINK)
        brush.outline(frame, horn, shade(_PINK, 0.6), 200)


def _wing_bars(colour: Colour, columns: Sequence[float], half: float) -> Mark:
    def paint(brush: Brush, frame: Frame) -> None:
        for column in columns:
            edge = ((half + 0.6, -5.2), (half - 0.4, 0.0), (half + 0.4, 4.9))
            bar = spline([*((column + x, y) for x, y in edge), *((column + x - 2 * half, y) for x, y in edge[::-1])], 3)
            brush.fill(frame, bar, colour)
            brush.outline(frame, bar, _DARK, 150)

    return paint


def _wing_spot(brush: Brush, frame: Frame) -> None:
    brush.disc(frame, 0, 0, 5.0, _DARK)
    brush.disc(frame, 0, 0, 4.4, _RED)
    brush.disc(frame, -1.0, -1.2, 1.4, shade(_RED, 1.4), 130)


def _wing_mirror(brush: Brush, frame: Frame) -> None:
    for colour, wide, high in ((_WHITE, 6.6, 4.9), (_BLACK, 5.4, 3.9), (_BLUE, 4.8, 3.2)):
        patch = [
            (wide, -high),
            (wide + 0.5, 0),
            (wide, high),
            (0, high + 0.3),
            (-wide, high - 0.6),
            (-wide, -high + 0.8),
        ]
        brush.fill(frame, spline(patch, 4), colour)


def _wing_chequers(brush: Brush, frame: Frame) -> None:
    brush.fill(frame, [(-5.9, -4.9), (5.9, -4.9), (5.9, 4.9), (-5.9, 4.9)], _WHITE)
    for step in range(12):
        down, across = divmod(step, 4)
        if (down + across) % 2 == 0:
            x, y = -5.9 + 2.95 * across, -4.9 + 3.27 * down
            brush.fill(frame, [(x, y), (x + 2.95, y), (x + 2.95, y + 3.27), (x, y + 3.27)], _BLACK)


def _wing_petal(brush: Brush, frame: Frame) -> None:
    petal = spline(((5.6, -4.6), (6.8, 0), (5.6, 4.6), (-1, 3.2), (-7.6, 0.2), (-1, -3.0)), 4)
    brush.fill(frame, petal, _PINK)
    brush.outline(frame, petal, _DARK, 220)


def tail_half(x: float) -> float:
    """Half the width of a tail at x, in the tail's frame."""
    return 3.4 + 2.2 * -x / 22


def _tail_band(brush: Brush, frame: Frame, near: float, far: float, colour: Colour) -> None:
    a, b = tail_half(near) + 0.15, tail_half(far) + 0.15
    brush.fill(frame, [(near, -a), (far, -b), (far - 0.5, 0), (far, b), (near, a), (near - 0.6, 0)], colour)


def _tail_white(brush: Brush, frame: Frame) -> None:
    _tail_band(brush, frame, -14.6, -22, _BLACK)
    _tail_band(brush, frame, -17, -22.3, _WHITE)


def _tail_red(brush: Brush, frame: Frame) -> None:
    _tail_band(brush, frame, -13.5, -22.4, _RED)
    for y in (-1.9, 1.9):
        brush.line(frame, [(-13.5, y * 0.8), (-22, y)], shade(_RED, 0.6), 0.4)


def _tail_bars(brush: Brush, frame: Frame) -> None:
    _tail_band(brush, frame, -12.5, -22.3, _WHITE)
    for near in (-12.6, -16.2, -19.8):
        _tail_band(brush, frame, near, near - 1.8, _BLACK)


def _tail_eye(brush: Brush, frame: Frame) -> None:
    for radius, colour in ((6.0, _DARK), (5.3, _BLUE), (3.3, _YELLOW), (1.7, _BLACK)):
        brush.disc(frame, -18, 0, radius, colour)


def _tail_fork(brush: Brush, frame: Frame) -> None:
    for side in (-1.0, 1.0):
        prong = spline(
            ((-12, 0.4 * side), (-12, 4.4 * side), (-18, 6.2 * side), (-24.8, 8.4 * side), (-19, 3.4 * side)),
            4,
        )
        brush.fill(frame, prong, _BLACK)


def _tail_lozenge(brush: Brush, frame: Frame) -> None:
    lozenge = [(-10.6, 0.0), (-16.5, -7.2), (-26, 0.0), (-16.5, 7.2)]
    brush.fill(frame, lozenge, _GREEN)
    brush.outline(frame, lozenge, _DARK, 200)
    brush.line(frame, [(-10.6, 0.0), (-26, 0.0)], shade(_GREEN, 0.55), 0.6)


# Where a tail ends in a shape of its own, the feathers stop short of it.
TAIL_ENDS = {"fork": -13.0, "lozenge": -14.5}


_THIGH = ((-2.3, -0.2), (0.0, -1.8), (2.3, -0.2), (1.8, 2.8), (0.1, 5.4), (-1.8, 2.8))


def _legs(colour: Colour) -> Mark:
    dark, tuft = shade(colour, 0.45), mix(colour, _WHITE if sum(colour) > 120 else (70, 66, 74), 0.12)

    def paint(brush: Brush, frame: Frame) -> None:
        for hip, gain in ((-2.8, 0.82), (2.6, 1.0)):
            tone = shade(colour, gain)
            shin = [(hip, 3.5), (hip - 0.4, 6.5), (hip + 0.6, LEG - 0.6)]
            toes = (
                [(hip + 0.6, LEG - 0.8), (hip + far, LEG + drop)] for far, drop in ((4.4, 0.1), (3.6, 1.0), (-1.8, 0.6))
            )
            toe_lines = list(toes)
            for width, ink in ((2.6, dark), (1.9, tone)):
                brush.line(frame, shin, ink, width)
                for toe in toe_lines:
                    brush.line(frame, toe, ink, width * 0.75)
            thigh = spline([(hip + x, y) for x, y in _THIGH], 4)
            brush.fill(frame, thigh, shade(tuft, gain))
            brush.outline(frame, thigh, dark, 150)

    return paint


def _breast_spots(brush: Brush, frame: Frame) -> None:
    for x, y in ((10.2, 0.4), (13.6, -0.8), (16.2, 1.6), (11.6, 3.6), (15.0, 4.6), (9.4, 6.4), (12.8, 7.4)):
        brush.disc(frame, x, y, 1.35, _BLACK)


def _breast_streaks(brush: Brush, frame: Frame) -> None:
    for x, top, bottom in ((9.6, 0.8, 8.6), (11.9, -1.4, 8.2), (14.2, -2.0, 7.0), (16.4, -0.6, 5.6)):
        brush.fill(
            frame,
            [(x, top), (x + 0.85, (top + bottom) / 2), (x, bottom), (x - 0.85, (top + bottom) / 2)],
            _RED,
        )


def _breast_chevrons(brush: Brush, frame: Frame) -> None:
    for y in (0.6, 4.0, 7.4):
        brush.line(frame, [(9.0, y - 1.6), (12.8, y + 1.6), (16.6, y - 1.6)], _BLUE, 1.6)


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
    brush.fill(frame, heart, _RED)
    brush.outline(frame, heart, shade(_RED, 0.5), 200)


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
    brush.fill(frame, moon, _ORANGE)
    brush.outline(frame, moon, _BLACK, 220)


def _eye_ring(colour: Colour) -> Mark:
    def paint(brush: Brush, frame: Frame) -> None:
        brush.disc(frame, 2.0, -1.5, 4.2, _DARK)
        brush.disc(frame, 2.0, -1.5, 3.7, colour)

    return paint


def _eye_shape(colour: Colour, outline: Outline) -> Mark:
    curve = spline(outline, 4)

    def paint(brush: Brush, frame: Frame) -> None:
        brush.fill(frame, curve, colour)
        brush.outline(frame, curve, _DARK, 120)

    return paint


def _vent(colour: Colour) -> Mark:
    def paint(brush: Brush, frame: Frame) -> None:
        brush.fill(frame, VENT, colour)
        brush.outline(frame, VENT, _DARK, 150)

    return paint


def _vent_bars(brush: Brush, frame: Frame) -> None:
    _vent(_WHITE)(brush, frame)
    for x, y, length in ((-9.4, 9.6, 4.6), (-12.6, 8.4, 6.6), (-15.8, 7.0, 6.6), (-19.0, 5.6, 5.8)):
        brush.line(frame, [(x + 0.2 * length, y - 0.5 * length), (x - 0.2 * length, y + 0.5 * length)], _BLACK, 1.6)


MARKS: dict[str, dict[str, Mark]] = {
    "beak": {
        "cone": _beak(
            _YELLOW,
            ((7.2, -4.2), (12.0, -2.6), (16.2, 1.4), (7.2, 1.6)),
            ((7.2, 1.2), (15.6, 1.5), (11.6, 4.6), (7.0, 4.8)),
        ),
        "needle": _beak(
            _BLACK,
            ((7.6, -1.9), (13.0, -0.9), (23.0, 0.4), (13.0, 0.7), (7.6, 0.9)),
            ((7.6, 0.7), (13.0, 0.6), (22.0, 0.6), (13.0, 1.8), (7.6, 2.4)),
        ),
        "hook": _beak(
            _WHITE,
            ((7.0, -4.0), (11.2, -4.8), (15.2, -2.4), (16.5, 2.0), (15.0, 6.8), (13.4, 2.4), (7.2, 1.6)),
            ((7.2, 1.4), (12.8, 1.8), (12.2, 4.4), (7.0, 4.0)),
            ((14.6, -2.8), (16.4, 1.0), (15.2, 6.9), (13.8, 2.2)),
        ),
        "sickle": _beak(
            _PINK,
            ((7.4, -2.9), (13.4, -2.2), (18.6, 2.4), (19.6, 9.4), (16.4, 4.4), (12.2, 1.2), (7.4, 0.9)),
            ((7.4, 0.7), (12.0, 0.9), (16.2, 4.2), (19.2, 9.2), (14.8, 5.6), (11.0, 3.0), (7.4, 2.8)),
        ),
        "spoon": _beak(
            _BLUE,
            ((7.6, -1.9), (14.6, -1.1), (17.6, -3.6), (21.2, -2.8), (22.6, 0.7), (14.6, 0.8), (7.6, 0.9)),
            ((7.6, 0.7), (14.6, 0.7), (22.5, 0.9), (21.0, 4.2), (17.6, 4.9), (14.6, 2.4), (7.6, 2.6)),
        ),
        "great": _beak(
            _GREEN,
            ((6.6, -5.8), (13.0, -6.6), (19.4, -2.2), (21.0, 3.2), (14.0, 1.6), (6.8, 1.6)),
            ((6.8, 1.4), (14.0, 1.6), (19.6, 3.4), (13.4, 5.4), (6.8, 5.2)),
            ((17.8, -3.8), (20.2, -0.8), (21.2, 3.6), (17.6, 2.6)),
        ),
    },
    "crown": {
        "": _plain,
        "cap": _crest(
            _WHITE,
            ((-8.2, -3.2), (-6.4, -7.0), (0, -9.8), (6.0, -6.9), (7.8, -3.2), (3.0, -5.0), (-3.0, -5.0)),
        ),
        "point": _crest(
            _RED,
            (
                (6.6, -5.4),
                (2.4, -10.2),
                (-3.4, -14.4),
                (-9.4, -16.6),
                (-7.4, -11.4),
                (-7.8, -5.6),
                (-1.0, -6.4),
            ),
            ribs=((-7.6, -14.6), (-5.8, -11.0)),
        ),
        "fan": _fan_crest,
        "plume": _plume_crest,
        "horns": _horn_crest,
        "mane": _crest(
            _GREEN,
            (
                (6.8, -4.8),
                (3.0, -10.4),
                (-4.0, -12.8),
                (-10.8, -10.2),
                (-11.4, -3.6),
                (-7.8, -4.8),
                (-1.0, -6.2),
            ),
            ribs=((-10.4, -8.4), (-8.6, -10.6), (-5.4, -11.2)),
        ),
    },
    "wing": {
        "": _plain,
        "bar": _wing_bars(_WHITE, (0.0,), 2.0),
        "bars": _wing_bars(_YELLOW, (-3.3, 3.3), 1.6),
        "spot": _wing_spot,
        "mirror": _wing_mirror,
        "chequers": _wing_chequers,
        "petal": _wing_petal,
    },
    "tail": {
        "": _plain,
        "white": _tail_white,
        "red": _tail_red,
        "bars": _tail_bars,
        "eye": _tail_eye,
        "fork": _tail_fork,
        "lozenge": _tail_lozenge,
    },
    "feet": {
        "red": _legs(_RED),
        "yellow": _legs(_YELLOW),
        "blue": _legs(_BLUE),
        "black": _legs(_BLACK),
        "white": _legs(_WHITE),
        "green": _legs(_GREEN),
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
        "ring": _eye_ring(_WHITE),
        "gold": _eye_ring(_YELLOW),
        "mask": _eye_shape(
            _BLACK,
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
            _WHITE,
            ((7.6, -3.2), (3.4, -6.6), (-2.0, -6.4), (-8.0, -2.6), (-7.4, -0.8), (-2.0, -3.4), (3.0, -3.4)),
        ),
        "cheek": _eye_shape(_RED, ((2.6, 0.0), (-1.0, -1.0), (-4.6, 0.2), (-5.0, 4.0), (-1.6, 6.2), (2.4, 5.0))),
        "tear": _eye_shape(_BLUE, ((2.4, -2.8), (5.2, 0.6), (6.2, 5.2), (3.6, 7.8), (0.8, 5.6), (0.2, 1.2))),
    },
    "vent": {
        "": _plain,
        "red": _vent(_RED),
        "yellow": _vent(_YELLOW),
        "green": _vent(_GREEN),
        "pink": _vent(_PINK),
        "bars": _vent_bars,
        "blue": _vent(_BLUE),
    },
}
"""Marks by part and name."""
