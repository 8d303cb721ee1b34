"""Many episodes at once: both environments and :mod:`glimpse_env.rollout` are thin layers over this."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from gymnasium import spaces

from glimpse_env.checks import flag, one_of, whole_number
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import ConfigurationError, InvalidActionError
from glimpse_env.judge.assessment import Assessment, Posterior
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.tables import EmbeddingTable, TabulatedJudge
from glimpse_env.sensing.observations import OBSERVATIONS, Histories, Observation
from glimpse_env.threads import at_most_threads, stepping_threads

ActionMode = Literal["discrete", "continuous"]
RewardMode = Literal["classification", "information", "log_loss"]
Task = Literal["look", "classify"]
LEAST_PROBABILITY = 1e-4
"""Smallest probability in a log-loss reward, which therefore is at least log(1e-4), about -9.2."""
MAX_EPISODES = 1_000_000
"""Most episodes in a batch."""


def _probabilities(numbers: np.ndarray) -> np.ndarray:
    """Turns numbers in [-1, 1], (B, classes), into probabilities, float64; uniform where all are -1."""
    weights = numbers.astype(np.float64) + 1.0
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1.0 / weights.shape[1])


ActionSpace: TypeAlias = spaces.Discrete | spaces.MultiDiscrete | spaces.Box


def _check_without_judge(action: str, observation: str, reward: str, tabulated: bool) -> None:
    """Refuses settings that need a judge, where agents classify themselves."""
    if observation == "embedding" or tabulated:
        asked = "observation='embedding'" if observation == "embedding" else "tabulated=True"
        raise ConfigurationError(f"{asked} reads a judge's table and task='classify' has no judge; leave it out.")
    if reward == "information":
        raise ConfigurationError("reward='information' needs a judge and task='classify' has none; leave it out.")
    if reward == "log_loss" and action != "continuous":
        raise ConfigurationError("reward='log_loss' needs probabilities of the classes; take action='continuous'.")


@dataclass(frozen=True)
class Transition:
    """The result of one step of B episodes."""

    observations: Observation
    """Batched observations after the step."""
    rewards: np.ndarray
    """(B,) float64."""
    ended: bool
    """Whether this was the last step of the episodes, which start and end together."""
    info: dict[str, np.ndarray]
    """(B, ...) each: ``index``, and with ``posterior_info`` ``probabilities`` and ``entropy``; at the end also
    ``is_success``, ``label`` and, where a judge or the agent gave probabilities, ``log_loss``."""
    assessment: Assessment | None
    """The judge's answers, None where it was not asked; they depend on the label and are not for the agent."""


class EpisodeBatch:
    """B episodes in lockstep: each hides an image and shows T glimpses of it, one a step.

    With ``task="look"`` a judge names the class and the T-th glimpse ends the episode. With ``task="classify"`` there
    is no judge: each action also names a class, and a last action, number T + 1, whose location is ignored, gives the
    answer with all T glimpses in view.

    Args:
        dataset: where the images come from, and the geometry of the glimpses.
        judge: gives p(theta | y_1:t, l_1:t), from which the reward is made; None with ``task="classify"``.
        size: B.
        task, observation, action, reward, posterior_info, tabulated: see :class:`glimpse_env.env.GlimpseEnv`; embedding
            observations imply ``tabulated``.
        features: what ``observation="features"`` shows; default what the judge reads.
        table: of these features at the grid locations of the data set's images; default one of the data set.

    Raises:
        ConfigurationError: if an argument is out of range, images are not square, the judge knows other classes, a
            table is asked for with continuous actions, or something of a judge is to be shown where there is none.
    """

    def __init__(
        self,
        dataset: GlimpseDataset,
        judge: Posterior | None,
        size: int,
        *,
        task: Task = "look",
        observation: str = "history",
        action: ActionMode = "discrete",
        reward: RewardMode = "classification",
        posterior_info: bool = True,
        tabulated: bool = False,
        features: GlimpseFeatures | None = None,
        table: FeatureTable | None = None,
    ):
        height, width, channels = dataset.images.shape[1:]
        size_needed = dataset.geometry.image_size
        if (height, width) != (size_needed, size_needed):
            raise ConfigurationError(
                f"images of {height} x {width} pixels are not squares of {size_needed}, the image_size of "
                f"{dataset.name}'s geometry; crop or pad them."
            )
        one_of("task", task, get_args(Task))
        if (judge is None) != (task == "classify"):
            raise ConfigurationError(
                f"task={task!r} {'has no judge' if judge is not None else 'needs a judge'}: the agent itself names the "
                "class with task='classify', a judge with task='look'."
            )
        if judge is not None and judge.num_classes != len(dataset.class_names):
            raise ConfigurationError(
                f"the judge knows {judge.num_classes} classes and {dataset.name} has {len(dataset.class_names)}: "
                "use one that was trained on this data set."
            )
        size = whole_number("num_envs", size, 1, MAX_EPISODES)
        factory = OBSERVATIONS[observation]
        one_of("action", action, get_args(ActionMode))
        one_of("reward", reward, get_args(RewardMode))
        self.task = task
        if judge is None:
            _check_without_judge(action, observation, reward, tabulated)
        elif reward == "log_loss":
            raise ConfigurationError("reward='log_loss' is of the agent's own probabilities; take task='classify'.")
        self.dataset = dataset
        self.judge = judge
        self.geometry = geometry = dataset.geometry
        self.action = action
        self.reward = reward
        self.posterior_info = flag("posterior_info", posterior_info) and judge is not None
        self.grid = geometry.grid
        self.sensor = geometry.sensor
        self.tabulated: TabulatedJudge | None = None
        self.embeddings: EmbeddingTable | FeatureTable | None = None  # shown in place of pixels
        self.features: GlimpseFeatures | None = None  # shown in place of pixels, where they are in no table
        self._threads = stepping_threads()
        if flag("tabulated", tabulated) or observation == "embedding":
            if action != "discrete":
                raise ConfigurationError(
                    f"action={action!r} has glimpses that no table of embeddings holds; take action='discrete', or "
                    "tabulated=False and another observation."
                )
            if not isinstance(judge, Judge):
                raise ConfigurationError(f"{type(judge).__name__} has no embeddings to tabulate; use a Judge.")
            if judge.grid != self.grid:
                raise ConfigurationError(
                    f"the judge's grid {judge.grid} is not the environment's {self.grid}; use a judge that was "
                    "trained with this geometry."
                )
            self.tabulated = TabulatedJudge(dataset, judge)
            if observation == "embedding":
                self.embeddings = EmbeddingTable(dataset, judge, 0)
        if observation == "features":
            self.features = features or (judge.frozen if isinstance(judge, Judge) else None)
            if self.features is None:
                raise ConfigurationError(
                    "observation='features' needs frozen features: the judge reads none; give encoder, or features."
                )
            if action == "discrete":
                self.embeddings = table or FeatureTable(dataset, self.features)
        shown = self.embeddings or self.features
        self.observer = factory(geometry, shown.width if shown else channels)
        self.action_space = self._actions()
        self.num_steps = geometry.num_glimpses + (task == "classify")
        """Steps of an episode."""
        self.indices = np.zeros(size, dtype=np.int64)
        self.num_taken = 0
        """t, glimpses taken so far, the same in all episodes."""
        self.ended = False
        """Whether the last step has been made."""
        self.named: np.ndarray | None = None
        """(B,) int64: the classes that agents named last, where they classify."""
        self._last_observations: Observation = None  # the answer shows nothing new
        self.corners = np.zeros((size, geometry.num_glimpses, self.grid.coordinates), dtype=np.int64)
        """(B, T, 2) pixels, (B, T, 3) with zooms: where the glimpses are; zero from t on."""
        self._locations = np.zeros((size, geometry.num_glimpses), dtype=np.int64)  # on the grid; of discrete actions
        self._observations = self.observer.blank(size)
        self._num_embedded = 0  # glimpses in the sum below
        self._embed_sum = np.zeros(0, dtype=np.float32)  # of the judge, see Judge.embed_sum
        self._log_loss = np.zeros(size)  # of the last step, for the information reward

    def __len__(self) -> int:
        return len(self.indices)

    def __deepcopy__(self, memo: dict[int, Any]) -> "EpisodeBatch":
        """Copies the episodes; data set, judge and tables never change and are shared."""
        memo |= {
            id(fixed): fixed for fixed in (self.dataset, self.judge, self.tabulated, self.embeddings, self.features)
        }
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(deepcopy(self.__dict__, memo))
        return copied

    @property
    def histories(self) -> Histories:
        """The glimpses so far."""
        glimpses = self._cut(0, self.geometry.num_glimpses)
        glimpses[:, self.num_taken :] = 0
        return Histories(glimpses, self.corners.copy(), np.full(len(self), self.num_taken))

    def begin(self, indices: np.ndarray) -> tuple[Observation, dict[str, np.ndarray]]:
        """Starts all episodes anew on the images ``indices`` (B,) int64.

        Returns:
            The observations, batched, and the info as in :class:`Transition`.
        """
        self.indices = indices
        self.num_taken = self._num_embedded = 0
        self.ended, self.named, self._last_observations = False, None, None
        self.corners[:] = 0
        self.observer.begin(self._observations)
        assessment = self.assess() if self._judges_each_step else None
        if assessment is not None:
            self._log_loss = assessment.log_loss
        return self.observer.blank(len(self)), self._info(assessment)

    def step(self, actions: Any) -> Transition:
        """Takes one glimpse in every episode, or the answers where all are taken.

        Args:
            actions: (B,) int grid indices, or (B, 2) coordinates in [-1, 1], with zooms (B, 3); to classify (B, 2)
                int, of location and class, or (B, 2 + classes), with zooms (B, 3 + classes).

        Raises:
            InvalidActionError: naming an action that is not in the action space; nothing has changed then.
        """
        actions, t = self._checked(actions), self.num_taken
        if self.task == "classify":
            width = 1 if self.action == "discrete" else self.grid.coordinates
            answers = actions[:, 1] if self.action == "discrete" else actions[:, width:]
            self.named = np.array(answers if self.action == "discrete" else answers.argmax(axis=1))
            if t == self.geometry.num_glimpses:
                return self._answered(answers)
            actions = actions[:, 0] if self.action == "discrete" else actions[:, :width]
        if self.action == "discrete":
            corners = self.grid.corners[actions]
            self._locations[:, t] = actions
        else:
            corners = self.grid.denormalise(actions)
        self.corners[:, t] = corners
        self.num_taken = t + 1
        if self.embeddings is not None:
            seen = self.embeddings(self.indices, actions)
        else:
            seen = self.sensor(self.dataset.images, self.indices, corners)
            if self.features is not None:
                seen = self.features.encode(seen).half().numpy()
        with at_most_threads(self._threads):
            observations = self.observer.advance(self._observations, t, seen, corners)
        if self.task == "classify":
            self._last_observations = observations
            return Transition(observations, np.zeros(len(self)), False, self._info(None), None)
        self.ended = ended = self.num_taken == self.num_steps
        assessment = self.assess() if ended or self._judges_each_step else None
        info = self._info(assessment)
        rewards = np.zeros(len(self))
        if assessment is not None:
            if self.reward == "information":
                rewards = self._log_loss - assessment.log_loss
            elif ended:
                rewards = assessment.success.astype(np.float64)
            if ended:
                info |= {
                    "is_success": assessment.success,
                    "label": np.array(self.dataset.labels[self.indices]),
                    "log_loss": assessment.log_loss,
                }
            self._log_loss = assessment.log_loss
        return Transition(observations, rewards, ended, info, assessment)

    def _answered(self, answers: np.ndarray) -> Transition:
        """Ends the episodes of agents that classify, by ``answers`` (B,) or numbers (B, classes)."""
        self.ended = True
        labels, info = np.array(self.dataset.labels[self.indices]), self._info(None)
        assert self.named is not None
        success = self.named == labels
        rewards = success.astype(np.float64)
        if self.action == "continuous":
            info["log_loss"] = Assessment.of(_probabilities(answers), labels).log_loss
        if self.reward == "log_loss":
            rewards = -np.minimum(info["log_loss"], -np.log(LEAST_PROBABILITY))
        info |= {"is_success": success, "label": labels}
        return Transition(self._last_observations, rewards, True, info, None)

    def assess(self) -> Assessment:
        """Asks the judge about the glimpses so far.

        Raises:
            ConfigurationError: if there is no judge.
        """
        if self.judge is None:
            raise ConfigurationError("task='classify' has no judge to ask; ask the agent.")
        with at_most_threads(self._threads):
            probabilities = self._ask(self.judge)
        return Assessment.of(probabilities, np.array(self.dataset.labels[self.indices]))

    def _ask(self, judge: Posterior) -> np.ndarray:
        """Returns the judge's class probabilities at present, (B, classes) float32."""
        t, folds = self.num_taken, np.array(self.dataset.folds[self.indices])
        if t == 0:
            known, priors = self._priors
            return priors[np.searchsorted(known, folds)]
        if self.tabulated is not None:
            return self.tabulated.probabilities(self.indices, self._locations[:, :t])
        if not isinstance(judge, Judge):
            return judge.probabilities(self._cut(0, t), self.corners[:, :t], np.full(len(self), t), folds)
        if self._num_embedded < t:
            fresh = judge.embed_sum(self._cut(self._num_embedded, t), self.corners[:, self._num_embedded : t], folds)
            self._embed_sum = fresh if self._num_embedded == 0 else self._embed_sum + fresh
            self._num_embedded = t
        return judge.predict_from_sum(self._embed_sum, t, folds)

    def requested(self, options: Mapping[str, Any] | None) -> np.ndarray | None:
        """Returns the images that ``options["index"]`` of a reset asks for, (B,) int64, or None without options.

        Raises:
            ConfigurationError: if an index is out of range, of the wrong shape or type, or there is another option.
        """
        if options is None:
            return None
        if not isinstance(options, Mapping):
            raise ConfigurationError(f"options={options!r} of a reset must be a dict, like {{'index': 3}}.")
        unknown = [key for key in options if key != "index"]
        if unknown:
            raise ConfigurationError(f"reset option {unknown[0]!r} is unknown; there is only 'index'.")
        if not options:
            return None
        value, last = options["index"], len(self.dataset) - 1
        try:
            indices = np.broadcast_to(np.asarray(value), (len(self),))
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigurationError(f"index={value!r} must be one integer or {len(self)} of them.") from error
        if indices.dtype.kind not in "iu" or (indices < 0).any() or (indices > last).any():
            raise ConfigurationError(f"index={value!r} must be an integer in 0..{last}, the images of this split.")
        return indices.astype(np.int64)

    def _checked(self, actions: Any) -> np.ndarray:
        """Checks actions as :meth:`step` takes them, and returns them as an array."""
        space, classify = self.action_space, self.task == "classify"
        shape = (len(self), *space.shape)  # type: ignore[misc]
        kinds, members = ("iu", "integers") if self.action == "discrete" else ("fiu", "numbers")
        low, high = (-1, 1) if isinstance(space, spaces.Box) else (0, getattr(space, "nvec", len(self.grid)) - 1)
        if not classify:
            members = (
                f"integers in 0..{high}" if self.action == "discrete" else f"{self.grid.coordinates} numbers in [-1, 1]"
            )
        elif self.action == "discrete":
            members = f"a location in 0..{len(self.grid) - 1} and a class in 0..{len(self.dataset.class_names) - 1}"
        else:
            members = f"{shape[1]} numbers in [-1, 1]"
        try:
            values = np.asarray(actions)
        except (TypeError, ValueError, RuntimeError) as error:  # the last from a tensor that wants a gradient
            raise InvalidActionError(f"actions {actions!r} are no array ({error}): take {members}.") from error
        if values.dtype.kind not in kinds or values.shape != shape:
            raise InvalidActionError(
                f"actions {actions!r} ({values.dtype}, shape {values.shape}) must be {members}; shape {shape}."
            )
        within = (values >= low) & (values <= high)  # false for NaN
        valid = within.reshape(len(self), -1).all(axis=1)
        if not valid.all():
            raise InvalidActionError(f"action {values[~valid][0]} is not in the action space: take {members}.")
        return values

    def action_masks(self) -> np.ndarray:
        """Returns which actions an agent may take.

        Returns:
            (B, L) bool: True at the locations not yet looked at. With ``task="classify"`` (B, L + classes): the
            locations, whose masks stay though the answer ignores its location, then the classes, which are all True.
            That is the layout in which sb3-contrib takes the masks of a ``MultiDiscrete`` space: those of its parts one
            after another.

        Raises:
            ConfigurationError: if actions are continuous.
        """
        if self.action != "discrete":
            raise ConfigurationError("action_masks() needs action='discrete': others cannot be listed.")
        masks = np.ones((len(self), len(self.grid)), dtype=bool)
        np.put_along_axis(masks, self._locations[:, : self.num_taken], False, axis=1)
        if self.task == "classify":
            masks = np.concatenate([masks, np.ones((len(self), len(self.dataset.class_names)), dtype=bool)], axis=1)
        return masks

    def _actions(self) -> ActionSpace:
        """Returns the action space of one episode."""
        locations, classes = len(self.grid), len(self.dataset.class_names)
        if self.action == "discrete":
            return spaces.Discrete(locations) if self.task == "look" else spaces.MultiDiscrete([locations, classes])
        width = self.grid.coordinates + (0 if self.task == "look" else classes)
        return spaces.Box(-1.0, 1.0, (width,), np.float32)

    @property
    def _judges_each_step(self) -> bool:
        return self.posterior_info or self.reward == "information"

    def _info(self, assessment: Assessment | None) -> dict[str, np.ndarray]:
        info = {"index": self.indices.copy()}
        if self.posterior_info and assessment is not None:
            info |= {"probabilities": assessment.probabilities, "entropy": assessment.entropy}
        return info

    @cached_property
    def _priors(self) -> tuple[np.ndarray, np.ndarray]:
        """The folds in the data set, (F,) ascending, and the judge's answers before the first glimpse, (F, classes)."""
        folds = np.unique(self.dataset.folds)
        assert self.judge is not None
        none = np.zeros((len(folds), *self._cut(0, 1).shape[1:]), dtype=np.uint8)
        corners = np.zeros((len(folds), 1, self.grid.coordinates), dtype=np.int64)
        counts = np.zeros(len(folds), dtype=np.int64)
        return folds, self.judge.probabilities(none, corners, counts, folds)

    def _cut(self, first: int, last: int) -> np.ndarray:
        """Cuts out glimpses ``first`` to ``last`` - 1, 0-based: (B, n, g, g, C * scales) uint8."""
        count, corners = last - first, self.corners[:, first:last].reshape(-1, self.grid.coordinates)
        glimpses = self.sensor(self.dataset.images, np.repeat(self.indices, count), corners)
        return glimpses.reshape(len(self), count, *glimpses.shape[1:])
