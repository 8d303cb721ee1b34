"""Picture of where, how closely and until when a policy looks, step by step."""

from pathlib import Path

import numpy as np

from agents.reports.style import BLUE, GREY, ORANGE, SKY, covered, dress, entitle, new_figure, save
from glimpse_env.sensing.geometry import LocationGrid

COLOURS = (BLUE, SKY, ORANGE)
"""Of windows, narrowest first; further ones begin again."""


def shares(locations: np.ndarray, grid: LocationGrid) -> np.ndarray:
    """Computes how often each step looks through each window, and how often it has stopped.

    Args:
        locations: (N, T) int64 grid locations, -1 from an episode's stop on.
        grid: the grid of locations.

    Returns:
        (T, zooms + 1) float64, the last of each row the share of episodes that have stopped before that glimpse.
    """
    parts = [(part.start, part.stop) for part in grid.level_slices] + [(-1, 0)]
    return np.array([((locations >= low) & (locations < high)).mean(axis=0) for low, high in parts]).T


def draw(path: Path, locations: np.ndarray, grid: LocationGrid, *, title: str, note: str) -> None:
    """Draws for each step what its glimpses cover of the image, and the shares of windows and of stopped episodes.

    Args:
        path: path of the PNG.
        locations: (N, T) int64 grid locations, -1 from an episode's stop on.
        grid: the grid of locations.
        title: names the environment and the policy.
        note: what was played, below the panels.
    """
    steps, rows = locations.shape[1], shares(locations, grid)
    figure = new_figure(1.9 * steps + 1.6, 4.6)
    maps = figure.add_gridspec(2, steps, height_ratios=(1.1, 1))
    for t in range(steps):
        axes = figure.add_subplot(maps[0, t], xticks=[], yticks=[])
        taken = locations[locations[:, t] >= 0, t]
        axes.imshow(covered(taken, grid), cmap="magma", vmin=0, vmax=1)
        axes.set_title(f"glimpse {t + 1}, in {len(taken) / len(locations):.0%}", fontsize=10)
        if t == 0:
            axes.set_ylabel("covered", fontsize=10)
    axes = figure.add_subplot(maps[1, :])
    names = [f"window {zoom} times as wide" if zoom > 1 else "narrowest window" for zoom in grid.zooms] + ["stopped"]
    bottom = np.zeros(steps)
    for k, name in enumerate(names):
        colour = GREY if k == len(names) - 1 else COLOURS[k % len(COLOURS)]
        axes.bar(np.arange(1, steps + 1), 100 * rows[:, k], 0.7, bottom=bottom, color=colour, label=name)
        bottom += 100 * rows[:, k]
    axes.set(xlabel="glimpse", ylabel="episodes (%)", xlim=(0.5, steps + 0.5), xticks=np.arange(1, steps + 1))
    dress(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right lower", frameon=False)
    entitle(figure, title, note)
    save(figure, path)
