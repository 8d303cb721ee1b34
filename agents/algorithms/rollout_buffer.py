"""A rollout buffer whose minibatches hold whole episodes in place of single states."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples

from agents.networks.encoders import ENCODED, REAL, WHOLE
from glimpse_env.errors import ConfigurationError


class EpisodeRolloutBuffer(DictRolloutBuffer):
    """SB3's buffer with minibatches of whole episodes.

    The observation before the last glimpse contains all earlier ones: from it a policy computes all T states in one
    pass, and each glimpse is read once in place of up to T times. Observations of such a minibatch are the E last ones,
    marked with :data:`WHOLE`; its other arrays have E * T rows, an episode's behind one another.

    Episodes that the rollout cuts, or that stop before others, have fewer states: those states are marked with
    :data:`REAL`, and the other arrays have rows for them alone.
    """

    folded: dict[str, np.ndarray] | None = None
    """Observations of a full buffer as :meth:`get` yields them, of E episodes; None until :meth:`fold`."""
    places: np.ndarray
    """(E, S) int64, where each of their states is in the flattened arrays (n_steps * n_envs, ...); -1 where none is."""

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

    def fold(
        self, encode: Callable[[dict[str, np.ndarray]], np.ndarray] | None = None, ended: np.ndarray | None = None
    ) -> None:
        """Prepares a full buffer for :meth:`get`, which itself does so where an algorithm of SB3's own does not.

        Args:
            encode: computes a frozen encoder's features (E, T * F) of observations of E episodes, which are kept in
                place of the glimpses for all epochs.
            ended: (n_envs,) bool, whether the rollout's last step ended an episode: those that it did not end are left
                out. By default they are kept.

        Raises:
            ConfigurationError: if all are left out.
        """
        counts = self.observations["mask"].sum(axis=2)  # (n_steps, n_envs) glimpses
        steps = self.observations["mask"].shape[2]
        self.places = _places(counts)
        self.whole = self.places.shape[1] == steps and bool((self.places >= 0).all())
        if ended is not None:
            going_on = (self.buffer_size - 1) * self.n_envs + np.flatnonzero(~ended)
            self.places = self.places[~np.isin(self.places.max(axis=1), going_on)]
            if not len(self.places):
                raise ConfigurationError(f"no episode ended within n_steps={self.buffer_size}; take more.")
        final = self.places.max(axis=1)
        last = {key: values.reshape(-1, *values.shape[2:])[final] for key, values in self.observations.items()}
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
        names = ("actions", "values", "log_probs", "advantages", "returns")
        arrays = [getattr(self, name).reshape(self.buffer_size * self.n_envs, -1) for name in names]
        order = np.random.permutation(len(self.places))  # noqa: NPY002 - SB3 draws from this one too, and seeds it
        for batch in self._minibatches(order, batch_size):
            real = self.places[batch] >= 0  # (b, S)
            actions, *others = (self.to_torch(array[self.places[batch][real]]) for array in arrays)
            observations: dict[str, Any] = {key: self.to_torch(values[batch]) for key, values in self.folded.items()}
            if self.places.shape[1] > 1:
                observations[WHOLE] = observations["mask"]
            if not self.whole and WHOLE in observations:
                observations[REAL] = self.to_torch(real)
            yield DictRolloutBufferSamples(observations, actions, *(values.flatten() for values in others))

    def _minibatches(self, order: np.ndarray, batch_size: int | None) -> list[np.ndarray]:
        """Splits episodes in an order into parts of about ``batch_size`` transitions."""
        if batch_size is None:
            return [order]
        if self.whole:
            per_batch = max(1, batch_size // self.places.shape[1])
            return [order[start : start + per_batch] for start in range(0, len(order), per_batch)]
        lengths = (self.places[order] >= 0).sum(axis=1)
        begins = np.cumsum(lengths) - lengths
        return np.split(order, np.flatnonzero(np.diff(begins // batch_size)) + 1)


def _places(counts: np.ndarray) -> np.ndarray:
    """Returns where in a rollout the states of each episode are.

    Args:
        counts: (n_steps, n_envs) int, glimpses taken before each step.

    Returns:
        (E, S) int64: for each episode, or part of one, and each number of glimpses the flat index into
        (n_steps * n_envs,), -1 where the rollout has no such state; in the order of their ends, S being one more than
        the most glimpses.
    """
    begins = np.ones(counts.shape, dtype=bool)
    begins[1:] = (counts[1:] == 0) | (counts[1:] != counts[:-1] + 1)
    number = np.cumsum(begins.T.reshape(-1)) - 1  # of the episode, an environment's behind one another
    flat = np.arange(counts.size).reshape(counts.shape).T.reshape(-1)
    places = np.full((number[-1] + 1, int(counts.max()) + 1), -1, dtype=np.int64)
    places[number, counts.T.reshape(-1)] = flat
    return places[np.argsort(places.max(axis=1), kind="stable")]
