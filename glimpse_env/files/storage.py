"""Errors of the disk in one sentence: no room, files that may not be as large, folders that may not be written to."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from glimpse_env.errors import GlimpseError, StorageError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a disk without room, and of a process that may not write files as large."""
UNWRITABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG}
)
"""Error numbers of a folder that may not be written to, where a file is in the way of a folder or a folder of a file,
and of a name that is too long."""


def cache_folder() -> Path:
    """Returns the folder of things that can be made again: ``GLIMPSE_CACHE``, else the per-user cache folder.

    Raises:
        StorageError: if it is below the home of somebody who has none.
    """
    chosen = os.environ.get("GLIMPSE_CACHE") or platformdirs.user_cache_dir("glimpse-env", appauthor=False)
    folder = os.path.expanduser(chosen)
    if folder.startswith("~"):
        raise StorageError(f"GLIMPSE_CACHE={chosen} is below a home that nobody has; name another folder.")
    return Path(folder)


@contextmanager
def storage_errors(path: Path, *written: Path, needed: int | None = None) -> Iterator[None]:
    """Turns errors of the disk within the block into one that says what to do about them.

    Args:
        path: what is written.
        *written: files and folders that the block writes; their errors, and those of no file, count.
        needed: bytes that are needed, where that is known.

    Raises:
        StorageError: naming the path and the room, and the variable ``GLIMPSE_CACHE`` where the path is in the cache.
    """
    try:
        yield
    except GlimpseError:  # which says itself what is wrong
        raise
    except Exception as error:
        number = _number(error, (path, *written))
        if number is None:
            raise
        raise _storage_error(path, number, needed) from error


def _number(error: BaseException | None, written: tuple[Path, ...]) -> int | None:
    """Returns the number of the disk's error that an error is, or was raised for; None where it is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            named = error.filename is not None
            ours = named and any(Path(os.fsdecode(error.filename)).is_relative_to(one) for one in written)
            if (error.errno in FULL and (ours or not named)) or (error.errno in UNWRITABLE and ours):
                return error.errno
        told = re.search(r"os error (\d+)", str(error))  # safetensors gives the number in words
        if told and int(told[1]) in FULL:
            return int(told[1])
        error = error.__cause__ or error.__context__
    return None


def _storage_error(path: Path, number: int, needed: int | None) -> StorageError:
    folder = next((parent for parent in path.parents if parent.is_dir()), Path("/"))
    free = shutil.disk_usage(folder).free
    want = f"{needed} bytes are needed and " if needed else ""
    cached = path.is_relative_to(cache_folder())
    elsewhere = "name another folder in the environment variable GLIMPSE_CACHE" if cached else "choose another folder"
    if number == errno.EFBIG:
        why = f"{want}this process may not write a file that large; raise its limit (ulimit -f), or {elsewhere}"
    elif number in FULL:
        why = f"{want}{free} bytes are free there; make room, or {elsewhere}"
    else:
        why = f"{os.strerror(number)}; {elsewhere}"
    made = StorageError(f"{path} cannot be written: {why}.")
    made.errno = number
    return made
