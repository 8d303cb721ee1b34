"""Pictures of the paper's experiment: validation curves, and where each method looks at each glimpse."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from agents.experiments.ram_tasks import METHODS
from agents.reports.benchmark_plots import PALETTE
from glimpse_env.files import whole_file
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
    figure = Figure(figsize=(6.2 * len(panels) + 1.4, 4.8), dpi=150, layout="constrained")
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
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
        axes.set_xlabel("iterations")
        axes.set_ylabel("validation accuracy (%)")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    wrapped = textwrap.fill(note, 95 * len(panels))
    figure.supxlabel(wrapped, fontsize=8.5, color="#555555", x=0.01, ha="left")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


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
    figure = Figure(figsize=(1.75 * steps + 1.1, 1.75 * len(looks) + 0.9), dpi=150, layout="constrained")
    panels = figure.subplots(len(looks), steps, squeeze=False)
    for t, axes in enumerate(panels[0]):
        axes.set_title(f"glimpse {t + 1}", fontsize=9)
    for row, (method, locations) in zip(panels, looks.items(), strict=True):
        for t, axes in enumerate(row):
            shares = covered(locations[:, t], grid)
            axes.imshow(mean_image, cmap="gray", vmin=0, vmax=255, alpha=0.55)
            axes.imshow(shares, cmap="inferno", vmin=0, vmax=max(shares.max(), 1e-9), alpha=0.72)
            axes.set_xticks([])
            axes.set_yticks([])
            if t == 0:
                axes.set_ylabel(METHODS[method].title, fontsize=10)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def covered(locations: Sequence[int] | np.ndarray, grid: LocationGrid) -> np.ndarray:
    """(H, W) float64: the share of glimpses at ``locations`` (N,) that show each pixel."""
    shares = np.zeros((grid.image_size, grid.image_size))
    places, counts = np.unique(np.asarray(locations), return_counts=True)
    for (top, left), count in zip(grid.corners[places], counts, strict=True):
        shares[top : top + grid.glimpse_size, left : left + grid.glimpse_size] += count
    return shares / max(len(locations), 1)
