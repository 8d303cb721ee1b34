"""Pictures of the paper's experiment: validation curves, and where each method looks at each glimpse; PNGs."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from agents.experiments.ram import PaperExperiment
from agents.experiments.ram_tasks import METHODS
from agents.reports.ram.tables import Cells, Summary, summarise
from agents.reports.style import (
    INDIGO,
    PALETTE,
    WINE,
    covered,
    dress,
    entitle,
    name_glimpses,
    new_figure,
    save,
    thousands,
)
from glimpse_env.files import read_npz
from glimpse_env.sensing.geometry import LocationGrid

OTHERS = {"ps-human": WINE, "ws-ram-cv": INDIGO}
COLOURS = dict(zip([method for method in METHODS if method not in OTHERS], PALETTE, strict=True)) | OTHERS


def validation_curves(path: Path, panels: Mapping[str, Mapping[str, Summary]], note: str) -> None:
    """Draws validation accuracy against iterations, a panel a data set; bands from the worst seed to the best.

    Args:
        panels: runs by heading and by method.
    """
    figure = new_figure(6.2 * len(panels) + 1.4, 4.8)
    handles = {}
    for axes, (title, methods) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        for method, runs in methods.items():
            points, accuracy, colour = runs.iterations, 100 * runs.validated, COLOURS[method]
            mean, arrived = accuracy.mean(0), float(runs.convergence.mean())
            axes.fill_between(points, accuracy.min(0), accuracy.max(0), color=colour, alpha=0.15, linewidth=0)
            handles[METHODS[method].title] = axes.plot(points, mean, color=colour, linewidth=1.9)[0]
            axes.plot([arrived], [np.interp(arrived, points, mean)], "o", color=colour, markersize=7)
        axes.set(xlabel="iterations", ylabel="validation accuracy (%)", xlim=(0, None), ylim=(0, None))
        thousands(axes)
        dress(axes, title=title)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    entitle(figure, "", textwrap.fill(note, 95 * len(panels)))
    save(figure, path)


def look_maps(
    path: Path, looks: Mapping[str, np.ndarray], grid: LocationGrid, mean_image: np.ndarray, title: str
) -> None:
    """Draws where each method looks at each glimpse, a row a method and a column a glimpse, over the mean test image.

    Args:
        looks: (N, T) grid locations on test images by method.
        mean_image: (H, W) of all test images, in 0..255.
    """
    steps = next(iter(looks.values())).shape[1]
    figure = new_figure(1.75 * steps + 1.1, 1.75 * len(looks) + 0.9)
    panels = figure.subplots(len(looks), steps, squeeze=False)
    for row, locations in zip(panels, looks.values(), strict=True):
        for t, axes in enumerate(row):
            shares = covered(locations[:, t], grid)
            axes.imshow(mean_image, cmap="gray", vmin=0, vmax=255, alpha=0.55)
            axes.imshow(shares, cmap="inferno", vmin=0, vmax=max(shares.max(), 1e-9), alpha=0.72)
    name_glimpses(panels, [METHODS[method].title for method in looks])
    entitle(figure, title)
    save(figure, path)


def draw_results(experiment: PaperExperiment, cells: Cells) -> Iterator[Path]:
    """Draws validation curves, and where each method looks on each data set, and yields the pictures' paths.

    Args:
        experiment: a finished grid.
        cells: its results, contents of ``cell.json``.
    """
    grid = experiment.grid
    for architecture in grid.architectures:
        panels = {
            data if architecture == "gru" else f"{data}, {architecture}": summaries
            for data in grid.data
            if (summaries := summarise(cells, data, architecture))
        }
        if panels:
            path = experiment.out / f"curves_{architecture}.png"
            validation_curves(
                path,
                panels,
                f"Lines: means over seeds, bands from the worst to the best seed, dots: the mean iterations to "
                f"convergence. A run that has ended counts with its best. Up to {grid.val_images} validation images "
                f"a point.",
            )
            yield path
    for data in grid.data:
        path = experiment.out / f"looks_{data}.png"
        looks = looks_of(experiment, data)
        if looks:
            source = grid.source(data)
            test = source.load("test")
            mean_image = np.asarray(test.images[:: max(1, len(test) // 1000)]).mean(axis=(0, 3))
            title = f"{data}: share of test images that show each place"
            look_maps(path, looks, source.geometry.grid, mean_image, title)
            yield path


def looks_of(experiment: PaperExperiment, data: str) -> dict[str, np.ndarray]:
    """Returns grid locations (N, T) on test images by method, for the first architecture, all seeds together."""
    by_method: dict[str, list[np.ndarray]] = {}
    for cell in experiment.grid.cells():
        path = experiment.folder(cell) / "looks.npz"
        if (cell.data, cell.architecture) == (data, experiment.grid.architectures[0]) and path.is_file():
            by_method.setdefault(cell.method, []).append(read_npz(path)["locations"])
    return {method: np.concatenate(parts) for method, parts in by_method.items()}
