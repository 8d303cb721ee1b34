"""Arrays in files: memory-mapped, with their room on the disk reserved first, and archives of several."""

import errno
import math
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from glimpse_env.errors import ArtifactError
from glimpse_env.files.content import refuse_special
from glimpse_env.files.storage import storage_errors
from glimpse_env.files.whole import whole_file


def new_array(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """Returns a zeroed array of this shape and dtype, memory-mapped from a new .npy file.

    Its room is reserved: writing to a map for which a full disk has none kills the process.

    Raises:
        StorageError: if there is no room.
    """
    with storage_errors(path, path, needed=math.prod(shape) * np.dtype(dtype).itemsize):
        array: np.memmap = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        _reserve(path)
    return array


def new_arrays(folder: Path, shapes: Mapping[str, tuple[tuple[int, ...], Any]]) -> dict[str, np.memmap]:
    """Returns :func:`new_array` of these shapes and dtypes by name, from ``<name>.npy`` in a folder."""
    return {name: new_array(folder / f"{name}.npy", shape, dtype) for name, (shape, dtype) in shapes.items()}


def _reserve(path: Path) -> None:
    """Gives all of a file room on the disk, which holes in it do not have; an OSError says that there is none."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV):
                    raise
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def load_array(path: Path, mode: Literal["r", "r+", "c"] = "r") -> np.ndarray:
    """Returns the array in a .npy file, memory-mapped.

    Raises:
        FileNotFoundError: if there is no file.
        ArtifactError: if it is damaged.
    """
    try:
        array: np.ndarray = np.lib.format.open_memmap(path, mode=mode)
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        raise ArtifactError(f"{path} is damaged ({error}).") from error
    if mode == "r+":
        with storage_errors(path, path, needed=array.nbytes):
            _reserve(path)  # earlier versions left holes
    return array


def array_is_whole(path: Path) -> bool:
    """Returns whether there is a .npy file that can be read."""
    try:
        load_array(path)
    except (FileNotFoundError, ArtifactError):
        return False
    return True


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name as a compressed npz archive, whole or not at all."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz archive by name.

    Raises:
        FileNotFoundError: if there is no file.
        ArtifactError: if it is damaged, or something else.
    """
    try:
        refuse_special(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
            # members that are no arrays are read as bytes; other byte orders are not PyTorch's
            return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}
    except ArtifactError:
        raise
    except (
        *(ValueError, TypeError, AttributeError, KeyError, EOFError, SyntaxError, NotImplementedError, RuntimeError),
        *(MemoryError, OverflowError, zipfile.BadZipFile, zlib.error, struct.error),
    ) as error:
        raise ArtifactError(f"{path} is no readable archive of arrays ({type(error).__name__}: {error}).") from error
