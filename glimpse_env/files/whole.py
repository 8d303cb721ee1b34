"""Files and folders that are written whole or not at all; what killed processes left of theirs is removed."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from pathlib import Path

from glimpse_env.errors import StorageError
from glimpse_env.files.storage import storage_errors

ABANDONED_AFTER = 7 * 24 * 3600.0
"""Seconds after which an untouched temporary file of another machine, whose processes cannot be seen, is stale."""
_TEMPORARY = re.compile(r"\..*\.tmp-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(\.[^.]*)?", re.DOTALL)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` that is renamed to it when the block ends without an error.

    Raises:
        StorageError: if the disk is full, the folder cannot be written to, or ``path`` is one or a device.
    """
    path = Path(path)
    temporary = temporary_path(path.parent, path.stem, path.suffix)
    with storage_errors(path, Path(path.anchor)):
        _make_way(path, folder=False)
        temporary.touch(exist_ok=False)
    try:
        mode = stat.S_IMODE(temporary.stat().st_mode)
        with storage_errors(path, temporary):
            yield temporary
            temporary.chmod(mode)  # some writers make the file anew, and private; results are not
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder like :func:`whole_file`; where another process was quicker, its folder stays."""
    path = Path(path)
    with temporary_folder(path) as temporary:
        yield temporary
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise


@contextmanager
def temporary_folder(path: Path, *, folder: bool = True) -> Iterator[Path]:
    """Yields a new folder beside ``path``, which is for a ``folder`` or a file; it is removed when the block ends.

    Raises:
        StorageError: if the disk is full, the folder cannot be written to, or something that is not replaced is there.
    """
    temporary = temporary_path(path.parent, path.name)
    with storage_errors(path, Path(path.anchor)):
        _make_way(path, folder=folder)
        temporary.mkdir()
    try:
        with storage_errors(path, temporary):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(path: Path, *, folder: bool = False) -> None:
    """Checks that a file, or a ``folder``, can be written to ``path``, before long work whose result goes there.

    Raises:
        StorageError: if it cannot.
    """
    with temporary_folder(path, folder=folder):
        pass


def _make_way(path: Path, *, folder: bool) -> None:
    """Makes the folder that ``path`` is in and removes what dead processes left there.

    Raises:
        OSError: if that is not possible, or a folder is where a file should be.
        StorageError: if a device, a pipe or a socket is there, or a link to one: a rename would replace it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # where there is no drive, or no folder can be made, as below /proc
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent)) from error
    remove_stale(path.parent)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode) and not folder:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise StorageError(f"{path} is a device, a pipe or a socket and is not replaced; choose another name.")


def temporary_path(folder: Path, stem: str, suffix: str = "") -> Path:
    """Returns the path of a new temporary file, with its process in the name."""
    return folder / f".{stem[:40]}.tmp-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"


@cache
def _machine() -> str:
    """Returns what tells machines, and containers on them, apart: process ids mean the same within one only."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return blake2b(f"{socket.gethostname()} {space}".encode(), digest_size=4).hexdigest()


def remove_stale(folder: Path) -> None:
    """Removes the temporary files and folders that dead processes left in a folder."""
    with os.scandir(folder) as entries:
        stale = [Path(entry.path) for entry in entries if _is_stale(entry)]
    for path in stale:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _is_stale(entry: os.DirEntry[str]) -> bool:
    match = _TEMPORARY.fullmatch(entry.name)
    if match is None:
        return False
    if match[1] == _machine():
        return not _alive(int(match[2]))
    with contextlib.suppress(OSError):
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED_AFTER
    return False


def _alive(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except PermissionError:
        return True
    return True
