"""Grids of toy cells: waves, claims, resuming, processes, and what is handed on to Ray."""

import json
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agents.experiments import grid as grids
from agents.experiments.grid import Cell, GridRunner, refuse_other_settings
from glimpse_env.errors import ArtifactError, ConfigurationError


@dataclass(frozen=True)
class Count(Cell):
    """Counts up from another cell's number, or from 0."""

    number: int
    after: "Count | None" = None

    @property
    def name(self) -> str:
        return f"count-{self.number}" + ("" if self.after is None else f"-after-{self.after.number}")


@dataclass(frozen=True)
class Counts:
    """The axes of a toy grid."""

    cells: tuple[Count, ...]
    step: int = 1
    broken: int | None = None
    """Number of the cell that raises."""


class Counting(GridRunner[Count]):
    grid: Counts

    def cells(self) -> list[Count]:
        return list(self.grid.cells)

    def needs(self, cell: Count) -> Count | None:
        return cell.after

    def budget(self, cell: Count) -> int:
        return 10

    def done(self, cell: Count) -> int:
        raise ArtifactError("the state of this cell cannot be read")

    def claim(self, cell: Count) -> None:
        path = self.folder(cell) / "settings.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            path.write_text(json.dumps({"step": self.grid.step}))
        refuse_other_settings(path.parent, json.loads(path.read_text()), {"step": self.grid.step})

    def make(self, cell: Count) -> dict[str, Any]:
        if cell.number == self.grid.broken:
            raise ConfigurationError("broken")
        start = 0
        if cell.after is not None:
            start = json.loads(self.result_path(cell.after).read_text(encoding="utf-8"))["count"]
        return {"count": start + self.grid.step, "process": os.getpid()}


FIRST, SECOND = Count(1), Count(2)
THIRD = Count(3, after=FIRST)
FOURTH = Count(4, after=THIRD)
CELLS = (FOURTH, THIRD, FIRST, SECOND)


def test_what_a_cell_needs_is_made_before_it(tmp_path: Path) -> None:
    runner = Counting(Counts(CELLS), tmp_path)
    assert list(runner.waves(runner.cells())) == [[FIRST, SECOND], [THIRD], [FOURTH]]
    runner.run()
    results = runner.finished_results()
    assert [results[cell]["count"] for cell in CELLS] == [3, 2, 1, 1]
    processes = {result["process"] for result in results.values()}
    assert len(processes) == 4
    assert os.getpid() not in processes
    assert (tmp_path / "cells" / "count-3-after-1" / "cell.json").is_file()


def test_finished_cells_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="broken"):
        Counting(Counts(CELLS, broken=3), tmp_path).run(workers=1)
    before = Counting(Counts(CELLS), tmp_path).finished_results()
    assert set(before) == {FIRST, SECOND}
    runner = Counting(Counts(CELLS), tmp_path)
    runner.run(workers=1)
    assert set(runner.finished_results()) == set(CELLS)
    assert before.items() <= runner.finished_results().items()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    Counting(Counts((FIRST,)), tmp_path).run()
    with pytest.raises(ConfigurationError, match="count-1 was begun with step=1, not 2; choose another --out"):
        Counting(Counts((FIRST,), step=2), tmp_path).run()
    with pytest.raises(ConfigurationError, match="with more=3, not None"):
        refuse_other_settings(tmp_path, {"step": 1, "more": 3}, {"step": 1})


def test_nothing_finished_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no finished cell yet"):
        Counting(Counts(CELLS), tmp_path).finished_results()


def test_processes_are_sent_no_more_than_the_arguments(tmp_path: Path) -> None:
    runner = Counting(Counts(CELLS), tmp_path)
    runner.loaded = lambda: "does not pickle"  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(runner))
    assert (again.grid, again.out) == (runner.grid, runner.out)


@pytest.mark.parametrize(("ray", "workers"), [(None, 2), ("local", 1)])
def test_ray_takes_the_place_of_workers(
    ray: str | None, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def make_shards(
        make: Callable[[Count], dict[str, Any]], cells: list[Count], **means: Any
    ) -> Iterator[tuple[Count, dict[str, Any]]]:
        asked.append(means)
        yield from ((cell, make(cell)) for cell in cells)

    monkeypatch.setattr(grids, "make_shards", make_shards)
    monkeypatch.setattr(grids, "check_means", lambda workers, ray: None)  # Ray need not be installed
    Counting(Counts((FIRST, THIRD)), tmp_path).run(ray=ray)
    assert asked == [{"workers": workers, "ray": ray, "fresh_process": True, "gpus": 0}] * 2
