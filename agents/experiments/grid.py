"""A bar over the work of all cells of a grid, read off what they keep on disk."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from tqdm.auto import tqdm

Cell = TypeVar("Cell")


class GridProgress(Generic[Cell]):
    """Shows, as a context, how far the processes that make a grid's cells have come, with an ETA."""

    def __init__(
        self,
        cells: Sequence[Cell],
        done: Callable[[Cell], int],
        whole: Callable[[Cell], int],
        finished: Callable[[Cell], bool],
        *,
        unit: str = "it",
        every: float = 2.0,
    ):
        """
        Args:
            cells: of the grid.
            done: how much of an unfinished cell is done.
            whole: how much a cell is.
            finished: whether a cell is.
            unit: of that, for the bar.
            every: seconds between two looks.
        """
        self.cells, self.done, self.whole, self.finished = cells, done, whole, finished
        self.unit, self.every = unit, every
        self._over = threading.Event()

    def __enter__(self) -> "GridProgress[Cell]":
        total = sum(self.whole(cell) for cell in self.cells)
        self.bar = tqdm(total=total, desc="grid", unit=self.unit, unit_scale=True)
        self.bar.n = self.bar.initial = self._sum()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._show()
        self.bar.close()

    def _watch(self) -> None:
        while not self._over.wait(self.every):
            self._show()

    def _show(self) -> None:
        self.bar.n = self._sum()
        self.bar.set_postfix(cells=f"{sum(map(self.finished, self.cells))}/{len(self.cells)}")

    def _sum(self) -> int:
        return sum(
            self.whole(cell) if self.finished(cell) else min(self.whole(cell), self.done(cell)) for cell in self.cells
        )
