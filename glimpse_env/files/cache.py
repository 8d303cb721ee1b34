"""What is kept in the cache: made where it is missing or damaged, by one process, elsewhere where it is read-only."""

import atexit
import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from glimpse_env.errors import ArtifactError, StorageError
from glimpse_env.files.locks import only_process
from glimpse_env.files.storage import UNWRITABLE, cache_folder
from glimpse_env.files.whole import check_writable, remove_stale, temporary_path

logger = logging.getLogger(__name__)

T = TypeVar("T")
_SPARE = "GLIMPSE_SPARE_CACHE"
"""Variable with the folder that takes what a read-only cache lacks; processes begun by this one share it."""


def kept(path: Path, read: Callable[[Path], T], make: Callable[[Path], object]) -> T:
    """Returns what ``read`` gives of a file or folder in the cache, which is made first where it is missing or damaged.

    In a cache that cannot be written, what is missing is made in a temporary folder.

    Args:
        path: of the file or folder.
        read: returns what is there; a FileNotFoundError or an ArtifactError mean that it must be made.
        make: writes the file or folder, whole or not at all.

    Raises:
        StorageError: if there is no room for it.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, ArtifactError):
        return read(path)
    path = place_for(path)
    with only_process([path]):
        try:
            return read(path)  # another process may have made it meanwhile
        except (FileNotFoundError, NotADirectoryError) as error:
            if path.is_dir():
                logger.warning("%s is incomplete and made again: %s", path, error)
        except ArtifactError as error:
            logger.warning("%s is made again: %s", path, error)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        make(path)
        return read(path)


def place_for(path: Path) -> Path:
    """Returns where something that is missing in the cache can be made: ``path``, or below a temporary folder where the
    cache cannot be written.

    Raises:
        StorageError: if a path outside of the cache cannot be written.
    """
    try:
        check_writable(path, folder=True)
    except StorageError as error:
        if error.errno not in UNWRITABLE or not path.is_relative_to(cache_folder()):
            raise
        return _spare_folder(error) / path.relative_to(cache_folder())
    return path


def _spare_folder(error: StorageError) -> Path:
    """Returns the temporary folder in place of a cache that cannot be written, made and told of once."""
    if _SPARE not in os.environ:
        parent = Path(tempfile.gettempdir())
        remove_stale(parent)
        folder = temporary_path(parent, "glimpse-cache")
        folder.mkdir(mode=0o700)
        atexit.register(_remove_spare, folder, os.getpid())
        os.environ[_SPARE] = str(folder)
        logger.warning("%s What is missing in it goes to %s until this process ends.", error, folder)
    return Path(os.environ[_SPARE])


def _remove_spare(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)
