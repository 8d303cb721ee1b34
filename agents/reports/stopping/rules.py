"""Table and picture of stopping early: success against the glimpses taken, by rule."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.statistics import Estimate, percentile_estimates
from agents.reports.style import BLUE, GREY, ORANGE, dress, entitle, new_figure, save
from agents.reports.tables import format_estimate, markdown_table
from oracles.boed.stopping import PlayedOut, glimpses_used

THRESHOLDS_PER_RULE = 200
"""Number of thresholds, spread over the values that a rule's signal takes."""
COLOURS = {"fixed": GREY, "entropy": BLUE, "gain": ORANGE}
TITLES = {
    "fixed": "the same number of glimpses for every image",
    "entropy": "stop when the posterior's entropy is low",
    "gain": "stop when little information gain is expected",
}


def stopping_curves(
    path: Path,
    curves: Mapping[str, np.ndarray],
    budgets: np.ndarray,
    *,
    title: str,
    note: str,
    flops: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Draws success against the mean number of glimpses, with 95 % bands, and against operations where they are known.

    Args:
        path: path of the PNG.
        curves: by rule, of :data:`TITLES`, (1 + R, M) of :func:`agents.evaluation.statistics.success_by_budget`;
            ``fixed`` with a mark at each whole number.
        budgets: (M,) mean glimpses an image, from 1 to T.
        title: names the environment and the data set.
        note: what was played, below the axes.
        flops: by rule the operations (T,) of an episode that stops after 1..T glimpses, for a second panel.
    """
    figure = new_figure(8.0 if flops is None else 12.0, 5.0)
    panels = figure.subplots(1, 1 if flops is None else 2, sharey=True, squeeze=False)[0]
    whole = np.arange(1, round(budgets[-1]) + 1)
    for panel, axes in enumerate(panels):
        for name, curve in curves.items():
            value, low, high = percentile_estimates(curve)
            colour = COLOURS[name]

            def placed(glimpses: np.ndarray, name: str = name, panel: int = panel) -> np.ndarray:
                return glimpses if panel == 0 or flops is None else np.interp(glimpses, whole, flops[name]) / 1e6

            axes.fill_between(placed(budgets), 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(placed(budgets), 100 * value, color=colour, linewidth=2.0, label=TITLES[name])
            if name == "fixed":
                axes.plot(placed(whole), 100 * np.interp(whole, budgets, value), "o", color=colour, markersize=6)
        axes.set_xlabel("glimpses, mean over images" if panel == 0 else "million operations, mean over images")
        dress(axes, title="" if panel else title)
    panels[0].set_ylabel("right when stopped (%)")
    panels[0].set_xticks(whole)
    panels[-1].legend(loc="lower right", frameon=False)
    entitle(figure, "", note)
    save(figure, path)


def rules_of(played: PlayedOut) -> dict[str, tuple[np.ndarray | None, np.ndarray]]:
    """Returns, by family of rules, the thresholds (K,) in nats and the glimpses (K, N) that each image gets by each of
    them, the fewest first; a fixed number of glimpses has no threshold."""
    count, steps = played.success.shape
    fixed = np.broadcast_to(np.arange(1, steps + 1)[:, None], (steps, count))
    rules: dict[str, tuple[np.ndarray | None, np.ndarray]] = {"fixed": (None, fixed)}
    for name, signal in (("entropy", played.entropy[:, :-1]), ("gain", played.gain)):
        inner = np.quantile(signal, np.linspace(1, 0, THRESHOLDS_PER_RULE))
        thresholds = np.concatenate([[np.nextafter(inner[0], np.inf)], inner])  # from stopping at once to never
        rules[name] = thresholds, np.stack([glimpses_used(signal, threshold) for threshold in thresholds])
    return rules


def rules_entry(
    played: PlayedOut,
    rules: Mapping[str, tuple[np.ndarray | None, np.ndarray]],
    flops: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Returns thresholds, mean glimpses, mean operations and success of every rule as JSON values.

    Args:
        rules: see :func:`rules_of`.
        flops: by rule the operations (T,) of an episode that stops after 1..T glimpses.
    """
    images, entries = np.arange(len(played.success)), {}
    for name, (thresholds, used) in rules.items():
        entry: dict[str, Any] = {
            "thresholds_nats": None if thresholds is None else [round(float(t), 6) for t in thresholds],
            "mean_glimpses": [round(float(mean), 4) for mean in used.mean(axis=1)],
        }
        if flops is not None:
            entry["mean_flops"] = [int(flops[name][stops - 1].mean()) for stops in used]
        entry["success_rate"] = [round(float(played.success[images, stops - 1].mean()), 4) for stops in used]
        entries[name] = entry
    return entries


def comparisons(curves: Mapping[str, np.ndarray], budgets: np.ndarray) -> list[dict[str, Any]]:
    """Returns every rule's success at each whole number of mean glimpses between the first and the last, and its
    difference to that number for every image, as JSON values."""
    rows = []
    for t in range(2, round(budgets[-1])):
        row: dict[str, Any] = {"glimpses": t}
        at = int(np.argmin(np.abs(budgets - t)))
        for name, curve in curves.items():
            row[name] = _estimate(curve[:, at]).to_json()
            if name != "fixed":
                row[f"{name}_less_fixed"] = _estimate(curve[:, at] - curves["fixed"][:, at]).to_json()
        rows.append(row)
    return rows


def _estimate(samples: np.ndarray) -> Estimate:
    """Returns the first of ``samples`` (1 + R,) with the percentile interval of the others."""
    value, low, high = percentile_estimates(samples[:, None])
    return Estimate(float(value[0]), float(low[0]), float(high[0]))


def comparison_table(rows: list[dict[str, Any]]) -> str:
    """Returns Markdown of :func:`comparisons`."""

    def points(content: dict[str, Any], signed: bool = False) -> str:
        return format_estimate(Estimate(content["value"], *content["interval"]), 1, scale=100, signed=signed)

    head = ["mean glimpses", "fixed number, %", "by entropy, %", "less fixed, points", "by information gain, %"]
    lines = [[*head, "less fixed, points"]]
    for row in rows:
        cells = [points(row["fixed"])]
        for name in ("entropy", "gain"):
            cells += [points(row[name]), points(row[f"{name}_less_fixed"], signed=True)]
        lines.append([str(row["glimpses"]), *cells])
    return markdown_table(lines)
