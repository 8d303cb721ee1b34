"""Grids of runs: each cell has a folder and a process of its own, and is resumed where it was stopped."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm.auto import tqdm

from glimpse_env.devices import find_device
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import read_json, write_json
from glimpse_env.parallel import check_means, make_shards
from glimpse_env.registry import import_name

logger = logging.getLogger(__name__)

WORKERS = 2
"""Processes that make cells where nothing else is asked for."""
SECONDS_BETWEEN_LOOKS = 2.0
"""How often the bar over a grid's work looks at what its processes have written."""


class Cell(ABC):
    """One run of a grid; subclasses are frozen dataclasses."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of its folder; it tells apart all runs that differ in more than their settings."""

    @property
    def size(self) -> str:
        """Amount of work in words, for messages of :mod:`glimpse_env.parallel`."""
        return "one training run"

    def __str__(self) -> str:
        return self.name


C = TypeVar("C", bound=Cell)


class GridRunner(ABC, Generic[C]):
    """Runs the cells of a grid below a folder; called again it resumes those that are unfinished.

    A finished cell has its result in ``cells/<name>/cell.json``. A process that makes cells is sent the runner itself,
    which therefore pickles as its arguments, without what it has loaded.
    """

    unit = "it"
    """What :meth:`budget` counts, for the bar."""
    fresh_process = True
    """Whether each cell has a process of its own even with one worker; else one worker is the calling process."""

    def __init__(self, grid: Any, out: Path):
        """Takes the axes and common settings, a frozen dataclass, and the folder of all results."""
        self.grid, self.out = grid, out

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.grid, self.out)

    # -- what each grid defines ----------------------------------------------------------------------------------------

    def cells(self) -> list[C]:
        """All cells, in the order in which they are begun."""
        cells: list[C] = self.grid.cells()
        return cells

    @abstractmethod
    def budget(self, cell: C) -> int:
        """How much work a cell is, in :attr:`unit`."""

    @abstractmethod
    def done(self, cell: C) -> int:
        """How much of an unfinished cell is done; raises ArtifactError where its state cannot be read."""

    @abstractmethod
    def make(self, cell: C) -> dict[str, Any]:
        """Begins or resumes a cell and returns its result, JSON values."""

    @abstractmethod
    def claim(self, cell: C) -> None:
        """Raises ConfigurationError if the cell was begun with other settings; see :func:`refuse_other_settings`."""

    def needs(self, cell: C) -> C | None:
        """The cell whose result this one is made from, if any."""
        return None

    def prepare(self) -> Any:
        """Makes what cells share, before the first of them."""

    @property
    def device(self) -> str:
        """Name of the device that cells compute on, see :func:`glimpse_env.devices.find_device`."""
        return getattr(self.grid, "device", "cpu")

    # -- what all grids share ------------------------------------------------------------------------------------------

    def __call__(self, cell: C) -> dict[str, Any]:
        """Makes a cell, keeps its result and returns it."""
        result = self.make(cell)
        write_json(self.result_path(cell), result)
        return result

    def folder(self, cell: C) -> Path:
        """Where a cell's run is."""
        return self.out / "cells" / cell.name

    def result_path(self, cell: C) -> Path:
        """Where a cell's result is once it is finished."""
        return self.folder(cell) / "cell.json"

    def finished(self, cell: C) -> bool:
        """Whether a cell is finished."""
        return self.result_path(cell).is_file()

    def run(self, workers: int | None = None, ray: str | None = None) -> None:
        """Makes all cells, those that need another's result after it.

        Args:
            workers: processes at a time, with one thread each; default :data:`WORKERS`.
            ray: address of a Ray cluster whose nodes share the folder, or "local", in place of workers.

        Raises:
            ConfigurationError: if the folder holds cells that were begun with other settings, or see
                :func:`glimpse_env.parallel.make_shards`.
        """
        if workers is None:
            workers = WORKERS if ray is None else 1
        check_means(workers, ray)
        cells = self.cells()
        for cell in cells:
            self.claim(cell)
        self.prepare()
        todo = [cell for cell in cells if not self.finished(cell)]
        logger.info("%d cells, %d of them to do; results go to %s", len(cells), len(todo), self.out)
        with self._bar(cells):
            gpus = int(ray is not None and find_device(self.device).type == "cuda")
            fresh = self.fresh_process
            for wave in self.waves(todo):
                for _ in make_shards(self, wave, workers=workers, ray=ray, fresh_process=fresh, gpus=gpus):
                    pass

    def waves(self, cells: Sequence[C]) -> Iterator[list[C]]:
        """Yields the cells in groups; what a cell needs is in a group before its own."""

        def depth(cell: C) -> int:
            needed = self.needs(cell)
            return 0 if needed is None else 1 + depth(needed)

        for _, wave in groupby(sorted(cells, key=depth), depth):
            yield list(wave)

    def finished_results(self) -> dict[C, dict[str, Any]]:
        """The results of all finished cells.

        Raises:
            ArtifactError: if none is finished.
        """
        results = {cell: read_json(self.result_path(cell)) for cell in self.cells() if self.finished(cell)}
        if not results:
            raise ArtifactError(f"{self.out} holds no finished cell yet; run the grid first.")
        return results

    @contextmanager
    def _bar(self, cells: Sequence[C]) -> Iterator[None]:
        """Shows how far the processes that make the cells have come, with an ETA, while the block runs."""

        def done(cell: C) -> int:
            budget = self.budget(cell)
            if self.finished(cell):
                return budget
            try:
                return min(budget, self.done(cell))
            except ArtifactError:  # the run itself will say so
                return 0

        def show() -> None:
            bar.n = sum(map(done, cells))
            bar.set_postfix(cells=f"{sum(map(self.finished, cells))}/{len(cells)}")

        def watch() -> None:
            while not over.wait(SECONDS_BETWEEN_LOOKS):
                show()

        over, thread = threading.Event(), threading.Thread(target=watch, daemon=True)
        initial, total = sum(map(done, cells)), sum(map(self.budget, cells))
        with tqdm(total=total, initial=initial, desc="grid", unit=self.unit, unit_scale=True) as bar:
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()
                show()


def check_axis(flag: str, members: Sequence[Any], choices: Collection[str] | None = None) -> None:
    """Raises ConfigurationError unless an axis of a grid has one or more members, each once and each of ``choices``;
    ``"module:name"`` is the choice ``"name"`` once the module is imported."""
    known = choices is None or all(import_name(flag, member) in choices for member in members)
    if not members or len(set(members)) < len(members) or not known:
        raise ConfigurationError(
            f"{flag} {' '.join(map(str, members))} must name one or more, each once"
            f"{', of ' + ', '.join(choices) if choices else ''}."
        )


def refuse_other_settings(folder: Path, begun: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises ConfigurationError where the settings that a cell in ``folder`` was begun with are not those that are
    wanted, JSON values by name."""
    for name in sorted(begun.keys() | wanted.keys()):
        theirs, ours = begun.get(name), wanted.get(name)
        if theirs != ours:
            raise ConfigurationError(f"{folder} was begun with {name}={theirs}, not {ours}; choose another --out.")
