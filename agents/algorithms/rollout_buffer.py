"""A rollout buffer whose minibatches hold whole episodes in place of single states."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples

from agents.networks.encoders import ENCODED, WHOLE


class EpisodeRolloutBuffer(DictRolloutBuffer):
    """SB3's buffer with minibatches of whole episodes, where the rollout holds nothing else.

    The observation before the last glimpse contains all earlier ones: from it a policy computes all T states in one
    pass, and each glimpse is read once in place of up to T times. Observations of such a minibatch are the E last ones,
    marked with :data:`WHOLE`; its other arrays have E * T rows, an episode's behind one another.
    """

    folded: dict[str, np.ndarray] | None = None
    """Observations of a full buffer as :meth:`get` yields them; None until :meth:`fold`."""

    def reset(self) -> None:
        super().reset()
        self.folded = None

    def share_baselines(self, group: int) -> None:
        """Subtracts from each advantage the mean of the others' on the same image at the same step.

        The others' returns tell how hard an image is, which the critic cannot know before it is looked at. As they do
        not depend on this episode's actions, the policy's gradient stays unbiased and only its noise falls
        (leave-one-out, as in Kool et al. 2019).

        Args:
            group: neighbouring environments that show the same images, at least 2.
        """
        split = self.advantages.reshape(self.buffer_size, -1, group)
        others = (split.sum(axis=2, keepdims=True) - split) / (group - 1)
        self.advantages = (split - others).reshape(self.advantages.shape)

    def fold(self, encode: Callable[[dict[str, np.ndarray]], np.ndarray] | None = None) -> None:
        """Prepares a full buffer for :meth:`get`, which itself does so where an algorithm of SB3's own does not.

        Args:
            encode: computes a frozen encoder's features (E, T * F) of observations of E episodes, which are kept in
                place of the glimpses for all epochs.
        """
        mask = self.observations["mask"]  # (n_steps, n_envs, T)
        steps = mask.shape[2]
        self.whole = self.buffer_size % steps == 0 and not mask[::steps].any()
        self.steps = steps if self.whole else 1
        last = {
            key: self._by_episode(values[self.steps - 1 :: self.steps], 1)[:, 0]
            for key, values in self.observations.items()
        }
        if encode is not None:
            last[ENCODED] = encode(last)
            del last["glimpses"]
        self.folded = last

    def get(self, batch_size: int | None = None) -> Generator[DictRolloutBufferSamples, None, None]:  # type: ignore[override]
        """Yields minibatches of about ``batch_size`` transitions in a random order; by default one of all."""
        assert self.full, "the buffer is not full yet"
        if self.folded is None:
            self.fold()
        assert self.folded is not None
        rows = {
            name: self._by_episode(getattr(self, name), self.steps)
            for name in ("actions", "values", "log_probs", "advantages", "returns")
        }
        episodes = len(rows["returns"])
        order = np.random.permutation(episodes)  # noqa: NPY002 - SB3 draws from this one too, and seeds it
        per_batch = episodes if batch_size is None else max(1, batch_size // self.steps)
        for start in range(0, episodes, per_batch):
            batch = order[start : start + per_batch]
            actions, *others = (self.to_torch(values[batch]).flatten(0, 1) for values in rows.values())
            observations: dict[str, Any] = {key: self.to_torch(values[batch]) for key, values in self.folded.items()}
            if self.steps > 1:
                observations[WHOLE] = observations["mask"]
            yield DictRolloutBufferSamples(observations, actions, *(values.flatten() for values in others))

    def _by_episode(self, values: np.ndarray, steps: int) -> np.ndarray:
        """Returns values (n_steps, n_envs, ...) as (E, steps, ...)."""
        split = values.reshape(-1, steps, *values.shape[1:])  # (n_steps / steps, steps, n_envs, ...)
        return split.swapaxes(1, 2).reshape(-1, steps, *values.shape[2:])
