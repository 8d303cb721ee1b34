"""Pictures of the paper's experiment: validation curves, and where each method looks at each glimpse."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.experiments.ram_tasks import METHODS
from agents.reports.style import PALETTE, covered, dress, entitle, name_glimpses, new_figure, save, thousands
from glimpse_env.sensing.geometry import LocationGrid

COLOURS = dict(zip(METHODS, PALETTE, strict=True))


@dataclass(frozen=True)
class Curves:
    """Validations of one method."""

    iterations: np.ndarray
    """(V,)."""
    accuracy: np.ndarray
    """(seeds, V)."""
    convergence: np.ndarray
    """(seeds,) iterations."""


def validation_curves(path: Path, panels: Mapping[str, Mapping[str, Curves]], note: str) -> None:
    """Validation accuracy against iterations, a panel a data set; bands from the worst seed to the best.

    Args:
        path: of the PNG, written whole.
        panels: by heading and by method.
        note: under the panels.
    """
    figure = new_figure(6.2 * len(panels) + 1.4, 4.8)
    handles = {}
    for axes, (title, methods) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        for method, curves in methods.items():
            mean, colour, label = 100 * curves.accuracy.mean(0), COLOURS[method], METHODS[method].title
            axes.fill_between(
                curves.iterations,
                100 * curves.accuracy.min(0),
                100 * curves.accuracy.max(0),
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
            handles[label] = axes.plot(curves.iterations, mean, color=colour, linewidth=1.9)[0]
            arrived = float(curves.convergence.mean())
            axes.plot([arrived], [np.interp(arrived, curves.iterations, mean)], "o", color=colour, markersize=7)
        axes.set(xlabel="iterations", ylabel="validation accuracy (%)")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        thousands(axes)
        dress(axes, title=title)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    entitle(figure, "", textwrap.fill(note, 95 * len(panels)))
    save(figure, path)


def look_maps(
    path: Path, looks: Mapping[str, np.ndarray], grid: LocationGrid, mean_image: np.ndarray, title: str
) -> None:
    """Where each method looks at each glimpse, a row a method and a column a glimpse, over the mean test image.

    Args:
        path: of the PNG, written whole.
        looks: (N, T) grid locations on test images by method.
        grid: of the locations.
        mean_image: (H, W) of all test images, in 0..255.
        title: over the panels.
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
