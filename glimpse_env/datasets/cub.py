"""CUB-200-2011: photographs of birds, cropped to the bird as in the paper (arXiv 1906.05462), or whole."""

import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from glimpse_env.checks import path_or_none, whole_number
from glimpse_env.console.names import command
from glimpse_env.datasets.base import PUBLIC_SPLITS, Split, data_root
from glimpse_env.datasets.images import Box, PhotographSource, crop, letterbox, letterbox_box, parts_in_crop
from glimpse_env.datasets.texts import read_text, require_label
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError
from glimpse_env.files import digest
from glimpse_env.sensing.geometry import Geometry

PROTOCOL = 1
"""Version of how images are cropped and split; part of the fingerprint."""

SIZE = 128
"""Side of a crop in pixels."""
FULL_SIZE = 224
"""Side of a whole photograph in pixels."""
CONTEXT = 1.5
"""Side of the square around the bird, in longer box sides."""
VAL_EVERY, VAL_FIRST = 10, 4
"""Every tenth of each class's official training images, from the fifth on in the order of ids, goes to ``val``."""

_MAX_ID, _MAX_PIXELS = 2**31, 10**6

T = TypeVar("T")


@dataclass(frozen=True)
class _Entry:
    """One image as the text files describe it."""

    identity: int
    """The image's id."""
    file: str
    """Path below ``images/``."""
    line: int
    """Line number in images.txt."""
    label: int
    split: Split
    box: Box
    box_line: int
    parts: np.ndarray
    """(P, 3) float64: row and column in the photograph's pixels, and 1 where visible, else 0."""


class CUB200(PhotographSource):
    """The released CUB_200_2011 folder, whole or with any choice of species and images.

    An image is a square of side 1.5 x the longer box side, centred on the box, clipped to the photograph
    and resized to 128 x 128. The official test images are ``test``; of the official training images every
    tenth of each class is ``val``, from the fifth on, and the others are ``train``.

    Args:
        root: the folder that has ``images.txt``, or one that has it in ``CUB_200_2011`` or in the first
            ``CUB_200_2011*``; default ``GLIMPSE_DATA``.
        species: original ids as in ``classes.txt``; default all that it lists. Labels number them in
            ascending order.
        folds: networks in the judge, at least 2.

    Raises:
        ConfigurationError: if an argument is of the wrong type, ``folds`` is too small, or a species is unknown or
            named twice.
        DatasetNotFoundError: if the data set or one of its text files is missing.
        DatasetFormatError: naming file and line, if a line cannot be read, an id is unknown or missing, or a
            class has no training image. Loading a split names an image that cannot be read the same way.
    """

    mirror_symmetric = True
    name = "cub"
    geometry = Geometry(image_size=SIZE, glimpse_size=32, stride=8, num_glimpses=5)
    image_shape = (SIZE, SIZE, 3)
    num_folds = 3

    def __init__(
        self, root: str | Path | None = None, species: Sequence[int] | None = None, folds: int = num_folds
    ) -> None:
        self.root = path_or_none("root", root)
        self.num_folds = whole_number("folds", folds, 2)  # no network judges its own images
        self.folder = _find_folder(data_root(self.root))
        classes, class_lines = _read_table(self.folder / "classes.txt", require_label)
        if not classes:
            raise DatasetFormatError(f"{self.folder / 'classes.txt'} names no class; {_REMEDY}.")
        self.species = _choose(species, classes, self.folder)
        self._has_all_species = len(self.species) == len(classes)
        self.class_names = tuple(_class_name(classes[identity]) for identity in self.species)
        part_names, _ = _read_table(self.folder / "parts" / "parts.txt", require_label)
        self.part_names = tuple(part_names[identity] for identity in sorted(part_names))
        self._entries = self._read_entries(classes, class_lines, sorted(part_names))

    @property
    def options(self) -> dict[str, Any]:
        return {"root": self.root, "species": list(self.species), "folds": self.num_folds}

    @property
    def chosen_options(self) -> dict[str, Any]:
        options = super().chosen_options
        if self._has_all_species:
            del options["species"]
        return options

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the content of the text files and the images.

        Raises:
            DatasetNotFoundError: naming the file and its line in images.txt, if an image is missing.
            DatasetFormatError: naming an image that cannot be read or is no regular file.
        """
        entries = [entry for split in PUBLIC_SPLITS for entry in self._entries[split]]
        content = [
            [entry.file, size, entry.label, entry.split, entry.box]
            for entry, size in zip(entries, self.contents.sizes.tolist(), strict=True)
        ]
        parts = np.stack([entry.parts for entry in entries])
        listing = digest([self.name, PROTOCOL, self.num_folds, self.class_names, self.part_names], content, parts)
        return self.contents.fingerprint(listing)

    def image_ids(self, split: Split) -> np.ndarray:
        """Returns the original ids, as in images.txt, of the images of a split: (N,) int64, ascending."""
        return np.array([entry.identity for entry in self._entries[split]], dtype=np.int64)

    def labels_of(self, split: Split) -> np.ndarray:
        return np.array([entry.label for entry in self._entries[split]], dtype=np.int64)

    def file_of(self, split: Split, index: int) -> tuple[Path, str, str]:
        entry = self._entries[split][index]
        path = self._path(entry)
        return path, f"{path}, named in {self.folder / 'images.txt'}:{entry.line},", _REMEDY

    def square_of(self, split: Split, index: int) -> tuple[np.ndarray, np.ndarray]:
        entry = self._entries[split][index]
        photograph = self.read(split, index, upright=False)  # boxes and parts are in the pixels as they are stored
        pixels, box = self._square(photograph, entry)
        return pixels, parts_in_crop(entry.parts, box, self.image_shape[0])

    def to_image(self, split: Split, index: int, points: np.ndarray, size: tuple[float, float]) -> np.ndarray:
        """Moves points of a photograph to the image that was made from it.

        Args:
            split, index: the image.
            points: (N, 2), row and column in pixels of the photograph, pixel i covering i to i + 1.
            size: height and width in pixels that they refer to, as the folder may hold a smaller copy.

        Returns:
            (N, 2) float64, row and column in pixels of the image; outside of 0..side where the image leaves them out.

        Raises:
            DatasetError: if the photograph is missing or cannot be read.
        """
        width, height = self.stored_size(split, index)
        left, top, right, bottom = self._box((width, height), self._entries[split][index])
        with np.errstate(over="ignore"):  # a damaged file may have points that far outside
            stored = np.asarray(points, dtype=np.float64) * [height / size[0], width / size[1]]
            return (stored - [top, left]) * self.image_shape[0] / [bottom - top, right - left]

    def _square(self, photograph: Image.Image, entry: _Entry) -> tuple[np.ndarray, Box]:
        """Returns the square image made from a photograph, and its box in the photograph."""
        box = self._box(photograph.size, entry)
        return crop(photograph, box, SIZE), box

    def _box(self, size: tuple[int, int], entry: _Entry) -> Box:
        """Returns the box that becomes the image, in pixels of a photograph of ``size`` (width, height)."""
        try:
            return crop_box(entry.box, size)
        except ValueError as error:
            raise DatasetFormatError(
                f"{self.folder / 'bounding_boxes.txt'}:{entry.box_line}: {error} {entry.file}; {_REMEDY}."
            ) from error

    def _read_entries(
        self, classes: dict[int, str], class_lines: dict[int, int], part_ids: list[int]
    ) -> dict[Split, list[_Entry]]:
        """Reads the images of :attr:`species` by split, in the order of their ids."""
        folder = self.folder
        files, lines = _read_table(folder / "images.txt", _file)
        labels, _ = _read_table(folder / "image_class_labels.txt", _class_in(classes), files)
        official, _ = _read_table(folder / "train_test_split.txt", _flag, files)
        boxes, box_lines = _read_table(folder / "bounding_boxes.txt", _box, files)
        parts = _read_parts(folder / "parts" / "part_locs.txt", files, part_ids)

        entries: dict[Split, list[_Entry]] = {split: [] for split in PUBLIC_SPLITS}
        seen = dict.fromkeys(self.species, 0)
        for identity in sorted(files):
            species = labels[identity]
            if species not in seen:
                continue
            split: Split = "test"
            if official[identity]:
                split = "val" if seen[species] % VAL_EVERY == VAL_FIRST else "train"
                seen[species] += 1
            entry = _Entry(
                identity=identity,
                file=files[identity],
                line=lines[identity],
                label=self.species.index(species),
                split=split,
                box=boxes[identity],
                box_line=box_lines[identity],
                parts=parts[identity],
            )
            entries[split].append(entry)
        for species, count in seen.items():
            if count == 0:
                raise DatasetFormatError(
                    f"{folder / 'classes.txt'}:{class_lines[species]}: class {classes[species]} has "
                    f"no training image; leave {species} out of `species`, or {_REMEDY}."
                )
        return entries

    def _path(self, entry: _Entry) -> Path:
        path = self.folder / "images" / entry.file
        if not os.path.exists(path):
            raise DatasetNotFoundError(
                f"{path}, named in {self.folder / 'images.txt'}:{entry.line}, is missing; {_REMEDY}."
            )
        return path


class CUBFull(CUB200):
    """CUB-200-2011 with nothing cropped: the bird has to be found first.

    An image is the whole photograph in the middle of a black square, resized to 224 x 224. Six glimpses of 32 x 32;
    ``GlimpseCUBFull-v0`` shows them at two scales. Splits, arguments and errors are those of :class:`CUB200`.
    """

    name = "cub-full"
    geometry = Geometry(image_size=FULL_SIZE, glimpse_size=32, stride=8, num_glimpses=6)
    image_shape = (FULL_SIZE, FULL_SIZE, 3)

    def _square(self, photograph: Image.Image, entry: _Entry) -> tuple[np.ndarray, Box]:
        return letterbox(photograph, FULL_SIZE)

    def _box(self, size: tuple[int, int], entry: _Entry) -> Box:
        return letterbox_box(size, FULL_SIZE)


def crop_box(box: Box, size: tuple[int, int]) -> Box:
    """Returns the paper's crop: a square of 1.5 x the longer side of ``box``, centred on it, clipped to the image.

    Args:
        box: the box around the bird, in pixels.
        size: width and height of the image in pixels.

    Raises:
        ValueError: if nothing of the box lies inside the image.
    """
    left, top, right, bottom = box
    width, height = size
    if min(right, width) <= max(left, 0) or min(bottom, height) <= max(top, 0):
        raise ValueError(f"the box lies outside the {width} x {height} pixels of")
    half = CONTEXT * max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return max(x - half, 0.0), max(y - half, 0.0), min(x + half, float(width)), min(y + half, float(height))


_REMEDY = f"fetch the data set anew with `{command('download_data', 'cub')}`"


def _find_folder(root: Path) -> Path:
    others = sorted(root.glob("CUB_200_2011*")) if os.path.isdir(root) else []
    for folder in (root, root / "CUB_200_2011", *others):
        if os.path.isfile(folder / "images.txt"):
            return folder
    raise DatasetNotFoundError(
        f"CUB-200-2011 was not found: no images.txt in {root}, {root / 'CUB_200_2011'} or "
        f"{root / 'CUB_200_2011*'}; run `{command('download_data', 'cub')}` or set GLIMPSE_DATA to the "
        "folder that has it."
    )


def _choose(species: Sequence[int] | None, classes: dict[int, str], folder: Path) -> tuple[int, ...]:
    if species is not None and (isinstance(species, str) or not isinstance(species, Sequence)):
        raise ConfigurationError(f"species={species!r} must be a list of ids from {folder / 'classes.txt'}.")
    identities = sorted(classes) if species is None else [whole_number("species", identity, 0) for identity in species]
    unknown = [identity for identity in identities if identity not in classes]
    if unknown or not identities or len(set(identities)) < len(identities):
        raise ConfigurationError(
            f"species={identities} must be distinct ids from {folder / 'classes.txt'}"
            + (f", which has no {unknown[0]}." if unknown else ".")
        )
    return tuple(sorted(identities))


def _class_name(folder_name: str) -> str:
    """Converts ``001.Black_footed_Albatross`` to ``Black footed Albatross``."""
    return folder_name.lstrip("0123456789").removeprefix(".").replace("_", " ")


def _lines(path: Path, parse: Callable[[str], T]) -> Iterator[tuple[int, T]]:
    """Yields the lines of a text file that are not blank, numbered from 1 and parsed.

    ``parse`` raises a ValueError that says what is wrong with a line.
    """
    for number, line in enumerate(read_text(path, _REMEDY).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = parse(line)
        except ValueError as error:
            raise DatasetFormatError(f"{path}:{number}: {line!r} cannot be read: {error}; {_REMEDY}.") from error
        yield number, value


def _read_table(
    path: Path, convert: Callable[[str], T], known: Collection[int] | None = None
) -> tuple[dict[int, T], dict[int, int]]:
    """Reads lines of an id and a value; with ``known``, these ids and no others must be there.

    Returns:
        The values and the line numbers by id.
    """

    def parse(line: str) -> tuple[int, T]:
        identity, value = line.split(maxsplit=1)
        if not 0 <= int(identity) <= _MAX_ID:
            raise ValueError(f"id {identity} is not in 0..{_MAX_ID}")
        if known is not None and int(identity) not in known:
            raise ValueError(f"images.txt has no image {identity}")
        if int(identity) in lines:
            raise ValueError(f"id {identity} was there before, in line {lines[int(identity)]}")
        return int(identity), convert(value.strip())

    table: dict[int, T] = {}
    lines: dict[int, int] = {}
    for line, (identity, value) in _lines(path, parse):
        table[identity], lines[identity] = value, line
    missing = sorted(set(known or ()) - set(table))
    if missing:
        raise DatasetFormatError(f"{path}: no line for image {missing[0]} of images.txt; {_REMEDY}.")
    return table, lines


def _read_parts(path: Path, images: Collection[int], part_ids: list[int]) -> dict[int, np.ndarray]:
    """Reads the parts of each image, (P, 3) float64, as in :class:`_Entry`."""
    column = {identity: index for index, identity in enumerate(part_ids)}

    def parse(line: str) -> tuple[int, int, tuple[float, float, float]]:
        image, part, x, y, visible = line.split()
        if int(image) not in images:
            raise ValueError(f"images.txt has no image {image}")
        if int(part) not in column:
            raise ValueError(f"parts.txt has no part {part}")
        return int(image), column[int(part)], (_number(y), _number(x), float(_flag(visible)))

    parts = {identity: np.full((len(part_ids), 3), np.nan) for identity in images}
    for _, (image, part, location) in _lines(path, parse):
        parts[image][part] = location
    for image, locations in parts.items():
        if np.isnan(locations).any():
            raise DatasetFormatError(
                f"{path}: image {image} of images.txt has not all {len(part_ids)} parts; {_REMEDY}."
            )
    return parts


def _number(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    if abs(number) > _MAX_PIXELS:
        raise ValueError(f"{value} is more than {_MAX_PIXELS} pixels")
    return number


def _file(value: str) -> str:
    if value.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", value):
        raise ValueError(f"{value} is not below images/")
    return value


def _flag(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError(f"{value} is neither 0 nor 1")
    return value == "1"


def _class_in(classes: Collection[int]) -> Callable[[str], int]:
    def convert(value: str) -> int:
        if int(value) not in classes:
            raise ValueError(f"classes.txt has no class {value}")
        return int(value)

    return convert


def _box(value: str) -> Box:
    x, y, width, height = (_number(part) for part in value.split())
    if width < 1 or height < 1:
        raise ValueError(f"a box of {width} x {height} pixels is empty")
    return x, y, x + width, y + height
