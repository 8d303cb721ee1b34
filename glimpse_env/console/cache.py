"""What lies in the cache, how much of it, and its removal: of known kinds only, and never while something is made."""

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glimpse_env.errors import ConfigurationError
from glimpse_env.files.storage import cache_folder, storage_errors
from glimpse_env.files.whole import remove_stale, temporary_path

KINDS = {
    "data": "downloaded data sets",
    "judges": "judges trained here",
    "oracles": "amortised oracles trained here",
    "arrays": "images of data sets, ready to be mapped into memory",
    "contents": "digests of data sets' files",
    "copies": "changed copies of images",
    "features": "features of frozen encoders",
    "reductions": "principal components of such features",
    "embeddings": "the judge's embeddings of glimpses",
    "coarse": "tables by which the oracle finds images that match",
    "demonstrations": "demonstrations",
    "evaluations": "evaluations of policies",
    "recordings": "episodes that rules to stop are fitted to",
    "judge-training": "unfinished training of judges",
    "oracle-training": "unfinished training of oracles",
}
"""Folders of the cache, and what they hold."""
ASKED_FOR = ("data", "judges", "oracles")
"""Kinds that take long to get again: cleared only where they are named."""
LOCKS = "locks"
"""Folder of the locks between processes, which are empty files and stay."""
SUFFIXES = {".npy", ".npz", ".json", ".safetensors", ".pt", ".lock", ""}
"""Suffixes of the files in it, but for ``data``."""


@dataclass(frozen=True)
class Usage:
    """How much there is of one kind."""

    files: int
    bytes: int


def usage() -> dict[str, Usage]:
    """Returns how much there is of each of :data:`KINDS` in the cache; links are not followed."""
    sizes = {kind: [file.lstat().st_size for file in _files(cache_folder() / kind)] for kind in KINDS}
    return {kind: Usage(len(of_kind), sum(of_kind)) for kind, of_kind in sizes.items()}


def clearable(kinds: Sequence[str]) -> list[str]:
    """Returns the kinds that :func:`clear` would remove: ``kinds``, or all but :data:`ASKED_FOR`; those that are there.

    Raises:
        ConfigurationError: if there is no such kind, the folder holds what is none of ours, a kind is a link, or
            another process is making something in it.
    """
    folder = cache_folder()
    unknown = sorted(set(kinds) - KINDS.keys())
    if unknown:
        raise ConfigurationError(f"kind {unknown[0]} must be one of {', '.join(KINDS)}.")
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    strange = sorted(name for name in there if name not in (*KINDS, LOCKS) and ".tmp-" not in name)
    if strange:
        raise ConfigurationError(
            f"{folder} holds {strange[0]}, which is none of glimpse-env's, so nothing in it is removed: set "
            "GLIMPSE_CACHE to the cache's own folder, or move that away."
        )
    chosen = [kind for kind in KINDS if kind in there and (kind in kinds if kinds else kind not in ASKED_FOR)]
    for kind in chosen:
        if (folder / kind).is_symlink():
            raise ConfigurationError(f"{folder / kind} is a link; empty the folder it leads to by hand.")
        for file in _files(folder / kind):
            if kind != "data" and file.suffix not in SUFFIXES:
                raise ConfigurationError(f"{file} is none of glimpse-env's files; move it away, then clear {kind}.")
    held = [lock for lock in sorted(folder.glob(f"{LOCKS}/*.lock")) if _is_held(lock)]
    if held:
        raise ConfigurationError(f"another process is making something in {folder} ({held[0].name}); wait for it.")
    return chosen


def clear(kinds: Sequence[str] = ()) -> list[str]:
    """Removes kinds from the cache, each whole or not at all, and returns their names; locks stay.

    Args:
        kinds: of :data:`KINDS`; none are all but :data:`ASKED_FOR`.

    Raises:
        ConfigurationError: as :func:`clearable`.
        StorageError: if the cache cannot be written.
    """
    folder, chosen = cache_folder(), clearable(kinds)
    for kind in chosen:
        away = temporary_path(folder, kind)
        with storage_errors(folder / kind, folder / kind, away):
            os.rename(folder / kind, away)
        shutil.rmtree(away, ignore_errors=True)
    if chosen:
        remove_stale(folder)  # of an earlier call that was killed
    return chosen


def _files(folder: Path) -> Iterator[Path]:
    """Yields the files and links below a folder, which need not be there."""
    for path, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(path, name))]
        yield from (Path(path, name) for name in (*files, *links))


def _is_held(lock: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # where there can be no locks
        return False


def in_words(size: float) -> str:
    """Returns a number of bytes for people: ``"1.3 GB"``."""
    if size < 1000:
        return f"{size:.0f} B"
    power = min(int(math.log(size, 1000)), 4)
    return f"{size / 1000**power:.1f} {' kMGT'[power]}B"
