"""Locks between processes: of several that need the same missing thing, one makes it and the others wait for it."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from glimpse_env.files.content import digest
from glimpse_env.files.storage import cache_folder

logger = logging.getLogger(__name__)

_held: set[tuple[int, Path]] = set()
"""What threads of this process have locked, with the thread's number."""


@contextmanager
def only_process(paths: Iterable[Path]) -> Iterator[bool]:
    """Runs a block while no other process, or thread, runs one for any of the same paths; waits for that.

    A lock of a dead process is free. Where there can be no locks, as on some file systems and in a cache that cannot be
    written, the block runs without.

    Yields:
        Whether another process was waited for, which may have made what this one wanted.
    """
    waited = False
    with ExitStack() as held:
        for path in sorted(paths):  # in one order, so that two processes never wait for each other
            key = threading.get_ident(), path.absolute()
            if key in _held:  # by a caller
                continue
            lock, free = _acquired(path)
            waited = waited or not free
            if lock is not None:
                held.callback(lock.release)
            _held.add(key)
            held.callback(_held.discard, key)
        yield waited


def _acquired(path: Path) -> tuple[Any, bool]:
    """Returns the acquired lock of a path, None where there can be none, and whether it was free at once."""
    from filelock import FileLock, Timeout  # not needed where nothing is missing

    free = True
    file = cache_folder() / "locks" / f"{digest(str(path.absolute()))}.lock"  # none lies beside what people look at
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(file, fallback_to_soft=False)
        except TypeError:  # an older version, which has nothing to fall back to
            lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            free = False
            logger.warning("Another process is making %s/%s; waiting for it.", path.parent.name, path.name)
            lock.acquire()
    except (OSError, NotImplementedError):
        return None, free
    return lock, free
