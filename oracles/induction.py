"""When to stop, by backward induction over recorded episodes (least-squares Monte Carlo, Longstaff and Schwartz).

A policy looks T times at each of N images, whatever it thinks of it. Let L_t be an image's loss if it is judged after t
glimpses, f_t what is known then, and c the cost of a glimpse. From the last step back

    Y_T = L_T,    A_t = E[ Y_{t+1} + c - L_t | f_t ],    Y_t = L_t where A_t > 0, else Y_{t+1} + c

so that Y_t is what loss and further costs come to under the rule that stops where looking on is expected to cost more
than it saves. The expectation is a ridge regression on piecewise linear functions of f_t, one for each t, and a
monotone regression on what that gives, as small costs are decided by small differences. In place of the loss itself,
which for one image is 0 or 1, L_t is its monotone regression on the judge's own expectation of it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import cache_folder, digest, kept, read_npz, write_npz
from glimpse_env.judge.assessment import entropy_of
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.sequences import judge_sequences
from glimpse_env.rollout import play
from glimpse_env.sensing.observations import Histories
from oracles.base import GlimpsePolicy, unseen_scores
from oracles.boed.anytime import TIE
from oracles.stopping import Outlook

KNOTS = 6
"""Quantiles of a feature between which its effect is linear."""
RIDGE = 3.0
"""Penalty of a coefficient's square, in observations of a feature with variance one."""
LEAST_PROBABILITY = 1e-4
"""Probabilities below count as this much, where they are made log-odds."""
EPISODES_PER_CHUNK = 128
"""Episodes played at once."""
RECORDING = {"rule": "induction", "recording": 1, "recorded_images": 4000}
"""What episodes are recorded, and the rule fitted to them, as policies' settings have it: the version of both, and how
many training images are played, at most."""


@dataclass(frozen=True)
class Recorded:
    """Episodes of T glimpses on N images, and what is known after 0..T of them: the results of stopping there.

    Raises:
        ConfigurationError: if the shapes disagree.
    """

    labels: np.ndarray
    """(N,) int64."""
    locations: np.ndarray
    """(N, T) int64: grid locations, in order."""
    probabilities: np.ndarray
    """(N, T + 1, classes) float32: the judge's after 0..T glimpses."""
    present: np.ndarray
    """(N, T) float32: the policy's criterion if no further glimpse is taken, NaN where it does not know it."""
    following: np.ndarray
    """(N, T) float32: the same after the best next glimpse, NaN where it does not know it."""

    def __post_init__(self) -> None:
        count, steps = self.locations.shape
        agree = self.labels.shape == (count,) and self.probabilities.shape[:2] == (count, steps + 1)
        if not agree or not self.present.shape == self.following.shape == (count, steps):
            raise ConfigurationError(
                f"{count} recorded episodes of {steps} glimpses need labels (N,), probabilities (N, T + 1, classes), "
                f"present and following (N, T), not {self.labels.shape}, {self.probabilities.shape}, "
                f"{self.present.shape} and {self.following.shape}."
            )

    @property
    def errors(self) -> np.ndarray:
        """(N, T + 1) float64: 1 where the judge is wrong after 0..T glimpses."""
        return (self.probabilities.argmax(axis=-1) != self.labels[:, None]).astype(np.float64)

    @property
    def log_loss(self) -> np.ndarray:
        """(N, T + 1) float64 nats: of the label after 0..T glimpses."""
        p = np.take_along_axis(self.probabilities, self.labels[:, None, None], axis=-1)[..., 0]
        return -np.log(np.maximum(p.astype(np.float64), np.finfo(np.float32).tiny))

    def outlook(self, step: int) -> Outlook:
        """Returns what rules decide by after ``step`` of T glimpses, 0..T - 1."""
        present, following = self.present[:, step], self.following[:, step]
        return Outlook(
            counts=np.full(len(self.labels), step),
            probabilities=self.probabilities[:, step],
            present=None if np.isnan(present).any() else present,
            following=None if np.isnan(following).any() else following,
        )

    @classmethod
    def joined(cls, parts: list["Recorded"]) -> "Recorded":
        """Returns the episodes of all parts, in their order."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__annotations__})


class _Recorder(GlimpsePolicy):
    """Looks as another policy does, at each step, and keeps what it expects."""

    def __init__(self, policy: GlimpsePolicy):
        self.policy, self.grid = policy, policy.grid
        self.expected: list[tuple[np.ndarray, np.ndarray]] = []

    def choose(
        self, histories: Histories, state: object, episode_start: np.ndarray | None
    ) -> tuple[np.ndarray, object]:
        locations, state = self.policy.choose(histories, state, episode_start)
        unknown = np.full(len(histories), np.nan, dtype=np.float32)
        maps, present = self.policy.last_maps, self.policy.last_stop
        following = unknown if maps is None else unseen_scores(maps, histories, self.grid).min(axis=1)
        self.expected.append((unknown if present is None else present, following))
        return locations, state


def record(
    policy: GlimpsePolicy, dataset: GlimpseDataset, judge: Judge, indices: np.ndarray, *, start: bool = True
) -> Recorded:
    """Plays all T glimpses on each of the images ``indices`` (N,), each judged as in episodes on it.

    Args:
        policy: looks, and never stops.
        dataset: has the images.
        judge: gives the posteriors.
        indices: (N,) int64.
        start: whether episodes begin with the policy's ``start``.
    """
    indices, parts = np.asarray(indices, dtype=np.int64), []
    for first in range(0, len(indices), EPISODES_PER_CHUNK):
        rows = indices[first : first + EPISODES_PER_CHUNK]
        recorder = _Recorder(policy)
        rollouts = play(
            recorder,
            dataset,
            judge,
            rows,
            batch_size=len(rows),
            progress=False,
            stop=False,
            start=(lambda images: policy.start(dataset, images)) if start else None,
        )
        first_glimpses = dataset.geometry.sensor(dataset.images, rows, rollouts.corners[:, 0])[:, None]
        nothing = np.zeros(len(rows), dtype=np.int64)
        before = judge.probabilities(first_glimpses, rollouts.corners[:, :1], nothing, np.asarray(dataset.folds[rows]))
        after = judge_sequences(dataset, judge, rows, rollouts.corners)
        present, following = (np.stack(column, axis=1) for column in zip(*recorder.expected, strict=True))
        probabilities = np.concatenate([before[:, None], after], axis=1)
        parts.append(Recorded(rollouts.labels, rollouts.locations, probabilities, present, following))
    return Recorded.joined(parts)


def recorded_episodes(
    source: DataSource,
    judge: Judge,
    looking: Callable[[int | None], GlimpsePolicy],
    settings: dict[str, Any] | None,
) -> Recorded:
    """Returns episodes on a random part of the training images, played at first use and kept in the cache.

    Each image is looked at and judged by the networks that were not trained on it.

    Args:
        source: the data set.
        judge: of that data set.
        looking: returns the policy that looks at images of a fold, see :func:`oracles.registry.make_policy`.
        settings: what its choices depend on, see :func:`oracles.registry.policy_settings`.
    """
    train, geometry = source.load("train"), asdict(source.geometry)
    rows = np.sort(np.random.default_rng(0).permutation(len(train))[: RECORDING["recorded_images"]])
    key = digest(RECORDING, settings, source.fingerprint, judge.identity, geometry, rows)

    def make(path: Any) -> None:
        folds = np.asarray(train.folds[rows])
        parts = [
            record(looking(None if fold == -1 else int(fold)), train, judge, rows[folds == fold])
            for fold in np.unique(folds)
        ]
        joined = Recorded.joined(parts)
        write_npz(path, {name: getattr(joined, name) for name in Recorded.__annotations__})

    def read(path: Any) -> Recorded:
        try:
            return Recorded(**read_npz(path))
        except (ConfigurationError, TypeError) as error:
            raise ArtifactError(f"{path} holds no recorded episodes: {error}") from error

    return kept(cache_folder() / "recordings" / f"{source.name}-{key}.npz", read, make)


def features(outlook: Outlook) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the rule decides by.

    Returns:
        (B, F) float64 whose effect bends: log-odds of the two most probable classes and of the first against all,
        entropy in nats, and, where the policy knows them, the criterion it expects after the next glimpse and what that
        gains.
        (B, classes) float64 whose effect is linear: the probabilities, as some classes take longer to tell.
    """
    p = np.maximum(np.sort(outlook.probabilities.astype(np.float64), axis=1)[:, ::-1], LEAST_PROBABILITY)
    columns = [
        np.log(p[:, 0] / p[:, 1]),
        np.log(p[:, 0] / np.maximum(1.0 - p[:, 0], LEAST_PROBABILITY)),
        entropy_of(outlook.probabilities).astype(np.float64),
    ]
    if outlook.following is not None:
        columns.append(outlook.following.astype(np.float64))
        if outlook.present is not None:
            columns.append(outlook.present.astype(np.float64) - outlook.following)
    return np.stack(columns, axis=1), outlook.probabilities.astype(np.float64)


@dataclass(frozen=True)
class _Regression:
    """A ridge regression on functions that are linear between knots, and a monotone regression on its result."""

    knots: np.ndarray
    """(F, K) float64, ascending."""
    scale: np.ndarray
    """(2, 1 + number of functions) float64: their means and deviations."""
    weights: np.ndarray
    """(number of functions,) float64."""
    results: np.ndarray
    """(2, n) float64, ascending: results of the first regression, and of the second there; it is linear between."""

    @classmethod
    def fitted(cls, inputs: tuple[np.ndarray, np.ndarray], target: np.ndarray) -> "_Regression":
        """Returns the regression of ``target`` (N,) on :func:`features`."""
        from sklearn.isotonic import IsotonicRegression

        knots = np.quantile(inputs[0], np.linspace(0, 1, KNOTS + 2)[:-1], axis=0).T
        basis = _functions(inputs, knots)
        mean, deviation = basis.mean(axis=0), basis.std(axis=0)
        deviation[deviation < 1e-9] = np.inf  # a constant has no effect of its own
        z = (basis - mean) / deviation
        weights = np.linalg.solve(z.T @ z + RIDGE * np.eye(z.shape[1]), z.T @ (target - target.mean()))
        monotone = IsotonicRegression().fit(z @ weights, target)
        results = np.stack([monotone.X_thresholds_, monotone.y_thresholds_])
        return cls(knots, np.stack([mean, deviation]), weights, results)

    def __call__(self, inputs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Returns the expected targets (B,) of :func:`features`."""
        mean, deviation = self.scale
        return np.interp(((_functions(inputs, self.knots) - mean) / deviation) @ self.weights, *self.results)


def _functions(inputs: tuple[np.ndarray, np.ndarray], knots: np.ndarray) -> np.ndarray:
    """Returns max(0, x - knot) for each knot (F, K) of what bends (B, F), and what is linear: (B, F K + classes)."""
    bending, linear = inputs
    hinges = np.maximum(bending[:, :, None] - knots, 0.0).reshape(len(bending), -1)
    return np.concatenate([hinges, linear], axis=1)


class Induction:
    """The rule fitted to recorded episodes, one of :data:`oracles.stopping.StoppingRule`."""

    def __init__(self, recorded: Recorded, cost: float, criterion: str = "error"):
        """
        Args:
            recorded: episodes of the policy that looks, on images that the judge's networks were not trained on.
            cost: c, of a glimpse, in the unit of ``criterion``.
            criterion: ``error`` or ``log_loss``.

        Raises:
            ConfigurationError: if the criterion is another one, or the cost negative.
        """
        if criterion not in ("error", "log_loss") or not 0 <= cost < float("inf"):
            raise ConfigurationError(
                f"criterion={criterion!r} must be 'error' or 'log_loss', and cost={cost!r} a finite number, 0 or more."
            )
        self.cost, self.criterion = cost, criterion
        self.regressions: list[_Regression] = []
        losses, steps = expected_losses(recorded, criterion), recorded.locations.shape[1]
        value = losses[:, steps]
        for t in range(steps - 1, -1, -1):
            inputs, extra = features(recorded.outlook(t)), value + cost - losses[:, t]
            regression = _Regression.fitted(inputs, extra)
            self.regressions.insert(0, regression)
            value = np.where(regression(inputs) > TIE, losses[:, t], value + cost)
        self.value = float(value.mean())
        """Loss and costs that the rule comes to on the recorded episodes."""

    def __call__(self, outlook: Outlook, _: float) -> np.ndarray:
        stops, (bending, linear) = np.zeros(len(outlook.counts), dtype=bool), features(outlook)
        for t in np.unique(outlook.counts):
            rows = outlook.counts == t
            stops[rows] = self.regressions[t]((bending[rows], linear[rows])) > TIE
        return stops


def expected_losses(recorded: Recorded, criterion: str) -> np.ndarray:
    """Returns E[loss | the judge's own expectation of it] (N, T + 1) float64, after each number of glimpses."""
    from sklearn.isotonic import IsotonicRegression

    if criterion == "error":
        losses, own = recorded.errors, 1.0 - recorded.probabilities.max(axis=-1)
    else:
        losses, own = recorded.log_loss, entropy_of(recorded.probabilities)
    columns = [
        IsotonicRegression(out_of_bounds="clip").fit_transform(own[:, t].astype(np.float64), losses[:, t])
        for t in range(losses.shape[1])
    ]
    return np.stack(columns, axis=1)
