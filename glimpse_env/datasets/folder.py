"""Any folder of images in class subfolders: the layout of torchvision's ``ImageFolder``."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from glimpse_env.checks import flag, path_or_none, whole_number
from glimpse_env.datasets.base import PUBLIC_SPLITS, Split
from glimpse_env.datasets.images import PhotographSource
from glimpse_env.datasets.layout import SUFFIXES, find_splits, images_by_class, require_apart, subfolders
from glimpse_env.datasets.texts import require_label
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError
from glimpse_env.files import digest
from glimpse_env.sensing.geometry import Geometry, LocationGrid

PROTOCOL = 1
"""Version of how images are cropped and split; part of the fingerprint."""

SHARES: dict[Split, float] = {"test": 0.2, "val": 0.1}
"""Share of each class's images that becomes a split without a folder of its own."""
MAX_SIZE = 1024
"""Largest side of an image in pixels."""


@dataclass(frozen=True)
class _File:
    """An image file."""

    folder: Path
    """Folder that has the class's subfolder."""
    place: str
    """Path below ``folder``, with slashes: the class, perhaps further folders, and the file."""
    label: int

    @property
    def path(self) -> Path:
        return self.folder / self.place


class ImageFolder(PhotographSource):
    """Photographs from ``root/<class>/``, or from ``root/train/<class>/`` beside ``root/val/`` or ``root/test/``.

    Folders of splits may also be called ``training``, ``valid``, ``validation``, ``dev`` and ``testing``, in any case.

    The largest square in the middle of each image is resized to ``size`` with antialiasing; how files become RGB is
    told in :func:`read_photograph`. Classes are numbered in the order of their names. What is hidden (``.DS_Store``),
    what systems leave behind (``@eaDir``, ``__MACOSX``, ``Thumbs.db``) and files without an image's suffix are skipped;
    images may lie in folders of a class's folder, and links to folders are followed. A split without a folder is taken
    from the training images: of each class 10 % for ``val`` and 20 % for ``test``, at least one, which ones being
    decided by a hash of their names.

    Args:
        root: the folder.
        size: side of the images in pixels.
        glimpse_size: side of a glimpse in pixels.
        stride: pixels between neighbouring locations.
        num_glimpses: T.
        folds: networks in the judge, at least 2, as no network judges its own images.
        mirror: whether a mirror image is as likely and of the same class, which doubles what there is to learn from.

    Raises:
        ConfigurationError: if there is no ``root`` or an argument is of the wrong type or out of range.
        DatasetNotFoundError: if ``root`` is no folder.
        DatasetFormatError: naming the folder, if there are fewer than two classes, a class has too few images,
            ``val`` or ``test`` has a class that ``train`` lacks or shares a folder with it, or a folder looks like a
            split but is not called so;
            naming what cannot be read, leads nowhere or is no regular file. Loading a split names an image that cannot
            be read.
    """

    name = "folder"
    num_folds = 3

    def __init__(
        self,
        root: str | Path | None = None,
        size: int = 128,
        glimpse_size: int = 32,
        stride: int = 8,
        num_glimpses: int = 5,
        folds: int = num_folds,
        mirror: bool = False,
    ) -> None:
        self.root = path_or_none("root", None if isinstance(root, str) and not root else root)
        if not self.root:
            raise ConfigurationError(
                f"root={root!r} must name the folder of your images, one subfolder a class: root='photos' in "
                "gymnasium.make, --root photos in a script."
            )
        size = whole_number("size", size, 1, MAX_SIZE)
        glimpse_size = whole_number("glimpse_size", glimpse_size, 1, size)
        grid = LocationGrid(size, glimpse_size, whole_number("stride", stride, 1, size))
        self.geometry = Geometry(
            size, grid.glimpse_size, grid.stride, whole_number("num_glimpses", num_glimpses, 1, len(grid))
        )
        self.image_shape = (size, size, 3)
        self.num_folds = whole_number("folds", folds, 2)
        self.mirror_symmetric = flag("mirror", mirror)
        if self.mirror_symmetric and grid.span % grid.stride:
            raise ConfigurationError(
                f"mirror=True needs locations that mirror each other: stride={stride} must divide {grid.span}, which "
                f"is size={size} less glimpse_size={glimpse_size}."
            )
        self.folder = Path(os.path.expanduser(self.root))
        if not os.path.isdir(self.folder):
            raise DatasetNotFoundError(f"{self.folder} is no folder; give the one with your images as root.")
        self.class_names, self._files = self._find_files()

    @property
    def options(self) -> dict[str, Any]:
        return {
            "root": self.root,
            "size": self.image_shape[0],
            "glimpse_size": self.geometry.glimpse_size,
            "stride": self.geometry.stride,
            "num_glimpses": self.geometry.num_glimpses,
            "folds": self.num_folds,
            "mirror": self.mirror_symmetric,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the files' paths below ``root``, their content and the arguments, but not of ``root``.

        Raises:
            DatasetNotFoundError: naming a file that is gone.
            DatasetFormatError: naming a file that cannot be read.
        """
        arguments = {name: value for name, value in self.options.items() if name != "root"}
        files = [(split, file) for split in PUBLIC_SPLITS for file in self._files[split]]
        sizes = self.contents.sizes.tolist()
        content = [[split, file.place, size] for (split, file), size in zip(files, sizes, strict=True)]
        return self.contents.fingerprint(digest([self.name, PROTOCOL, self.class_names], arguments, content))

    def labels_of(self, split: Split) -> np.ndarray:
        return np.array([file.label for file in self._files[split]], dtype=np.int64)

    def file_of(self, split: Split, index: int) -> tuple[Path, str, str]:
        path = self._files[split][index].path
        return path, str(path), "remove or replace it"

    def _find_files(self) -> tuple[tuple[str, ...], dict[Split, list[_File]]]:
        """Returns the classes, and the images of each split in the order of their hashes."""
        given = find_splits(self.folder)
        classes = subfolders(given["train"])
        if len(classes) < 2:
            raise DatasetFormatError(
                f"{given['train']} has {len(classes)} subfolders where 2 classes are needed at least; put the images "
                f"of each class into a subfolder of its own: {given['train'] / '<class>' / '<image>'}."
            )
        for name in classes:
            try:
                require_label(name)
            except ValueError as error:
                raise DatasetFormatError(f"{given['train']}: {error}; rename the folder.") from error
        files = {split: _files_of(folder, classes) for split, folder in given.items()}
        require_apart({folder: [file.place for file in files[split]] for split, folder in given.items()})
        missing = [split for split in SHARES if split not in given]
        by_class: list[list[_File]] = [[] for _ in classes]
        for file in files["train"]:
            by_class[file.label].append(file)
        files |= {split: [] for split in ("train", *missing)}
        for name, members in zip(classes, by_class, strict=True):
            if not members:
                raise DatasetFormatError(
                    f"{given['train'] / name} holds no image ({_KINDS}); add some or move the folder away."
                )
            start = 0
            for split in missing:
                end = start + max(1, round(SHARES[split] * len(members)))
                files[split] += members[start:end]
                start = end
            if len(members) - start < self.num_folds:
                raise DatasetFormatError(
                    f"{given['train'] / name} has {len(members)} images, {len(members) - start} of them to train on: "
                    f"too few for folds={self.num_folds}, each of which needs one. Add images, take fewer folds or "
                    "move the folder away."
                )
            files["train"] += members[start:]
        return tuple(classes), {split: sorted(files[split], key=_hash) for split in PUBLIC_SPLITS}


def _files_of(folder: Path, classes: list[str]) -> list[_File]:
    """Returns the images in the subfolders of ``folder``, in the order of their hashes.

    Raises:
        DatasetFormatError: if there is none, or a subfolder is none of ``classes``.
    """
    present = subfolders(folder)
    for name in present:
        if name not in classes:
            raise DatasetFormatError(
                f"{folder / name} is a class that the training images do not have; move it away or add it to those."
            )
    files = [
        _File(folder, place, classes.index(name))
        for name, places in images_by_class(folder, present).items()
        for place in places
    ]
    if not files:
        raise DatasetFormatError(f"{folder} holds no image ({_KINDS}); add some or remove it.")
    return sorted(files, key=_hash)


def _hash(file: _File) -> str:
    return digest(file.place)


_KINDS = " ".join(sorted(SUFFIXES))
