"""Policies that stop: any policy that looks, with a rule that says when enough is seen.

Of the rules that see glimpses only, ``gain`` compares what the next glimpse is worth with what it costs; the others are
thresholds. :class:`oracles.boed.anytime.AnytimeOracle` looks further ahead than one glimpse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from glimpse_env.checks import check_settings
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.assessment import entropy_of
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.sequences import judge_sequences
from glimpse_env.registry import Registry
from glimpse_env.rollout import play
from glimpse_env.sensing.observations import Histories
from oracles.base import GlimpsePolicy, PlannedPolicy, unseen_scores
from oracles.boed.anytime import TIE
from oracles.boed.criteria import CRITERIA
from oracles.boed.oracle import BOEDOracle, OracleConfig

CLAIRVOYANT_STOP = "clairvoyant-stop"
"""Rule of :class:`ClairvoyantStop`."""
PRICED = ("boed-gain", "boed-clairvoyant-stop", "oracle-stop")
"""Policies with a :class:`StopConfig` whose threshold is the price of a glimpse."""
GLIMPSE_COST = 0.02
"""Price of a glimpse in expected success, where none is given."""


@dataclass(frozen=True)
class StopConfig:
    """Settings of a policy of :data:`STOPPING`.

    Raises:
        ConfigurationError: if a value is of another type, or no finite number.
    """

    threshold: float | None = None
    """Of the rule, see :data:`RULES`; for ``gain`` and the clairvoyant stop the cost of a glimpse. None for the
    policy's default."""
    config: OracleConfig | None = None
    """Configuration of the oracle that looks; None for the data set's default."""

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Stopping:
    """What the name of a policy that stops stands for."""

    policy: str
    """Name of the policy that looks."""
    rule: str
    """Name of the rule."""
    threshold: Callable[[int], float]
    """Gives the default threshold for T glimpses."""
    criterion: str | None = None
    """Criterion of the oracle that looks; None for the data set's default."""


STOPPING: dict[str, Stopping] = {
    "boed-gain": Stopping("boed", "gain", lambda _: GLIMPSE_COST, "least_confidence"),
    "boed-information-gain": Stopping("boed", "gain", lambda _: 0.1, "entropy"),
    "boed-entropy": Stopping("boed", "entropy", lambda _: 0.3),
    "boed-confidence": Stopping("boed", "confidence", lambda _: 0.9),
    "fixed-length": Stopping("fixed", "length", lambda steps: (steps + 1) // 2),
    "boed-clairvoyant-stop": Stopping("boed", CLAIRVOYANT_STOP, lambda _: GLIMPSE_COST),
}
"""Policies that look as another does and stop by a rule, by name."""


@dataclass(frozen=True)
class Outlook:
    """What a rule decides by, of B episodes."""

    counts: np.ndarray
    """(B,) int64, glimpses taken."""
    probabilities: np.ndarray
    """(B, classes) float32, the judge's, the mean over its networks."""
    present: np.ndarray | None
    """(B,) float32, the policy's criterion if no glimpse is taken any more; None where it has none."""
    following: np.ndarray | None
    """(B,) float32, the same after one more glimpse at the best location."""

    @property
    def gain(self) -> np.ndarray:
        """(B,) float32, what the best next glimpse is expected to gain: never less than nothing, as what is seen can
        be ignored.

        Raises:
            ConfigurationError: if the policy does not know it.
        """
        if self.present is None or self.following is None:
            raise ConfigurationError("rule='gain' needs a policy that knows what the next glimpse gains, like 'boed'.")
        return np.maximum(self.present - self.following, 0.0)


StoppingRule = Callable[[Outlook, float], np.ndarray]
"""``rule(outlook, threshold)`` says which episodes stop, (B,) bool."""

RULES: Registry[StoppingRule] = Registry(
    "rule",
    {
        "gain": lambda outlook, cost: outlook.gain < cost - TIE,
        "entropy": lambda outlook, nats: entropy_of(outlook.probabilities) < nats,
        "confidence": lambda outlook, probability: outlook.probabilities.max(axis=1) > probability,
        "length": lambda outlook, number: outlook.counts >= number,
    },
)
"""Rules by name. ``gain`` stops where the next glimpse is expected to gain less than the threshold, in the unit of the
policy's criterion; ``entropy`` where that of the judge's posterior is below the threshold, in nats; ``confidence``
where its largest probability is above it; ``length`` after so many glimpses."""


class StoppingPolicy(GlimpsePolicy):
    """Looks where another policy does, until a rule says that enough is seen.

    Its maps, and what it expects if it stops, are the other policy's; for ``gain`` the maps include the glimpse's cost.
    """

    stops = True

    def __init__(
        self,
        policy: GlimpsePolicy,
        judge: Judge,
        rule: str | StoppingRule,
        threshold: float,
        *,
        network: int | None = None,
    ):
        """
        Args:
            policy: says where to look.
            judge: gives the posterior.
            rule: one of :data:`RULES`; ``"module:name"`` imports the module first. Or a rule itself, as
                :class:`oracles.induction.Induction`.
            threshold: of the rule, in its unit.
            network: the judge's network to ask; None for the mean of all.

        Raises:
            ConfigurationError: if there is no such rule.
        """
        self.policy, self.judge, self.threshold = policy, judge, threshold
        self.name, self.rule = (RULES.name_of(rule), RULES[rule]) if isinstance(rule, str) else ("", rule)
        self.grid, self.map_title = policy.grid, policy.map_title
        self.weighs_stop = self.name == "gain"
        self.fold = -1 if network is None else network

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> Any:
        return self.policy.start(dataset, indices)

    def choose(self, histories: Histories, state: Any, episode_start: np.ndarray | None) -> tuple[np.ndarray, Any]:
        locations, state = self.policy.choose(histories, state, episode_start)
        maps, self.last_stop = self.policy.last_maps, self.policy.last_stop
        outlook = Outlook(
            counts=histories.counts,
            probabilities=self._probabilities(histories, state),
            present=self.last_stop,
            following=None if maps is None else unseen_scores(maps, histories, self.grid).min(axis=1),
        )
        self.last_maps = maps + np.float32(self.threshold) if maps is not None and self.name == "gain" else maps
        return np.where(self.rule(outlook, self.threshold), len(self.grid), locations), state

    def _probabilities(self, histories: Histories, state: Any) -> np.ndarray:
        if isinstance(self.policy, BOEDOracle):  # its state has the embeddings of the glimpses
            return self.policy.class_probabilities(state)
        folds = np.full(len(histories), self.fold)
        return self.judge.probabilities(histories.glimpses, histories.corners, histories.counts, folds)


class ClairvoyantStop(PlannedPolicy):
    """Peeks at the label and at what is still to be seen: stops where loss and costs turn out least on the path of
    another policy. A bound on all rules for that policy, not a rival."""

    stops = True

    def __init__(self, policy: GlimpsePolicy, judge: Judge, cost: float, criterion: str = "error"):
        """
        Args:
            policy: says where to look.
            judge: says what is lost.
            cost: of a glimpse, in the unit of ``criterion``.
            criterion: one of :data:`oracles.boed.criteria.CRITERIA`, of the true label.
        """
        self.policy, self.judge, self.cost, self.criterion = policy, judge, cost, criterion
        self.grid = policy.grid

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> tuple[np.ndarray, None]:
        """Returns the sequences (B, T), L from the step on at which they stop, and no maps."""
        rollouts = play(
            self.policy,
            dataset,
            self.judge,
            indices,
            batch_size=len(indices),
            progress=False,
            start=lambda rows: self.policy.start(dataset, rows),
        )
        count, steps = rollouts.locations.shape
        glimpses, folds = (
            dataset.geometry.sensor(dataset.images, indices, rollouts.corners[:, 0]),
            dataset.folds[indices],
        )
        before = self.judge.probabilities(glimpses[:, None], rollouts.corners[:, :1], np.zeros(count, int), folds)
        after = judge_sequences(dataset, self.judge, indices, rollouts.corners)
        answers = np.concatenate([before[:, None], after], axis=1)  # (B, T + 1, classes)
        labels = torch.from_numpy(rollouts.labels)[:, None].expand(-1, steps + 1)
        losses = CRITERIA[self.criterion].function(torch.from_numpy(answers).log(), labels).numpy()
        losses = losses + self.cost * np.arange(steps + 1)
        lengths = steps - losses[:, ::-1].argmin(axis=1)  # of equals the longest
        return np.where(np.arange(steps) < lengths[:, None], rollouts.locations, len(self.grid)), None
