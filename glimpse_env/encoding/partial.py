"""Arrays in files that are computed chunk by chunk; a computation that was stopped goes on behind its last chunk."""

import logging
import os
from pathlib import Path

import numpy as np

from glimpse_env.errors import ArtifactError
from glimpse_env.files import load_array, new_array, read_json, write_json

logger = logging.getLogger(__name__)


def record_path(path: Path) -> Path:
    """Returns where the record of a partial array's chunks is."""
    return path.with_name(f".{path.stem}.json")


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
        self._file, self._record = path.with_name(f".{path.stem}.partial.npy"), record_path(path)
        self._layout = {"shape": list(shape), "dtype": np.dtype(dtype).name, "chunk": chunk}
        self._done = self._finished_chunks()
        if path.exists():
            logger.warning("%s is damaged and made again.", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.array = load_array(self._file, "r+") if self._done else new_array(self._file, shape, dtype)

    def _finished_chunks(self) -> set[int]:
        try:
            record = read_json(self._record)
            same = record["layout"] == self._layout and load_array(self._file).size
            return set(record["done"]) if same else set()
        except (OSError, ArtifactError, KeyError, TypeError):
            return set()

    @property
    def missing(self) -> list[int]:
        """First rows of the chunks that are not written yet."""
        return [start for start in range(0, len(self.array), self.chunk) if start not in self._done]

    def write(self, start: int, rows: np.ndarray) -> None:
        """Writes the chunk that begins at row ``start``, and then that it is there."""
        self.array[start : start + len(rows)] = rows
        self.array.flush()  # type: ignore[attr-defined]
        self._done.add(start)
        write_json(self._record, {"layout": self._layout, "done": sorted(self._done)})

    def finish(self) -> None:
        """Moves the array, whose chunks are all written, to its path."""
        assert not self.missing, f"{self.path.name} lacks {len(self.missing)} chunks"
        del self.array  # a file that is mapped cannot be moved everywhere
        os.replace(self._file, self.path)
        self._record.unlink(missing_ok=True)
