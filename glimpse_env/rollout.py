"""Plays whole episodes with anything that has SB3's ``predict``: one player for every policy."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.episodes import ActionMode, Assessment, EpisodeBatch, Posterior, Task


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
    """(N, T) int64: grid locations; -1 where actions are continuous."""
    corners: np.ndarray
    """(N, T, 2) int64 pixels: top-left corners (row, col); (N, T, 3) with zooms, (row, col, zoom)."""
    success: np.ndarray
    """(N,) bool: whether the judge, or the policy, named the class after the last glimpse."""
    log_loss: np.ndarray
    """(N, T) float32 nats: the label's log-loss after each glimpse, by the judge. Without a judge by the policy's
    ``last_probabilities`` (B, classes), NaN where it has none."""
    entropy: np.ndarray
    """(N, T) float32 nats: entropy of the judge's, or the policy's, class probabilities after each glimpse."""

    def __post_init__(self) -> None:
        count, steps = self.locations.shape
        coordinates = 3 if self.corners.shape[2:] == (3,) else 2
        for field, shape in (
            ("indices", (count,)),
            ("labels", (count,)),
            ("corners", (count, steps, coordinates)),
            ("success", (count,)),
            ("log_loss", (count, steps)),
            ("entropy", (count, steps)),
        ):
            if getattr(self, field).shape != shape:
                raise ValueError(f"{field} has shape {getattr(self, field).shape}, not {shape}.")

    def __len__(self) -> int:
        return len(self.indices)


def play(
    policy: Policy,
    dataset: GlimpseDataset,
    judge: Posterior | None,
    indices: np.ndarray,
    *,
    action: ActionMode = "discrete",
    observation: str = "history",
    features: GlimpseFeatures | None = None,
    batch_size: int = 128,
    deterministic: bool = True,
    progress: bool = True,
    start: Callable[[np.ndarray], Any] | None = None,
    on_step: Callable[[np.ndarray, int, Policy], object] | None = None,
) -> Rollouts:
    """Plays one episode on each of the images ``indices`` (N,), batches of them in lockstep.

    Args:
        policy: the policy that acts; if its ``predict`` takes ``action_masks``, as MaskablePPO's, it is given them.
        dataset, action, observation, features: see :class:`EpisodeBatch`.
        judge: None for a policy that classifies, with discrete actions.
        batch_size: images at a time.
        deterministic: handed to ``predict``.
        progress: whether to show a bar.
        start: gives the policy's state before the first step from the (B,) image indices of a batch.
        on_step: called after each glimpse with the (B,) positions of the batch in ``indices``, the step 0..T-1 and
            the policy.

    Raises:
        ConfigurationError: if an index or another argument is out of range.
        InvalidActionError: if the policy leaves the action space.
    """
    indices, count, steps = np.asarray(indices, dtype=np.int64), len(indices), dataset.geometry.num_glimpses
    locations = np.full((count, steps), -1, dtype=np.int64)
    corners = np.empty((count, steps, dataset.geometry.grid.coordinates), dtype=np.int64)
    success = np.empty(count, dtype=bool)
    log_loss, entropy = np.full((2, count, steps), np.nan, dtype=np.float32)
    task: Task = "look" if judge is not None else "classify"
    takes_masks = action == "discrete" and "action_masks" in inspect.signature(policy.predict).parameters
    with tqdm(total=count, desc="Episodes", unit="img", disable=not progress) as bar:
        for first in range(0, count, batch_size):
            rows = np.arange(first, min(first + batch_size, count))
            batch = EpisodeBatch(
                dataset, judge, len(rows), task=task, action=action, observation=observation, features=features
            )
            wanted = batch.requested({"index": indices[rows]})
            assert wanted is not None
            observations, _ = batch.begin(wanted)
            state = None if start is None else start(indices[rows])
            for t in range(batch.num_steps):
                begins = np.full(len(rows), t == 0)
                masks = {"action_masks": batch.action_masks()} if takes_masks else {}
                actions, state = policy.predict(observations, state, begins, deterministic, **masks)
                transition = batch.step(actions)
                observations, assessment = transition.observations, transition.assessment
                own = getattr(policy, "last_probabilities", None) if judge is None else None
                if own is not None and t > 0:  # they are of the glimpses before this step
                    assessed = Assessment.of(own, dataset.labels[indices[rows]])
                    log_loss[rows, t - 1], entropy[rows, t - 1] = assessed.log_loss, assessed.entropy
                if assessment is not None:  # posterior_info asks the judge at each step
                    log_loss[rows, t], entropy[rows, t] = assessment.log_loss, assessment.entropy
                if transition.ended:
                    success[rows] = transition.info["is_success"]
                if t < steps:
                    if action == "discrete":
                        locations[rows, t] = actions if judge is not None else np.asarray(actions)[:, 0]
                    if on_step is not None:
                        on_step(rows, t, policy)
            corners[rows] = batch.corners
            bar.update(len(rows))
    return Rollouts(indices, dataset.labels[indices], locations, corners, success, log_loss, entropy)
