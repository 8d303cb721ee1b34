"""The fovea: y = fovea(x, l), a small window of the image, for a batch of images at once."""

from dataclasses import dataclass

import numpy as np

from glimpse_env.checks import whole_number


@dataclass(frozen=True)
class Sensor:
    """Cuts glimpses out of images.

    Scale ``s`` (0-based) is a window of side ``glimpse_size * 2**s`` about the same centre, reduced to
    ``glimpse_size`` by averaging blocks of ``2**s x 2**s`` pixels; what lies outside the image is zero. The scales
    are stacked along the channels, narrowest first (the retina of Mnih et al. 2014).

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
        """Glimpses of ``images[indices]`` at ``corners``.

        Args:
            images: (N, H, W, C) uint8; may be memory-mapped, only the windows are read.
            indices: (B,) int, which image.
            corners: (B, 2) int pixels, top-left corner (row, col) of the narrowest window, inside the image.

        Returns:
            (B, g, g, C * scales) uint8.
        """
        g = self.glimpse_size
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
        """(B, g, g, C) uint8: the window ``factor`` times as wide, averaged down to the glimpse size."""
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
