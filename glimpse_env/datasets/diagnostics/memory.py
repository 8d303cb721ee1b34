"""Memory: what the first place shows is needed for the twelfth look, and for none between.

Each place of a trail is a map of the grid, with a dot where the trail goes on; it starts in the middle. The tenth
place after the start has four dots, one in each quarter of the map, at places that show a glyph: one of them is the
class, the others are drawn at random. Which one counts only the start tells, in whose map that quarter is lit. So all
images are named in twelve looks by who follows the trail and remembers its start, and none is left over to look at the
start again. Who follows the trail and forgets chooses one of four: success 1/4 + 3/4 x 1/4 = 43.8 %. All other places
show noise. Greedy design does not begin there, for the start tells nothing of the class. The start, the place that
counts and another glyph are annotated as parts, from which judges learn what the lit quarter means.
"""

import numpy as np

from glimpse_env.datasets.diagnostics.drawn import Diagnostic, glyphs, middles, painted
from glimpse_env.sensing.geometry import Geometry

CELL = SIDE = 8
"""Side of a place in pixels, and places along a side: a pixel of the map is a place."""
START = 27
"""The trail's first place, one of the four in the middle."""
TRAIL = 10
"""Places of the trail after the start."""
LIT = 70
"""How much brighter the lit quarter is than noise: brighter than noise mostly, and darker than any stroke."""
QUARTER_OF = np.array([2 * (place // SIDE >= SIDE // 2) + (place % SIDE >= SIDE // 2) for place in range(SIDE**2)])
"""Each place's quarter: upper left, upper right, lower left, lower right."""
GLYPHS = glyphs(CELL)


class Memory(Diagnostic):
    """A trail over 64 places, 64 x 64 grey; twelve glimpses of 8 x 8 at 8 x 8 places side by side, four classes.

    Arguments and errors as of :class:`glimpse_env.datasets.diagnostics.drawn.Diagnostic`.
    """

    name = "memory"
    version = 1
    geometry = Geometry(image_size=SIDE * CELL, glimpse_size=CELL, stride=CELL, num_glimpses=TRAIL + 2)
    image_shape = (SIDE * CELL, SIDE * CELL, 1)
    part_names = ("start", "place that counts", "another glyph")

    def draw(self, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        count, every = len(labels), np.arange(len(labels))
        order = rng.random((count, SIDE**2))
        order[:, START] = np.inf
        ends = np.stack([np.where(q == QUARTER_OF, order, np.inf).argmin(axis=1) for q in range(4)], axis=1)  # (N, 4)
        order[every[:, None], ends] = np.inf
        trail = np.insert(order.argsort(axis=1)[:, :TRAIL], 0, START, axis=1)  # (N, 11)
        counted = rng.integers(4, size=count)
        shown = rng.integers(len(GLYPHS), size=(count, 4))
        shown[every, counted] = labels
        masks = np.zeros((count, SIDE**2, SIDE**2), dtype=bool)
        masks[every[:, None], trail[:, :-1], trail[:, 1:]] = True
        masks[every[:, None], trail[:, -1:], ends] = True
        masks[every[:, None], ends] = GLYPHS[shown].reshape(count, 4, -1)
        images = painted(masks.reshape(count, -1, CELL, CELL), rng)
        row, col = (CELL * part for part in divmod(START, SIDE))
        start = images[:, row : row + CELL, col : col + CELL].reshape(count, -1)
        lit = (counted[:, None] == QUARTER_OF) & ~masks[:, START]  # (N, 64)
        start = np.where(lit, start + LIT, start).astype(np.uint8)
        images[:, row : row + CELL, col : col + CELL] = start.reshape(count, CELL, CELL, 1)
        other = (counted + 1 + rng.integers(3, size=count)) % 4
        parts = np.stack([np.full(count, START), ends[every, counted], ends[every, other]], axis=1)
        return images, middles(parts, SIDE, CELL)
