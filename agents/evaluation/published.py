"""Published glimpse sequences beside ours on the same images: the same judge's verdicts, and the oracle's maps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluation.evaluate import TITLES, start_on
from agents.evaluation.statistics import Estimate, mean_of, wilson_interval
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.datasets.cub import CUB200
from glimpse_env.episodes import Assessment
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.sequences import judge_sequences
from glimpse_env.rollout import play
from glimpse_env.sensing.geometry import LocationGrid
from oracles.base import GlimpsePolicy, MappingPolicy, Observations
from oracles.registry import POLICIES, depends_on_network, make_policy

PUBLISHED, SHUFFLED, OURS = "published", "shuffled", "oracle"
EXCHANGED = ", row and column exchanged"
NAMES = {**TITLES, PUBLISHED: "published", SHUFFLED: "published, shuffled"}
MEASURES = ("success", "log_loss", "entropy")
"""Fields of :class:`Judged`."""


@dataclass(frozen=True)
class Judged:
    """The judge's verdicts on sequences for N images after each of T glimpses, means over draws."""

    success: np.ndarray
    """(N, T) float64: whether the judge was right."""
    log_loss: np.ndarray
    """(N, T) float64: log-loss of the label in nats."""
    entropy: np.ndarray
    """(N, T) float64: entropy of the judge's posterior in nats."""
    draws: int
    """Random sequences an image; 1 where there is one sequence."""

    @classmethod
    def of(cls, dataset: GlimpseDataset, judge: Judge, indices: np.ndarray, draws: np.ndarray) -> "Judged":
        """Judges grid locations (S, N, T), S draws an image, on the images ``indices`` (N,) of a split."""
        labels, verdicts = np.asarray(dataset.labels[indices]), []
        for locations in draws:
            probabilities = judge_sequences(dataset, judge, indices, judge.grid.corners[locations])
            steps = [Assessment.of(probabilities[:, t], labels) for t in range(locations.shape[1])]
            verdicts.append([np.stack([getattr(step, name) for step in steps], axis=1) for name in MEASURES])
        success, log_loss, entropy = np.array(verdicts, dtype=np.float64).mean(axis=0)
        return cls(success, log_loss, entropy, len(draws))


def chosen_by(name: str, source: DataSource, judge: Judge, indices: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Returns (N, T) grid locations of policy ``name`` on training images, by the network that never saw each image."""
    train = source.load("train")
    locations = np.empty((len(indices), source.geometry.num_glimpses), dtype=np.int64)
    policy: GlimpsePolicy | None = None
    for network, rows in rows_by_network(train, indices):
        if policy is None or POLICIES[name].seeded or depends_on_network(name, source):  # others can be slow to find
            policy = make_policy(name, source, judge, network=network, seed=seed * len(judge.networks) + network)
        start = start_on(policy, train)
        locations[rows] = play(policy, train, judge, indices[rows], progress=False, start=start).locations
    return locations


def rows_by_network(train: GlimpseDataset, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each of the judge's networks with the rows (n,) of ``indices`` (N,) whose images it never saw."""
    folds = np.asarray(train.folds[indices])
    for fold in np.unique(folds):
        yield int(fold), np.flatnonzero(folds == fold)


def shuffled(sequences: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Returns (draws, N, T): in each draw every image has the sequence of another, each used once."""
    count = len(sequences)
    mixed = np.empty((draws, *sequences.shape), dtype=sequences.dtype)
    for draw in mixed:
        circle = rng.permutation(count)
        draw[circle] = sequences[np.roll(circle, 1)]
    return mixed


class Follower(GlimpsePolicy):
    """Follows given sequences, (T,) grid locations by image, while the oracle computes its maps before each glimpse."""

    def __init__(self, oracle: MappingPolicy[Any], sequences: Mapping[int, np.ndarray]):
        self.oracle, self.sequences = oracle, sequences

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> tuple[Any, np.ndarray]:
        return self.oracle.start(dataset, indices), np.stack([self.sequences[int(index)] for index in indices])

    def predict(
        self,
        observation: Observations,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        inner, sequences = state
        _, inner = self.oracle.predict(observation, inner, episode_start, deterministic)
        self.last_maps = self.oracle.last_maps
        taken = observation["mask"].sum(axis=1).astype(np.int64)
        return sequences[np.arange(len(sequences)), taken], (inner, sequences)


def maps_along(source: DataSource, judge: Judge, indices: np.ndarray, sequences: np.ndarray) -> np.ndarray:
    """Computes (N, T, L) float32: the oracle's map before each glimpse of given sequences (N, T) on training images.

    The oracle asks the network that never saw the image, and the image is not in its bank.
    """
    train = source.load("train")
    maps = np.empty((*sequences.shape, len(judge.grid)), dtype=np.float32)
    for network, rows in rows_by_network(train, indices):
        oracle = make_policy(OURS, source, judge, network=network)
        assert isinstance(oracle, MappingPolicy)
        follower = Follower(oracle, dict(zip(indices[rows].tolist(), sequences[rows], strict=True)))

        def keep(batch: np.ndarray, t: int, policy: Any, rows: np.ndarray = rows) -> None:
            maps[rows[batch], t] = policy.last_maps

        start = start_on(follower, train)
        play(follower, train, judge, indices[rows], progress=False, start=start, on_step=keep)
    return maps


def ranks(maps: np.ndarray, history: np.ndarray, choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks choices on maps among the locations not yet seen.

    Args:
        maps: (N, T, L), lower is better, before each glimpse.
        history: (N, T) locations that were really looked at.
        choices: (N, T) locations to rank, each on the map of its step.

    Returns:
        (N, T) int64 ranks, 1 for the lowest, and (N, T) float64 percentiles: the share in percent of the other
        locations that are worse, equals counting half. 100 is the oracle's own choice, 50 what chance gives.
    """
    seen = np.zeros(maps.shape, dtype=bool)
    for t in range(1, maps.shape[1]):
        np.put_along_axis(seen[:, t], history[:, :t], True, axis=1)
    np.put_along_axis(seen, choices[..., None], True, axis=2)  # the choice is none of the others
    own = np.take_along_axis(maps, choices[..., None], axis=2)
    better, equal = (maps < own) & ~seen, (maps == own) & ~seen
    others = (~seen).sum(axis=2)
    worse = others - better.sum(axis=2) - 0.5 * equal.sum(axis=2)
    return 1 + better.sum(axis=2), 100 * worse / others


def transposed(locations: np.ndarray, grid: LocationGrid) -> np.ndarray:
    """Returns grid locations (...) int64 with row and column exchanged."""
    row, col = np.divmod(locations, grid.side)
    return col * grid.side + row


def official_training_images(source: CUB200, ids: np.ndarray) -> dict[int, int]:
    """Counts the images with ``ids`` (N,) int, and with ids shifted a little, that CUB's own split has for training.

    Returns:
        The count by shift of the ids.
    """
    official = np.concatenate([source.image_ids("train"), source.image_ids("val")])
    return {shift: int(np.isin(ids + shift, official).sum()) for shift in range(-2, 3)}


def reach(dataset: GlimpseDataset, grid: LocationGrid, indices: np.ndarray, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Measures how much of N images sequences (S, N, T) show; means over the S draws.

    Returns:
        ``pixels``: (N,) float64, share of the image inside some glimpse; ``parts``: (N,) float64, share of its visible
        annotated parts, NaN where none is.
    """
    parts = np.asarray(dataset.parts[indices])
    pixels, covered = np.zeros((2, len(indices)))
    for locations in draws:
        seen = np.zeros((len(indices), grid.image_size, grid.image_size), dtype=bool)
        for n, corners in enumerate(grid.corners[locations]):
            for top, left, *zoom in corners:
                side = grid.glimpse_size * (zoom[0] if zoom else 1)
                seen[n, top : top + side, left : left + side] = True
        rows, cols = parts[..., 0].astype(np.int64), parts[..., 1].astype(np.int64)
        inside = seen[np.arange(len(indices))[:, None], rows, cols] & (parts[..., 2] > 0)
        pixels += seen.mean(axis=(1, 2)) / len(draws)
        covered += inside.sum(axis=1) / len(draws)
    visible = (parts[..., 2] > 0).sum(axis=1)
    return {"pixels": pixels, "parts": np.where(visible > 0, covered / np.maximum(visible, 1), np.nan)}


def mean_estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Returns the mean of (N,) values with its 95 % bootstrap interval over images; NaN are left out."""
    values = values[np.isfinite(values)]
    if np.ptp(values) == 0:  # nothing to resample
        return Estimate(float(values[0]), float(values[0]), float(values[0]))
    return mean_of(values, seed=seed)


def mean_estimates(values: np.ndarray) -> list[Estimate]:
    """Returns :func:`mean_estimate` of each column of (N, T) values."""
    return [mean_estimate(column) for column in values.T]


def success_interval(judged: Judged) -> Estimate:
    """Returns the final success with Wilson's interval, or over several draws with the bootstrap's over images."""
    last = judged.success[:, -1]
    if judged.draws > 1:
        return mean_estimate(last)
    return Estimate(float(last.mean()), *wilson_interval(int(last.sum()), len(last)))


def differences(judged: Judged, ours: Judged) -> dict[str, list[Estimate]]:
    """Returns ``judged`` less ``ours`` after each glimpse, paired by image, by measure."""
    return {name: mean_estimates(getattr(judged, name) - getattr(ours, name)) for name in MEASURES}


def estimates_to_json(by_name: Mapping[str, list[Estimate]]) -> dict[str, list[dict[str, Any]]]:
    """Returns estimates as JSON values."""
    return {name: [estimate.to_json() for estimate in estimates] for name, estimates in by_name.items()}


def to_json(judged_by_origin: Mapping[str, Judged]) -> dict[str, Any]:
    """Returns every measure after each glimpse, with intervals, and the differences to ours, by origin."""
    return {
        name: {
            "draws": judged.draws,
            "success_after_last": success_interval(judged).to_json(),
            **estimates_to_json({measure: mean_estimates(getattr(judged, measure)) for measure in MEASURES}),
            "less_ours": estimates_to_json(differences(judged, judged_by_origin[OURS])),
        }
        for name, judged in judged_by_origin.items()
    }
