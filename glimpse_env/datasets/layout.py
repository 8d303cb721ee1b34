"""How a folder of images is laid out: which of its folders are splits, which classes, and the images below those."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from glimpse_env.datasets.base import Split
from glimpse_env.errors import DatasetFormatError

_SUFFIXES = ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp"
SUFFIXES = frozenset(_SUFFIXES.split())
"""Suffixes of image files, in capitals too; other files are skipped."""
SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names of folders that are splits, in any case."""
_SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}
LITTER = frozenset(
    {"@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "@__thumb", "@recently-snapshot", "lost+found"}
    | {"__macosx", "network trash folder", "temporary items", "$recycle.bin", "system volume information"}
    | {"thumbs.db", "desktop.ini"}
)
"""What systems leave in folders, in any case; skipped like what is hidden."""


@dataclass(frozen=True)
class _Content:
    """What lies in a folder, by name, sorted."""

    folders: tuple[str, ...]
    links: tuple[str, ...]
    """Links to folders."""
    images: tuple[str, ...]


def look_into(folder: Path) -> _Content:
    """Returns the names of folders and images in a folder, without what is hidden or litter.

    Raises:
        DatasetFormatError: naming it, if the folder cannot be read, a link leads nowhere, or what is called like an
            image is no regular file.
    """
    folders, links, images = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.casefold() in LITTER:
                    continue
                is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    images += [entry.name] * is_image
                else:
                    mode = _mode(entry.path)
                    if stat.S_ISDIR(mode):
                        links.append(entry.name)
                    elif is_image and not stat.S_ISREG(mode):
                        raise DatasetFormatError(
                            f"{entry.path} is no regular file but a pipe, a device or a socket; remove or replace it."
                        )
                    elif is_image:
                        images.append(entry.name)
    except OSError as error:
        raise DatasetFormatError(
            f"{folder} cannot be read ({error.strerror}); give yourself the right to, or move it away."
        ) from error
    return _Content(tuple(sorted(folders)), tuple(sorted(links)), tuple(sorted(images)))


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError as error:
        raise DatasetFormatError(
            f"{path} is a link that leads nowhere ({error.strerror}); remove or mend it."
        ) from error


def subfolders(folder: Path) -> list[str]:
    """Returns the sorted names of the folders in a folder; links to that folder or one around it are none.

    Raises:
        DatasetFormatError: see :func:`look_into`.
    """
    content = look_into(folder)
    return sorted({*content.folders, *(name for name in content.links if not _leads_out(folder / name, folder))})


def find_splits(root: Path) -> dict[Split, Path]:
    """Returns the folders that are splits: ``root`` alone, as ``train``, where its folders are classes.

    They are splits where one is called ``train`` and another ``val`` or ``test``, or another of :data:`SPLIT_NAMES`.

    Raises:
        DatasetFormatError: naming them, if two folders are the same split, or a folder looks like a split by what is
            in it but has another name. See also :func:`look_into`.
    """
    folders = subfolders(root)
    named: dict[Split, list[Path]] = {}
    for name in folders:
        if split := _SPLITS.get(name.casefold()):
            named.setdefault(split, []).append(root / name)
    if "train" not in named or sum(map(len, named.values())) == 1:
        named = {}
    for split, paths in named.items():
        if len(paths) > 1:
            raise DatasetFormatError(
                f"{paths[0]} and {paths[1]} are both the split {split}; put their images into one of them."
            )
    splits = {split: paths[0] for split, paths in named.items()}
    _refuse_lookalikes(root, folders, splits)
    return splits or {"train": root}


def _refuse_lookalikes(root: Path, folders: list[str], splits: dict[Split, Path]) -> None:
    """Raises a DatasetFormatError if a folder that is no split has the subfolders of one that is or is called so."""
    alike = {name: split for name in folders if (split := _meant(name)) and not look_into(root / name).images}
    inner = {name: set(subfolders(root / name)) for name in (folders if alike else ())}
    for name, split in alike.items():
        free = [one for one in SPLIT_NAMES if one not in (splits or [split])]
        for other in folders:
            if other == name or other.casefold() in _SPLITS or not _same(inner[name], inner[other]):
                continue
            meant = _meant(other)
            wanted = meant if meant in free else " or ".join(free)
            raise DatasetFormatError(
                f"{root / other} has the subfolders of {root / name}, so that it looks like a split and not like a "
                f"class; {f'call it {wanted}, or ' if wanted else ''}move it away."
            )
        if not splits and _SPLITS.get(name.casefold()) == "train" and len(inner[name]) > 1:
            raise DatasetFormatError(
                f"{root / name} has subfolders and no images, so that it looks like the split train and not like a "
                f"class, but no folder beside it is called val or test; call one so, or give {root / name} as root."
            )


def _meant(name: str) -> Split | None:
    """Returns the split that a folder's name is about, as ``seg_train`` or ``testset``."""
    words = re.findall("[a-z]+", name.casefold())
    return next((split for word in words for begin, split in _SPLITS.items() if word.startswith(begin)), None)


def _same(some: set[str], others: set[str]) -> bool:
    common = len(some & others)
    return common > 0 and (some == others or (common > 1 and 2 * common >= min(len(some), len(others))))


def images_by_class(folder: Path, classes: list[str]) -> dict[str, list[str]]:
    """Returns the places of the images of each class below a folder, with slashes; links to folders are followed.

    A link to a folder around it, or to one whose images the class has already, adds nothing.

    Raises:
        DatasetFormatError: naming both, if two classes have the same folder. See also :func:`look_into`.
    """
    places: dict[str, list[str]] = {name: [] for name in classes}
    owners: dict[str, tuple[str, str]] = {}  # class and place by real path
    links: list[tuple[str, str]] = []
    real_root = os.path.realpath(folder)

    def walk(owner: str, place: str, real: str) -> None:
        pending = [(place, real)]
        while pending:
            place, real = pending.pop()
            if real in owners:
                if owners[real][0] != owner:
                    raise DatasetFormatError(
                        f"{folder / place} and {folder / owners[real][1]} are the same folder in two classes; remove "
                        "one of them."
                    )
                continue
            owners[real] = owner, place
            content = look_into(folder / place)
            places[owner] += [f"{place}/{name}" for name in content.images]
            links.extend((owner, f"{place}/{name}") for name in content.links)
            pending += [(f"{place}/{name}", os.path.join(real, name)) for name in content.folders]

    for name in classes:  # folders before links, so that the order of names decides nothing
        if os.path.islink(folder / name):
            links.append((name, name))
        else:
            walk(name, name, os.path.join(real_root, name))
    while links:
        owner, place = links.pop(0)
        if not _leads_out(folder / place, folder):
            walk(owner, place, os.path.realpath(folder / place))
    return places


def require_apart(places: dict[Path, list[str]]) -> None:
    """Checks that no folder with images belongs to two splits, as by a link.

    Args:
        places: of the images below each split's folder, as :func:`images_by_class` returns them.

    Raises:
        DatasetFormatError: naming both.
    """
    owners: dict[str, Path] = {}
    for split, images in places.items():
        for place in {split / os.path.dirname(image) for image in images}:
            owner = owners.setdefault(os.path.realpath(place), place)
            if owner != place:
                raise DatasetFormatError(
                    f"{owner} and {place} are the same folder in two splits; remove one of them. A split without a "
                    "folder is taken from the training images."
                )


def _leads_out(link: Path, folder: Path) -> bool:
    """Returns whether a link leads to a folder or to one around it."""
    target, inside = os.path.realpath(link), os.path.realpath(folder)
    return os.path.commonpath([target, inside]) == target
