"""Arrays in files that are computed chunk by chunk; a computation that was stopped goes on behind its last chunk."""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from glimpse_env.files import write_json

logger = logging.getLogger(__name__)


class PartialArray:
    """An array on its way into ``path``, an npy file: beside it until it is whole, with a record of its chunks.

    Args:
        path: where the whole array will be.
        shape: its shape.
        dtype: its dtype.
        chunk: rows of one chunk; the last one may have fewer.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type, chunk: int):
        self.path, self.chunk = path, chunk
        self._file, self._record = path.with_name(f".{path.stem}.partial.npy"), path.with_name(f".{path.stem}.json")
        self._layout = {"shape": list(shape), "dtype": np.dtype(dtype).name, "chunk": chunk}
        self._done = self._finished_chunks()
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._done:
            self.array: np.memmap = np.lib.format.open_memmap(self._file, mode="r+")
        else:
            self.array = np.lib.format.open_memmap(self._file, mode="w+", dtype=dtype, shape=shape)

    def _finished_chunks(self) -> set[int]:
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return set()
        same = self._file.is_file() and record.get("layout") == self._layout
        return set(record["done"]) if same else set()

    @property
    def missing(self) -> list[int]:
        """First rows of the chunks that are not written yet."""
        return [start for start in range(0, len(self.array), self.chunk) if start not in self._done]

    def write(self, start: int, rows: np.ndarray) -> None:
        """Writes the chunk that begins at row ``start``, and then that it is there."""
        self.array[start : start + len(rows)] = rows
        self.array.flush()
        self._done.add(start)
        write_json(self._record, {"layout": self._layout, "done": sorted(self._done)})

    def finish(self) -> None:
        """Moves the array, whose chunks are all written, to its path."""
        assert not self.missing, f"{self.path.name} lacks {len(self.missing)} chunks"
        del self.array  # a file that is mapped cannot be moved everywhere
        os.replace(self._file, self.path)
        self._record.unlink(missing_ok=True)


@contextmanager
def only_process(paths: Iterable[Path]) -> Iterator[None]:
    """Runs a block while no other process runs one for any of the same paths; waits for that."""
    with ExitStack() as held:
        for path in sorted(paths):  # in one order, so that two processes never wait for each other
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_name(f".{path.stem}.lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                logger.info("Another process is making %s; waiting for it.", path.name)
                lock.acquire()
            held.callback(lock.release)
        yield
