"""Anytime curves: success against mean glimpses, of families of rules that say when to stop on the same episodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agents.evaluation.statistics import Estimate, percentile_estimates, resampling_weights
from oracles.induction import Induction, Recorded
from oracles.stopping import RULES, Outlook

COSTS = (0.0, *(round(float(cost), 5) for cost in np.geomspace(0.0005, 1.0, 40)))
"""Costs of a glimpse, in expected success, that curves are swept over."""
THRESHOLDS = 40
"""Number of thresholds of a rule for each step, spread over the values that its signal takes there."""


@dataclass(frozen=True)
class Family:
    """Where rules of one kind stop, by cost or threshold."""

    settings: np.ndarray
    """(K,) float64: cost or threshold of each rule."""
    used: np.ndarray
    """(K, N) int64: glimpses that each rule takes of each image."""


def glimpses_taken(recorded: Recorded, stops: Callable[[Outlook], np.ndarray]) -> np.ndarray:
    """Returns after how many glimpses a rule stops recorded episodes, (N,) int64 in 0..T."""
    count, steps = recorded.locations.shape
    used = np.full(count, steps, dtype=np.int64)
    for t in range(steps - 1, -1, -1):
        used[stops(recorded.outlook(t))] = t
    return used


def induction(fitted_to: Recorded, played: Recorded, costs: Sequence[float] = COSTS) -> Family:
    """Returns where :class:`oracles.induction.Induction` stops episodes, fitted for each cost to other ones."""
    used = []
    for cost in costs:
        rule = Induction(fitted_to, cost)
        used.append(glimpses_taken(played, lambda outlook, rule=rule: rule(outlook, 0.0)))  # type: ignore[misc]
    return Family(np.asarray(costs, dtype=np.float64), np.stack(used))


def thresholds(rule: str, chosen_on: Recorded, played: Recorded) -> Family:
    """Returns where ``entropy`` or ``confidence`` stops episodes, at thresholds spread over what others show."""
    p = chosen_on.probabilities.astype(np.float64)
    signal = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1) if rule == "entropy" else p.max(axis=-1)  # (N, T + 1)
    quantiles = np.quantile(signal, np.linspace(0, 1, THRESHOLDS), axis=0)
    settings = np.unique(np.concatenate([[-1.0], quantiles.ravel(), [100.0]]))
    used = [glimpses_taken(played, lambda outlook, s=s: RULES[rule](outlook, s)) for s in settings]  # type: ignore[misc]
    return Family(settings, np.stack(used))


def fixed_lengths(played: Recorded) -> Family:
    """Returns each number of glimpses, 0..T, for every image."""
    count, steps = played.locations.shape
    lengths = np.arange(steps + 1)
    return Family(lengths.astype(np.float64), np.repeat(lengths[:, None], count, axis=1))


def clairvoyant(played: Recorded, costs: Sequence[float] = COSTS) -> Family:
    """Returns where stopping turns out best for each image: a bound that peeks at labels."""
    steps = played.locations.shape[1]
    used = [(played.errors + cost * np.arange(steps + 1)).argmin(axis=1) for cost in costs]
    return Family(np.asarray(costs, dtype=np.float64), np.stack(used))


def best_setting(family: Family, recorded: Recorded, cost: float) -> int:
    """Returns the index of the rule with the highest mean return on recorded episodes."""
    return int(returns(family, recorded, cost).mean(axis=1).argmax())


def outcomes(family: Family, recorded: Recorded) -> np.ndarray:
    """Returns whether the judge is right where each rule stops, (K, N) float64."""
    return np.asarray(1.0 - recorded.errors[np.arange(len(recorded.labels)), family.used])


def returns(family: Family, recorded: Recorded, cost: float) -> np.ndarray:
    """Returns success less the costs of glimpses, (K, N) float64."""
    return outcomes(family, recorded) - cost * family.used


def frontier(outcomes: np.ndarray, spent: np.ndarray) -> np.ndarray:
    """Returns the rules (k,) int64 of a family that neither another nor a coin between two others beats with as much:
    the upper convex hull, the cheapest first.

    Args:
        outcomes, spent: (K, N), of validation images: see :func:`curve`.
    """
    x, y = spent.mean(axis=1), outcomes.mean(axis=1)
    kept: list[int] = []
    for k in np.lexsort((-y, x)).tolist():
        if kept and y[k] <= y[kept[-1]]:
            continue
        while len(kept) > 1 and (y[k] - y[kept[-2]]) * (x[kept[-1]] - x[kept[-2]]) >= (y[kept[-1]] - y[kept[-2]]) * (
            x[k] - x[kept[-2]]
        ):
            kept.pop()
        kept.append(k)
    return np.array(kept)


def curve(
    outcomes: np.ndarray, spent: np.ndarray, budgets: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Computes the success that a family reaches at mean budgets, interpolated between its rules.

    Args:
        outcomes: (K, N), success of each rule on each image.
        spent: (K, N), what each rule takes of each image: glimpses, or operations.
        budgets: (M,) ascending; outside of the family's range its ends count.
        resamples: of the images, the same for every family of one ``seed``: differences are paired.
        seed: of the resampling.

    Returns:
        (1 + resamples, M): on the images themselves, then on each resample.
    """
    count = outcomes.shape[1]
    drawn = resampling_weights(count, resamples=resamples, seed=seed)
    weights = np.concatenate([np.full((1, count), 1 / count), drawn])
    xs, ys = weights @ spent.T, weights @ outcomes.T  # (1 + R, K)
    orders = np.argsort(xs, axis=1, kind="stable")
    return np.stack([np.interp(budgets, x[o], y[o]) for x, y, o in zip(xs, ys, orders, strict=True)])


def area(curves: np.ndarray, budgets: np.ndarray) -> Estimate:
    """Returns the mean success over the range of ``budgets`` (M,), of :func:`curve` (1 + R, M), with its interval."""
    return estimate(np.trapezoid(curves, budgets, axis=1) / (budgets[-1] - budgets[0]))


def estimate(samples: np.ndarray) -> Estimate:
    """Returns the first of ``samples`` (1 + R,) with the percentile interval of the others."""
    value, low, high = percentile_estimates(samples[:, None])
    return Estimate(float(value[0]), float(low[0]), float(high[0]))


def least_glimpses(curves: np.ndarray, budgets: np.ndarray, full: float, loss: float = 0.005) -> float | None:
    """Returns the least mean budget at which success is at most ``loss`` below ``full``, that of all T glimpses; None
    where there is none."""
    enough = curves[0] >= full - loss - 1e-9
    return float(budgets[enough.argmax()]) if enough.any() else None
