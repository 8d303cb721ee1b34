"""Photographs: read from files of every kind, cropped to squares, and changed a little for training."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from PIL import Image, ImageOps

from glimpse_env.datasets.base import (
    PUBLIC_SPLITS,
    DataSource,
    GlimpseDataset,
    LabelledImages,
    Split,
    folds_by_class,
)
from glimpse_env.datasets.contents import Contents, read_contents
from glimpse_env.datasets.texts import require_regular
from glimpse_env.errors import DatasetFormatError

T = TypeVar("T")

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels; pixel i covers i to i + 1."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""Pillow's names of the formats that are read, whatever a file's suffix; others may run programs, as EPS does."""
BACKGROUND = (128, 128, 128)
"""Colour behind transparent pixels: grey, on which black drawings show as well as white ones."""
MAX_SHIFT = 12 / 128
"""Largest shift of an augmented image, in image sides."""
ZOOM = (0.85, 1.15)
"""Range of the zoom of an augmented image."""
JITTER = 0.2
"""Largest relative change of brightness and of contrast; that of each colour is half of it."""


class PhotographSource(DataSource):
    """A data set of photographs in files, whose judge and amortised oracle train on augmented images.

    By default an image is the largest square in the middle of a photograph, turned as its EXIF orientation says.
    """

    images_per_pass: ClassVar[int | None] = None
    """Most images in one pass of training a network; None for all."""
    folder: Path
    """Folder that has the photographs."""

    @abstractmethod
    def labels_of(self, split: Split) -> np.ndarray:
        """Returns the labels of a split, (N,) int64."""

    @abstractmethod
    def file_of(self, split: Split, index: int) -> tuple[Path, str, str]:
        """Returns the file of an image, what an error message says of it, and how to mend a damaged one.

        Raises:
            DatasetError: if it is missing.
        """

    @cached_property
    def contents(self) -> Contents:
        """Contents of the files of all splits, one after another, part of the fingerprint.

        Raises:
            DatasetError: naming a file that is missing, cannot be read or is no regular one.
        """
        return self._read_contents()

    def _read_contents(self) -> Contents:
        paths = [self.file_of(split, index)[0] for split in PUBLIC_SPLITS for index in range(self.size(split))]
        return read_contents(self.folder, paths)

    def square_of(self, split: Split, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns an image, (H, W, 3) uint8, and its parts, (P, 3) float32.

        Raises:
            DatasetError: if its file is missing or cannot be read.
        """
        photograph = self.read(split, index, upright=True)
        pixels = crop(photograph, middle_square(photograph.size), self.image_shape[0])
        return pixels, np.zeros((0, 3), dtype=np.float32)

    def read(self, split: Split, index: int, *, upright: bool) -> Image.Image:
        """Reads the photograph of an image, see :func:`read_photograph`.

        Raises:
            DatasetError: if its file is missing or cannot be read.
        """
        return self._from_file(split, index, lambda path: read_photograph(path, upright=upright))

    def stored_size(self, split: Split, index: int) -> tuple[int, int]:
        """Reads width and height in pixels of an image's photograph as it is stored, without decoding its pixels.

        Raises:
            DatasetError: if its file is missing or cannot be read.
        """
        return self._from_file(split, index, stored_size)

    def _from_file(self, split: Split, index: int, reader: Callable[[Path], T]) -> T:
        path, name, remedy = self.file_of(split, index)
        try:
            return reader(path)
        except ValueError as error:
            raise DatasetFormatError(f"{name} is not a readable image ({error}); {remedy}.") from error

    def size(self, split: Split) -> int:
        return len(self.labels_of(split))

    def fill(self, split: Split, arrays: LabelledImages, progress: Callable[[int], object]) -> None:
        arrays.labels[:] = self.labels_of(split)
        if split == "train":
            arrays.folds[:] = folds_by_class(arrays.labels, self.num_folds)
        for index in range(len(arrays.labels)):
            arrays.images[index], arrays.parts[index] = self.square_of(split, index)
            progress(1)
        if "contents" in vars(self) and (self._read_contents().digests != self.contents.digests).any():
            raise DatasetFormatError(f"An image in {self.folder} changed after the data set was made; make it again.")

    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        train = self.load("train")
        rows = rng.permutation(np.flatnonzero(train.folds != fold))[: self.images_per_pass]
        return augmented(train, rows, rng, mirror=self.mirror_symmetric)

    unseen_images = judge_images


def read_photograph(path: Path, *, upright: bool) -> Image.Image:
    """Reads an image file as RGB; the first picture where there are several.

    Grey, palettes and CMYK are converted, 16 bits reduced to 8, and what is transparent lies over mid-grey. Pixels of
    32 bits or floating point, as TIFF has them, are scaled from the lowest and highest of the picture to 0 and 255; of
    a picture where all are the same they become mid-grey. Pixels of 16 bits are not scaled: a picture that uses 12 of
    them or fewer, as microscopes write it, would become nearly black and is refused.

    Args:
        path: the file.
        upright: whether to turn the picture as its EXIF orientation says.

    Raises:
        ValueError: saying what is wrong, if the file has no picture that Pillow can read, more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS``, a pixel that is not finite, 16 bits a pixel of which the high ones are not
            used, or more than 8 where the lowest number is white.
    """
    return _from_image(path, lambda image: _as_rgb(image, upright=upright))


def stored_size(path: Path) -> tuple[int, int]:
    """Returns width and height in pixels of an image file as it is stored.

    Raises:
        ValueError: saying what is wrong, if it is no picture that Pillow can read, or too large a one.
    """
    return _from_image(path, lambda image: image.size)


def _from_image(path: Path, use: Callable[[Image.Image], T]) -> T:
    """Calls ``use`` with an image file that is open but not decoded; a ValueError says what is wrong."""
    try:
        require_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; what counts is whether the pixels can be read
            Image.init()
            with Image.open(path, formats=[kind for kind in FORMATS if kind in Image.OPEN]) as image:
                width, height = image.size
                if min(width, height) < 1:
                    raise ValueError(f"it has {width} x {height} pixels")
                if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
                    raise Image.DecompressionBombError(
                        f"{width} x {height} pixels are more than PIL.Image.MAX_IMAGE_PIXELS={Image.MAX_IMAGE_PIXELS}"
                    )
                return use(image)
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _as_rgb(image: Image.Image, *, upright: bool) -> Image.Image:
    wide = image.mode == "F" or (image.mode == "I" and image.format == "TIFF")
    tags = getattr(image, "tag_v2", {})
    unsigned = tags.get(_SAMPLE_FORMAT, (1,)) == (1,)
    if tags.get(_PHOTOMETRIC) == 0 and image.mode[0] in "IF":  # Pillow inverts pixels of 8 bits only
        raise ValueError("its lowest number is white (TIFF's WhiteIsZero), which is read with 8 bits a pixel only")
    if upright:
        image = ImageOps.exif_transpose(image)
    if wide:
        values = np.asarray(image)
        if unsigned and image.mode == "I":  # Pillow reads them as signed
            values = values.view(np.uint32)
        return Image.fromarray(_scaled(values.astype(np.float64))).convert("RGB")
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip
        values = np.asarray(image).clip(0, 65535)
        if values.min() < values.max() < _DARK:
            raise ValueError(
                f"its pixels have 16 bits and are {values.max()} at most, so that it would be nearly black; write them "
                "as 0..65535, or with 8 bits"
            )
        return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


_DARK = 1 << 12  # of 65536: what 12 bits can tell apart would become 16 greys
_PHOTOMETRIC = 262  # TIFF's tag: 0 where the lowest number is white
_SAMPLE_FORMAT = 339  # TIFF's tag: 1 for unsigned integers, the default, 2 for signed ones, 3 for floating point


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scales pixels (H, W) from their lowest and highest to 0 and 255, uint8."""
    if not np.isfinite(values).all():
        raise ValueError("a pixel is not a finite number")
    low, high = values.min(), values.max()
    if low == high:
        return np.full(values.shape, BACKGROUND[0], dtype=np.uint8)
    return np.rint((values / 2 - low / 2) / (high / 2 - low / 2) * 255).astype(np.uint8)  # halves: no overflow


def crop(image: Image.Image, box: Box, side: int) -> np.ndarray:
    """Resizes the part of an RGB image inside ``box`` to (side, side, 3) uint8, with antialiasing."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def middle_square(size: tuple[int, int]) -> Box:
    """Returns the largest square in the middle of an image of ``size`` (width, height), at whole pixels."""
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def letterbox(image: Image.Image, side: int) -> tuple[np.ndarray, Box]:
    """Puts the whole of an RGB image in the middle of a black square, its aspect kept to the nearest pixel.

    Returns:
        (side, side, 3) uint8, and the box around the image, in its own pixels, that became the square.
    """
    wide, high, left, top = _letterbox_window(image.size, side)
    square = np.zeros((side, side, 3), dtype=np.uint8)
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    square[top : top + high, left : left + wide] = np.asarray(resized)
    return square, letterbox_box(image.size, side)


def letterbox_box(size: tuple[int, int], side: int) -> Box:
    """Returns the box of :func:`letterbox` for an image of ``size`` (width, height)."""
    wide, high, left, top = _letterbox_window(size, side)
    across, down = size[0] / wide, size[1] / high  # pixels of the image in one of the square
    return -left * across, -top * down, (side - left) * across, (side - top) * down


def _letterbox_window(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Returns width, height, left and top of a resized image in a square, in the square's pixels."""
    wide, high = (max(1, round(length * side / max(size))) for length in size)
    return wide, high, (side - wide) // 2, (side - high) // 2


def parts_in_crop(parts: np.ndarray, box: Box, side: int) -> np.ndarray:
    """Moves parts along with a box that becomes a square of ``side`` pixels.

    Args:
        parts: (P, 3): row and column in the image's pixels, and 1 where visible, else 0.
        box: the box, in the image's pixels.
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


def augmented(dataset: GlimpseDataset, rows: np.ndarray, rng: np.random.Generator, *, mirror: bool) -> LabelledImages:
    """Moves, zooms and jitters the colours of images, each in its own way, and moves their parts along.

    Pixels from outside an image are its reflection.

    Args:
        dataset: an RGB data set.
        rows: (n,) int, which of its images.
        rng: draws the changes.
        mirror: whether to mirror half of the images; a part that has a left and a right becomes the other one.
    """
    side = dataset.images.shape[1]
    shift = MAX_SHIFT * side
    padding = math.ceil(side / 2 / ZOOM[0] + shift - side / 2)  # enough for every zoom and shift
    images = np.empty((len(rows), *dataset.images.shape[1:]), dtype=np.uint8)
    parts = np.empty((len(rows), *dataset.parts.shape[1:]), dtype=np.float32)
    twins = _mirror_twins(dataset.part_names)
    for index, row in enumerate(rows):
        box = _random_box(side, padding, shift, rng)
        padded = np.pad(dataset.images[row], ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
        image = crop(Image.fromarray(padded).point(_jitter(rng)), box, side)
        seen = parts_in_crop(dataset.parts[row] + np.array([padding, padding, 0]), box, side)
        if mirror and rng.random() < 0.5:
            image = image[:, ::-1]
            seen = _mirrored(seen, twins, side)
        images[index], parts[index] = image, seen
    return LabelledImages(images, np.asarray(dataset.labels[rows]), np.asarray(dataset.folds[rows]), parts)


def mirrored_parts(parts: np.ndarray, part_names: tuple[str, ...], side: int) -> np.ndarray:
    """Returns the parts (N, P, 3) of mirror images of ``side`` pixels; one with a left and a right is the other one."""
    return _mirrored(parts, _mirror_twins(part_names), side)


def _mirrored(parts: np.ndarray, twins: np.ndarray, side: int) -> np.ndarray:
    parts = parts[..., twins, :]
    parts[..., 1] = np.where(parts[..., 2] > 0, side - parts[..., 1], 0)
    return parts


def _random_box(side: int, padding: int, shift: float, rng: np.random.Generator) -> Box:
    """Draws a box in a padded image: zoomed about the centre, then moved."""
    half = side / 2 / rng.uniform(*ZOOM)
    x, y = padding + side / 2 + rng.uniform(-shift, shift, size=2)
    return x - half, y - half, x + half, y + half


def _jitter(rng: np.random.Generator) -> list[int]:
    """Draws look-up tables of the three colours, one after another, for :meth:`PIL.Image.Image.point`."""
    brightness, contrast = rng.uniform(1 - JITTER, 1 + JITTER, size=2)
    colour = rng.uniform(1 - JITTER / 2, 1 + JITTER / 2, size=(3, 1))
    values = ((np.arange(256) - 127.5) * contrast + 127.5) * brightness * colour  # (3, 256)
    tables: list[int] = np.clip(np.rint(values), 0, 255).astype(int).ravel().tolist()
    return tables


def _mirror_twins(part_names: tuple[str, ...]) -> np.ndarray:
    """(P,) int64: the part that takes each one's place in a mirror, as the left eye does the right eye's."""
    sides = {"left": "right", "right": "left"}
    twins = [" ".join(sides.get(word, word) for word in name.split()) for name in part_names]
    return np.array(
        [part_names.index(twin) if twin in part_names else index for index, twin in enumerate(twins)],
        dtype=np.int64,
    )
