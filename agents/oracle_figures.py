"""Pictures about the oracle: how its estimate converges, how far its judge is to be believed, and where it looks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents.calibration import Calibration
from agents.evaluation import TITLES
from agents.figures import COLOURS
from glimpse_env.files import whole_file

CRITERION_COLOURS = {"entropy": "#0072B2", "log_loss": "#D55E00", "error": "#009E73"}
GREY = "#555555"


def convergence(
    path: Path, sizes: Sequence[int], squared: Mapping[str, np.ndarray], slopes: Mapping[str, float], *, note: str
) -> None:
    """Draws root-mean-square errors of the estimators against the number of samples, on logarithmic axes.

    Args:
        path: of the PNG, written whole.
        sizes: (S,) numbers of samples.
        squared: (S, R) squared errors by estimator, ``"criterion, weights"`` as in
            :data:`oracles.convergence.ESTIMATORS`; others are drawn in grey.
        slopes: of log error against log N, by estimator.
        note: under the picture.
    """
    figure = Figure(figsize=(8.6, 5.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, errors in squared.items():
        mean = errors.mean(axis=1)
        root = np.sqrt(mean)
        # of the root, from that of the mean square
        standard_error = errors.std(axis=1, ddof=1) / np.sqrt(errors.shape[1]) / (2 * root)
        criterion, _, weights = name.partition(", ")
        known = criterion in CRITERION_COLOURS
        colour = CRITERION_COLOURS.get(criterion, GREY)
        style = {"pixels": "-", "labels": (0, (5, 2))}.get(weights, (0, (1, 1.5)))
        label = f"{name}: {slopes[name]:.2f}" if known else name
        axes.fill_between(sizes, root - standard_error, root + standard_error, color=colour, alpha=0.25, linewidth=0)
        axes.plot(sizes, root, color=colour, linestyle=style, linewidth=1.8, marker="o", markersize=4, label=label)
    ends = np.array([sizes[0], sizes[-1]], dtype=np.float64)
    top = 1.35 * max(float(np.sqrt(errors.mean(axis=1)).max()) for errors in squared.values())
    axes.plot(ends, top * np.sqrt(ends[0] / ends), color="black", linewidth=1.0, label="1 / √N: −0.50")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.set_xlabel("N, images drawn from the world")
    axes.set_ylabel("root-mean-square error (nats; a probability for error)")
    axes.legend(
        title="criterion, completions weighted by: slope",
        fontsize=8.5,
        title_fontsize=8.5,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
    )
    axes.set_title(
        "The oracle's expected criterion nears the exact one as 1 / √N", loc="left", fontsize=12, fontweight="bold"
    )
    _finish(axes, "both")
    figure.supxlabel(note, fontsize=8.5, color=GREY, x=0.01, ha="left")
    _save(figure, path)


def reliability(path: Path, found: Mapping[str, Calibration], *, title: str, note: str) -> None:
    """Draws a reliability diagram for each policy, with a histogram of the confidences below it.

    Args:
        path: of the PNG, written whole.
        found: calibration after the last glimpse, by policy.
        title, note: over and under the picture.
    """
    figure = Figure(figsize=(2.75 * len(found) + 0.5, 4.6), dpi=150, layout="constrained")
    grid = figure.subplots(2, len(found), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False)
    for column, (name, calibration) in enumerate(found.items()):
        axes, counts = grid[:, column]
        colour = COLOURS.get(name, GREY)
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
            _finish(part, "both")
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("images")
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(note, fontsize=8.5, color=GREY, x=0.01, ha="left")
    _save(figure, path)


def _finish(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary)
