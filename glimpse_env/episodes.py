"""Many episodes at once: both environments and :mod:`glimpse_env.rollout` are thin layers over this."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from glimpse_env.actions import ActionMode, Actions, Choices
from glimpse_env.answers import classes_named, judge_answers
from glimpse_env.checks import flag, one_of, real_number, requested_indices, whole_number
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.assessment import Assessment, Posterior
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.tables import EmbeddingTable, TabulatedJudge
from glimpse_env.running_judge import RunningJudge, cut
from glimpse_env.sensing.observations import ALL_ROWS, OBSERVATIONS, Histories, Observation, select
from glimpse_env.threads import at_most_threads, stepping_threads

RewardMode = Literal["classification", "information", "log_loss"]
Task = Literal["look", "classify"]
MAX_EPISODES = 1_000_000
"""Most episodes in a batch."""


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
    ended: np.ndarray
    """(B,) bool: which episodes this step ended; without ``stop`` all or none."""
    info: dict[str, np.ndarray]
    """(B, ...) each: ``index``, ``glimpses`` taken, and with ``posterior_info`` ``probabilities`` and ``entropy``.
    Where an episode ended also ``is_success``, ``label`` and, where a judge or the agent gave probabilities,
    ``log_loss``, which are zero for the other episodes."""
    assessment: Assessment | None
    """The judge's answers, None where it was not asked about all episodes; they depend on the label and are not for the
    agent."""


class EpisodeBatch:
    """B episodes: each hides an image and shows up to T glimpses of it, one a step.

    With ``task="look"`` a judge names the class and the T-th glimpse ends the episode. With ``task="classify"`` there
    is no judge: each action also names a class, and a last action, number T + 1, whose location is ignored, gives the
    answer with all T glimpses in view. Episodes begin and end together; with ``stop`` each can end earlier than the
    others, and then waits until :meth:`begin` starts it anew.

    Args:
        dataset: where the images come from, and the geometry of the glimpses.
        judge: gives p(theta | y_1:t, l_1:t), from which the reward is made; None with ``task="classify"``.
        size: B.
        task, observation, action, reward, stop, glimpse_cost, posterior_info, tabulated: see
            :class:`glimpse_env.env.GlimpseEnv`; embedding observations imply ``tabulated``.
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
        stop: bool = False,
        glimpse_cost: float = 0.0,
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
        self.stop = flag("stop", stop)
        self.glimpse_cost = real_number("glimpse_cost", glimpse_cost, 0.0, 1.0 if reward == "classification" else None)
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
        self._actions = Actions(self.grid, None if judge is not None else len(dataset.class_names), action, self.stop)
        self.action_space = self._actions.space
        self.num_steps = geometry.num_glimpses + (task == "classify")
        """Steps of an episode, at most."""
        self.indices = np.zeros(size, dtype=np.int64)
        self.counts = np.zeros(size, dtype=np.int64)
        """(B,) int64: glimpses taken so far."""
        self.ended = np.zeros(size, dtype=bool)
        """(B,) bool: which episodes have had their last step."""
        self.named: np.ndarray | None = None
        """(B,) int64: the classes that agents named last, -1 where none yet; None where a judge names them."""
        self._last_observations: Observation = None  # of lockstep: the answer shows nothing new
        self.corners = np.zeros((size, geometry.num_glimpses, self.grid.coordinates), dtype=np.int64)
        """(B, T, 2) pixels: where the glimpses are; zero from ``counts`` on."""
        self._locations = np.zeros((size, geometry.num_glimpses), dtype=np.int64)  # on the grid; of discrete actions
        self._observations = self.observer.blank(size)
        self._running_judge = None if judge is None else RunningJudge(dataset, judge, self.tabulated, size)
        # of the last step: for the information reward, and for episodes that stop
        self._log_loss = np.zeros(size)
        self._probabilities = np.zeros((size, len(dataset.class_names)), dtype=np.float32)

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
        glimpses = cut(self.dataset, self.indices, self.corners, self.counts)
        return Histories(glimpses, self.corners.copy(), self.counts.copy())

    def begin(self, indices: np.ndarray, rows: np.ndarray | None = None) -> tuple[Observation, dict[str, np.ndarray]]:
        """Starts episodes anew on the images ``indices`` (b,) int64.

        Args:
            indices: the images.
            rows: (b,) int64, which episodes; default all.

        Returns:
            Their observations, batched, and their info as in :class:`Transition`.

        Raises:
            ConfigurationError: if some are to start without the others, which needs ``stop``.
        """
        if rows is not None and not self.stop:
            raise ConfigurationError("episodes without stop=True run in lockstep: begin all of them.")
        which: Any = ALL_ROWS if rows is None else rows
        self.indices[which] = indices
        self.counts[which] = 0
        self.ended[which] = False
        self.corners[which] = 0
        self._last_observations = None
        if self.task == "classify":
            self.named = np.full(len(self), -1) if self.named is None else self.named
            self.named[which] = -1
        if self.stop:
            self.observer.clear(self._observations, which)
        else:
            self.observer.begin(self._observations)
        assessment = None
        if self._running_judge is not None:
            self._running_judge.begin(which)
            if self._judges_each_step:
                assessment = self._assessed(self._ask(rows), indices)
                self._probabilities[which] = assessment.probabilities
                self._log_loss[which] = assessment.log_loss
        blank = self.observer.blank(len(self)) if rows is None else select(self._observations, rows)
        return blank, self._info(assessment, which)

    def step(self, actions: Any) -> Transition:
        """Takes one glimpse in every episode, or the answers where all are taken or asked for.

        Args:
            actions: (B,) int grid indices, or (B, 2) coordinates in [-1, 1]; with ``stop`` L, or a third number above
                0, to stop. To classify (B, 2) int, of location and class, or (B, 2 + classes), with ``stop``
                (B, 3 + classes). Those of episodes that have ended are ignored.

        Raises:
            InvalidActionError: naming an action that is not in the action space; nothing has changed then.
        """
        choices = self._actions.read(actions, len(self))
        return self._step_some(choices) if self.stop else self._step_all(choices)

    def _step_all(self, choices: Choices) -> Transition:
        """Steps episodes in lockstep."""
        t = int(self.counts[0])
        if choices.answers is not None:
            self.named = classes_named(choices.answers)
            if t == self.geometry.num_glimpses:
                self.ended[:] = True
                rewards, told = judge_answers(choices.answers, self._labels(self.indices), self.reward)
                info = self._info(None, ALL_ROWS) | told
                return Transition(self._last_observations, rewards, self.ended.copy(), info, None)
        seen = self._look(choices.places, ALL_ROWS, t)
        with at_most_threads(self._threads):
            observations = self.observer.advance(self._observations, t, seen, self.corners[:, t])
        rewards = np.full(len(self), -self.glimpse_cost) if self.glimpse_cost else np.zeros(len(self))
        if self.task == "classify":
            self._last_observations = observations
            return Transition(observations, rewards, self.ended.copy(), self._info(None, ALL_ROWS), None)
        over = t + 1 == self.num_steps
        self.ended[:] = over
        assessment = self.assess() if over or self._judges_each_step else None
        info = self._info(assessment, ALL_ROWS)
        if assessment is not None:
            if self.reward == "information":
                rewards += self._log_loss - assessment.log_loss
            elif over:
                rewards += assessment.success
            if over:
                info |= {
                    "is_success": assessment.success,
                    "label": self._labels(self.indices),
                    "log_loss": assessment.log_loss,
                }
            self._log_loss = assessment.log_loss.copy()
        return Transition(observations, rewards, self.ended.copy(), info, assessment)

    def _step_some(self, choices: Choices) -> Transition:
        """Steps episodes that have taken different numbers of glimpses, or have ended."""
        running = ~self.ended
        taking = running & ~choices.stops & (self.counts < self.geometry.num_glimpses)
        rows = np.flatnonzero(taking)
        if len(rows):
            before = self.counts[rows]
            seen = self._look(choices.places[rows], rows, before)
            with at_most_threads(self._threads):
                self.observer.write_some(self._observations, before, seen, self.corners[rows, before], rows)
        observations = self.observer.copied(self._observations)
        full = self.counts == self.geometry.num_glimpses
        over = running & (~taking | full if self.task == "look" else ~taking)
        self.ended |= over
        rewards = np.where(taking, -self.glimpse_cost, 0.0)
        if choices.answers is not None:
            assert self.named is not None
            self.named = np.where(running, classes_named(choices.answers), self.named)
            info = self._info(None, ALL_ROWS)
            if over.any():
                paid, told = judge_answers(choices.answers, self._labels(self.indices), self.reward)
                rewards += np.where(over, paid, 0.0)
                info |= {key: np.where(over, value, np.zeros_like(value)) for key, value in told.items()}
            return Transition(observations, rewards, over, info, None)
        ended = np.flatnonzero(over)
        if self._judges_each_step:
            if len(rows):  # what stops was judged at the step before
                self._probabilities[rows] = self._ask(rows)
            judged = self._assessed(self._probabilities.copy(), self.indices)
            info = self._info(judged, ALL_ROWS)
            if self.reward == "information":
                rewards += np.where(taking, self._log_loss - judged.log_loss, 0.0)
            self._log_loss = judged.log_loss.copy()
            success, log_loss = judged.success[ended], judged.log_loss[ended]
        else:
            judged, info = None, self._info(None, ALL_ROWS)
            if len(ended):
                at_end = self._assessed(self._ask(ended), self.indices[ended])
                success, log_loss = at_end.success, at_end.log_loss
        if len(ended):
            told = {"is_success": success, "label": self._labels(self.indices[ended]), "log_loss": log_loss}
            for key, values in told.items():
                info[key] = np.zeros(len(self), dtype=values.dtype)
                info[key][ended] = values
            if self.reward == "classification":
                rewards[ended] += success
        return Transition(observations, rewards, over, info, judged)

    def _look(self, places: np.ndarray, rows: Any, before: int | np.ndarray) -> np.ndarray:
        """Takes a glimpse in the episodes ``rows``, which have taken ``before`` each, and returns what is shown of it.

        Args:
            places: (b,) int64 grid locations, or (b, 2) coordinates in [-1, 1].
            rows: all, or (b,) int64.
            before: one number of all, or (b,) int64.

        Returns:
            (b, g, g, C * scales) uint8, or (b, W) float16.
        """
        if self.action == "discrete":
            corners = self.grid.corners[places]
            self._locations[rows, before] = places
        else:
            corners = self.grid.denormalise(places)
        self.corners[rows, before] = corners
        self.counts[rows] = before + 1
        indices = self.indices[rows]
        if self.embeddings is not None:
            return self.embeddings(indices, places)
        seen = self.sensor(self.dataset.images, indices, corners)
        return seen if self.features is None else self.features.encode(seen).half().numpy()

    def assess(self) -> Assessment:
        """Asks the judge about the glimpses so far.

        Raises:
            ConfigurationError: if there is no judge.
        """
        if self._running_judge is None:
            raise ConfigurationError("task='classify' has no judge to ask; ask the agent.")
        return self._assessed(self._ask(np.arange(len(self)) if self.stop else None), self.indices)

    def _ask(self, rows: np.ndarray | None) -> np.ndarray:
        """Returns the judge's class probabilities at present, (b, classes) float32, of the episodes ``rows`` (b,), or
        of all, which have taken as many glimpses."""
        assert self._running_judge is not None
        with at_most_threads(self._threads):
            if rows is None:
                return self._running_judge.ask_all(self.indices, self.corners, self._locations, int(self.counts[0]))
            return self._running_judge.ask(self.indices, self.corners, self._locations, self.counts, rows)

    def _assessed(self, probabilities: np.ndarray, indices: np.ndarray) -> Assessment:
        return Assessment.of(probabilities, self._labels(indices))

    def _labels(self, indices: np.ndarray) -> np.ndarray:
        return np.asarray(self.dataset.labels)[indices]

    def requested(self, options: Mapping[str, Any] | None) -> np.ndarray | None:
        """Returns the images that ``options["index"]`` of a reset asks for, (B,) int64, or None without options.

        Raises:
            ConfigurationError: if an index is out of range, of the wrong shape or type, or there is another option.
        """
        return requested_indices(options, len(self), len(self.dataset))

    def action_masks(self) -> np.ndarray:
        """Returns which actions an agent may take.

        Returns:
            (B, L) bool: True at the locations not yet looked at; with ``stop`` (B, L + 1), True at the last. With
            ``task="classify"`` the classes follow, which are all True; the masks of locations stay though the answer
            ignores its location. That is the layout in which sb3-contrib takes the masks of a ``MultiDiscrete`` space:
            those of its parts one after another.

        Raises:
            ConfigurationError: if actions are continuous.
        """
        return self._actions.masks(self._locations, self.counts)

    @property
    def _judges_each_step(self) -> bool:
        return self.posterior_info or self.reward == "information"

    def _info(self, assessment: Assessment | None, rows: Any) -> dict[str, np.ndarray]:
        info = {"index": self.indices[rows].copy(), "glimpses": self.counts[rows].copy()}
        if self.posterior_info and assessment is not None:
            info |= {"probabilities": assessment.probabilities, "entropy": assessment.entropy}
        return info
