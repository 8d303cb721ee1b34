"""Measures how fast the oracle's estimate of the EPE nears the exact one as samples grow, where that is known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from glimpse_env.sensing.observations import Histories, HistoryObserver
from oracles.boed.completion import CompletionConfig, ImageBank
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.validation.toy_world import ExactJudge, History, ToyWorld

SHARP, FLAT = 1e-2, 1e6
"""Bandwidths with which only completions that show the very glimpses seen count, and with which all count the same."""


def estimator(criterion: str, weights: str, samples: int) -> OracleConfig:
    """Returns the oracle's configuration that estimates a criterion from images of p(theta, x), all of them weighted.

    Both ways to weight them are importance sampling. ``pixels``: an image counts if it shows the glimpses seen.
    ``labels``: it counts by the posterior of its label, which is right where classes are equally frequent and glimpses
    independent given the class, as in :meth:`ToyWorld.random`.

    Args:
        criterion: one of :data:`oracles.boed.criteria.CRITERIA`.
        weights: ``pixels`` or ``labels``.
        samples: N, the number of images.
    """
    by_label = weights == "labels"
    completion = CompletionConfig(
        bandwidth=FLAT if by_label else SHARP,
        label_weight=float(by_label),
        samples=samples,
        short_list=samples,
        bank_size=samples,
    )
    return OracleConfig(criterion, completion)


ESTIMATORS = {
    f"{criterion}, {weights}": partial(estimator, criterion, weights)
    for weights in ("pixels", "labels")
    for criterion in ("entropy", "log_loss", "error")
}
"""Estimators by name: each makes a configuration for a number of samples."""


def estimated_maps(
    world: ToyWorld,
    history: History,
    configs: Mapping[str, OracleConfig],
    samples: int,
    repetitions: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Returns the oracle's maps from banks drawn anew, the same banks for every configuration.

    Args:
        world: to draw from.
        history: pixels seen, at least one.
        configs: of the oracle, by name.
        samples: N, images in a bank.
        repetitions: R, number of banks.
        rng: draws the banks.

    Returns:
        (R, L) float32 for each name.
    """
    judge = ExactJudge(world)
    drawn = world.dataset(*world.draw(samples * repetitions, rng))
    bank = ImageBank(drawn, judge, 0, len(drawn), cached=False)  # type: ignore[arg-type]
    others = torch.from_numpy(np.arange(len(drawn)) // samples != np.arange(repetitions)[:, None])
    histories = Histories.empty(repetitions, len(history) + 1, 1, 1)
    histories.counts[:] = len(history)
    for t, (place, value) in enumerate(history):
        histories.corners[:, t], histories.glimpses[:, t] = judge.grid.corners[place], world.pixels[value]
    observation = HistoryObserver(replace(world.geometry, num_glimpses=len(history) + 1), 1)(histories)
    looked_at = world.dataset(*world.draw(1, rng), split="test")
    maps = {}
    for name, config in configs.items():
        oracle = BOEDOracle(drawn, judge, config, banks=[bank])  # type: ignore[arg-type]
        state = oracle.start(looked_at, np.zeros(repetitions, dtype=np.int64))
        state.distances[0][others] = torch.inf  # a bank of its own for each repetition
        oracle.predict(observation, state)
        assert oracle.last_maps is not None
        maps[name] = oracle.last_maps
    return maps


def problems(count: int, seed: int) -> Iterator[tuple[ToyWorld, History, np.random.Generator]]:
    """Yields random worlds, each with a history of two pixels of an image of it, and a generator for each."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        world = ToyWorld.random(rng)
        values, _ = world.draw(1, rng)
        places = rng.choice(world.num_places, size=2, replace=False)
        yield world, [(int(place), int(values[0, place])) for place in places], rng


def squared_errors(
    sizes: Sequence[int], *, repetitions: int, worlds: int, seed: int, extra: Mapping[str, OracleConfig] | None = None
) -> dict[str, np.ndarray]:
    """Returns squared errors of every estimator, means over the places not yet seen and over worlds.

    Args:
        sizes: (S,) numbers of samples.
        repetitions: R, banks for each size and world.
        worlds: number of random worlds.
        seed: of all that is random.
        extra: configurations of the oracle to measure as well, the same at every size.

    Returns:
        (S, R) float64 for each estimator, by its name in :data:`ESTIMATORS` or ``extra``.
    """
    errors = {name: np.zeros((len(sizes), repetitions)) for name in (*ESTIMATORS, *(extra or {}))}
    for world, history, rng in problems(worlds, seed):
        unseen = np.setdiff1d(np.arange(world.num_places), [place for place, _ in history])
        for s, samples in enumerate(sizes):
            configs = {name: make(samples) for name, make in ESTIMATORS.items()} | dict(extra or {})
            for name, maps in estimated_maps(world, history, configs, samples, repetitions, rng).items():
                exact = world.expected(history, configs[name].criterion)
                errors[name][s] += np.square(maps - exact)[:, unseen].mean(axis=1) / worlds
    return errors


def slope(sizes: Sequence[int], squared: np.ndarray) -> float:
    """Returns the slope, by least squares, of the log root-mean-square error over log N: -1/2 is expected.

    Args:
        sizes: (S,) numbers of samples N.
        squared: (S, R) squared errors, see :func:`squared_errors`.
    """
    return float(np.polyfit(np.log(sizes), 0.5 * np.log(squared.mean(axis=1)), 1)[0])
