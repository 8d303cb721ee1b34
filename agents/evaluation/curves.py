"""Learning curves of a benchmark: their means, what methods take to reach a score, and how much seeds differ in it.

For ``results``, ``resamples`` and ``seed`` see :mod:`agents.evaluation.scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from agents.evaluation.results import (
    METHOD_COLUMNS,
    Method,
    by_env_and_method,
    checked,
    envs_of,
    frame,
    methods_of,
    with_baselines,
)
from agents.evaluation.scores import RESAMPLES, over_seeds, standard_deviation, stratified
from agents.evaluation.statistics import BoundedEstimate, resampled_rows, resampling_weights
from glimpse_env.errors import ConfigurationError

if TYPE_CHECKING:
    from pandas import DataFrame

THRESHOLDS = (0.5, 0.8, 0.9, 0.95)
"""Normalised validation scores whose first crossing is timed."""
MEASURES: dict[str, str] = {
    "total_steps": "environment steps, those of the demonstrations among them",
    "wall_s": "seconds of training",
    "wall_with_making_s": "seconds of training and of making the demonstrations",
}
"""What :func:`to_threshold` can count, with its description."""
SLACK = 1e-9
"""How far below a threshold still counts as reaching it: rounding of the normalisation."""


def curves_of(results: DataFrame) -> dict[tuple[str, Method], list[DataFrame]]:
    """Returns the learning curves: by environment and method, in their order, a frame a seed.

    A frame holds the cell's validation rows in the order of training, all columns of ``results`` and
    ``wall_with_making_s``.
    """
    val = checked(results)
    val = val[val["split"] == "val"]
    val = val.assign(wall_with_making_s=val["wall_s"] + val["making_s"])
    return {
        key: [curve for _, curve in rows.groupby("seed", sort=True)] for key, rows in by_env_and_method(val).items()
    }


def first_crossing(curve_x: np.ndarray, curve_normalised: np.ndarray, threshold: float) -> float | None:
    """Finds where a learning curve first is at or above a threshold; nothing is interpolated.

    Args:
        curve_x: (E,) total steps or seconds of the evaluations, ascending.
        curve_normalised: (E,) normalised score at each.
        threshold: in (0, 1].

    Returns:
        An entry of ``curve_x``; None if the threshold is never reached.

    Raises:
        ConfigurationError: if the two differ in length, the curve is empty or descends in x, or the threshold lies
            outside.
    """
    xs, ys = np.asarray(curve_x, dtype=np.float64), np.asarray(curve_normalised, dtype=np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape or len(xs) == 0 or (np.diff(xs) < 0).any():
        raise ConfigurationError(
            f"a curve of {xs.shape} points and {ys.shape} scores; need one ascending x for each of at least one score."
        )
    if not 0.0 < threshold <= 1.0:
        raise ConfigurationError(f"threshold={threshold}; need 0 < threshold <= 1.")
    above = np.flatnonzero(ys >= threshold - SLACK)
    return float(xs[above[0]]) if len(above) else None


def step_interpolate(curve_x: np.ndarray, curve_y: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Returns a curve's (E,) last value at or before each point of ``grid`` (G,); NaN before its first."""
    index = np.searchsorted(curve_x, grid, side="right") - 1
    return np.where(index >= 0, np.asarray(curve_y)[np.maximum(index, 0)], np.nan)


def mean_curve(
    curves: Sequence[DataFrame], column: str = "success", *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the mean learning curve of one method on one environment over seeds.

    Args:
        curves: of its seeds, see :func:`curves_of`.
        column: ``success`` or ``normalised``.

    Returns:
        (G,) total steps: all those at which a seed was evaluated and every seed has begun; and (3, G) the mean over
        seeds of their last values, with the ends of its pointwise 95 % interval, NaN with one seed.
    """
    grid = np.unique(np.concatenate([curve["total_steps"] for curve in curves]))
    grid = grid[grid >= max(curve["total_steps"].iloc[0] for curve in curves)]
    values = np.stack([step_interpolate(curve["total_steps"], curve[column], grid) for curve in curves])  # (S, G)
    ends = np.full((2, len(grid)), np.nan)
    if len(curves) > 1:
        weights = resampling_weights(len(curves), resamples=resamples, seed=seed)
        ends = np.quantile(weights @ values, [0.025, 0.975], axis=0)
    return grid, np.vstack([values.mean(axis=0), ends])


def efficiency(
    results: DataFrame, *, points: int = 80, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, dict[Method, np.ndarray]]:
    """Computes the IQM over environments and seeds of normalised validation scores against total steps (rliable).

    Args:
        points: of the grid, from 0 and then in equal ratios to the last evaluation of any cell.

    Returns:
        (G,) total steps, and by method (3, G): the IQM of each cell's last score, and the ends of its pointwise 95 %
        interval. NaN where a cell of the method has not begun or all have ended; the ends are NaN with one seed.
    """
    curves = curves_of(results)
    if not curves:
        raise ConfigurationError("the results hold no evaluation on validation images; a curve needs some.")
    steps = np.concatenate([curve["total_steps"] for cells in curves.values() for curve in cells])
    first, last = max(float(steps[steps > 0].min(initial=np.inf)), 1.0), float(steps.max())
    grid = np.array([0.0])
    if last > 0:
        grid = np.unique(np.concatenate([grid, np.ceil(np.geomspace(min(first, last), last, points)), [last]]))
        grid = grid[grid <= last]

    def iqms(scores: np.ndarray) -> np.ndarray:
        return stats.trim_mean(scores.reshape(-1, scores.shape[-1]), proportiontocut=0.25, axis=0)

    lines = {}
    for method in sorted({method for _, method in curves}, key=lambda method: method.rank):
        by_env = [cells for (_, other), cells in curves.items() if other == method]
        runs = min(map(len, by_env))
        scores = np.stack(
            [
                [step_interpolate(curve["total_steps"], curve["normalised"], grid) for curve in cells[:runs]]  # (R, G)
                for cells in by_env
            ],
            axis=1,
        )  # (R, T, G)
        end = max(curve["total_steps"].iloc[-1] for cells in by_env for curve in cells)
        inside = np.isfinite(scores).all(axis=(0, 1)) & (grid <= end)
        lines[method] = np.full((3, len(grid)), np.nan)
        if inside.any():
            lines[method][:, inside] = stratified(scores[..., inside], iqms, resamples=resamples, seed=seed)
    return grid, lines


def to_threshold(results: DataFrame, threshold: float, measure: str = "total_steps") -> DataFrame:
    """Finds what each cell takes to reach a normalised validation score.

    Args:
        results: cells without validation rows are left out.
        threshold: in (0, 1].
        measure: one of :data:`MEASURES`.

    Returns:
        A row a cell: ``env``, the columns of its method, ``seed``, ``value`` (infinite where it never gets there) and
        ``budget`` (where the curve ends: a lower bound of a value that is infinite).

    Raises:
        ConfigurationError: if the results are not as :func:`checked` wants them, or the threshold or measure unknown.
    """
    if measure not in MEASURES:
        raise ConfigurationError(f"measure={measure!r}; need one of {list(MEASURES)}.")
    rows, cell = [], ("env", *METHOD_COLUMNS, "seed")
    for curve in (curve for cells in curves_of(results).values() for curve in cells):
        first = first_crossing(curve[measure], curve["normalised"], threshold)
        value = np.inf if first is None else first
        rows.append((*(curve[name].iloc[0] for name in cell), value, float(curve[measure].iloc[-1])))
    return frame(rows, *cell, "value", "budget")


def times_to_threshold(
    results: DataFrame,
    threshold: float,
    measure: str = "total_steps",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> DataFrame:
    """Computes what each method takes to reach a normalised validation score on each environment.

    Args:
        results, threshold, measure: see :func:`to_threshold`.

    Returns:
        A row an environment and method, in this order: ``env``, ``method``, ``seeds``, how many of them have
        ``reached`` the score, and the BoundedEstimate ``median`` over seeds; seeds that never reach it count with
        their budget.
    """
    rows = []
    for (env, method), cells in by_env_and_method(to_threshold(results, threshold, measure)).items():
        values = cells["value"].to_numpy()
        bounded = np.minimum(values, cells["budget"].to_numpy())
        median = float(np.median(bounded))
        at_least = bool(np.median(values) != median)
        estimate = BoundedEstimate(median, None, None, at_least, at_least)
        if len(cells) > 1:
            [drawn] = resampled_rows(len(cells), resamples=resamples, seed=seed)
            estimate = estimate.resampled(*(np.median(each[drawn], axis=-1) for each in (bounded, values)))
        rows.append((env, method, len(cells), int(np.isfinite(values).sum()), estimate))
    return frame(rows, "env", "method", "seeds", "reached", "median")


def speed_up(
    results: DataFrame,
    *,
    threshold: float = 0.9,
    measure: str = "total_steps",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> DataFrame:
    """Computes how many times sooner methods with demonstrations reach a threshold than the same without.

    ratio = median over seeds without / median over seeds with. A seed without demonstrations that never gets there
    counts with its budget, so that the ratio may be a lower bound; one with demonstrations as never, which is the
    cautious side: the ratio is None once the median seed never gets there, and such resamples count as a ratio of 0.

    Args:
        results, threshold, measure: see :func:`to_threshold`.

    Returns:
        A row an environment and method wherever both were run: ``env``, ``method``, ``baseline``, their numbers of
        ``seeds`` and ``baseline_seeds``, and the BoundedEstimate ``ratio``, without interval where one of the two has a
        single seed.

    Raises:
        ConfigurationError: if the results are not as :func:`checked` wants them, or the threshold or measure unknown.
    """
    times = by_env_and_method(to_threshold(results, threshold, measure))
    rows = []
    for env in sorted({env for env, _ in times}):
        for method, baseline in with_baselines([method for other, method in times if other == env]):
            ours, theirs = times[env, method], times[env, baseline]
            values, budgets = theirs["value"].to_numpy(), theirs["budget"].to_numpy()
            ratio = _ratio(ours["value"].to_numpy(), values, budgets, resamples, seed)
            rows.append((env, method, baseline, len(ours), len(theirs), ratio))
    return frame(rows, "env", "method", "baseline", "seeds", "baseline_seeds", "ratio")


def _ratio(ours: np.ndarray, theirs: np.ndarray, budgets: np.ndarray, resamples: int, seed: int) -> BoundedEstimate:
    """Computes the ratio of medians, theirs over ours.

    Args:
        ours: (n,) with demonstrations, infinite where never.
        theirs: (m,) without, infinite where never.
        budgets: (m,) of those without.
    """
    bounded = np.minimum(theirs, budgets)
    below, above = np.median(ours), np.median(bounded)
    if not np.isfinite(below) or below <= 0:
        return BoundedEstimate(None, None, None, False, False)
    at_least = bool(np.median(theirs) != above)
    estimate = BoundedEstimate(float(above / below), None, None, at_least, at_least)
    if min(len(ours), len(theirs)) < 2:
        return estimate
    our_rows, their_rows = resampled_rows(len(ours), len(theirs), resamples=resamples, seed=seed)
    medians = np.maximum(np.median(ours[our_rows], axis=-1), np.finfo(np.float64).tiny)
    unbounded = np.where(np.isfinite(medians), np.median(theirs[their_rows], axis=-1), 0.0)
    return estimate.resampled(np.median(bounded[their_rows], axis=-1) / medians, unbounded / medians)


def spread(results: DataFrame, *, threshold: float = 0.9, resamples: int = RESAMPLES, seed: int = 0) -> DataFrame:
    """Computes how much seeds differ in test success and in steps to a threshold, with demonstrations and without.

    Args:
        results, threshold: see :func:`to_threshold`.

    Returns:
        A row an environment and method wherever both were run: ``env``, ``method``, ``baseline``, and the estimates of
        the standard deviations over seeds and their ratio, with demonstrations over without: ``success_with``,
        ``success_without``, ``success_ratio``, ``steps_with``, ``steps_without``, ``steps_ratio``. Deviations are not
        defined with one seed, those of steps neither where a seed never gets there. A ratio is not defined over a
        deviation of zero, unless both are; it has no interval where more than 2.5 % of the resamples are like that, as
        with three seeds or fewer.
    """
    results = checked(results)
    samples = {
        "success": {
            key: cells["success"].to_numpy()
            for key, cells in by_env_and_method(results[results["split"] == "test"]).items()
        },
        "steps": {
            key: cells["value"].to_numpy()
            for key, cells in by_env_and_method(to_threshold(results, threshold)).items()
            if np.isfinite(cells["value"]).all()
        },
    }

    missing, settings = np.array([np.nan]), {"resamples": resamples, "seed": seed}
    rows = []
    for env in envs_of(results):
        for method, baseline in with_baselines(methods_of(results[results["env"] == env])):
            row: dict[str, Any] = {"env": env, "method": method, "baseline": baseline}
            for name, of_name in samples.items():
                ours, theirs = (of_name.get((env, each), missing) for each in (method, baseline))
                row[f"{name}_with"] = over_seeds(standard_deviation, ours, **settings)
                row[f"{name}_without"] = over_seeds(standard_deviation, theirs, **settings)
                row[f"{name}_ratio"] = over_seeds(_deviation_ratio, ours, theirs, **settings)
            rows.append(row)
    return frame(rows)


def _deviation_ratio(ours: np.ndarray, theirs: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the ratio of two standard deviations: infinite over zero, and 1 where both are zero."""
    above, below = np.asarray(standard_deviation(ours, axis)), np.asarray(standard_deviation(theirs, axis))
    ratio = np.divide(above, below, out=np.full_like(above, np.inf), where=below != 0)
    return np.where((above == 0) & (below == 0), 1.0, ratio)
