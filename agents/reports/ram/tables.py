"""Tables of the paper's experiment: figures with intervals over seeds beside the published ones."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluation.statistics import Estimate, bootstrap
from agents.experiments.ram_curves import TOLERANCE
from agents.experiments.ram_tasks import METHODS, TASKS
from agents.ram.rollouts import WAYS
from agents.reports.tables import MISSING, count_seeds, format_estimate, markdown_table

Cells = Sequence[Mapping[str, Any]]
"""Contents of ``cell.json``."""

PUBLISHED: dict[str, dict[str, tuple[int, float]]] = {
    "CUB": {
        "ram+": (5690, 53.7),
        "ws-ram": (11800, 55.7),
        "hgs": (1790, 50.5),
        "ps-ram": (1980, 53.2),
        "ps-nogs": (3530, 54.4),
    },
    "CelebA-HQ": {"ram": (25100, 87.1), "ws-ram": (40700, 88.1), "ps-ram": (4750, 87.0), "ps-nogs": (3820, 87.0)},
}
"""Iterations to convergence and test accuracy in % (Harvey et al. 2019): 200 species, and the mean of 40 attributes."""
COMPARED_WITH = {"cub": "CUB", "birds-80": "CUB", "birds": "CUB", "birds-19200": "CUB"}
"""Keys of :data:`PUBLISHED` by data set; others have no published figures beside theirs."""
RAM_ON_MNIST = {"mnist-4": 4.96, "mnist-6": 4.08, "mnist-8": 4.04}
"""Test error in % of RAM itself by data set (Mnih et al. 2014)."""
SMOOTHED = 9
"""Validations in a row whose mean is one point of a smoothed curve."""


@dataclass(frozen=True)
class Summary:
    """A method on a data set, over its seeds."""

    method: str
    convergence: np.ndarray
    """(seeds,) iterations to convergence."""
    accuracy: np.ndarray
    """(seeds,) share of test images that are right."""
    seconds: np.ndarray
    """(seeds,) seconds of training."""
    iterations: np.ndarray
    """(points,) iterations at each validation of the longest run."""
    validated: np.ndarray
    """(seeds, points) share of validation images that are right; a run that has ended keeps its best validation."""
    scores: np.ndarray
    """(seeds, points) validation scores, the larger the better: ``validated``, or cross-entropies in nats times -1."""
    curves: Sequence[Sequence[Mapping[str, float]]]
    """Of each run its own validations, as in ``cell.json``."""

    @property
    def seeds(self) -> int:
        return len(self.convergence)

    @property
    def best(self) -> float:
        """Best validation, a mean over seeds."""
        return float(self.scores.max(axis=1).mean())

    def reaches(self, score: float) -> np.ndarray:
        """Returns the iterations (seeds,) up to the first validation that is at least ``score``; NaN where none is."""
        there = self.scores >= score
        return np.where(there.any(axis=1), self.iterations[there.argmax(axis=1)], np.nan)

    @property
    def spread(self) -> float:
        """Standard deviation of the iterations to convergence over seeds; NaN for one seed."""
        return float(self.convergence.std(ddof=1)) if self.seeds > 1 else float("nan")


def summarise(cells: Cells, data: str, architecture: str) -> dict[str, Summary]:
    """Returns what the runs on a data set with an architecture came to, by method in the paper's order."""
    summaries = {}
    for method in METHODS:
        key = {"data": data, "method": method, "architecture": architecture}
        mine = [cell for cell in cells if key.items() <= cell["cell"].items()]
        if mine:
            criterion, sign = mine[0]["criterion"], 1 if mine[0]["criterion"] == "accuracy" else -1
            length = max(len(cell["curve"]) for cell in mine)
            curves = []
            for cell in mine:
                best = max(cell["curve"], key=lambda point: sign * point[criterion])
                curves.append(cell["curve"] + [best] * (length - len(cell["curve"])))
            longest = max((cell["curve"] for cell in mine), key=len)
            summaries[method] = Summary(
                method,
                np.array([cell["convergence"] for cell in mine]),
                np.array([cell["test_accuracy"] for cell in mine]),
                np.array([cell["seconds"] for cell in mine]),
                np.array([point["iterations"] for point in longest]),
                np.array([[point["accuracy"] for point in curve] for curve in curves]),
                np.array([[sign * point[criterion] for point in curve] for curve in curves]),
                [cell["curve"] for cell in mine],
            )
    return summaries


def settles(curve: Sequence[Mapping[str, float]], figure: str, window: int = 1) -> int:
    """Returns the iterations up to the first validation that is within 0.01 of the run's best.

    Args:
        curve: the validations.
        figure: ``"accuracy"`` or ``"cross_entropy"``.
        window: validations in a row whose mean stands for the middle one; all of them where there are fewer.
    """
    window = min(window, len(curve))
    scores = np.array([point[figure] for point in curve]) * (1 if figure == "accuracy" else -1)
    means = np.lib.stride_tricks.sliding_window_view(scores, window).mean(axis=-1)
    first = int((means >= means.max() - TOLERANCE - 1e-12).argmax())
    return int(curve[first + (window - 1) // 2]["iterations"])


OTHER_MEASURES = {
    f"accuracy, means of {SMOOTHED} validations": ("accuracy", SMOOTHED),
    "cross-entropy": ("cross_entropy", 1),
    f"cross-entropy, means of {SMOOTHED}": ("cross_entropy", SMOOTHED),
}
"""Figure and window of :func:`settles` by what a table calls them."""


def other_measures(summaries: Mapping[str, Summary]) -> str:
    """Returns a Markdown table with the iterations to convergence by :data:`OTHER_MEASURES`, where curves are noisy,
    and how many times as fast as RAM that is; and when runs are as good as RAM's best cross-entropy."""
    base = summaries["ram"]
    lowest = np.mean([min(point["cross_entropy"] for point in curve) for curve in base.curves])
    rows = [["method", *OTHER_MEASURES, "lowest cross-entropy, nats", "as good as RAM's lowest after"]]
    for method, one in summaries.items():
        row = [METHODS[method].title]
        for measure in OTHER_MEASURES.values():
            ours, rams = (np.array([settles(curve, *measure) for curve in of.curves]) for of in (one, base))
            faster = "" if one is base else f", {format_estimate(ratio(ours, rams), 1)} times"
            row.append(f"{format_estimate(bootstrap(np.mean, ours), 0)}{faster}")
        best = np.array([min(point["cross_entropy"] for point in curve) for curve in one.curves])
        reached = [
            next((p["iterations"] for p in curve if p["cross_entropy"] <= lowest), np.nan) for curve in one.curves
        ]
        row += [format_estimate(bootstrap(np.mean, best), 2), MISSING if one is base else _arrival(np.array(reached))]
        rows.append(row)
    return markdown_table(rows)


def ratio(ours: np.ndarray, theirs: np.ndarray, *, seed: int = 0) -> Estimate:
    """Computes mean(theirs) / mean(ours) of (seeds,) positive values each, with an unpaired bootstrap over both."""
    return bootstrap(lambda ours, theirs, axis: theirs.mean(axis) / ours.mean(axis), ours, theirs, seed=seed)


def method_table(summaries: Mapping[str, Summary], published: str | None = None) -> str:
    """Returns a Markdown table with a row for each method.

    Args:
        summaries: see :func:`summarise`.
        published: key of :data:`PUBLISHED`, whose figures stand beside; None leaves them out.
    """
    base = summaries.get("ram")
    head = ["method", "iterations to convergence", "their spread", "test accuracy, %"]
    if base is not None:
        head += ["faster than RAM", "as good as RAM's best validation after"]
    if published is not None:
        head += [f"published on {published}: iterations", "accuracy, %"]
    rows = [head]
    for method, one in summaries.items():
        row = [
            METHODS[method].title,
            format_estimate(bootstrap(np.mean, one.convergence), 0),
            "–" if one.seeds < 2 else f"{one.spread:.0f}",
            format_estimate(bootstrap(np.mean, one.accuracy), 1, scale=100),
        ]
        if base is not None:
            faster = format_estimate(ratio(one.convergence, base.convergence), 1)
            row += ["–", "–"] if one is base else [f"{faster} times", arrival(one, base.best)]
        if published is not None:
            known = PUBLISHED[published].get(method)
            row += ["–", "–"] if known is None else [f"{known[0]}", f"{known[1]:.1f}"]
        rows.append(row)
    return markdown_table(rows)


def error_beside(data: str, one: Summary) -> str:
    """Returns a method's test error beside RAM's published one, as a sentence; empty where none is published."""
    if data not in RAM_ON_MNIST:
        return ""
    error = format_estimate(bootstrap(np.mean, 1 - one.accuracy), 2, scale=100)
    title, published = METHODS[one.method].title, RAM_ON_MNIST[data]
    return f"{title}: test error {error} %; published for RAM: {published} %. ({count_seeds(one.seeds)}.)"


def arrival(one: Summary, score: float) -> str:
    """Returns the iterations after which runs reach a score, or how many runs do, in words."""
    return _arrival(one.reaches(score))


def _arrival(iterations: np.ndarray) -> str:
    missing, seeds = int(np.isnan(iterations).sum()), len(iterations)
    if missing:
        return f"reached by {seeds - missing} of {seeds} seeds"
    return f"{format_estimate(bootstrap(np.mean, iterations), 0)} iterations"


def verdicts(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    """Returns how PS-NOGS compares with RAM, and with RAM+ where it is there, as JSON values; empty without the first
    two."""
    if not {"ram", "ps-nogs"} <= summaries.keys():
        return {}
    ours, ram, plus = summaries["ps-nogs"], summaries["ram"], summaries.get("ram+")
    best = max(summaries.values(), key=lambda one: float(one.accuracy.mean()))
    return {
        "speed_up": ratio(ours.convergence, ram.convergence).to_json(),
        **({"speed_up_over_ram+": ratio(ours.convergence, plus.convergence).to_json()} if plus else {}),
        "below_best_points": 100 * float(best.accuracy.mean() - ours.accuracy.mean()),
        "best_method": best.method,
        "spread_ratio": ours.spread / ram.spread if ram.seeds > 1 and ram.spread > 0 else None,
        "seeds": min(ours.seeds, ram.seeds),
    }


def verdict_sentence(verdict: Mapping[str, Any]) -> str:
    """Returns :func:`verdicts` in a sentence."""
    faster, than_plus = _times(verdict["speed_up"]), ""
    if "speed_up_over_ram+" in verdict:
        than_plus = f" and {_times(verdict['speed_up_over_ram+'])} as fast as RAM+"
    spread = verdict["spread_ratio"]
    spreads = "" if spread is None else f" The spread of its iterations over seeds is {spread:.2f} of RAM's."
    return (
        f"PS-NOGS converges {faster} as fast as RAM{than_plus}, and its test accuracy is "
        f"{verdict['below_best_points']:.1f} points below the best method's ({METHODS[verdict['best_method']].title})."
        f"{spreads} ({count_seeds(verdict['seeds'])}.)"
    )


def _times(faster: Mapping[str, Any]) -> str:
    interval = "" if faster["interval"] is None else " ({:.1f} to {:.1f})".format(*faster["interval"])
    return f"{faster['value']:.1f} times{interval}"


def tested_cells(cells: Cells, way: str) -> list[Mapping[str, Any]]:
    """Returns the cells with the figures of one way of testing in place of argmax's, those that have them."""
    if way == "argmax":
        return list(cells)
    return [{**cell, **cell["ways"][way]} for cell in cells if way in cell.get("ways", {})]


def ways_table(cells: Cells, data: str, architecture: str) -> str:
    """Returns a Markdown table of test accuracies, a row a method and a column a way of testing; empty where runs have
    one way only."""
    found = {way: summarise(tested_cells(cells, way), data, architecture) for way in WAYS}
    if not all(found.values()):
        return ""
    rows = [["method, test accuracy in %", *(way.title for way in WAYS.values())]]
    for method in found["mean-5"]:
        shown = (bootstrap(np.mean, found[way][method].accuracy) for way in WAYS)
        rows.append([METHODS[method].title, *(format_estimate(one, 1, scale=100) for one in shown)])
    return markdown_table(rows)


def results_page(cells: Cells, data: Sequence[str], architectures: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Returns the tables and sentences of finished runs as Markdown, and :func:`verdicts` by heading."""
    parts, by_heading = [], {}
    for name, architecture in itertools.product(data, architectures):
        summaries = summarise(cells, name, architecture)
        if not summaries:
            continue
        heading = name if len(architectures) == 1 else f"{name}, {architecture}"
        budget = max(one.iterations[-1] for one in summaries.values())
        minutes = np.median(np.concatenate([one.seconds for one in summaries.values()])) / 60
        parts.append(
            f"**{heading}**, up to {budget} iterations a run, {minutes:.1f} minutes in the median:\n\n"
            f"{method_table(summaries, COMPARED_WITH.get(name))}"
        )
        parts += [beside for one in summaries.values() if (beside := error_beside(name, one))]
        by_heading[heading] = verdicts(summaries)
        if by_heading[heading]:
            parts.append(verdict_sentence(by_heading[heading]))
        if TASKS[name].observation == "features" and "ram" in summaries:  # there are few validation images
            parts.append(f"Iterations to convergence by other measures:\n\n{other_measures(summaries)}")
        table = ways_table(cells, name, architecture)
        if table:
            parts += [f"**{heading}**, tested four ways, by the weights that did best so on validation images:", table]
        for way in ("no-repeats", "mean-5") if table else ():
            summaries, own = summarise(tested_cells(cells, way), name, architecture), f"{heading}, {WAYS[way].title}"
            parts += [f"**{own}**:", method_table(summaries)]
            by_heading[own] = verdicts(summaries)
            if by_heading[own]:
                parts.append(verdict_sentence(by_heading[own]))
    return "\n\n".join(parts), by_heading
