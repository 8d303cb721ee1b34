"""Test scores of a benchmark's methods over seeds and environments, with their intervals.

A *method* is an algorithm with its architecture, demonstrations and variant; a *cell* is a method on an environment
with one seed. Scores are normalised, (success - random) / (oracle - random): 0 is random, 1 the oracle. Aggregates over
environments come from rliable (Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
2021), with intervals from a bootstrap that is stratified: the seeds of each environment are resampled by themselves.

Here and in :mod:`agents.evaluation.curves`, ``results`` has the columns :data:`agents.evaluation.results.COLUMNS`, and
``resamples`` and ``seed`` are those of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

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
from agents.evaluation.statistics import Estimate, bootstrap
from glimpse_env.console.names import pip_extra
from glimpse_env.errors import ConfigurationError

if TYPE_CHECKING:
    from pandas import DataFrame

RESAMPLES = 2000
"""Resamples of seeds in every bootstrap of a benchmark."""


def rliable_modules() -> tuple[Any, Any]:
    """Imports rliable's modules ``library`` and ``metrics``.

    Raises:
        ConfigurationError: if they cannot be imported.
    """
    try:
        from rliable import library, metrics
    except (ImportError, TypeError) as error:  # TypeError: arch, which rliable 1.2 is built on, beside pandas 3
        raise ConfigurationError(
            f"the benchmark's statistics need rliable and a pandas below 3, and importing them failed ({error}): "
            f"{pip_extra('benchmark')}."
        ) from error
    return library, metrics


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator and restores it afterwards: rliable 1.2 draws from it, whatever it is given."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def stratified(scores: Any, statistics: Any, *, resamples: int, seed: int) -> np.ndarray:
    """Computes K statistics of scores and the ends of their 95 % intervals, by rliable's stratified bootstrap.

    Args:
        scores: (R, T, ...) of R runs on T tasks, or a list of such arrays.
        statistics: returns (K,) for all the scores.

    Returns:
        (3, K) float64: the statistics, lower ends and upper ends; the ends are NaN where there is a single run.

    Raises:
        ConfigurationError: if rliable is missing.
    """
    library, _ = rliable_modules()
    samples = scores if isinstance(scores, list) else [scores]
    if min(map(len, samples)) < 2:
        values = np.asarray(statistics(*samples))
        return np.vstack([values, np.full((2, len(values)), np.nan)])
    with seeded(seed):
        values, ends = library.get_interval_estimates({"": scores}, statistics, reps=resamples)
    return np.vstack([values[""], ends[""]])


def as_estimates(lines: np.ndarray) -> list[Estimate]:
    """Returns (3, K) values and ends of their intervals as K estimates, NaN as not defined."""
    return [Estimate(*(None if np.isnan(number) else float(number) for number in column)) for column in lines.T]


def over_seeds(statistic: Any, *samples: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Computes a statistic of samples over seeds, each resampled by itself; see :func:`bootstrap`."""
    return bootstrap(statistic, *samples, resamples=resamples, seed=seed, method="outward")


def standard_deviation(sample: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the standard deviation of a sample (n - 1) over an axis; NaN of one number."""
    if sample.shape[axis] < 2:
        return np.full_like(sample.sum(axis=axis), np.nan)
    return np.std(sample, axis=axis, ddof=1)


def final_scores(
    results: DataFrame, method: Method, envs: Sequence[str] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns a method's normalised scores on test images as rliable's (runs, tasks) matrix.

    Args:
        method: one of :func:`methods_of`.
        envs: tasks; None takes all environments on which the method has test rows.

    Returns:
        The environments, and (R, T) scores: row r holds the r-th seed of each environment, and R is the smallest
        number of seeds of any of them.

    Raises:
        ConfigurationError: if the method has no test row on one of the environments, or on none at all.
    """
    test = results[results["split"] == "test"]
    for name in METHOD_COLUMNS:
        test = test[test[name] == getattr(method, name)]
    tasks = tuple(envs_of(test)) if envs is None else tuple(envs)
    samples = [test[test["env"] == env].sort_values("seed")["normalised"].to_numpy(dtype=np.float64) for env in tasks]
    runs = min((len(sample) for sample in samples), default=0)
    if runs == 0:
        raise ConfigurationError(f"{method.label} has no score on test images of {list(tasks) or 'any environment'}.")
    return tasks, np.stack([sample[:runs] for sample in samples], axis=1)


def finals(results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> DataFrame:
    """Computes the test scores of each method's selected weights on each environment.

    Args:
        results: cells without a test row are left out.

    Returns:
        A row an environment and method, in this order: ``env``, ``method``, ``seeds``; the estimates ``success`` and
        ``normalised``, means over seeds, and ``std``, the standard deviation of success over seeds, not defined with
        one seed; the success of ``random`` and of the ``oracle``; and where glimpses have a price, so that success is
        the return, the estimates ``judged_right`` and ``glimpses`` that it is made of, else not defined.
    """
    results, settings = checked(results), {"resamples": resamples, "seed": seed}
    priced = ("judged_right", "glimpses")
    results = results.reindex(columns=list(dict.fromkeys((*results.columns, *priced))))
    rows = [
        (
            *(env, method, len(cells)),
            *(over_seeds(np.mean, cells[name], **settings) for name in ("success", "normalised")),
            over_seeds(standard_deviation, cells["success"], **settings),
            *(float(cells[name].mean()) for name in ("random", "oracle")),
            *(
                Estimate(None, None, None) if cells[name].isna().any() else over_seeds(np.mean, cells[name], **settings)
                for name in priced
            ),
        )
        for (env, method), cells in by_env_and_method(results[results["split"] == "test"]).items()
    ]
    return frame(rows, "env", "method", "seeds", "success", "normalised", "std", "random", "oracle", *priced)


def aggregate(scores: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Estimate, Estimate, Estimate]:
    """Computes IQM, mean and standard deviation over seeds of (R, T) scores, with rliable's stratified bootstrap.

    Args:
        scores: of R runs on T tasks. The IQM is over all R x T, the mean a mean over tasks of means over runs, and the
            deviation the square root of the mean over tasks of the variance over runs.

    Returns:
        The three; no intervals, and no deviation, with one run.

    Raises:
        ConfigurationError: if there is no score, or rliable is missing.
    """
    _, metrics = rliable_modules()
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise ConfigurationError(f"scores have the shape {scores.shape}; need (runs, tasks), at least one of each.")

    def together(scores: np.ndarray) -> np.ndarray:
        deviation = np.sqrt(np.mean(standard_deviation(scores.T) ** 2))
        return np.array([metrics.aggregate_iqm(scores), metrics.aggregate_mean(scores), deviation])

    iqm, mean, deviation = as_estimates(stratified(scores, together, resamples=resamples, seed=seed))
    return iqm, mean, deviation


def aggregates(results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> DataFrame:
    """Computes normalised test scores of each method over the environments it was run on.

    Returns:
        A row a method, by rank: ``method``, ``envs``, ``seeds`` an environment, and the estimates ``iqm``, ``mean`` and
        ``std`` of :func:`aggregate`.
    """
    results, rows = checked(results), []
    for method in methods_of(results[results["split"] == "test"]):
        envs, scores = final_scores(results, method)
        rows.append((method, envs, len(scores), *aggregate(scores, resamples=resamples, seed=seed)))
    return frame(rows, "method", "envs", "seeds", "iqm", "mean", "std")


def probability_of_improvement(
    ours: np.ndarray, theirs: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Computes P(ours > theirs) + P(ours = theirs) / 2 of a run of each, a mean over tasks, with rliable's bootstrap.

    Args:
        ours: (R, T) scores of R runs on T tasks.
        theirs: (S, T) scores of S runs on the same tasks.

    Returns:
        The estimate; no interval where one of them has a single run.

    Raises:
        ConfigurationError: if the tasks differ in number, there is no score, or rliable is missing.
    """
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if ours.ndim != 2 or theirs.ndim != 2 or not ours.size or not theirs.size or ours.shape[1] != theirs.shape[1]:
        raise ConfigurationError(f"scores have the shapes {ours.shape} and {theirs.shape}; need (runs, same tasks).")

    def probability(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """rliable's own metric, a hundred times as fast as by its Mann-Whitney tests."""
        return np.array([np.mean((np.sign(ours[:, None] - theirs) + 1) / 2)])  # of (R, S, T)

    [estimate] = as_estimates(stratified([ours, theirs], probability, resamples=resamples, seed=seed))
    return estimate


def improvements(results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> DataFrame:
    """Estimates how probably each method with demonstrations beats the same without on test images.

    Returns:
        A row a method that shares environments with its baseline, by rank: ``method``, ``baseline``, the shared
        ``envs``, and the estimate ``probability``: P(a run with > a run without) + half the probability of a tie.
    """
    results, rows = checked(results), []
    test = results[results["split"] == "test"]
    for method, baseline in with_baselines(methods_of(test)):
        shared = sorted(set(final_scores(test, method)[0]) & set(final_scores(test, baseline)[0]))
        if shared:
            ours, theirs = (final_scores(test, each, shared)[1] for each in (method, baseline))
            probability = probability_of_improvement(ours, theirs, resamples=resamples, seed=seed)
            rows.append((method, baseline, tuple(shared), probability))
    return frame(rows, "method", "baseline", "envs", "probability")


def profiles(
    results: DataFrame, taus: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[Method, np.ndarray]:
    """Computes performance profiles: the share of runs whose normalised test score is above each of ``taus`` (rliable).

    Args:
        taus: (M,) ascending.

    Returns:
        By method (3, M): the profile, and the lower and upper ends of its pointwise 95 % interval, NaN with one seed.
    """
    results, taus = checked(results), np.asarray(taus, dtype=np.float64)

    def above(scores: np.ndarray) -> np.ndarray:
        return np.mean(scores[..., None] > taus, axis=(0, 1))

    return {
        method: stratified(final_scores(results, method)[1], above, resamples=resamples, seed=seed)
        for method in methods_of(results[results["split"] == "test"])
    }


def best_by_env(scored: DataFrame) -> Mapping[str, Any]:
    """Returns by environment the row of :func:`finals` with the highest mean on test images, the first of equals."""
    best: dict[str, Any] = {}
    for row in scored.itertuples():
        if row.env not in best or row.success.value > best[row.env].success.value:
            best[row.env] = row
    return best
