"""Signpost: a sign in the middle says which of eight places around it shows the class, and nothing of the class.

Each place around shows one of four glyphs. That of the place which the arrow points at is the class, the others are
drawn at random. Two glimpses suffice, the arrow and then what it points at, and name the class of every image. Greedy
design never begins so: the arrow alone tells nothing of the class, any glyph a little. Then one glyph and the arrow are
seen, which belong together in one case of eight: success 1/8 + 7/8 x 1/4 = 34.4 %, as of any plan that does not depend
on the arrow. ``tests/glimpse_env/datasets/test_diagnostics.py`` finds both by exhaustive search. The sign and the place
it points at are annotated as parts, from which judges learn what arrows mean.
"""

import numpy as np

from glimpse_env.datasets.diagnostics.drawn import Diagnostic, glyphs, middles, painted
from glimpse_env.sensing.geometry import Geometry

CELL = 12
"""Side of a place in pixels."""
CENTRE = 4
"""The sign's place, of nine numbered row by row."""
AROUND = np.array([0, 1, 2, 3, 5, 6, 7, 8])
"""The places that a sign may point at."""


def _arrows() -> np.ndarray:
    """Returns masks (8, 12, 12) bool: from the middle towards each place around, with a dot at the end."""
    masks = np.zeros((len(AROUND), CELL, CELL), dtype=bool)
    for mask, place in zip(masks, AROUND, strict=True):
        down, right = place // 3 - 1, place % 3 - 1
        for step in range(5):
            row, col = 5 + down * step, 5 + right * step
            mask[row : row + 2, col : col + 2] = True
        mask[row - 1 : row + 3, col - 1 : col + 3] = True
    return masks


ARROWS, GLYPHS = _arrows(), glyphs(CELL)


class Signpost(Diagnostic):
    """An arrow and eight glyphs, 36 x 36 grey; two glimpses of 12 x 12 at nine places side by side, four classes.

    Arguments and errors as of :class:`glimpse_env.datasets.diagnostics.drawn.Diagnostic`.
    """

    name = "signpost"
    version = 1
    geometry = Geometry(image_size=3 * CELL, glimpse_size=CELL, stride=CELL, num_glimpses=2)
    image_shape = (3 * CELL, 3 * CELL, 1)
    part_names = ("sign", "place pointed at")

    def draw(self, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        count, every = len(labels), np.arange(len(labels))
        pointed = rng.integers(len(AROUND), size=count)
        shown = rng.integers(len(GLYPHS), size=(count, 9))
        shown[every, AROUND[pointed]] = labels
        masks = GLYPHS[shown]  # (N, 9, 12, 12)
        masks[:, CENTRE] = ARROWS[pointed]
        places = np.stack([np.full(count, CENTRE), AROUND[pointed]], axis=1)  # (N, 2)
        return painted(masks, rng), middles(places, 3, CELL)
