"""Pictures about the oracle: how its estimate converges, how far its judge is to be believed, and where it looks.

Each function writes a PNG to ``path``, with ``title`` over the picture and ``note`` under it; ``grid`` is that of the
locations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from scipy.ndimage import gaussian_filter

from agents.evaluation.calibration import Calibration
from agents.evaluation.evaluate import TITLES
from agents.evaluation.published import NAMES, PUBLISHED, SHUFFLED, Judged, mean_estimates, ranks
from agents.reports.style import (
    BLUE,
    GREEN,
    NOTE_GREY,
    ORANGE,
    POLICY_COLOURS,
    SKY,
    covered,
    dress,
    entitle,
    literal,
    name_glimpses,
    new_figure,
    save,
)
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.sensing.geometry import LocationGrid

CRITERION_COLOURS = {"entropy": BLUE, "log_loss": ORANGE, "error": GREEN}
COMPARISON_COLOURS = {**POLICY_COLOURS, PUBLISHED: BLUE, SHUFFLED: SKY}
GLIMPSE_COLOURS = LinearSegmentedColormap.from_list("order", ["#ffd15c", "#ff7a5c", "#ec4899", "#966eff"])
"""Colours of the first to the last glimpse, as in pictures of episodes."""
LABELLED_PARTS = ("beak", "tail", "belly", "left leg", "right leg")


def convergence(
    path: Path, sizes: Sequence[int], squared: Mapping[str, np.ndarray], slopes: Mapping[str, float], *, note: str
) -> None:
    """Draws root-mean-square errors of the estimators against the number of samples, on logarithmic axes.

    Args:
        sizes: (S,) numbers of samples.
        squared: (S, R) squared errors by estimator, ``"criterion, weights"`` as in
            :data:`oracles.validation.convergence.ESTIMATORS`; others are drawn in grey.
        slopes: slopes of log error against log N, by estimator.
    """
    figure = new_figure(8.6, 5.2)
    axes = figure.subplots()
    for name, errors in squared.items():
        mean = errors.mean(axis=1)
        root = np.sqrt(mean)
        # of the root, from that of the mean square
        standard_error = errors.std(axis=1, ddof=1) / np.sqrt(errors.shape[1]) / (2 * root)
        criterion, _, weights = name.partition(", ")
        known = criterion in CRITERION_COLOURS
        colour = CRITERION_COLOURS.get(criterion, NOTE_GREY)
        style = {"pixels": "-", "labels": (0, (5, 2))}.get(weights, (0, (1, 1.5)))
        label = f"{name}: {slopes[name]:.2f}" if known else name
        axes.fill_between(sizes, root - standard_error, root + standard_error, color=colour, alpha=0.25, linewidth=0)
        axes.plot(sizes, root, color=colour, linestyle=style, linewidth=1.8, marker="o", markersize=4, label=label)
    ends = np.array([sizes[0], sizes[-1]], dtype=np.float64)
    top = 1.35 * max(float(np.sqrt(errors.mean(axis=1)).max()) for errors in squared.values())
    axes.plot(ends, top * np.sqrt(ends[0] / ends), color="black", linewidth=1.0, label="1 / √N: −0.50")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.set(xlabel="N, images drawn from the world", yscale="log")
    axes.set_ylabel("root-mean-square error (nats; a probability for error)")
    axes.legend(
        title="criterion, completions weighted by: slope",
        fontsize=8.5,
        title_fontsize=8.5,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
    )
    dress(axes, "both", title="The oracle's expected criterion nears the exact one as 1 / √N")
    entitle(figure, "", note)
    save(figure, path)


def reliability(path: Path, calibrations: Mapping[str, Calibration], *, title: str, note: str) -> None:
    """Draws a reliability diagram for each policy, with a histogram of the confidences below it.

    Args:
        calibrations: calibration after the last glimpse, by policy.
    """
    figure = new_figure(2.75 * len(calibrations) + 0.5, 4.6)
    grid = figure.subplots(2, len(calibrations), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False)
    for column, (name, calibration) in enumerate(calibrations.items()):
        axes, counts = grid[:, column]
        colour = POLICY_COLOURS.get(name, NOTE_GREY)
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=(0, (4, 3)))
        confidence, accuracy, low, high, _ = np.array(calibration.bins()).T
        spread = np.abs(np.stack([accuracy - low, high - accuracy]))
        axes.errorbar(confidence, accuracy, spread, color=colour, fmt="o-", markersize=4, linewidth=1.2, elinewidth=0.8)
        error = calibration.error
        axes.text(
            0.04,
            0.97,
            f"ECE {100 * (error.value or 0):.1f} %\nconfidence {100 * calibration.mean_confidence:.1f} %"
            f"\naccuracy {100 * calibration.accuracy:.1f} %",
            transform=axes.transAxes,
            va="top",
            fontsize=8.5,
        )
        axes.set_title(TITLES.get(name, name), fontsize=10.5)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        counts.hist(calibration.confidence, bins=np.linspace(0, 1, 21).tolist(), color=colour, alpha=0.6)
        counts.set_xlabel("confidence")
        for part in (axes, counts):
            dress(part, "both")
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("images")
    entitle(figure, title, note)
    save(figure, path)


def step_curves(path: Path, by_origin: Mapping[str, Judged], *, title: str, note: str) -> None:
    """Draws log-loss and entropy after each glimpse for sequences of several origins, with their intervals.

    Args:
        by_origin: the judge's figures on the sequences, by origin.
    """
    figure = new_figure(9.6, 4.4)
    for axes, measure, label in zip(
        figure.subplots(1, 2), ("log_loss", "entropy"), ("log-loss of the label", "entropy of the judge"), strict=True
    ):
        for number, (name, judged) in enumerate(by_origin.items()):
            values = getattr(judged, measure)
            steps = np.arange(1, values.shape[1] + 1) + 0.05 * (number - len(by_origin) / 2)
            mean, low, high = np.array([astuple(estimate) for estimate in mean_estimates(values)]).T
            style = {"fmt": "o--" if name == SHUFFLED else "o-", "markersize": 4, "linewidth": 1.6, "elinewidth": 0.7}
            style |= {"color": COMPARISON_COLOURS.get(name, NOTE_GREY), "label": NAMES.get(name, name)}
            axes.errorbar(steps, mean, [mean - low, high - mean], **style)
        axes.set(xticks=range(1, values.shape[1] + 1), xlabel="glimpses", ylabel=f"{label}, nats")
        dress(axes, "y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=9, frameon=False)
    entitle(figure, title, note)
    save(figure, path)


def coverage(
    path: Path, sequences: Mapping[str, np.ndarray], grid: LocationGrid, *, parts: np.ndarray, title: str, note: str
) -> None:
    """Draws where the t-th glimpse lies, over all images: sequences of each origin in a row, t from left to right.

    Args:
        sequences: (N, T) grid locations, by origin.
        parts: (M, 2) rows and columns of the images' visible parts, whose outline is drawn.
    """
    size, steps = grid.image_size, next(iter(sequences.values())).shape[1]
    figure = new_figure(1.9 * steps + 1.2, 1.75 * len(sequences) + 0.9)
    panels = figure.subplots(len(sequences), steps, squeeze=False)
    crowd = gaussian_filter(np.histogram2d(parts[:, 0], parts[:, 1], bins=32, range=[[0, size], [0, size]])[0], 1.5)
    places = (np.arange(32) + 0.5) * size / 32
    for row, locations in zip(panels, sequences.values(), strict=True):
        for t, axes in enumerate(row):
            image = axes.imshow(100 * covered(locations[:, t], grid), cmap="magma", vmin=0, vmax=60)
            axes.contour(places, places, crowd, levels=[0.25 * crowd.max()], colors="#7fd0ff", linewidths=0.9)
    name_glimpses(panels, [NAMES.get(name, name) for name in sequences])
    figure.colorbar(image, ax=panels, label="images that saw it (%)", shrink=0.8, extend="max")
    entitle(figure, title, note)
    save(figure, path)


def disagreement(
    path: Path,
    dataset: GlimpseDataset,
    indices: np.ndarray,
    published: np.ndarray,
    ours: np.ndarray,
    maps: np.ndarray,
    grid: LocationGrid,
    *,
    photographs: bool,
    note: str,
) -> None:
    """Draws, an image a row: the published sequence, ours, and our map before each published glimpse.

    Args:
        dataset: the split.
        indices: (N,) images of it.
        published, ours: (N, T) grid locations.
        maps: (N, T, L), lower is better, given the published glimpses before.
        photographs: draw the images; else only where their annotated parts are.
    """
    count, steps = published.shape
    rank, percentile = ranks(maps, published, published)
    figure = new_figure(1.75 * (steps + 2), 1.95 * count + 0.6, dpi=130)
    grid_axes = figure.subplots(count, steps + 2, squeeze=False)
    for row in range(count):
        for axes, sequence, title in zip(grid_axes[row], (published, ours), ("published", "ours"), strict=False):
            show_image(axes, dataset, int(indices[row]), photographs)
            for t, (top, left, *zoom) in enumerate(grid.corners[sequence[row]]):
                colour, side = GLIMPSE_COLOURS(t / max(steps - 1, 1)), grid.glimpse_size * (zoom[0] if zoom else 1)
                axes.add_patch(Rectangle((left, top), side, side, fill=False, color=colour, lw=1.6))
                axes.text(left + 2, top + 2, str(t + 1), color=colour, fontsize=9, va="top", fontweight="bold")
            if row == 0:
                axes.set_title(title, fontsize=10)
        grid_axes[row, 0].set_ylabel(literal(dataset.class_names[int(dataset.labels[indices[row]])]), fontsize=8)
        for t in range(steps):
            # with zooms those of the narrowest windows, through which published sequences look
            axes, scores = grid_axes[row, t + 2], maps[row, t, : len(grid.levels[0])].copy()
            axes.imshow(scores.reshape(grid.side, grid.side), cmap="viridis_r")
            scores[published[row, :t]] = np.inf
            best, taken = int(scores.argmin()), int(published[row, t])
            for location, colour, width in ((best, "white", 2.2), (taken, "#ff3030", 1.6)):
                top, left = divmod(location, grid.side)
                axes.add_patch(Rectangle((left - 0.5, top - 0.5), 1, 1, fill=False, color=colour, lw=width))
            axes.set_xlabel(f"rank {rank[row, t]}, percentile {percentile[row, t]:.0f}", fontsize=7.5, labelpad=2)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(f"our map {t + 1}", fontsize=10)
    entitle(
        figure, "Published choices (red) on our maps of the expected criterion (yellow: low; white: our choice)", note
    )
    save(figure, path)


def show_image(axes: Axes, dataset: GlimpseDataset, index: int, photographs: bool) -> None:
    """Draws the photograph, or the annotated parts that are visible in it."""
    size = dataset.images.shape[1]
    if photographs:
        axes.imshow(np.asarray(dataset.images[index]))
    else:
        axes.imshow(np.full((size, size, 3), 38, dtype=np.uint8))
        parts = dataset.parts[index]
        for name, (top, left, visible) in zip(dataset.part_names, parts, strict=True):
            if visible:
                axes.plot(left, top, ".", color="#bbbbbb", markersize=4)
                if name in LABELLED_PARTS:
                    axes.text(left, top, literal(name), color="#dddddd", fontsize=6.5, ha="center", va="bottom")
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xticks=[], yticks=[])
