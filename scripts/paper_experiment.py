"""The paper's own experiment: networks that look and classify, with partial supervision and without.

python scripts/paper_experiment.py --data birds mnist --methods ram ps-nogs --out runs/paper
"""

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from agents.experiments.ram import PaperExperiment, RamGrid
from agents.reports.ram import PUBLISHED, Cells, error_beside, summaries, table, told, validations, verdicts
from agents.reports.ram_plots import Curves, look_maps, validation_curves
from agents.reports.tables import command_line, insert
from glimpse_env.errors import GlimpseError
from glimpse_env.files import write_json
from glimpse_env.versions import versions

BESIDE = {"cub": "CUB", "birds": "CUB", "birds-19200": "CUB"}
"""Whose published figures stand beside a data set's."""


@dataclass(frozen=True)
class Args:
    """One training run for each combination of the axes below; called again it goes on where it was stopped."""

    data: tuple[str, ...] = ("birds", "mnist")
    """Data sets: birds, birds-19200 with four times the images, mnist, digits, cub; birds-eye-ring and celeba-hq with a
    binary attribute; mnist-4, mnist-6 and mnist-8 in RAM's published setting."""
    methods: tuple[str, ...] = ("ram", "ram+", "ws-ram", "hgs", "ps-ram", "ps-nogs")
    """ram, ram+, ws-ram, hgs, ps-ram, ps-nogs, and ps-nogs-steps, which scripts/measure/stopping.py can stop early."""
    architectures: tuple[str, ...] = ("gru",)
    """gru, wide and narrow (other widths of its glimpse CNN), transformer."""
    seeds: int = 5
    """Seeds 0 to this less one."""
    iterations: int | None = None
    """Of each run; default the data set's own."""
    num_sequences: int | None = None
    """Training images that are supervised, where a method has supervision; default the data set's own."""
    val_images: int = 2000
    """Validation images behind each point of the curves, at most."""
    eval_images: int = 10_000
    """Test images, at most."""
    root: str | None = None
    """Folder of the data sets; default GLIMPSE_DATA."""
    device: str = "cpu"
    """What networks are trained on: cpu, cuda, ... Runs side by side can share a GPU; without one it is the CPU."""
    workers: int | None = None
    """Runs side by side, each a process with one thread; default 2."""
    ray: str | None = None
    """Address of a Ray cluster that makes the runs instead, its nodes sharing --out; or "local"."""
    out: Path = Path("runs/paper")
    """Folder of results.json, results.md, the pictures and all runs."""
    into: Path | None = None
    """A page that the tables go into, between marks named like the folder."""


def main(args: Args) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        experiment = PaperExperiment(
            RamGrid(**{item.name: getattr(args, item.name) for item in fields(RamGrid)}), args.out
        )
        experiment.run(args.workers, args.ray)
        report(args, experiment)
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        print(f"\nStopped. Go on with\n  {command_line('paper_experiment', args)}")
        sys.exit(130)


def report(args: Args, experiment: PaperExperiment) -> None:
    """Writes all that comes of a finished grid."""
    cells, command = list(experiment.finished_results().values()), command_line("paper_experiment", args)
    parts, shown = [f"`{command}`"], {}
    for data in args.data:
        for architecture in args.architectures:
            found = summaries(cells, data, architecture)
            if not found:
                continue
            heading = data if len(args.architectures) == 1 else f"{data}, {architecture}"
            budget = max(one.budget for one in found.values())
            minutes = np.median(np.concatenate([one.seconds for one in found.values()])) / 60
            parts.append(
                f"**{heading}**, up to {budget} iterations a run, {minutes:.1f} minutes in the median:\n\n"
                f"{table(found, BESIDE.get(data))}"
            )
            parts += [beside for one in found.values() if (beside := error_beside(data, one))]
            verdict = verdicts(found)
            shown[heading] = verdict
            if verdict:
                parts.append(told(verdict))
    text = "\n\n".join(parts)
    (args.out / "results.md").write_text(text + "\n", encoding="utf-8")
    write_json(
        args.out / "results.json",
        {"command": command, "verdicts": shown, "published": PUBLISHED, "cells": cells, "versions": versions()},
    )
    pictures = list(draw(args, experiment, cells))
    if args.into is not None:
        insert(text, args.into, args.out.name)
    print(f"\n{text}\n\nResults: {args.out / 'results.json'}, {', '.join(map(str, pictures))}")
    print(f"Curves: tensorboard --logdir {args.out / 'cells'}")


def draw(args: Args, experiment: PaperExperiment, cells: Cells) -> Iterator[Path]:
    """The pictures: validation curves, and where each method looks on each data set."""
    for architecture in args.architectures:
        panels = {}
        for data in args.data:
            mine = [c for c in cells if (c["cell"]["data"], c["cell"]["architecture"]) == (data, architecture)]
            if mine:
                panels[data if architecture == "gru" else f"{data}, {architecture}"] = curves_of(mine)
        if panels:
            path = args.out / f"curves_{architecture}.png"
            validation_curves(
                path,
                panels,
                f"Lines: means over seeds, bands from the worst to the best seed, dots: the mean iterations to "
                f"convergence. A run that has ended counts with its best. Up to {args.val_images} validation images "
                f"a point.",
            )
            yield path
    for data in args.data:
        path = args.out / f"looks_{data}.png"
        looks = looks_of(args, experiment, data)
        if looks:
            source = experiment.grid.source(data)
            test, grid = source.load("test"), source.geometry.grid
            some = np.asarray(test.images[:: max(1, len(test) // 1000)])
            look_maps(path, looks, grid, some.mean(axis=(0, 3)), f"{data}: share of test images that show each place")
            yield path


def curves_of(cells: Cells) -> dict[str, Curves]:
    """By method, of finished cells of one data set and architecture."""
    found: dict[str, list[Any]] = {}
    for cell in cells:
        found.setdefault(cell["cell"]["method"], []).append(cell)
    return {
        method: Curves(
            np.array([point["iterations"] for point in curves[0]]),
            np.array([[point["accuracy"] for point in curve] for curve in curves]),
            np.array([cell["convergence"] for cell in found[method]]),
        )
        for method, curves in ((method, validations(mine)) for method, mine in found.items())
    }


def looks_of(args: Args, experiment: PaperExperiment, data: str) -> dict[str, np.ndarray]:
    """Grid locations (N, T) on test images by method, those of all seeds behind one another."""
    found: dict[str, list[np.ndarray]] = {}
    for cell in experiment.grid.cells():
        path = experiment.folder(cell) / "looks.npz"
        if (cell.data, cell.architecture) == (data, args.architectures[0]) and path.is_file():
            with np.load(path, allow_pickle=False) as kept:
                found.setdefault(cell.method, []).append(kept["locations"])
    return {method: np.concatenate(parts) for method, parts in found.items()}


if __name__ == "__main__":
    main(tyro.cli(Args))
