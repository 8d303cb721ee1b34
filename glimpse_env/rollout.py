"""Plays whole episodes with anything that has SB3's ``predict``: one player for every policy."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from glimpse_env.actions import ActionMode, Actions
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.episodes import Assessment, EpisodeBatch, Posterior, Task


class Policy(Protocol):
    """Anything that acts, like a model of SB3."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Returns batched actions for batched observations, and the state for the next step.

        Args:
            observation: batched observations.
            state: the state that the last call returned; at the first step None, or the one that ``start`` gave.
            episode_start: (B,) bool, True at the first step.
            deterministic: whether to take the most probable action in place of a random one.
        """


@dataclass(frozen=True)
class Rollouts:
    """One episode on each of N images."""

    indices: np.ndarray
    """(N,) int64: the images."""
    labels: np.ndarray
    """(N,) int64."""
    locations: np.ndarray
    """(N, T) int64: grid locations, -1 from an episode's stop on; -1 everywhere where actions are continuous."""
    corners: np.ndarray
    """(N, T, 2) int64 pixels: top-left corners (row, col), 0 from an episode's stop on; with zooms (N, T, 3), (row,
    col, zoom)."""
    success: np.ndarray
    """(N,) bool: whether the judge, or the policy, named the class at the end."""
    log_loss: np.ndarray
    """(N, T) float32 nats: the label's log-loss after each glimpse, by the judge; from an episode's stop on that at its
    end. Without a judge by the policy's ``last_probabilities`` (B, classes), NaN where it has none."""
    entropy: np.ndarray
    """(N, T) float32 nats: entropy of the judge's, or the policy's, class probabilities after each glimpse; from an
    episode's stop on that at its end."""
    lengths: np.ndarray
    """(N,) int64: glimpses taken."""

    def __post_init__(self) -> None:
        count, steps = self.locations.shape
        for field, shape in (
            ("indices", (count,)),
            ("labels", (count,)),
            ("corners", (count, steps, self.corners.shape[-1])),
            ("success", (count,)),
            ("log_loss", (count, steps)),
            ("entropy", (count, steps)),
            ("lengths", (count,)),
        ):
            if getattr(self, field).shape != shape:
                raise ValueError(f"{field} has shape {getattr(self, field).shape}, not {shape}.")

    @property
    def final_log_loss(self) -> np.ndarray:
        """(N,) float32 nats: the label's log-loss at the end."""
        return self.log_loss[:, -1]

    @property
    def final_entropy(self) -> np.ndarray:
        """(N,) float32 nats: entropy of the class probabilities at the end."""
        return self.entropy[:, -1]

    def returns(self, glimpse_cost: float = 0.0) -> np.ndarray:
        """Returns what ``reward="classification"`` pays an episode, (N,) float64: 1 for success, less the cost of each
        glimpse."""
        return self.success - glimpse_cost * self.lengths

    def __len__(self) -> int:
        return len(self.indices)


def can_stop(policy: Any, dataset: GlimpseDataset, judge: Posterior | None, action: ActionMode = "discrete") -> bool:
    """Returns whether a policy can stop: it has ``stops`` that is True or, as a model of SB3, an action space with an
    action that stops. Arguments as in :func:`play`."""
    classes = None if judge is not None else len(dataset.class_names)
    stopping = Actions(dataset.geometry.grid, classes, action, stop=True).space
    return bool(getattr(policy, "stops", False)) or getattr(policy, "action_space", None) == stopping


def play(
    policy: Policy,
    dataset: GlimpseDataset,
    judge: Posterior | None,
    indices: np.ndarray,
    *,
    action: ActionMode = "discrete",
    observation: str = "history",
    stop: bool | None = None,
    features: GlimpseFeatures | None = None,
    batch_size: int = 128,
    deterministic: bool = True,
    progress: bool = True,
    start: Callable[[np.ndarray], Any] | None = None,
    on_step: Callable[[np.ndarray, int, Policy], object] | None = None,
) -> Rollouts:
    """Plays one episode on each of the images ``indices`` (N,), batches of them in lockstep.

    With ``stop`` a batch is stepped until all its episodes have ended. The policy goes on seeing the last observation
    of those that ended before; what it does there is ignored.

    Args:
        policy: the policy that acts; if its ``predict`` takes ``action_masks``, as MaskablePPO's, it is given them.
        dataset, action, observation, features: see :class:`EpisodeBatch`.
        stop: whether an action can stop; by default if the policy can, see :func:`can_stop`.
        judge: None for a policy that classifies, with discrete actions.
        batch_size: images at a time.
        deterministic: handed to ``predict``.
        progress: whether to show a bar.
        start: gives the policy's state before the first step from the (B,) image indices of a batch.
        on_step: called after each step at which a glimpse could be taken, with the (B,) positions of the batch in
            ``indices``, the step 0..T-1 and the policy; with ``stop`` some episodes of the batch may have ended before.

    Raises:
        ConfigurationError: if an index or another argument is out of range.
        InvalidActionError: if the policy leaves the action space.
    """
    indices, count, steps = np.asarray(indices, dtype=np.int64), len(indices), dataset.geometry.num_glimpses
    locations = np.full((count, steps), -1, dtype=np.int64)
    corners = np.empty((count, steps, dataset.geometry.grid.coordinates), dtype=np.int64)
    success, lengths = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.int64)
    log_loss, entropy = np.full((2, count, steps), np.nan, dtype=np.float32)
    stop = can_stop(policy, dataset, judge, action) if stop is None else stop
    task: Task = "look" if judge is not None else "classify"
    takes_masks = action == "discrete" and "action_masks" in inspect.signature(policy.predict).parameters
    with tqdm(total=count, desc="Episodes", unit="img", disable=not progress) as bar:
        for first in range(0, count, batch_size):
            rows = np.arange(first, min(first + batch_size, count))
            batch = EpisodeBatch(
                dataset,
                judge,
                len(rows),
                task=task,
                action=action,
                observation=observation,
                stop=stop,
                features=features,
            )
            wanted = batch.requested({"index": indices[rows]})
            assert wanted is not None
            observations, _ = batch.begin(wanted)
            state = None if start is None else start(indices[rows])
            for t in range(batch.num_steps):
                begins = np.full(len(rows), t == 0)
                masks = {"action_masks": batch.action_masks()} if takes_masks else {}
                actions, state = policy.predict(observations, state, begins, deterministic, **masks)
                running, counts = ~batch.ended, batch.counts.copy()
                transition = batch.step(actions)
                observations, assessment = transition.observations, transition.assessment
                own = getattr(policy, "last_probabilities", None) if judge is None else None
                # of what is shown from here on, until the next step says otherwise; the policy's own answer is of the
                # glimpses before this step
                since = t
                if own is not None:
                    assessment, since = Assessment.of(own, dataset.labels[indices[rows]]), max(t - 1, 0)
                if assessment is not None:
                    log_loss[rows[running], since:] = assessment.log_loss[running, None]
                    entropy[rows[running], since:] = assessment.entropy[running, None]
                if transition.ended.any():
                    success[rows[transition.ended]] = transition.info["is_success"][transition.ended]
                if t < steps:
                    took = batch.counts > counts
                    if action == "discrete":
                        places = np.asarray(actions) if judge is not None else np.asarray(actions)[:, 0]
                        locations[rows[took], t] = places[took]
                    if on_step is not None:
                        on_step(rows, t, policy)
                if batch.ended.all():
                    break
            lengths[rows] = batch.counts
            corners[rows] = batch.corners
            bar.update(len(rows))
    return Rollouts(indices, dataset.labels[indices], locations, corners, success, log_loss, entropy, lengths)
