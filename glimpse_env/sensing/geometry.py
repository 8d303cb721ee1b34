"""Where glimpses can be: the grid of discrete locations and the normalised coordinates networks see.

A location is named by the glimpse's top-left corner in pixels, ``(row, col)``. Normalised, a corner at 0 is -1 and
the last corner at which the glimpse still lies inside the image is +1.

Where the stride is no whole number, corners are rounded to pixels and so spaced unevenly: 50 locations on 208 pixels,
a stride of 208 / 49, lie 4 or 5 pixels apart.

With zooms a location is ``(row, col, zoom)``: the window there is ``zoom`` times as wide, and reduced to the size of a
glimpse by averaging blocks of ``zoom`` x ``zoom`` pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

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
    def zooms(self) -> tuple[int, ...]:
        """How many times as wide as a glimpse the windows are, ascending."""
        return (1,)

    @property
    def coordinates(self) -> int:
        """Numbers of a corner, and of a normalised location: 2, or 3 with zooms."""
        return 2

    @property
    def levels(self) -> "tuple[LocationGrid, ...]":
        """The locations of each zoom, narrowest windows first; each has corners of two numbers."""
        return (self,)

    @property
    def level_slices(self) -> tuple[slice, ...]:
        """Where the locations of each level stand among all."""
        ends = np.cumsum([0, *map(len, self.levels)]).tolist()
        return tuple(map(slice, ends[:-1], ends[1:]))

    @property
    def zoom(self) -> int:
        """How many times as wide as a glimpse the windows of the narrowest level are."""
        return 1

    @property
    def offset(self) -> int:
        """Row, and column, of the first corner."""
        return 0

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
        return all(bool((level.steps + level.steps[::-1] == level.span).all()) for level in self.levels)

    @cached_property
    def mirrored(self) -> np.ndarray:
        """(L,) int64: the location at each location's place in the mirror image, where these are symmetric."""
        every = [np.arange(len(level)).reshape(level.side, -1)[:, ::-1].reshape(-1) for level in self.levels]
        return np.concatenate([part.start + some for part, some in zip(self.level_slices, every, strict=True)])

    @cached_property
    def steps(self) -> np.ndarray:
        """(side,) int64: the corners' rows in pixels, which are their columns too."""
        return np.rint(np.arange(self.side) * self.stride).astype(np.int64)

    @cached_property
    def corners(self) -> np.ndarray:
        """(L, coordinates) int64: top-left corners in pixels, row-major."""
        return np.stack(np.meshgrid(self.steps, self.steps, indexing="ij"), axis=-1).reshape(-1, 2)

    @cached_property
    def normalised(self) -> np.ndarray:
        """(L, coordinates) float32: the corners in normalised coordinates."""
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
class ZoomLevel(LocationGrid):
    """The locations of windows ``zoom`` times as wide as a glimpse, centred in the image where they do not fill it.

    On the image from :attr:`offset` on, reduced by ``zoom``, they are the grid of glimpses at the narrowest stride.
    """

    zoom: int = 1  # else a property
    """How many times as wide as a glimpse the windows are."""

    @property
    def offset(self) -> int:
        return (self.span - round((self.side - 1) * self.stride)) // 2

    @cached_property
    def steps(self) -> np.ndarray:
        return self.offset + np.rint(np.arange(self.side) * self.stride).astype(np.int64)

    def nearest(self, corners: np.ndarray) -> np.ndarray:
        return super().nearest(np.asarray(corners) - self.offset)


@dataclass(frozen=True)
class ZoomGrid(LocationGrid):
    """Locations of windows of several widths: level by level, narrowest first, row by row within a level.

    A level is the grid of windows ``zoom`` times as wide at ``zoom`` times the stride. ``side``, ``span`` and ``steps``
    are those of the narrowest level. A corner is ``(row, col, zoom)``. Normalised, it is the place of the window's
    centre on the scale of the narrowest windows' centres, so that the same numbers are the same place at every zoom;
    and the zoom's logarithm, -1 for the narrowest and 1 for the widest.

    >>> grid = ZoomGrid(image_size=60, glimpse_size=12, stride=4, zooms=(1, 2, 4))
    >>> [len(level) for level in grid.levels], grid.corners[-1].tolist(), grid.normalised[-1].tolist()
    ([169, 25, 1], [6, 6, 4], [0.0, 0.0, 1.0])

    Raises:
        ConfigurationError: if zooms are not ascending whole numbers that begin with 1, or the widest window does not
            fit into the image.
    """

    zooms: tuple[int, ...] = (1,)  # else a property

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "zooms", checked_zooms(self.zooms))
        if self.glimpse_size * self.zooms[-1] > self.image_size:
            raise ConfigurationError(
                f"zooms={self.zooms}: a window of {self.zooms[-1]} x glimpse_size={self.glimpse_size} pixels does not "
                f"fit into an image of {self.image_size}; leave the widest out."
            )

    @property
    def coordinates(self) -> int:
        return 3

    @cached_property
    def levels(self) -> tuple[LocationGrid, ...]:
        size, g, stride = self.image_size, self.glimpse_size, self.stride
        return tuple(
            LocationGrid(size, g, stride) if z == 1 else ZoomLevel(size, g * z, stride * z, z) for z in self.zooms
        )

    def __len__(self) -> int:
        return sum(map(len, self.levels))

    @cached_property
    def corners(self) -> np.ndarray:
        return np.concatenate([np.insert(level.corners, 2, level.zoom, axis=1) for level in self.levels])

    @property
    def centre(self) -> int:
        """Index of the narrowest level's location nearest to the middle of the image."""
        return self.levels[0].centre

    def normalise(self, corners: np.ndarray) -> np.ndarray:
        """Converts (row, col, zoom), (..., 3), to float32; in [-1, 1] where the windows lie inside the image."""
        corners = np.asarray(corners)
        zooms = corners[..., 2:]
        places = super().normalise(corners[..., :2] + self.glimpse_size * (zooms - 1) / 2)
        widths = 2.0 * np.log2(np.maximum(zooms, 1)) / self._octaves - 1.0
        return np.concatenate([places, widths.astype(np.float32)], axis=-1)

    def denormalise(self, coordinates: np.ndarray) -> np.ndarray:
        """Converts coordinates (..., 3) in [-1, 1] to (row, col, zoom), int64: the nearest zoom, and the nearest place
        at which the window lies inside the image."""
        coordinates = np.asarray(coordinates, dtype=np.float64)
        widths = (coordinates[..., 2:] + 1.0) / 2 * self._octaves
        zooms = np.array(self.zooms)[self._level_of(widths)]  # (..., 1)
        centred = (coordinates[..., :2] + 1.0) * self.span / 2 - self.glimpse_size * (zooms - 1) / 2
        pixels = np.rint(centred).astype(np.int64)
        return np.concatenate([pixels.clip(0, self.image_size - self.glimpse_size * zooms), zooms], axis=-1)

    def nearest(self, corners: np.ndarray) -> np.ndarray:
        """Returns the index of the location nearest to (row, col, zoom), (..., 3), of the nearest zoom: (...,)."""
        corners = np.asarray(corners)
        level_of = self._level_of(np.log2(np.maximum(corners[..., 2], 1)))
        found = [
            part.start + level.nearest(corners[..., :2])
            for part, level in zip(self.level_slices, self.levels, strict=True)
        ]
        return np.take_along_axis(np.stack(found, axis=-1), level_of[..., None], axis=-1)[..., 0]

    @property
    def _octaves(self) -> float:
        """Base-2 logarithm of the widest zoom; 1 where there is only one."""
        return max(math.log2(self.zooms[-1]), 1.0)

    def _level_of(self, logarithms: np.ndarray) -> np.ndarray:
        """Returns the number of the level whose zoom's base-2 logarithm is nearest, in the shape of ``logarithms``."""
        return np.abs(np.asarray(logarithms)[..., None] - np.log2(self.zooms)).argmin(axis=-1)


def checked_zooms(zooms: Sequence[int]) -> tuple[int, ...]:
    """Returns zooms as a tuple.

    Raises:
        ConfigurationError: unless they are ascending whole numbers that begin with 1.
    """
    if isinstance(zooms, str) or not isinstance(zooms, Sequence):
        raise ConfigurationError(f"zooms={zooms!r} must be a list of whole numbers, like [1, 2, 4].")
    numbers = tuple(whole_number("zooms", zoom, 1, 64) for zoom in zooms)
    if numbers[:1] != (1,) or any(a >= b for a, b in pairwise(numbers)):
        raise ConfigurationError(f"zooms={list(numbers)} must ascend and begin with 1, like [1, 2, 4].")
    return numbers


def grid_of(fields: Mapping[str, Any]) -> LocationGrid:
    """Returns the grid with these fields, as ``dataclasses.asdict`` gives them."""
    return ZoomGrid(**fields) if "zooms" in fields else LocationGrid(**fields)


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
    zooms: tuple[int, ...] = (1,)
    """How many times as wide as a glimpse its window can be, see :class:`ZoomGrid`; only 1 for no zoom."""

    def __post_init__(self) -> None:
        whole_number("num_glimpses", self.num_glimpses, 1)
        object.__setattr__(self, "zooms", checked_zooms(self.zooms))
        if len(self.zooms) > 1 and self.scales != 1:
            raise ConfigurationError(
                f"scales={self.scales} does not combine with zooms={list(self.zooms)}; take scales=1, or zooms=[1]."
            )
        _ = self.grid, self.sensor  # which check what they are made of

    @cached_property
    def grid(self) -> LocationGrid:
        """The locations that glimpses can be taken at."""
        if self.zooms == (1,):
            return LocationGrid(self.image_size, self.glimpse_size, self.stride)
        return ZoomGrid(self.image_size, self.glimpse_size, self.stride, self.zooms)

    @property
    def windows(self) -> str:
        """Scales and zooms as the names of files have them, like ``"x2"``, or ``"x1-z1.2.4"`` with zooms."""
        return f"x{self.scales}" + ("" if self.zooms == (1,) else f"-z{'.'.join(map(str, self.zooms))}")

    @cached_property
    def sensor(self) -> Sensor:
        """Cuts the glimpses out of images."""
        return Sensor(self.glimpse_size, self.scales)
