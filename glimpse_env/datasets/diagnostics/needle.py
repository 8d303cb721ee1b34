"""Needle: one of 2500 places shows the class, every other one in which direction it lies.

With ``hints`` the sign at a place says whether the needle is further up, further down or in this very row, and whether
it is further left, further right or in this very column. Rows and columns are then two ordered lists that are searched
at once, each look answered by less, equal or greater. In T looks a search finds 2^T - 1 entries of such a list, by
bisection, and none finds more: so the needle is found at (2^T - 1)^2 places, with six looks at all 50 x 50. Whoever
guesses among the places that the signs leave over finds fewer, and that is what greedy design does: a sign tells
nothing of the class, and all places left over are as likely to show it.

Without hints all other places show noise, and nobody is better than T looks at random: the needle is found in T of 2500
images. That is the level at which nothing is to be learned.

A needle that was not found leaves its class to be guessed: success is found + (1 - found) / 4.
"""

from functools import cached_property
from typing import Any

import numpy as np

from glimpse_env.checks import flag
from glimpse_env.datasets.diagnostics.drawn import Diagnostic, glyphs, middles, painted
from glimpse_env.files import digest
from glimpse_env.sensing.geometry import Geometry

CELL = 4
"""Side of a place in pixels."""
SIDE = 50
"""Places along a side."""


def _hints() -> np.ndarray:
    """Returns masks (9, 4, 4) bool: a block moved towards where the needle is, row by row; the middle one is none."""
    masks = np.zeros((3, 3, CELL, CELL), dtype=bool)
    for down, right in np.ndindex(3, 3):
        masks[down, right, down : down + 2, right : right + 2] = (down, right) != (1, 1)
    return masks.reshape(9, CELL, CELL)


HINTS, GLYPHS = _hints(), glyphs(CELL)


def places_searched(side: int, num_glimpses: int, hints: bool) -> int:
    """Returns at how many of side x side places the best policy finds a needle with ``num_glimpses`` looks."""
    return min(side, 2**num_glimpses - 1) ** 2 if hints else min(side**2, num_glimpses)


class Needle(Diagnostic):
    """A glyph among 2499 signs, 200 x 200 grey; six glimpses of 4 x 4 at 50 x 50 places side by side, four classes.

    Args:
        seed, num_train, num_val, num_test, num_judge: see
            :class:`glimpse_env.datasets.diagnostics.drawn.Diagnostic`; an image takes 40 kB.
        hints: whether the other places show where the needle lies, or noise.

    Raises:
        ConfigurationError: if a number is out of range or ``hints`` is neither True nor False.
    """

    name = "needle"
    version = 1
    images_per_chunk = 50  # they are large
    geometry = Geometry(image_size=SIDE * CELL, glimpse_size=CELL, stride=CELL, num_glimpses=6)
    image_shape = (SIDE * CELL, SIDE * CELL, 1)
    part_names = ("needle",)

    def __init__(
        self,
        seed: int = 0,
        num_train: int = 2000,
        num_val: int = 500,
        num_test: int = 1000,
        num_judge: int = 2000,
        hints: bool = True,
    ) -> None:
        super().__init__(seed, num_train, num_val, num_test, num_judge)
        self.hints = flag("hints", hints)

    @cached_property
    def fingerprint(self) -> str:
        return digest("diagnostic", self.name, self.version, self.seed, self.hints)

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, "hints": self.hints}

    @property
    def optimum(self) -> float:
        found = places_searched(SIDE, self.geometry.num_glimpses, self.hints) / SIDE**2
        return found + (1 - found) / len(self.class_names)

    def draw(self, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        count = len(labels)
        needles = rng.integers(SIDE**2, size=count)
        masks = np.zeros((count, SIDE**2, CELL, CELL), dtype=bool)
        if self.hints:
            down, right = (np.sign(needle[:, None] - np.arange(SIDE)) for needle in np.divmod(needles, SIDE))  # (N, 50)
            masks = HINTS[(3 * down[:, :, None] + right[:, None] + 4).reshape(count, -1)]
        masks[np.arange(count), needles] = GLYPHS[labels]
        return painted(masks, rng), middles(needles[:, None], SIDE, CELL)
