"""How networks that look and classify are tested: which of the locator's places an episode looks at, and how often.

The most probable place at each glimpse (argmax) is one way of several. A locator that hardly reads its history repeats
one place then, and what it has learned does not show; the released code of RAM samples, several rollouts an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.ram.algorithm import RAM
from agents.ram.policy import RAMPolicy
from glimpse_env.checks import one_of
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.rollout import play


@dataclass(frozen=True)
class Way:
    """How a network is tested."""

    title: str
    """Name in tables."""
    sampled: bool = False
    """Whether places are sampled, in place of the most probable ones."""
    repeats: bool = True
    """Whether a place can be looked at again."""
    episodes: int = 1
    """Episodes on each image, whose class probabilities are averaged."""


WAYS: dict[str, Way] = {
    "argmax": Way("argmax"),
    "no-repeats": Way("argmax, no repeats", repeats=False),
    "sampled": Way("sampled", sampled=True),
    "mean-5": Way("mean of 5 sampled", sampled=True, episodes=5),
}
"""Ways of testing by name, the argument ``rollout`` of :func:`answer`."""


@dataclass(frozen=True)
class Answers:
    """What a network answered on N images, looking at T glimpses in each of E episodes an image."""

    success: np.ndarray
    """(N,) bool: whether the most probable class is right."""
    log_loss: np.ndarray
    """(N,) float32 nats: -log of the label's probability."""
    locations: np.ndarray
    """(E, N, T) int64: grid locations."""

    def __len__(self) -> int:
        return len(self.success)


def answer(
    model: RAM, dataset: GlimpseDataset, indices: np.ndarray, rollout: str = "argmax", *, seed: int = 0
) -> Answers:
    """Tests a network on the images ``indices`` (N,) of a split.

    Args:
        model: the network.
        dataset: the split.
        rollout: a key of :data:`WAYS`.
        seed: seed of what is sampled; with one seed ``"sampled"`` is the first episode of ``"mean-5"``.

    Raises:
        ConfigurationError: if there is no such way of testing.
    """
    one_of("rollout", rollout, WAYS)
    return _combined(WAYS[rollout], [_episode(model, dataset, indices, *key) for key in _keys(WAYS[rollout], seed)])


def answer_all_ways(model: RAM, dataset: GlimpseDataset, indices: np.ndarray, *, seed: int = 0) -> dict[str, Answers]:
    """Returns :func:`answer` for each of :data:`WAYS`; ways that share episodes play them once."""
    wanted = {name: _keys(way, seed) for name, way in WAYS.items()}
    played = {key: _episode(model, dataset, indices, *key) for keys in wanted.values() for key in keys}
    return {name: _combined(WAYS[name], [played[key] for key in keys]) for name, keys in wanted.items()}


class _Looker:
    """Acts by a network's locator, with masks and its own random numbers, and keeps the last class probabilities."""

    def __init__(self, policy: RAMPolicy, sampled: bool, repeats: bool, seed: tuple[int, ...]):
        self.policy, self.sampled, self.repeats = policy, sampled, repeats
        self.rng = np.random.default_rng(seed)
        self.answers: list[np.ndarray] = []
        """(b, classes) class probabilities after the last glimpse, of each batch of episodes so far."""

    @property
    def last_probabilities(self) -> np.ndarray:
        return self.policy.last_probabilities

    def predict(
        self,
        observation: Mapping[str, np.ndarray],
        state: Any = None,
        episode_start: Any = None,
        deterministic: Any = True,
    ) -> tuple[np.ndarray, Any]:
        tokens, seen = (None, None) if state is None else state
        logits, tokens = self.policy.locate(observation, tokens)
        probabilities = logits.softmax(-1).cpu().numpy().astype(np.float64)  # (B, L)
        seen = np.zeros(probabilities.shape, dtype=bool) if seen is None else seen.copy()
        if not self.repeats:
            probabilities[seen] = -1.0
        places = probabilities.argmax(1)
        if self.sampled:
            heights = probabilities.cumsum(1)
            places = (heights[:, :-1] < heights[:, -1:] * self.rng.random((len(heights), 1))).sum(1)
        seen[np.arange(len(places)), places] = True
        answers = self.last_probabilities
        if observation["step"].min() == self.policy.num_glimpses:
            self.answers.append(answers)
        return np.stack([places, answers.argmax(1)], axis=1), (tokens, seen)


_Episode = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Labels (N,), class probabilities (N, classes) and locations (N, T) of an episode on each image."""


def _keys(way: Way, seed: int) -> list[tuple[bool, bool, tuple[int, ...]]]:
    """Returns what :func:`_episode` takes for each of a way's episodes."""
    return [(way.sampled, way.repeats, (seed, number) if way.sampled else (0,)) for number in range(way.episodes)]


def _episode(
    model: RAM, dataset: GlimpseDataset, indices: np.ndarray, sampled: bool, repeats: bool, seed: tuple[int, ...]
) -> _Episode:
    looker = _Looker(model.policy, sampled, repeats, seed)
    features = None if model.env is None else model._episodes.features
    kind = model.policy.observation
    looked = play(looker, dataset, None, indices, observation=kind, features=features, progress=False)
    return looked.labels, np.concatenate(looker.answers), looked.locations


def _combined(way: Way, episodes: list[_Episode]) -> Answers:
    labels, locations = episodes[0][0], np.stack([one[2] for one in episodes])
    probabilities = np.stack([one[1] for one in episodes]).mean(axis=0, dtype=np.float64)
    likelihood = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
    return Answers(probabilities.argmax(1) == labels, -np.log(likelihood).astype(np.float32), locations)
