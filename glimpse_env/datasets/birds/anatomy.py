"""The anatomy of a drawn bird: its pose, the frames of its body, where its parts are and how they are outlined."""

import math
from dataclasses import dataclass

import numpy as np

from glimpse_env.datasets.birds.brush import Frame, Points, spline
from glimpse_env.datasets.birds.marks import LEG, SHAPES


@dataclass(frozen=True)
class Pose:
    """Place and posture of a bird."""

    row: float
    """Middle of the body, units from the top."""
    col: float
    """Middle of the body, units from the left."""
    scale: float
    """Units of the picture to one of the bird; at 1 a level bird is about 68 from beak to tail."""
    mirrored: bool
    """False where the beak points to the right."""
    tilt: float
    """Rise of the body towards the head, radians."""
    head: float
    """Rise of the beak, radians."""
    tail: float
    """Rise of the tail's tip over the body's axis, radians."""
    wing: float
    """Rise of the wing's tip over the body's axis, radians."""


@dataclass(frozen=True)
class Skeleton:
    """The frames of a posed bird."""

    body: Frame
    head: Frame
    wing: Frame
    tail: Frame
    legs: Frame

    def parts(self) -> Points:
        """Returns x and y of the parts in units, (P, 2), in the order of `PART_NAMES`."""
        return np.concatenate([getattr(self, frame)([point]) for frame, point in PART_PLACES.values()])

    def foot(self) -> tuple[float, float]:
        """Returns x and y, in units, of the place that the bird stands on."""
        x, y = self.legs([(0.8, LEG)])[0]
        return float(x), float(y)


PART_PLACES: dict[str, tuple[str, tuple[float, float]]] = {
    "beak": ("head", (12.5, 1.5)),
    "eye": ("head", (2.0, -1.5)),
    "crown": ("head", (-1.5, -9.0)),
    "forehead": ("head", (6.3, -5.2)),
    "throat": ("head", (4.5, 7.0)),
    "nape": ("head", (-8.0, 1.5)),
    "breast": ("body", (13.0, 3.5)),
    "belly": ("body", (5.0, 9.0)),
    "wing": ("wing", (-16.5, 6.6)),
    "tail": ("tail", (-18.0, 0.0)),
    "feet": ("legs", (0.3, 5.5)),
    "back": ("body", (-5.0, -8.5)),
    "vent": ("body", (-14.0, 7.5)),
}
"""Where each part is: a frame, and x and y in it."""
PART_NAMES = tuple(PART_PLACES)
"""Order of the parts in every location array; all but ``vent`` (the undertail) are names of CUB-200-2011."""


def _frame(origin: Points, angle: float, scale: float, mirrored: bool) -> Frame:
    side = -1.0 if mirrored else 1.0
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    return Frame(np.array(((cos * side, -sin), (sin * side, cos))), origin)


def skeleton(pose: Pose) -> Skeleton:
    """Returns the frames of a bird in this pose."""
    body = _frame(np.array((pose.col, pose.row)), pose.tilt, pose.scale, pose.mirrored)
    head, shoulder, rump, hip = body([(15.0, -12.0), (7.0, -8.0), (-17.0, 0.0), (-1.5, 9.5)])
    return Skeleton(
        body,
        _frame(head, pose.head, pose.scale, pose.mirrored),
        _frame(shoulder, pose.tilt - pose.wing, pose.scale, pose.mirrored),
        _frame(rump, pose.tilt - pose.tail, pose.scale, pose.mirrored),
        _frame(hip, 0.0, pose.scale, pose.mirrored),
    )


def extent(pose: Pose) -> tuple[float, float, float, float]:
    """Returns top, bottom, left and right, in units, of the largest bird that can be painted in this pose."""
    bird = skeleton(pose)
    points = np.concatenate(
        [
            bird.head([(20.0, 1.0), (-4.0, -17.5), (6.0, -17.5)]),
            bird.tail([(-23.5, -6.5), (-23.5, 6.5)]),
            bird.legs([(-4.0, LEG + 1), (6.0, LEG + 1)]),
            bird.body([(17.0, 0.0), (0.0, -12.0)]),
        ]
    )
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    return float(top), float(bottom), float(left), float(right)


_OUTLINES = SHAPES["bird"]
BODY, HEAD, WING, COVERTS = (spline(_OUTLINES[name]) for name in ("body", "head", "wing", "coverts"))
LONG_COVERT = spline(_OUTLINES["long covert"], 4)
TAIL: Points = np.array(_OUTLINES["tail"])
DOWN = _OUTLINES["down"]
"""Places at which a stroke or two hints at the feathers of the belly."""


def neck(bird: Skeleton) -> Points:
    """Returns an outline, in the body's frame, that fills the notches between head and body."""
    knots = np.concatenate(
        [
            bird.head([(-8.2, -2.0)]),
            bird.body([(-1.0, -12.0), (8.0, -4.0)]),
            bird.head([(0.0, 0.0), (7.0, 4.6)]),
            bird.body([(17.6, -1.0), (8.0, -2.0)]),
            bird.head([(-2.0, -4.0)]),
        ]
    )
    return np.asarray((knots - bird.body.origin) @ np.linalg.inv(bird.body.axes))
