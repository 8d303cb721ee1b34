"""From a photograph of any shape to a square of pixels, its annotated parts moved along."""

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels; pixel i covers i to i + 1."""


def crop(image: Image.Image, box: Box, side: int) -> np.ndarray:
    """(side, side, 3) uint8: what ``box`` holds of an RGB image, resized with antialiasing."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def middle_square(size: tuple[int, int]) -> Box:
    """The largest square in the middle of an image of ``size`` (width, height), at whole pixels."""
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def letterbox(image: Image.Image, side: int) -> tuple[np.ndarray, Box]:
    """The whole of an RGB image in the middle of a black square, its aspect kept to the nearest pixel.

    Returns:
        (side, side, 3) uint8, and the box around the image, in its own pixels, that became the square.
    """
    width, height = image.size
    wide, high = (max(1, round(length * side / max(image.size))) for length in image.size)
    left, top = (side - wide) // 2, (side - high) // 2
    square = np.zeros((side, side, 3), dtype=np.uint8)
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    square[top : top + high, left : left + wide] = np.asarray(resized)
    across, down = width / wide, height / high  # pixels of the image in one of the square
    return square, (-left * across, -top * down, (side - left) * across, (side - top) * down)


def parts_in_crop(parts: np.ndarray, box: Box, side: int) -> np.ndarray:
    """Moves parts along with a box that becomes a square of ``side`` pixels.

    Args:
        parts: (P, 3): row and column in the image's pixels, and 1 where visible, else 0.
        box: in the image's pixels.
        side: of the square in pixels.

    Returns:
        (P, 3) float32 in the square's pixels; all zero where a part is hidden or outside the box.
    """
    left, top, right, bottom = box
    moved = np.empty(parts.shape, dtype=np.float32)
    moved[:, 0] = (parts[:, 0] - top) * (side / (bottom - top))
    moved[:, 1] = (parts[:, 1] - left) * (side / (right - left))
    moved[:, 2] = 1.0
    seen = (parts[:, 2] > 0) & (moved[:, :2] >= 0).all(axis=1) & (moved[:, :2] < side).all(axis=1)
    moved[~seen] = 0.0
    return moved
