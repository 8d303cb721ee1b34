"""The sensor: y = fovea(x, l), small windows of images, for a batch of images at once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glimpse_env.checks import whole_number

if TYPE_CHECKING:
    from glimpse_env.sensing.geometry import LocationGrid


@dataclass(frozen=True)
class Sensor:
    """Cuts glimpses out of images.

    Scale ``s`` (0-based) is a window of side ``glimpse_size * 2**s`` about the same centre, reduced to
    ``glimpse_size`` by averaging blocks of ``2**s x 2**s`` pixels; what lies outside the image is zero. The scales
    are stacked along the channels, narrowest first (the retina of Mnih et al. 2014).

    Where corners name a zoom, the window there is ``zoom`` times as wide and reduced in the same way.

    >>> images = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    >>> Sensor(glimpse_size=2)(images, np.array([0]), np.array([[1, 3]])).squeeze().tolist()
    [[11, 12], [19, 20]]
    """

    glimpse_size: int
    """Side of a glimpse in pixels."""
    scales: int = 1
    """Number of concentric windows."""

    def __post_init__(self) -> None:
        whole_number("scales", self.scales, 1, 6)

    def __call__(self, images: np.ndarray, indices: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """Cuts out glimpses of ``images[indices]`` at ``corners``.

        Args:
            images: (N, H, W, C) uint8; may be memory-mapped, only the windows are read.
            indices: (B,) int, which image.
            corners: (B, 2) int pixels, top-left corner (row, col) of the narrowest window, inside the image; or (B, 3),
                (row, col, zoom) of the only one.

        Returns:
            (B, g, g, C * scales) uint8.
        """
        g = self.glimpse_size
        if corners.shape[1] == 3:
            return self._zoomed(images, indices, corners)
        count, height, width, channels = images.shape
        over_image, over_row, over_pixel, over_channel = images.strides
        windows = np.lib.stride_tricks.as_strided(  # of every pixel; a third of sliding_window_view's overhead
            images,
            (count, height - g + 1, width - g + 1, g, g, channels),
            (over_image, over_row, over_pixel, over_row, over_pixel, over_channel),
            writeable=False,
        )
        narrow = windows[indices, corners[:, 0], corners[:, 1]]  # (B, g, g, C)
        if self.scales == 1:
            return narrow
        wider = [self._window(images, indices, corners, 2**s) for s in range(1, self.scales)]
        return np.concatenate([narrow, *wider], axis=-1)

    def _window(self, images: np.ndarray, indices: np.ndarray, corners: np.ndarray, factor: int) -> np.ndarray:
        """Averages the window ``factor`` times as wide down to the glimpse size: (B, g, g, C) uint8."""
        g, side = self.glimpse_size, self.glimpse_size * factor
        left = (side - g) // 2  # of the narrowest window
        height, width, channels = images.shape[1:]
        count, padded_width = len(indices), width + side - g
        rows = corners[:, :1] - left + np.arange(side)  # (B, side)
        inside = (rows >= 0) & (rows < height)
        bands = np.zeros((count, side, padded_width, channels), dtype=np.uint8)
        bands[:, :, left : left + width] = images[indices[:, None], rows.clip(0, height - 1)] * inside[..., None, None]
        over_image, over_row, over_pixel, over_channel = bands.strides
        windows = np.lib.stride_tricks.as_strided(  # of every column
            bands,
            (count, width - g + 1, side, side, channels),
            (over_image, over_pixel, over_row, over_pixel, over_channel),
            writeable=False,
        )
        pixels = windows[np.arange(count), corners[:, 1]]  # (B, side, side, C)
        return _block_means(pixels, factor)

    def _zoomed(self, images: np.ndarray, indices: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """Cuts out windows of different widths at (row, col, zoom), (B, 3), and reduces them: (B, g, g, C) uint8."""
        g, zooms = self.glimpse_size, np.maximum(corners[:, 2], 1)  # 0 where no glimpse is taken
        glimpses = np.empty((len(corners), g, g, images.shape[3]), dtype=np.uint8)
        for zoom in np.unique(zooms):
            rows = np.flatnonzero(zooms == zoom)
            wide = Sensor(g * int(zoom))(images, indices[rows], corners[rows, :2])
            glimpses[rows] = wide if zoom == 1 else _block_means(wide, int(zoom))
        return glimpses


def _block_means(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Averages blocks of ``factor`` x ``factor`` pixels of (B, g * factor, g * factor, C): (B, g, g, C) uint8."""
    count, side, _, channels = pixels.shape
    g = side // factor
    # block by block, one pixel of each at a time: numpy's own mean over two axes takes several times as long
    blocks = pixels.reshape(count, g, factor, g, factor, channels)
    whole = np.uint16 if factor <= 16 else np.uint32  # holds 255 factor^2
    down = blocks[:, :, 0].astype(whole)  # (B, g, g, factor, C)
    for k in range(1, factor):
        down += blocks[:, :, k]
    sums = down[..., 0, :].copy()  # (B, g, g, C)
    for k in range(1, factor):
        sums += down[..., k, :]
    return np.rint(sums / np.float32(factor**2)).astype(np.uint8)


def cut_on_grid(images: np.ndarray, locations: np.ndarray, grid: "LocationGrid", scales: int) -> np.ndarray:
    """Cuts out what :class:`Sensor` does, to the bit, in a third of its time where an image has many glimpses.

    Windows of a scale share their blocks of pixels if the grid's stride is a multiple of the block: each image is
    reduced once and then only cropped. Else, and where locations are spaced unevenly, the sensor does it.

    Args:
        images: (N, H, W, C) uint8.
        locations: (N, n) int, of the grid.
        grid: the grid of locations.
        scales: concentric windows of a glimpse.

    Returns:
        (N, n, g, g, C * scales) uint8.
    """
    if len(grid.levels) > 1:
        return _cut_levels(images, locations, grid)
    count, channels = locations.shape[1], images.shape[3]
    g, side = grid.glimpse_size, grid.side
    owner = np.arange(len(images))[:, None]
    if grid.stride % 2 ** (scales - 1):  # as every stride has that is no whole number
        corners = grid.corners[locations.reshape(-1)]
        cut = Sensor(g, scales)(images, np.repeat(owner[:, 0], count), corners)
        return cut.reshape(len(images), count, *cut.shape[1:])
    rows, cols = np.divmod(locations, side)
    glimpses = np.empty((len(images), count, g, g, channels * scales), dtype=np.uint8)
    for s in range(scales):
        factor = 2**s
        reduced = _reduced(images, factor, (g * factor - g) // 2, int(grid.steps[-1]) + g * factor)
        windows = np.lib.stride_tricks.sliding_window_view(reduced, (g, g, channels), axis=(1, 2, 3))
        step = int(grid.stride) // factor
        glimpses[..., s * channels : (s + 1) * channels] = windows[owner, rows * step, cols * step, 0]
    return glimpses


def _cut_levels(images: np.ndarray, locations: np.ndarray, grid: "LocationGrid") -> np.ndarray:
    """Does what :func:`cut_on_grid` does, for a grid of several zooms."""
    g, channels = grid.glimpse_size, images.shape[3]
    glimpses = np.empty((*locations.shape, g, g, channels), dtype=np.uint8)
    for part, level in zip(grid.level_slices, grid.levels, strict=True):
        owner, place = np.nonzero((locations >= part.start) & (locations < part.stop))
        if not len(owner):
            continue
        index = locations[owner, place] - part.start
        if not level.even:
            zoomed = np.insert(level.corners[index], 2, level.zoom, axis=1)
            glimpses[owner, place] = Sensor(g)(images, owner, zoomed)
            continue
        some, which = np.unique(owner, return_inverse=True)  # images that are looked at at this zoom
        windows = np.lib.stride_tricks.sliding_window_view(
            reduced_to_level(images if len(some) == len(images) else images[some], level),
            (g, g, channels),
            axis=(1, 2, 3),
        )
        rows, cols = np.divmod(index, level.side)
        step = int(level.stride) // level.zoom
        glimpses[owner, place] = windows[which, rows * step, cols * step, 0]
    return glimpses


def reduced_to_level(images: np.ndarray, level: "LocationGrid") -> np.ndarray:
    """Crops images to the windows of one zoom and averages blocks of ``zoom`` x ``zoom`` pixels.

    Args:
        images: (N, H, W, C) uint8.
        level: one of a grid's ``levels``, with a stride that is a whole number.

    Returns:
        (N, S, S, C) uint8, on which the level is a grid of unzoomed glimpses; the images themselves at zoom 1.
    """
    if level.zoom == 1:
        return images
    begin, end = level.offset, int(level.steps[-1]) + level.glimpse_size
    return _reduced(images[:, begin:end, begin:end], level.zoom, 0, end - begin)


def _reduced(images: np.ndarray, factor: int, before: int, length: int) -> np.ndarray:
    """Averages blocks of ``factor`` x ``factor`` pixels: (N, length / factor, length / factor, C) uint8.

    The first block begins ``before`` pixels above and to the left of the image; what lies outside it is zero.
    """
    if factor == 1:
        return images
    inside = min(images.shape[1], length - before)
    padded = np.zeros((len(images), length, length, images.shape[3]), dtype=np.uint32)
    padded[:, before : before + inside, before : before + inside] = images[:, :inside, :inside]
    rows = padded[:, ::factor].copy()
    for offset in range(1, factor):
        rows += padded[:, offset::factor]
    total = rows[:, :, ::factor].copy()
    for offset in range(1, factor):
        total += rows[:, :, offset::factor]
    return np.rint(total / factor**2).astype(np.uint8)
