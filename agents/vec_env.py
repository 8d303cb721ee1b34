"""The vector environment as a Stable-Baselines3 ``VecEnv``."""

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from glimpse_env.errors import ConfigurationError
from glimpse_env.vector_env import GlimpseVectorEnv


class GlimpseVecEnv(VecEnv):
    """A :class:`GlimpseVectorEnv` as an SB3 ``VecEnv``.

    It gives the same transitions as ``DummyVecEnv`` of monitored single environments under the same seeds: at an
    episode's end the info holds ``terminal_observation``, ``TimeLimit.truncated`` (never true) and ``episode`` with
    return ``r``, length ``l`` and seconds ``t``, from which SB3 logs its averages. Make the environment with
    ``posterior_info=False``, which evaluates the judge only where the reward needs it, for speed.

    Args:
        env: the environment; it is closed with this.
        group: number of neighbouring environments that share a seed, and so show the same images one after the other:
            a return's share due to the image can then be told from the policy's.

    Raises:
        ConfigurationError: if the number of environments is not a multiple of ``group``, or ``group`` is more than 1
            and episodes may stop.
    """

    actions: np.ndarray
    seconds: float
    """Wall time of stepping so far, in seconds."""

    def __init__(self, env: GlimpseVectorEnv, group: int = 1):
        if group < 1 or env.num_envs % group:
            raise ConfigurationError(f"group={group} must divide {env.num_envs}, the number of environments.")
        if group > 1 and env.batch.stop:
            raise ConfigurationError(
                f"group={group} needs episodes in lockstep, which stop=True ends at different steps; leave it 1."
            )
        self.env, self.group = env, group
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._started = time.time()
        self.seconds = 0.0

    def reset(self) -> VecEnvObs:
        """Starts new episodes everywhere, with the seeds and options set since the last reset."""
        keys = {key for options in self._options for key in options}
        if any(options.keys() != keys for options in self._options):
            raise ConfigurationError("set_options() needs the same options in each environment, or none.")
        options = {key: [options[key] for options in self._options] for key in keys}
        seeds = [self._seeds[i - i % self.group] for i in range(self.num_envs)]
        observations, info = self.env.reset(seed=seeds, options=options)
        self.reset_infos = self._split(info)
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        start = time.perf_counter()
        observations, rewards, terminated, _, info = self.env.step(self.actions)
        rewards = rewards.astype(np.float32)
        self._returns += rewards
        self._lengths += 1
        infos = self._split(info)
        ended = np.flatnonzero(terminated).tolist()
        if ended:
            elapsed = round(time.time() - self._started, 6)
            finals = self._split(info["final_info"])
            for i in ended:
                self.reset_infos[i], infos[i] = infos[i], finals[i]
                infos[i]["terminal_observation"] = info["final_obs"][i]
                length = int(self._lengths[i])
                infos[i]["episode"] = {"r": round(float(self._returns[i]), 6), "l": length, "t": elapsed}
            self._returns[ended] = 0
            self._lengths[ended] = 0
        for own in infos:
            own["TimeLimit.truncated"] = False
        self.seconds += time.perf_counter() - start
        return observations, rewards, terminated, infos

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        frames = self.env.render()
        return [None] * self.num_envs if frames is None else frames

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns the vector environment's attribute, once for each index."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets the vector environment's attribute.

        Raises:
            ConfigurationError: if ``indices`` are not all environments, which share their attributes.
        """
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ConfigurationError(f"{attr_name!r} cannot be set for environments {indices} alone: all share it.")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of the vector environment that returns a value for each, e.g. ``action_masks``."""
        results = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [results[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Returns True for ``Monitor``, whose statistics the infos hold."""
        return [issubclass(Monitor, wrapper_class)] * len(list(self._get_indices(indices)))

    def _split(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        """Splits Gymnasium's dict of arrays into a dict for each environment, without masks and final values."""
        columns = {
            key: value.tolist() if value.ndim == 1 else value
            for key, value in info.items()
            if not key.startswith(("_", "final_"))
        }
        return [{key: value[i] for key, value in columns.items()} for i in range(self.num_envs)]
