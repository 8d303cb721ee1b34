"""CelebA-HQ: photographs of faces with 40 binary attributes, as CelebAMask-HQ publishes them."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from glimpse_env.checks import one_of, path_or_none, whole_number
from glimpse_env.datasets.base import PUBLIC_SPLITS, Split, data_root
from glimpse_env.datasets.images import PhotographSource
from glimpse_env.datasets.texts import read_text
from glimpse_env.errors import DatasetFormatError, DatasetNotFoundError
from glimpse_env.files import digest
from glimpse_env.sensing.geometry import Geometry

PROTOCOL = 1
"""Version of how images are resized and split; part of the fingerprint."""

SIZE = 224
"""Side of an image in pixels."""
NUM_IMAGES = 30_000
"""Number of published images."""
MIN_IMAGES = 60
"""Fewest images that leave some for every split."""
ATTRIBUTE_FILE = "CelebAMask-HQ-attribute-anno.txt"
IMAGE_FOLDER = "CelebA-HQ-img"
FOLDER = "CelebAMask-HQ"


class CelebAHQ(PhotographSource):
    """The released CelebAMask-HQ folder: 224 x 224 RGB, one attribute; five glimpses of 16 x 16.

    Locations are the paper's (arXiv 1906.05462): 50 x 50, 4 or 5 pixels apart. So are the splits, by the images' ids:
    0 to 26999 for ``train``, 27000 to 27499 for ``val``, the others for ``test``; fewer images are split in the same
    proportion. Images are resized with antialiasing.

    Args:
        root: the folder that has ``CelebAMask-HQ-attribute-anno.txt`` and ``CelebA-HQ-img``, or one that has it as
            ``CelebAMask-HQ``; default ``GLIMPSE_DATA``.
        attribute: a name in the second line of the attribute file; the classes are ``"not Smiling"`` and ``"Smiling"``.
        folds: networks in the judge, at least 2.
        num_images: how many of the images to take, from id 0 on; at least 60.

    Raises:
        ConfigurationError: if there is no such attribute, or an argument is of the wrong type or out of range.
        DatasetNotFoundError: if the data set is missing.
        DatasetFormatError: naming file and line, if the attribute file is damaged or tells of fewer images than are
            asked for, or if an image is missing. Loading a split names an image that cannot be read.
    """

    mirror_symmetric = True
    name = "celeba-hq"
    geometry = Geometry(image_size=SIZE, glimpse_size=16, stride=(SIZE - 16) / 49, num_glimpses=5)
    image_shape = (SIZE, SIZE, 3)
    num_folds = 3
    images_per_pass = 6000  # more would need gigabytes of memory

    def __init__(
        self,
        root: str | Path | None = None,
        attribute: str = "Smiling",
        folds: int = num_folds,
        num_images: int = NUM_IMAGES,
    ) -> None:
        self.root = path_or_none("root", root)
        self.num_folds = whole_number("folds", folds, 2)  # no network judges its own images
        self.num_images = whole_number("num_images", num_images, MIN_IMAGES, NUM_IMAGES)
        self.folder = _find_folder(data_root(self.root))
        self._labels = _read_labels(self.folder / ATTRIBUTE_FILE, attribute, self.num_images)
        self.attribute, self.class_names = attribute, (f"not {attribute}", attribute)
        self._require_images()

    @property
    def options(self) -> dict[str, Any]:
        return {
            "root": self.root,
            "attribute": self.attribute,
            "folds": self.num_folds,
            "num_images": self.num_images,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the attribute's labels, the images' content and the arguments, but not of ``root``.

        Raises:
            DatasetError: naming an image that cannot be read.
        """
        arguments = {name: value for name, value in self.options.items() if name != "root"}
        listing = digest(self.name, PROTOCOL, arguments, self._labels, self.contents.sizes)
        return self.contents.fingerprint(listing)

    def size(self, split: Split) -> int:
        return len(self._ids(split))

    def labels_of(self, split: Split) -> np.ndarray:
        ids = self._ids(split)
        return self._labels[ids.start : ids.stop]

    def file_of(self, split: Split, index: int) -> tuple[Path, str, str]:
        path = self._path(self._ids(split)[index])
        return path, str(path), "unpack it again from CelebAMask-HQ.zip"

    def _ids(self, split: Split) -> range:
        val, test = self.num_images * 9 // 10, self.num_images * 9 // 10 + self.num_images // 60
        ends = dict(zip(PUBLIC_SPLITS, ((0, val), (val, test), (test, self.num_images)), strict=True))
        return range(*ends[split])

    def _path(self, identity: int) -> Path:
        return self.folder / IMAGE_FOLDER / f"{identity}.jpg"

    def _require_images(self) -> None:
        """Raises a DatasetError if an image is missing."""
        try:
            there = set(os.listdir(self.folder / IMAGE_FOLDER))
        except OSError as error:
            raise DatasetNotFoundError(
                f"CelebA-HQ has no images: {error.filename} cannot be read ({error.strerror}); {_REMEDY}"
            ) from error
        missing = [identity for identity in range(self.num_images) if f"{identity}.jpg" not in there]
        if missing:
            raise DatasetFormatError(
                f"{self._path(missing[0])} is missing, as are {len(missing) - 1} others of the {self.num_images} "
                f"images; unpack them again, or ask for fewer with num_images, at least {MIN_IMAGES}."
            )


def _read_labels(path: Path, attribute: str, count: int) -> np.ndarray:
    """Returns 1 where the images 0.jpg, 1.jpg, ... have an attribute, else 0: (count,) int64.

    The file has the number of images, the attributes' names, and a line an image.
    """
    lines = read_text(path, "unpack it again").rstrip().splitlines()
    if len(lines) < 2:
        raise DatasetFormatError(f"{path}:{len(lines)}: {_LAYOUT}")
    try:
        announced = int(lines[0])
    except ValueError as error:
        raise DatasetFormatError(f"{path}:1: {lines[0]!r} is not the number of images; {_LAYOUT}") from error
    if len(lines) - 2 != announced:
        raise DatasetFormatError(
            f"{path}:1: {announced} images are announced and {len(lines) - 2} lines follow the names; "
            "unpack the file again."
        )
    names = lines[1].split()
    one_of("attribute", attribute, names)
    if count > announced:
        raise DatasetFormatError(
            f"{path}:1: this is a part of CelebA-HQ, {announced} images of num_images={count}; get the "
            f"whole, or ask for what is there with num_images={announced}."
        )
    column = 1 + names.index(attribute)
    labels = np.empty(count, dtype=np.int64)
    for identity, line in enumerate(lines[2 : 2 + count]):
        cells = line.split()
        if len(cells) != 1 + len(names) or cells[0] != f"{identity}.jpg" or cells[column] not in _VALUES:
            raise DatasetFormatError(
                f"{path}:{3 + identity}: {line[:60]!r} is not {identity}.jpg and "
                f"{len(names)} values of 1 or -1; unpack the file again."
            )
        labels[identity] = _VALUES[cells[column]]
    return labels


_VALUES = {"1": 1, "-1": 0}
_LAYOUT = "the first line has to be the number of images and the second the names of the attributes; unpack it again."
_REMEDY = (
    "get CelebAMask-HQ.zip from https://github.com/switchablenorms/CelebAMask-HQ, for research only, unpack it and set "
    "GLIMPSE_DATA, or root, to the folder that has CelebAMask-HQ/."
)


def _find_folder(root: Path) -> Path:
    for folder in (root, root / FOLDER):
        if os.path.isfile(folder / ATTRIBUTE_FILE):
            return folder
    raise DatasetNotFoundError(f"CelebA-HQ was not found: no {ATTRIBUTE_FILE} in {root} or {root / FOLDER}; {_REMEDY}")
