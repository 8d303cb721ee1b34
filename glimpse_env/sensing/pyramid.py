"""Glimpses of several scales at many grid locations of an image: resampled once, then only cropped."""

import numpy as np

from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.sensing.sensor import Sensor


def cut_on_grid(images: np.ndarray, locations: np.ndarray, grid: LocationGrid, scales: int) -> np.ndarray:
    """What :class:`Sensor` cuts out, to the bit, in a third of its time where an image has many glimpses.

    Windows of a scale share their pixels' blocks if the grid's stride is a multiple of the block; else, and where
    locations are spaced unevenly, the sensor does it.

    Args:
        images: (N, H, W, C) uint8.
        locations: (N, n) int, of the grid.
        grid: of the images.
        scales: as in :class:`Sensor`.

    Returns:
        (N, n, g, g, C * scales) uint8.
    """
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


def _reduced(images: np.ndarray, factor: int, before: int, length: int) -> np.ndarray:
    """(N, length / factor, length / factor, C) uint8: blocks of ``factor`` x ``factor`` pixels averaged.

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
