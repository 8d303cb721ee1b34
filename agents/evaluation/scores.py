"""Statistics of a benchmark: final scores, learning speed and spread of methods over seeds and environments.

A *method* is an algorithm with its architecture, demonstrations and variant; a *cell* is a method on an environment
with one seed. Scores are normalised, (success - random) / (oracle - random): 0 is random, 1 the oracle. Aggregates over
environments come from rliable (Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
2021), with intervals from a bootstrap that is stratified: the seeds of each environment are resampled by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from agents.evaluation.statistics import Estimate
from glimpse_env.errors import ConfigurationError

if TYPE_CHECKING:
    from pandas import DataFrame

THRESHOLDS = (0.5, 0.8, 0.9, 0.95)
"""Normalised validation scores whose first reaching is timed."""
MEASURES: dict[str, str] = {
    "total_steps": "environment steps, those of the demonstrations among them",
    "wall_s": "seconds of training",
    "wall_with_making_s": "seconds of training and of making the demonstrations",
}
"""What :func:`to_threshold` can count."""
METHOD_COLUMNS = ("algo", "architecture", "demos", "num_demos", "variant")
COLUMNS = (
    "env",
    *METHOD_COLUMNS,
    "seed",
    "split",
    "env_steps",
    "demo_steps",
    "total_steps",
    "wall_s",
    "making_s",
    "success",
    "random",
    "oracle",
    "normalised",
)
"""Columns of ``results`` that are read here, one row an evaluation; others may be there."""
RESAMPLES = 2000
CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
SLACK = 1e-9
"""How far below a threshold still counts as reaching it: rounding of the normalisation."""
ACRONYMS = ("ppo", "a2c", "dqn", "qrdqn", "trpo", "gru", "lstm", "mlp", "cnn", "reinforce")
SOURCES: dict[str, str] = {"hgs": "hand-crafted", "fixed": "fixed-sequence", "ps-ram": "PS-RAM"}
"""What demonstrations are called, where not by their own name."""


@dataclass(frozen=True)
class Method:
    """What is compared: an algorithm with its architecture, demonstrations and variant."""

    algo: str
    architecture: str
    demos: str
    num_demos: int
    variant: str = "default"

    @property
    def has_demos(self) -> bool:
        """Whether it learns from demonstrations."""
        return self.demos != "none"

    @property
    def family(self) -> tuple[str, str]:
        """(algo, architecture)."""
        return self.algo, self.architecture

    @property
    def rank(self) -> tuple[Any, ...]:
        """Sorts methods: families together, without demonstrations first, default variants and the oracle's early."""
        variant, demos = (self.variant != "default", self.variant), (self.demos != "oracle", self.demos)
        return *self.family, self.has_demos, *variant, *demos, self.num_demos

    @property
    def recipe(self) -> str:
        """All but the architecture in words, like ``PPO · 200 oracle demos · no warm up``."""
        source = SOURCES.get(self.demos, self.demos)
        demos = f"{self.num_demos:,} {source} demos" if self.has_demos else "no demos"
        return f"{told(self.algo)} · {demos}" + ("" if self.variant == "default" else f" · {told(self.variant)}")

    @property
    def label(self) -> str:
        """In words, like ``PPO · GRU · 200 oracle demos``."""
        algo, dot, rest = self.recipe.partition(" · ")
        return f"{algo} · {told(self.architecture)}{dot}{rest}"


def told(name: str) -> str:
    """An algorithm's, architecture's or variant's name in words."""
    return name.upper() if name in ACRONYMS else name.replace("_", " ")


@dataclass(frozen=True)
class Curve:
    """One cell's evaluations on validation images, in the order of training."""

    env: str
    method: Method
    seed: int
    total_steps: np.ndarray
    """(E,) environment steps of the agent and of its demonstrations, ascending."""
    wall_s: np.ndarray
    """(E,) seconds of training."""
    wall_with_making_s: np.ndarray
    """(E,) seconds of training and of making the demonstrations."""
    success: np.ndarray
    """(E,) share judged right."""
    normalised: np.ndarray
    """(E,) 0 as random, 1 as the oracle."""


@dataclass(frozen=True)
class Final:
    """What one method's chosen weights score on test images of one environment."""

    env: str
    method: Method
    seeds: int
    success: Estimate
    """Mean share judged right over seeds."""
    normalised: Estimate
    """Mean normalised score over seeds."""
    std: Estimate
    """Standard deviation of the share judged right over seeds; not defined with one seed."""
    random: float
    oracle: float


@dataclass(frozen=True)
class Aggregate:
    """Normalised test scores of one method over environments and seeds."""

    method: Method
    envs: tuple[str, ...]
    seeds: int
    """An environment."""
    iqm: Estimate
    """Interquartile mean: of the middle half of all runs."""
    mean: Estimate
    std: Estimate
    """Over seeds: square root of the mean variance within an environment; not defined with one seed."""


@dataclass(frozen=True)
class Improvement:
    """How probably a method with demonstrations beats the same without."""

    method: Method
    baseline: Method
    envs: tuple[str, ...]
    """On which both were run."""
    probability: Estimate
    """P(a run with > a run without) + half the probability of a tie, a mean over ``envs``."""


@dataclass(frozen=True)
class Arrival:
    """What it takes one method on one environment to reach a threshold, a median over seeds."""

    env: str
    method: Method
    seeds: int
    reached: int
    """Seeds that reach it; the others count with their budget."""
    median: Estimate
    at_least: bool
    """Whether the median rests on seeds that never reach the threshold, so that it is a lower bound."""
    open_above: bool
    """Whether the interval's upper end does."""


@dataclass(frozen=True)
class SpeedUp:
    """How many times sooner a method with demonstrations reaches a threshold than the same without."""

    with_demos: Arrival
    without: Arrival
    ratio: Estimate
    """Median without over median with; not defined where the median seed with demonstrations never reaches it."""
    at_least: bool
    """Whether the ratio is a lower bound."""
    open_above: bool
    """Whether the interval's upper end is a lower bound itself."""


@dataclass(frozen=True)
class Change:
    """A standard deviation over seeds with demonstrations, without, and the ratio of the first to the second."""

    with_demos: Estimate
    without: Estimate
    ratio: Estimate


@dataclass(frozen=True)
class Spread:
    """How much seeds differ with demonstrations and without, on one environment."""

    env: str
    method: Method
    baseline: Method
    success: Change
    """Of the test success."""
    steps: Change
    """Of total steps to the threshold; what has a seed that never reaches it is not defined."""


def _rliable() -> tuple[Any, Any]:
    """rliable's modules ``library`` and ``metrics``.

    Raises:
        ConfigurationError: if they cannot be imported.
    """
    try:
        from rliable import library, metrics
    except (ImportError, TypeError) as error:  # TypeError: arch, which rliable 1.2 is built on, beside pandas 3
        raise ConfigurationError(
            f"the benchmark's statistics need rliable and a pandas below 3, and importing them failed ({error}): "
            'pip install "glimpse-env[benchmark]".'
        ) from error
    return library, metrics


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator seeded, and afterwards as it was: rliable 1.2 draws from it, whatever it is given."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def checked(results: DataFrame) -> DataFrame:
    """``results`` sorted by cell, split and steps, if it holds what this module reads.

    Raises:
        ConfigurationError: if it is empty, lacks a column, has a value that is not a finite number, an oracle that is
            not above random, a normalised score that disagrees with its parts, a cell with two test rows, or two
            validation rows of one cell after the same number of steps.
    """
    missing = [name for name in COLUMNS if name not in results.columns]
    if missing:
        raise ConfigurationError(
            f"the results lack the columns {missing}; collect them with scripts/benchmark.py of this version."
        )
    if len(results) == 0:
        raise ConfigurationError("the results hold no evaluation; run at least one cell of the benchmark first.")
    numbers = list(COLUMNS[COLUMNS.index("env_steps") :])
    for name in ("num_demos", "seed", *numbers):
        try:
            finite = bool(np.isfinite(results[name].to_numpy(dtype=np.float64)).all())
        except (TypeError, ValueError):
            finite = False
        if not finite:
            raise ConfigurationError(f"the results' column {name!r} holds a value that is no finite number; drop it.")
    words = ("env", "algo", "architecture", "demos", "variant", "split")
    results = results.astype({**dict.fromkeys(words, str), **dict.fromkeys(numbers, np.float64)})
    flat = results[results["oracle"] <= results["random"]]
    if len(flat):
        raise ConfigurationError(
            f"the oracle is not above random on {flat['env'].iloc[0]}; leave this environment out, "
            "as scores between the two are not defined."
        )
    parts = (results["success"] - results["random"]) / (results["oracle"] - results["random"])
    if not np.allclose(parts, results["normalised"], atol=1e-6):
        raise ConfigurationError(
            "the results' column 'normalised' is not (success - random) / (oracle - random); compute it anew."
        )
    splits = set(results["split"]) - {"val", "test"}
    if splits:
        raise ConfigurationError(f"the results have the splits {sorted(map(str, splits))}; need 'val' or 'test'.")
    cell = ["env", *METHOD_COLUMNS, "seed"]
    test, val = results[results["split"] == "test"], results[results["split"] == "val"]
    for rows, columns, what in (
        (test, cell, "two evaluations on test images"),
        (val, [*cell, "env_steps"], "two evaluations on validation images after the same steps"),
    ):
        twice = rows[rows.duplicated(subset=columns)]
        if len(twice):
            found = {name: twice[name].iloc[0] for name in columns}
            raise ConfigurationError(f"the results have {what} of the cell {found}; keep one of them.")
    return results.sort_values([*cell, "split", "env_steps"], kind="stable", ignore_index=True)


def _method(row: Sequence[Any]) -> Method:
    algo, architecture, demos, num_demos, variant = row
    return Method(str(algo), str(architecture), str(demos), int(num_demos), str(variant))


def methods_of(results: DataFrame) -> list[Method]:
    """The methods among ``results``, in the order of their rank."""
    rows = results[list(METHOD_COLUMNS)].drop_duplicates().itertuples(index=False, name=None)
    return sorted({_method(row) for row in rows}, key=lambda method: method.rank)


def envs_of(results: DataFrame) -> list[str]:
    """The environments among ``results``, sorted."""
    return sorted(results["env"].unique())


def baseline_of(method: Method, methods: Sequence[Method]) -> Method | None:
    """The same algorithm and architecture without demonstrations; of the same variant, else the default one."""
    for variant in (method.variant, "default"):
        for other in methods:
            if other.family == method.family and not other.has_demos and other.variant == variant:
                return other
    return None


def _pairs(methods: Sequence[Method]) -> list[tuple[Method, Method]]:
    """(with demonstrations, without) for every method with demonstrations that has a counterpart."""
    pairs = [(method, baseline_of(method, methods)) for method in methods if method.has_demos]
    return [(method, baseline) for method, baseline in pairs if baseline is not None]


def curves_of(results: DataFrame) -> list[Curve]:
    """The learning curve of every cell with validation rows, by environment, method and seed."""
    val = checked(results)
    val = val[val["split"] == "val"]
    curves = []
    for (env, *method, seed), rows in val.groupby(["env", *METHOD_COLUMNS, "seed"], sort=True):
        wall = rows["wall_s"].to_numpy(dtype=np.float64)
        curves.append(
            Curve(
                env=str(env),
                method=_method(method),
                seed=int(seed),
                total_steps=rows["total_steps"].to_numpy(dtype=np.float64),
                wall_s=wall,
                wall_with_making_s=wall + rows["making_s"].to_numpy(dtype=np.float64),
                success=rows["success"].to_numpy(dtype=np.float64),
                normalised=rows["normalised"].to_numpy(dtype=np.float64),
            )
        )
    return sorted(curves, key=lambda curve: (curve.env, curve.method.rank, curve.seed))


def reached(curve_x: np.ndarray, curve_normalised: np.ndarray, threshold: float) -> float | None:
    """Where a learning curve first is at or above a threshold; nothing is interpolated.

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


def carried(curve_x: np.ndarray, curve_y: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """A curve's (E,) last value at or before each point of ``grid`` (G,); NaN before its first."""
    index = np.searchsorted(curve_x, grid, side="right") - 1
    return np.where(index >= 0, curve_y[np.maximum(index, 0)], np.nan)


def _draws(samples: Sequence[np.ndarray], resamples: int, seed: int) -> list[np.ndarray]:
    """(R, n) resamples with replacement of each sample (n,), each by itself."""
    rng = np.random.default_rng(seed)
    return [sample[rng.integers(len(sample), size=(resamples, len(sample)))] for sample in samples]


def over_seeds(
    statistic: Callable[..., Any], *samples: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """``statistic`` of samples over seeds with its 95 % percentile bootstrap interval, each sample resampled by itself.

    Args:
        statistic: ``statistic(*samples)`` reduces the last axis of each; NaN or infinite where it is not defined.
        samples: (n,) a number a seed; lengths may differ.
        resamples: number of resamples.
        seed: of the resampling.

    Returns:
        The estimate; the interval is None where a sample has one seed or an end is not defined, the value also where
        the statistic is not defined on the samples.
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    value = float(statistic(*arrays))
    if not np.isfinite(value):
        return Estimate(None, None, None)
    if min(len(array) for array in arrays) < 2:
        return Estimate(value, None, None)
    low, high = _ends(statistic(*_draws(arrays, resamples, seed)))
    return Estimate(value, low, high) if np.isfinite([low, high]).all() else Estimate(value, None, None)


def _ends(resampled: np.ndarray) -> tuple[float, float]:
    """The percentile interval of (R,) resampled values: two of them, so that infinite ones do no harm inside."""
    if np.isnan(resampled).any():
        return np.nan, np.nan
    return (
        float(np.quantile(resampled, TAIL, method="lower")),
        float(np.quantile(resampled, 1 - TAIL, method="higher")),
    )


def _mean(sample: np.ndarray) -> np.ndarray:
    return np.mean(sample, axis=-1)


def _std(sample: np.ndarray) -> np.ndarray:
    """Standard deviation over the last axis, of a sample (n - 1); NaN of one number."""
    if sample.shape[-1] < 2:
        return np.full(sample.shape[:-1], np.nan)
    return np.std(sample, axis=-1, ddof=1)


def _std_ratio(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Of two standard deviations: infinite over zero, and 1 where both are zero."""
    above, below = np.asarray(_std(ours)), np.asarray(_std(theirs))
    ratio = np.divide(above, below, out=np.full_like(above, np.inf), where=below != 0)
    return np.where((above == 0) & (below == 0), 1.0, ratio)


def final_scores(
    results: DataFrame, method: Method, envs: Sequence[str] | None = None, column: str = "normalised"
) -> tuple[tuple[str, ...], np.ndarray]:
    """A method's scores on test images as rliable's (runs, tasks) matrix.

    Args:
        results: see :data:`COLUMNS`.
        method: one of :func:`methods_of`.
        envs: tasks; None takes all environments on which the method has test rows.
        column: ``normalised`` or ``success``.

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
    samples = [test[test["env"] == env].sort_values("seed")[column].to_numpy(dtype=np.float64) for env in tasks]
    runs = min((len(sample) for sample in samples), default=0)
    if runs == 0:
        raise ConfigurationError(f"{method.label} has no score on test images of {list(tasks) or 'any environment'}.")
    return tasks, np.stack([sample[:runs] for sample in samples], axis=1)


def finals(results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Final]:
    """Test scores by environment and method, with bootstrap intervals over seeds.

    Args:
        results: see :data:`COLUMNS`; cells without a test row are left out.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    results = checked(results)
    test = results[results["split"] == "test"]
    found = []
    for (env, *method), rows in test.groupby(["env", *METHOD_COLUMNS], sort=True):
        success = rows["success"].to_numpy(dtype=np.float64)
        found.append(
            Final(
                env=str(env),
                method=_method(method),
                seeds=len(rows),
                success=over_seeds(_mean, success, resamples=resamples, seed=seed),
                normalised=over_seeds(
                    _mean, rows["normalised"].to_numpy(dtype=np.float64), resamples=resamples, seed=seed
                ),
                std=over_seeds(_std, success, resamples=resamples, seed=seed),
                random=float(rows["random"].mean()),
                oracle=float(rows["oracle"].mean()),
            )
        )
    return sorted(found, key=lambda final: (final.env, final.method.rank))


def aggregate(scores: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Estimate, Estimate, Estimate]:
    """IQM, mean and standard deviation over seeds of (R, T) scores, with stratified bootstrap intervals (rliable).

    Args:
        scores: of R runs on T tasks. The IQM is over all R x T, the mean a mean over tasks of means over runs, and the
            deviation the square root of the mean over tasks of the variance over runs.
        resamples: of the runs, in each task by itself.
        seed: of the resampling.

    Returns:
        The three; no intervals, and no deviation, with one run.

    Raises:
        ConfigurationError: if there is no score, or rliable is missing.
    """
    library, metrics = _rliable()
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise ConfigurationError(f"scores have the shape {scores.shape}; need (runs, tasks), at least one of each.")

    def together(scores: np.ndarray) -> np.ndarray:
        deviation = np.sqrt(np.mean(_std(scores.T) ** 2))
        return np.array([metrics.aggregate_iqm(scores), metrics.aggregate_mean(scores), deviation])

    if len(scores) < 2:
        iqm, mean, _ = together(scores)
        return Estimate(float(iqm), None, None), Estimate(float(mean), None, None), Estimate(None, None, None)
    with _seeded(seed):
        points, intervals = library.get_interval_estimates({"": scores}, together, reps=resamples)
    iqm, mean, deviation = (
        Estimate(float(value), float(low), float(high))
        for value, low, high in zip(points[""], *intervals[""], strict=True)
    )
    return iqm, mean, deviation


def aggregates(results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Aggregate]:
    """Normalised test scores of each method over the environments it was run on; see :func:`aggregate`."""
    results = checked(results)
    found = []
    for method in methods_of(results[results["split"] == "test"]):
        envs, scores = final_scores(results, method)
        iqm, mean, std = aggregate(scores, resamples=resamples, seed=seed)
        found.append(Aggregate(method, envs, len(scores), iqm, mean, std))
    return found


def probability_of_improvement(
    ours: np.ndarray, theirs: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """P(ours > theirs) + P(ours = theirs) / 2 of a run of each, a mean over tasks, with its interval (rliable).

    Args:
        ours: (R, T) scores of R runs on T tasks.
        theirs: (S, T) scores of S runs on the same tasks.
        resamples: of the runs of both, in each task by itself.
        seed: of the resampling.

    Returns:
        The estimate; no interval where one of them has a single run.

    Raises:
        ConfigurationError: if the tasks differ in number, there is no score, or rliable is missing.
    """
    library, _ = _rliable()
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if ours.ndim != 2 or theirs.ndim != 2 or not ours.size or not theirs.size or ours.shape[1] != theirs.shape[1]:
        raise ConfigurationError(f"scores have the shapes {ours.shape} and {theirs.shape}; need (runs, same tasks).")

    def probability(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """rliable's own metric, a hundred times as fast as by its Mann-Whitney tests."""
        return np.array([np.mean((np.sign(ours[:, None] - theirs) + 1) / 2)])  # of (R, S, T)

    if min(len(ours), len(theirs)) < 2:
        return Estimate(float(probability(ours, theirs)[0]), None, None)
    with _seeded(seed):
        points, intervals = library.get_interval_estimates({"": [ours, theirs]}, probability, reps=resamples)
    low, high = intervals[""][:, 0]
    return Estimate(float(points[""][0]), float(low), float(high))


def improvements(results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Improvement]:
    """For each method with demonstrations, how probably it beats the same without on test images.

    Pairs that share no environment are left out.
    """
    results = checked(results)
    test = results[results["split"] == "test"]
    found = []
    for method, baseline in _pairs(methods_of(test)):
        shared = sorted(set(final_scores(test, method)[0]) & set(final_scores(test, baseline)[0]))
        if shared:
            ours, theirs = (final_scores(test, each, shared)[1] for each in (method, baseline))
            probability = probability_of_improvement(ours, theirs, resamples=resamples, seed=seed)
            found.append(Improvement(method, baseline, tuple(shared), probability))
    return found


def profiles(
    results: DataFrame, taus: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[Method, np.ndarray]:
    """Performance profiles: the share of runs whose normalised test score is above each of ``taus`` (rliable).

    Args:
        results: see :data:`COLUMNS`.
        taus: (M,) ascending.
        resamples: of the stratified bootstrap.
        seed: of the bootstrap.

    Returns:
        By method (3, M): the profile, and the lower and upper ends of its pointwise 95 % interval, NaN with one seed.
    """
    library, _ = _rliable()
    results, taus = checked(results), np.asarray(taus, dtype=np.float64)

    def above(scores: np.ndarray, taus: np.ndarray) -> np.ndarray:
        return np.mean(scores[..., None] > taus, axis=(0, 1))

    found = {}
    for method in methods_of(results[results["split"] == "test"]):
        _, scores = final_scores(results, method)
        with _seeded(seed):
            points, intervals = library.create_performance_profile(
                {"": scores}, taus, custom_profile_func=above, reps=resamples
            )
        ends = intervals[""] if len(scores) > 1 else np.full((2, len(taus)), np.nan)
        found[method] = np.vstack([points[""], ends])
    return found


def mean_curve(
    curves: Sequence[Curve], column: str = "success", *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The mean learning curve of one method on one environment over seeds.

    Args:
        curves: of its seeds.
        column: ``success`` or ``normalised``.
        resamples: of the seeds.
        seed: of the resampling.

    Returns:
        (G,) total steps: all those at which a seed was evaluated and every seed has begun; and (3, G) the mean over
        seeds of their last values, with the ends of its pointwise 95 % interval, NaN with one seed.
    """
    grid = np.unique(np.concatenate([curve.total_steps for curve in curves]))
    grid = grid[grid >= max(curve.total_steps[0] for curve in curves)]
    values = np.stack([carried(curve.total_steps, getattr(curve, column), grid) for curve in curves])  # (S, G)
    ends = np.full((2, len(grid)), np.nan)
    if len(curves) > 1:
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(len(curves), np.full(len(curves), 1 / len(curves)), size=resamples) / len(curves)
        ends = np.quantile(weights @ values, [TAIL, 1 - TAIL], axis=0)
    return grid, np.vstack([values.mean(axis=0), ends])


def efficiency(
    results: DataFrame, *, points: int = 80, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, dict[Method, np.ndarray]]:
    """IQM over environments and seeds of normalised validation scores against total steps (rliable).

    Args:
        results: see :data:`COLUMNS`.
        points: of the grid, from 0 and then in equal ratios to the last evaluation of any cell.
        resamples: of the stratified bootstrap.
        seed: of the bootstrap.

    Returns:
        (G,) total steps, and by method (3, G): the IQM of each cell's last score, and the ends of its pointwise 95 %
        interval. NaN where a cell of the method has not begun or all have ended; the ends are NaN with one seed.
    """
    library, _ = _rliable()
    curves = curves_of(results)
    if not curves:
        raise ConfigurationError("the results hold no evaluation on validation images; a curve needs some.")
    steps = np.concatenate([curve.total_steps for curve in curves])
    first, last = max(float(steps[steps > 0].min(initial=np.inf)), 1.0), float(steps.max())
    grid = np.array([0.0])
    if last > 0:
        grid = np.unique(np.concatenate([grid, np.ceil(np.geomspace(min(first, last), last, points)), [last]]))
        grid = grid[grid <= last]

    def iqms(scores: np.ndarray) -> np.ndarray:
        return stats.trim_mean(scores.reshape(-1, scores.shape[-1]), proportiontocut=0.25, axis=0)

    found = {}
    for method in sorted({curve.method for curve in curves}, key=lambda method: method.rank):
        own = [curve for curve in curves if curve.method == method]
        by_env = [[curve for curve in own if curve.env == env] for env in sorted({curve.env for curve in own})]
        runs = min(map(len, by_env))
        scores = np.stack(
            [
                [carried(curve.total_steps, curve.normalised, grid) for curve in of_env[:runs]]  # (R, G)
                for of_env in by_env
            ],
            axis=1,
        )  # (R, T, G)
        inside = np.isfinite(scores).all(axis=(0, 1)) & (grid <= max(curve.total_steps[-1] for curve in own))
        found[method] = np.full((3, len(grid)), np.nan)
        if inside.any():
            with _seeded(seed):
                values, ends = library.get_interval_estimates({"": scores[..., inside]}, iqms, reps=resamples)
            found[method][0, inside] = values[""]
            if runs > 1:
                found[method][1:, inside] = ends[""]
    return grid, found


def _times(curves: Sequence[Curve], threshold: float, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """(n,) what each curve takes to the threshold, infinite where it never gets there, and (n,) its budget."""
    if measure not in MEASURES:
        raise ConfigurationError(f"measure={measure!r}; need one of {list(MEASURES)}.")
    xs = [getattr(curve, measure) for curve in curves]
    values = [reached(x, curve.normalised, threshold) for x, curve in zip(xs, curves, strict=True)]
    return (
        np.array([np.inf if value is None else value for value in values], dtype=np.float64),
        np.array([x[-1] for x in xs], dtype=np.float64),
    )


def to_threshold(results: DataFrame, threshold: float, measure: str = "total_steps") -> DataFrame:
    """What each cell takes to reach a normalised validation score.

    Args:
        results: see :data:`COLUMNS`; cells without validation rows are left out.
        threshold: in (0, 1].
        measure: one of :data:`MEASURES`.

    Returns:
        A row a cell: ``env``, the columns of its method, ``seed``, ``value`` (infinite where it never gets there) and
        ``budget`` (where the curve ends: a lower bound of a value that is infinite).

    Raises:
        ConfigurationError: if the results are not as :func:`checked` wants them, or the threshold or measure unknown.
    """
    import pandas

    curves = curves_of(results)
    values, budgets = _times(curves, threshold, measure)
    rows = [
        {
            "env": curve.env,
            **{name: getattr(curve.method, name) for name in METHOD_COLUMNS},
            "seed": curve.seed,
            "value": value,
            "budget": budget,
        }
        for curve, value, budget in zip(curves, values, budgets, strict=True)
    ]
    return pandas.DataFrame(rows, columns=["env", *METHOD_COLUMNS, "seed", "value", "budget"])


def _by_env_and_method(curves: Sequence[Curve]) -> dict[tuple[str, Method], list[Curve]]:
    """The seeds' curves by (environment, method), in the order of ``curves``."""
    found: dict[tuple[str, Method], list[Curve]] = {}
    for curve in curves:
        found.setdefault((curve.env, curve.method), []).append(curve)
    return found


def _median(sample: np.ndarray) -> np.ndarray:
    return np.median(sample, axis=-1)


def _arrival(
    curves: Sequence[Curve], threshold: float, measure: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Arrival:
    """:class:`Arrival` of one method's seeds on one environment."""
    values, budgets = _times(curves, threshold, measure)
    bounded = np.minimum(values, budgets)
    median, low, high = float(_median(bounded)), None, None
    at_least = open_above = bool(_median(values) != median)
    if len(curves) > 1:
        chosen = np.random.default_rng(seed).integers(len(curves), size=(resamples, len(curves)))
        low, high = _ends(_median(bounded[chosen]))
        open_above = bool(_ends(_median(values[chosen]))[1] != high)
    return Arrival(
        env=curves[0].env,
        method=curves[0].method,
        seeds=len(curves),
        reached=int(np.isfinite(values).sum()),
        median=Estimate(median, low, high),
        at_least=at_least,
        open_above=open_above,
    )


def arrivals(
    results: DataFrame,
    threshold: float,
    measure: str = "total_steps",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Arrival]:
    """What each method takes to reach a normalised validation score on each environment, medians over seeds.

    Args:
        results: see :data:`COLUMNS`.
        threshold: in (0, 1].
        measure: one of :data:`MEASURES`.
        resamples: of the seeds.
        seed: of the resampling.
    """
    cells = _by_env_and_method(curves_of(results))
    return [_arrival(curves, threshold, measure, resamples=resamples, seed=seed) for curves in cells.values()]


def speed_up(
    results: DataFrame,
    *,
    threshold: float = 0.9,
    measure: str = "total_steps",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[SpeedUp]:
    """How many times sooner methods with demonstrations reach a threshold than the same without.

    ratio = median over seeds without / median over seeds with. A seed without demonstrations that never gets there
    counts with its budget, so that the ratio may be a lower bound; one with demonstrations as never, which is the
    cautious side: the ratio is None once the median seed never gets there, and such resamples count as a ratio of 0.

    Args:
        results: see :data:`COLUMNS`.
        threshold: normalised validation score, in (0, 1].
        measure: one of :data:`MEASURES`.
        resamples: of the seeds of both, each by themselves.
        seed: of the resampling.

    Returns:
        By environment and method, wherever both were run; no interval where one of the two has a single seed.

    Raises:
        ConfigurationError: if the results are not as :func:`checked` wants them, or the threshold or measure unknown.
    """
    cells = _by_env_and_method(curves_of(results))
    found = []
    for env in sorted({env for env, _ in cells}):
        here = [method for of, method in cells if of == env]
        for method, baseline in _pairs(here):
            ours, theirs = cells[env, method], cells[env, baseline]
            with_demos, without = (
                _arrival(curves, threshold, measure, resamples=resamples, seed=seed) for curves in (ours, theirs)
            )
            ratio, at_least, open_above = _ratio(
                _times(ours, threshold, measure)[0], *_times(theirs, threshold, measure), resamples, seed
            )
            found.append(SpeedUp(with_demos, without, ratio, at_least, open_above))
    return found


def _ratio(
    ours: np.ndarray, theirs: np.ndarray, budgets: np.ndarray, resamples: int, seed: int
) -> tuple[Estimate, bool, bool]:
    """The ratio of medians, whether it is a lower bound, and whether its interval's upper end is one.

    Args:
        ours: (n,) with demonstrations, infinite where never.
        theirs: (m,) without, infinite where never.
        budgets: (m,) of those without.
        resamples: of both.
        seed: of the resampling.
    """
    bounded = np.minimum(theirs, budgets)
    below, above = _median(ours), _median(bounded)
    if not np.isfinite(below) or below <= 0:
        return Estimate(None, None, None), False, False
    value, at_least = float(above / below), bool(_median(theirs) != above)
    if min(len(ours), len(theirs)) < 2:
        return Estimate(value, None, None), at_least, at_least
    rng = np.random.default_rng(seed)
    our_rows = rng.integers(len(ours), size=(resamples, len(ours)))
    their_rows = rng.integers(len(theirs), size=(resamples, len(theirs)))
    below = np.maximum(_median(ours[our_rows]), np.finfo(np.float64).tiny)
    low, high = _ends(_median(bounded[their_rows]) / below)
    unbounded = np.where(np.isfinite(below), _median(theirs[their_rows]), 0.0) / below
    return Estimate(value, low, high), at_least, bool(_ends(unbounded)[1] != high)


def spread(results: DataFrame, *, threshold: float = 0.9, resamples: int = RESAMPLES, seed: int = 0) -> list[Spread]:
    """How much seeds differ in test success and in total steps to a threshold, with demonstrations and without.

    Args:
        results: see :data:`COLUMNS`.
        threshold: normalised validation score, in (0, 1].
        resamples: of the seeds of both, each by themselves.
        seed: of the resampling.

    Returns:
        By environment and method, wherever both were run. Deviations are not defined with one seed, those of steps
        neither where a seed never gets there. A ratio is not defined over a deviation of zero, unless both are; it has
        no interval where more than 2.5 % of the resamples are like that, as with three seeds or fewer.
    """
    results = checked(results)
    cells = _by_env_and_method(curves_of(results))
    test = results[results["split"] == "test"]
    tested = {
        (str(env), _method(method)): rows["success"].to_numpy(dtype=np.float64)
        for (env, *method), rows in test.groupby(["env", *METHOD_COLUMNS], sort=True)
    }

    def steps(env: str, method: Method) -> np.ndarray:
        values = _times(cells.get((env, method), []), threshold, "total_steps")[0]
        return values if np.isfinite(values).all() else np.array([])

    def estimated(statistic: Callable[..., Any], *samples: np.ndarray) -> Estimate:
        if not all(map(len, samples)):
            return Estimate(None, None, None)
        return over_seeds(statistic, *samples, resamples=resamples, seed=seed)

    def change(ours: np.ndarray, theirs: np.ndarray) -> Change:
        return Change(estimated(_std, ours), estimated(_std, theirs), estimated(_std_ratio, ours, theirs))

    found = []
    empty = np.array([])
    for env in envs_of(results):
        for method, baseline in _pairs(methods_of(results[results["env"] == env])):
            success = change(tested.get((env, method), empty), tested.get((env, baseline), empty))
            found.append(Spread(env, method, baseline, success, change(steps(env, method), steps(env, baseline))))
    return found


def best_by_env(scored: Sequence[Final]) -> Mapping[str, Final]:
    """By environment, what scores the highest mean on test images; the first by rank of several."""
    found: dict[str, Final] = {}
    for final in scored:
        value = final.success.value
        rival = found.get(final.env)
        if value is not None and (rival is None or value > (rival.success.value or 0.0)):
            found[final.env] = final
    return found
