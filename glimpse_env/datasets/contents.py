"""What files hold: hashed once, remembered in the cache, and part of a data set's fingerprint.

A remembered digest counts as long as the file's size, times of change and inode are those of when it was hashed.
"""

import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from glimpse_env.datasets.texts import require_regular
from glimpse_env.errors import DatasetFormatError, DatasetNotFoundError
from glimpse_env.files import cache_folder, digest, whole_file

logger = logging.getLogger(__name__)

PUBLISHED = frozenset({"777882a877291d76", "07dfff84c0c80cc3"})  # 30 species of CUB, and 80 cropped
"""Contents whose fingerprints were published when these were of names and sizes alone; they keep those fingerprints."""

DIGEST_BYTES = 16
BLOCK = 1 << 20
"""Bytes read at a time."""
TICK, COARSE_TICK = 20_000_000, 2_000_000_000
"""Nanoseconds within which two changes of a file may have the same time, the latter where times are whole seconds."""

_unwritten: dict[Path, dict[bytes, tuple[bytes, bytes]]] = {}
"""What would be remembered in the cache if it could be written to, for the rest of this process."""


@dataclass(frozen=True)
class Contents:
    """Sizes and digests of N files."""

    sizes: np.ndarray
    """(N,) int64, in bytes."""
    digests: np.ndarray
    """(N, 16) uint8."""

    def fingerprint(self, listing: str) -> str:
        """Returns the fingerprint of a data set whose files have these contents.

        Args:
            listing: a digest of all else: names, sizes, labels and arguments.
        """
        return listing if digest(self.digests) in PUBLISHED else digest(listing, self.digests)


def read_contents(folder: Path, paths: Sequence[Path]) -> Contents:
    """Returns the contents of files in a folder, which are read only where they are not remembered.

    Raises:
        DatasetNotFoundError: naming a file that is missing.
        DatasetFormatError: naming a file that cannot be read, is no regular file, or changes while it is read.
    """
    memory = cache_folder() / "contents" / f"{digest(os.fsencode(os.path.abspath(folder)))}.npz"
    remembered = _unwritten.get(memory) or _recall(memory)
    names = [os.fsencode(os.path.relpath(path, folder)) for path in paths]
    stats = [require_regular(path) for path in paths]
    stamps = [_stamp(stat) for stat in stats]
    unknown = [i for i, name in enumerate(names) if remembered.get(name, (b"",))[0] != stamps[i]]
    if unknown:
        _wait_for_another_tick([stats[i] for i in unknown])
        for i in tqdm(unknown, desc=f"{folder.name}: contents", unit="file", disable=len(unknown) < 1000):
            remembered[names[i]] = (stamps[i], _hash(paths[i], stamps[i]))
        _remember(memory, remembered)
    digests = b"".join(remembered[name][1] for name in names)
    return Contents(
        np.array([stat.st_size for stat in stats], dtype=np.int64),
        np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES),
    )


def _stamp(stat: os.stat_result) -> bytes:
    """Returns what a file looks like from outside, which changes whenever it is written to."""
    seen = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return hashlib.blake2b(repr(seen).encode(), digest_size=DIGEST_BYTES).digest()


def _wait_for_another_tick(stats: Sequence[os.stat_result]) -> None:
    """Waits until whatever changes one of these files from now on leaves another time of change."""
    newest = max(stat.st_ctime_ns for stat in stats)
    tick = TICK if newest % 1_000_000_000 else COARSE_TICK
    time.sleep(min(max(newest + tick - time.time_ns(), 0), tick) / 1e9)


def _hash(path: Path, stamp: bytes) -> bytes:
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        with open(path, "rb", buffering=0) as file:
            while block := file.read(BLOCK):
                state.update(block)
            if _stamp(os.fstat(file.fileno())) != stamp:
                raise DatasetFormatError(f"{path} changed while it was read; wait until nobody writes to it.")
    except FileNotFoundError as error:
        raise DatasetNotFoundError(f"{path} is gone; make the data set again.") from error
    except OSError as error:
        raise DatasetFormatError(f"{path} cannot be read ({error.strerror}); remove or replace it.") from error
    return state.digest()


def _recall(memory: Path) -> dict[bytes, tuple[bytes, bytes]]:
    """Returns stamp and digest of files by their names; nothing where the memory is missing or damaged."""
    try:
        with open(memory, "rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive["names"].tobytes().split(b"\0")
            stamps, digests = (archive[key].tobytes() for key in ("stamps", "digests"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    if not len(stamps) == len(digests) == DIGEST_BYTES * len(names):
        return {}
    rows = [slice(start, start + DIGEST_BYTES) for start in range(0, len(stamps), DIGEST_BYTES)]
    return {name: (stamps[row], digests[row]) for name, row in zip(names, rows, strict=True)}


def _remember(memory: Path, remembered: dict[bytes, tuple[bytes, bytes]]) -> None:
    columns = (remembered.keys(), *zip(*remembered.values(), strict=True))
    blobs = (between.join(column) for between, column in zip((b"\0", b"", b""), columns, strict=True))
    names, stamps, digests = (np.frombuffer(blob, dtype=np.uint8) for blob in blobs)
    try:
        with whole_file(memory) as temporary:
            np.savez(temporary, names=names, stamps=stamps, digests=digests)
        _unwritten.pop(memory, None)
    except OSError as error:  # a cache that cannot be written to costs time and nothing else
        _unwritten[memory] = remembered
        logger.info("The contents of %d files are not remembered: %s", len(remembered), error)
