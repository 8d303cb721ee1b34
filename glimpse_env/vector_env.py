"""The vector environment: many episodes at once, stepped as one batch."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from glimpse_env.checks import seed_or_none
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.episodes import EpisodeBatch, Posterior, Transition
from glimpse_env.errors import ConfigurationError
from glimpse_env.rendering.frames import draw_batch
from glimpse_env.sensing.observations import Observation, arrays_of, select

_INDICES_PER_DRAW = 64
"""Images that a generator draws in one call: the same as one by one, in a fraction of the time."""


class GlimpseVectorEnv(gym.vector.VectorEnv):
    """``num_envs`` copies of :class:`GlimpseEnv` stepped as one batch, with the same seeds the same episodes.

    Sub-environment ``i`` draws its images from a generator of its own, seeded ``seed + i``. Where an episode ends, the
    next one begins within the same step (``AutoresetMode.SAME_STEP``): the observation and info are its, and those of
    the old one are in ``info["final_obs"]`` and ``info["final_info"]``. Episodes begin together, and end together
    unless they may stop (``stop=True``).

    Args:
        dataset, judge, options: see :class:`EpisodeBatch`.
        num_envs: B.
        render_mode: None or ``"rgb_array"``.

    Raises:
        ConfigurationError: if an argument is out of range.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        dataset: GlimpseDataset,
        judge: Posterior | None,
        *,
        num_envs: int = 1,
        render_mode: str | None = None,
        **options: Any,
    ):
        if render_mode is not None and render_mode != "rgb_array":
            raise ConfigurationError(
                f"render_mode={render_mode!r} of a vector environment must be None or 'rgb_array'; "
                "only the single environment has a window."
            )
        self.render_mode = render_mode
        self.batch = EpisodeBatch(dataset, judge, num_envs, **options)
        self.num_envs = len(self.batch)
        self.single_observation_space = self.batch.observer.space
        self.single_action_space = self.batch.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._generators: list[np.random.Generator] = []
        self._seeds: list[int] = []
        self._upcoming = np.zeros((self.num_envs, _INDICES_PER_DRAW), dtype=np.int64)
        self._num_used = np.full(self.num_envs, _INDICES_PER_DRAW)
        self._running = False
        self.autoreset_mode = AutoresetMode.SAME_STEP  # other tools look here

    @property
    def dataset(self) -> GlimpseDataset:
        return self.batch.dataset

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The sub-environments' generators."""
        self._seed([None] * self.num_envs)
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The sub-environments' seeds."""
        self._seed([None] * self.num_envs)
        return tuple(self._seeds)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode in every sub-environment.

        Args:
            seed: s to seed the sub-environments s, s + 1, ..., or a seed (or None) for each, or None to leave
                their generators as they are.
            options: ``{"index": i}`` shows image ``i``, or with an array of ``num_envs`` an image in each.

        Raises:
            ConfigurationError: if an option is out of range, a seed is no seed or there are not ``num_envs`` of them;
                the episodes can go on then.
        """
        indices = self.batch.requested(options)
        if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str):
            seeds = [seed_or_none(one) for one in seed]
        else:
            first = seed_or_none(seed)
            seeds = [None if first is None else first + i for i in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ConfigurationError(f"{len(seeds)} seeds were given for {self.num_envs} environments.")
        self._seed(seeds)
        observations, info = self.batch.begin(self._draw() if indices is None else indices)
        self._running = True
        return observations, self._with_masks(info)

    def step(self, actions: Any) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one glimpse in every sub-environment, or the answers of agents that classify, or stops.

        Raises:
            ResetNeeded: before the first :meth:`reset`.
            InvalidActionError: naming the first invalid action; nothing has changed then.
        """
        if not self._running:
            raise ResetNeeded("Call reset() before step().")
        transition = self.batch.step(actions)
        observations, ended, info = transition.observations, transition.ended, self._with_masks(transition.info)
        if ended.all():
            final = {"final_obs": self._split(observations), "final_info": info}
            observations, info = self.batch.begin(self._draw())
            info = self._with_masks(info | final)
        elif ended.any():
            info = self._begin_ended(transition)
        return observations, transition.rewards, ended, np.zeros(self.num_envs, dtype=bool), info

    def _begin_ended(self, transition: Transition) -> dict[str, Any]:
        """Begins new episodes where some have ended; their first observations take the place of the last ones in
        ``transition``.

        Returns:
            The info, with what Gymnasium calls final.
        """
        ended, observations = transition.ended, transition.observations
        rows = np.flatnonzero(ended)
        final_obs = np.full(self.num_envs, None, dtype=object)
        final_obs[rows] = self._split(select(observations, rows))
        final_info = {key: values.copy() for key, values in transition.info.items()}
        for values in final_info.values():
            values[~ended] = 0
        final_info |= {f"_{key}": ended.copy() for key in final_info}
        begun, begun_info = self.batch.begin(self._draw(rows), rows)
        for place, values in zip(arrays_of(observations), arrays_of(begun), strict=True):
            place[rows] = values
        info = {key: transition.info[key] for key in begun_info}
        for key, values in begun_info.items():
            info[key][rows] = values
        masked = self._with_masks(info)
        return masked | {
            "final_obs": final_obs,
            "_final_obs": ended.copy(),
            "final_info": final_info,
            "_final_info": ended.copy(),
        }

    def action_masks(self) -> np.ndarray:
        """Returns which actions MaskablePPO may take, see :meth:`EpisodeBatch.action_masks`: one row each.

        Raises:
            ConfigurationError: if actions are continuous.
        """
        return self.batch.action_masks()

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns a frame of each sub-environment, (height, width, 3) uint8, or None without a render mode.

        Raises:
            ResetNeeded: before the first :meth:`reset`.
        """
        if not self._running:
            raise ResetNeeded("Call reset() before render().")
        return None if self.render_mode is None else tuple(draw_batch(self.batch))

    def _seed(self, seeds: Sequence[int | None]) -> None:
        """Seeds the sub-environments that have a seed, and, the first time, the others at random."""
        first = not self._generators
        for i, seed in enumerate(seeds):
            if first:
                generator, used = seeding.np_random(seed)
                self._generators.append(generator)
                self._seeds.append(used)
            elif seed is not None:
                self._generators[i], self._seeds[i] = seeding.np_random(seed)
                self._num_used[i] = _INDICES_PER_DRAW

    def _draw(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Draws an image by the generator of each of the sub-environments ``rows`` (b,), or of all: (b,) int64."""
        rows = np.arange(self.num_envs) if rows is None else rows
        for i in rows[self._num_used[rows] == _INDICES_PER_DRAW]:
            self._upcoming[i] = self._generators[i].integers(len(self.dataset), size=_INDICES_PER_DRAW)
            self._num_used[i] = 0
        indices = self._upcoming[rows, self._num_used[rows]]
        self._num_used[rows] += 1
        return indices

    def _split(self, observations: Observation) -> np.ndarray:
        """Splits batched observations of b episodes into those of each, (b,) object."""
        split = np.empty(len(arrays_of(observations)[0]), dtype=object)
        if isinstance(observations, dict):
            split[:] = list(map(dict, map(zip, repeat(tuple(observations)), zip(*observations.values()))))  # noqa: B905
        else:
            for i, one in enumerate(observations):
                split[i] = one
        return split

    def _with_masks(self, info: dict[str, Any]) -> dict[str, Any]:
        """Adds Gymnasium's ``_key`` masks: every sub-environment has every key."""
        return info | {f"_{key}": np.ones(self.num_envs, dtype=bool) for key in info}
