"""Where glimpses can be: the grid of discrete locations and the normalised coordinates networks see.

A location is named by the glimpse's top-left corner in pixels, ``(row, col)``. Normalised, a corner at 0 is -1 and
the last corner at which the glimpse still lies inside the image is +1.

Where the stride is no whole number, corners are rounded to pixels and so spaced unevenly: 50 locations on 208 pixels,
a stride of 208 / 49, lie 4 or 5 pixels apart.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glimpse_env.checks import whole_number
from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.sensor import Sensor

_ROUNDING = 1e-9
"""Rounding error, in strides, by which the span may be too short for its last location."""


def is_whole(stride: float) -> bool:
    """Returns whether a stride is a whole number of pixels."""
    return float(stride).is_integer()


@dataclass(frozen=True)
class LocationGrid:
    """A square grid of glimpse locations, numbered row by row.

    >>> grid = LocationGrid(image_size=60, glimpse_size=12, stride=4)
    >>> len(grid), grid.corners[14].tolist(), grid.nearest(np.array([[5, 4]])).tolist()
    (169, [4, 4], [14])

    Raises:
        ConfigurationError: if a glimpse does not fit into the image or the stride is not positive.
    """

    image_size: int
    """Side of the square image in pixels."""
    glimpse_size: int
    """Side of the square glimpse in pixels."""
    stride: float
    """Pixels between neighbouring locations; on average, where it is no whole number."""

    def __post_init__(self) -> None:
        if not 0 < self.glimpse_size <= self.image_size:
            raise ConfigurationError(
                f"glimpse_size={self.glimpse_size} must lie in 1..{self.image_size}, the side of the image."
            )
        if self.stride < 1:
            raise ConfigurationError(f"stride={self.stride} must be at least 1 pixel.")

    @property
    def span(self) -> int:
        """The largest corner coordinate in pixels."""
        return self.image_size - self.glimpse_size

    @property
    def side(self) -> int:
        """Locations along one side."""
        return math.floor(self.span / self.stride + _ROUNDING) + 1

    def __len__(self) -> int:
        return self.side**2

    @property
    def even(self) -> bool:
        """Whether all neighbours are equally far apart, as the stride is a whole number."""
        return is_whole(self.stride)

    @property
    def mirror_symmetric(self) -> bool:
        """Whether the mirror image of every location is a location."""
        return bool((self.steps + self.steps[::-1] == self.span).all())

    @cached_property
    def steps(self) -> np.ndarray:
        """(side,) int64: the corners' rows in pixels, which are their columns too."""
        return np.rint(np.arange(self.side) * self.stride).astype(np.int64)

    @cached_property
    def corners(self) -> np.ndarray:
        """(L, 2) int64: top-left corners in pixels, row-major."""
        return np.stack(np.meshgrid(self.steps, self.steps, indexing="ij"), axis=-1).reshape(-1, 2)

    @cached_property
    def normalised(self) -> np.ndarray:
        """(L, 2) float32: the corners in normalised coordinates."""
        return self.normalise(self.corners)

    @property
    def centre(self) -> int:
        """Index of the location nearest to the middle of the image."""
        return int(np.abs(self.corners - self.span / 2).sum(axis=1).argmin())

    def normalise(self, corners: np.ndarray) -> np.ndarray:
        """Converts pixels (..., 2) to float32 in [-1, 1]; -1 where the glimpse fills the image."""
        return (2.0 * np.asarray(corners) / max(self.span, 1) - 1.0).astype(np.float32)

    def denormalise(self, coordinates: np.ndarray) -> np.ndarray:
        """Converts coordinates (..., 2) in [-1, 1] to the nearest corners, int64 pixels."""
        pixels = (np.asarray(coordinates, dtype=np.float64) + 1.0) * self.span / 2
        return np.rint(pixels).astype(np.int64)

    def nearest(self, corners: np.ndarray) -> np.ndarray:
        """Returns the index of the grid location nearest to corners (..., 2) in pixels: (...,) int64.

        It is exact at whole pixels; between them, where the stride is no whole number, it is so to half a pixel.
        """
        steps = np.clip(np.rint(np.asarray(corners) / self.stride), 0, self.side - 1).astype(np.int64)
        return steps[..., 0] * self.side + steps[..., 1]


@dataclass(frozen=True)
class Geometry:
    """The protocol of a data set: its glimpses, where they can be, and how many there are.

    Raises:
        ConfigurationError: if a glimpse does not fit into the image or a number is out of range.
    """

    image_size: int
    """Side of the square images in pixels."""
    glimpse_size: int
    """Side of a glimpse in pixels."""
    stride: float
    """Pixels between neighbouring grid locations; see :class:`LocationGrid` for one that is no whole number."""
    num_glimpses: int
    """T, glimpses an episode."""
    scales: int = 1
    """Concentric windows of a glimpse, see :class:`Sensor`."""

    def __post_init__(self) -> None:
        whole_number("num_glimpses", self.num_glimpses, 1)
        _ = self.grid, self.sensor  # which check what they are made of

    @cached_property
    def grid(self) -> LocationGrid:
        """The locations that glimpses can be taken at."""
        return LocationGrid(self.image_size, self.glimpse_size, self.stride)

    @cached_property
    def sensor(self) -> Sensor:
        """Cuts the glimpses out of images."""
        return Sensor(self.glimpse_size, self.scales)
