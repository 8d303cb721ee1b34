"""Pictures of policies without an agent: what stopping early costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.evaluation.statistics import percentile_estimates
from agents.reports.style import BLUE, GREY, ORANGE, dress, entitle, new_figure, save

COLOURS = {"fixed": GREY, "entropy": BLUE, "gain": ORANGE}
TITLES = {
    "fixed": "the same number of glimpses for every image",
    "entropy": "stop when the posterior's entropy is low",
    "gain": "stop when little information gain is expected",
}


@dataclass(frozen=True)
class StoppingCurve:
    """The success rate of one family of stopping rules by the glimpses it takes."""

    budgets: np.ndarray
    """(M,) mean glimpses an image, ascending."""
    samples: np.ndarray
    """(1 + R, M): the success rate, on the images and on resamples of them, see
    :func:`agents.evaluation.statistics.success_by_budget`."""


def stopping_curves(
    path: Path,
    curves: Mapping[str, StoppingCurve],
    num_glimpses: int,
    *,
    title: str,
    note: str,
    flops: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Draws success against the mean number of glimpses, with 95 % bands, and against operations where they are known.

    Args:
        path: of the PNG, written whole.
        curves: by rule, of :data:`TITLES`; ``fixed`` with a mark at each whole number.
        num_glimpses: T.
        title: names the environment and the data set.
        note: what was played, below the axes.
        flops: by rule the operations (T,) of an episode that stops after 1..T glimpses, for a second panel.
    """
    figure = new_figure(8.0 if flops is None else 12.0, 5.0)
    panels = figure.subplots(1, 1 if flops is None else 2, sharey=True, squeeze=False)[0]
    whole = np.arange(1, num_glimpses + 1)
    for panel, axes in enumerate(panels):
        for name, curve in curves.items():
            value, low, high = percentile_estimates(curve.samples)
            colour = COLOURS[name]

            def placed(glimpses: np.ndarray, name: str = name, panel: int = panel) -> np.ndarray:
                return glimpses if panel == 0 or flops is None else np.interp(glimpses, whole, flops[name]) / 1e6

            axes.fill_between(placed(curve.budgets), 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(placed(curve.budgets), 100 * value, color=colour, linewidth=2.0, label=TITLES[name])
            if name == "fixed":
                axes.plot(placed(whole), 100 * np.interp(whole, curve.budgets, value), "o", color=colour, markersize=6)
        axes.set_xlabel("glimpses, mean over images" if panel == 0 else "million operations, mean over images")
        dress(axes, title="" if panel else title)
    panels[0].set_ylabel("right when stopped (%)")
    panels[0].set_xticks(whole)
    panels[-1].legend(loc="lower right", frameon=False)
    entitle(figure, "", note)
    save(figure, path)
