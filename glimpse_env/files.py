"""Files and folders that are written whole or not at all, the cache folder, and fingerprints."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs


def cache_folder() -> Path:
    """Returns the folder of things that can be made again: ``GLIMPSE_CACHE``, else the per-user cache folder."""
    return Path(os.environ.get("GLIMPSE_CACHE") or platformdirs.user_cache_dir("glimpse-env", appauthor=False))


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` that is renamed to it when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are private; results are not
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder like :func:`whole_file`; where another process was quicker, its folder stays."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def new_arrays(folder: Path, shapes: Mapping[str, tuple[tuple[int, ...], Any]]) -> dict[str, np.memmap]:
    """Returns zeroed arrays of these shapes and dtypes by name, memory-mapped from ``<name>.npy`` in a folder."""
    return {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
        for name, (shape, dtype) in shapes.items()
    }


def write_json(path: str | Path, content: Any) -> None:
    """Writes ``content`` as indented JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def digest(*parts: Any) -> str:
    """Computes a 16-digit hexadecimal fingerprint of JSON values, bytes and arrays (by shape, dtype and content)."""
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, bytes):
            state.update(part)
        elif hasattr(part, "tobytes"):
            state.update(f"{part.shape}{part.dtype}".encode())
            state.update(part.tobytes())
        else:
            state.update(json.dumps(part, sort_keys=True).encode())
        state.update(b"\0")
    return state.hexdigest()
