"""Small things for tests of agents: environments, demonstrations of a known policy, and observations."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor
from torch.nn import functional as F

from agents.cloning_data import HISTORY_OBSERVERS, CloningData
from agents.networks.encoders import HistoryExtractor
from agents.registry import ALGORITHMS, ARCHITECTURES, make_model
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.copies import ORIGINAL, ImageCopy
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.env import GlimpseEnv
from glimpse_env.episodes import Posterior
from glimpse_env.sensing.observations import EmbeddingObserver, FeatureObserver, HistoryObserver
from oracles.demonstrations import Demonstrations
from tests.glimpse_env.judge.test_frozen import WIDTH, frozen_judge
from tests.support.toy import GEOMETRY, SIZE, CountingJudge, toy_dataset, toy_judge

GRID = GEOMETRY.grid
STEPS = GEOMETRY.num_glimpses
CONFIG = toy_judge().card.config
OBSERVATIONS = ("history", "embedding", "features")
"""Modes that agents read."""
SPACES = {
    "history": HistoryObserver(GEOMETRY, 1).space,
    "embedding": EmbeddingObserver(GEOMETRY, CONFIG.embedding).space,
    "features": FeatureObserver(GEOMETRY, WIDTH).space,
}
WIDTHS = {"glimpses": GEOMETRY.glimpse_size**2, "embeddings": CONFIG.embedding, "features": WIDTH, "locations": 2}
"""Numbers a glimpse has under each key of an observation."""


def toy_vec_env(
    num_envs: int = 8, dataset: GlimpseDataset | None = None, judge: Posterior | None = None, **options: Any
) -> DummyVecEnv:
    """Environments of the toy data set; ``options`` of :class:`GlimpseEnv`."""
    images = toy_dataset() if dataset is None else dataset
    asked = CountingJudge() if judge is None else judge
    return DummyVecEnv([lambda: GlimpseEnv(images, asked, **options) for _ in range(num_envs)])


def toy_model(algo: str = "ppo", *, pretrained: bool = True, **overrides: Any) -> BaseAlgorithm:
    """A model for :func:`toy_vec_env`; with the encoder of the toy judge, frozen, if ``pretrained``."""
    steps = {} if ALGORITHMS[algo].off_policy else {"n_steps": STEPS}
    options: dict[str, Any] = {"seed": 0, **steps, "device": "cpu"}
    env = overrides.pop("env", None) or toy_vec_env()
    return make_model(algo, env, judge=toy_judge(), pretrained=pretrained, **(options | overrides))


def toy_env_showing(observation: str, num_envs: int = 8, **options: Any) -> DummyVecEnv:
    """Environments that show one of :data:`OBSERVATIONS`, judged by the toy judge, or one that reads features."""
    judge = frozen_judge() if observation == "features" else toy_judge()
    return toy_vec_env(num_envs, judge=judge, observation=observation, **options)


def fill_zeros(module: torch.nn.Module) -> None:
    """Draws random values for all parameters that are zero, with which mistakes would not show."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)


def toy_extractor(architecture: str = "gru", observation: str = "history", **options: Any) -> HistoryExtractor:
    """One of :data:`ARCHITECTURES`, none of whose parameters are zero."""
    torch.manual_seed(0)
    made: Any = ARCHITECTURES[architecture]
    sizes = {"gru": {"hidden": 24}, "mlp": {"hidden": 24}, "canvas": {"hidden": 24, "channels": 5}}
    options = {"tokens": 16, **sizes.get(architecture, {}), **options}
    grid = {"grid": asdict(GRID)} if made.needs_grid else {}
    extractor = made(SPACES[observation], posterior=asdict(CONFIG), **grid, **options)
    fill_zeros(extractor)
    return extractor


def toy_observations(counts: list[int], observation: str = "history", seed: int = 0) -> dict[str, Tensor]:
    """Preprocessed as SB3 does it, at grid locations; with garbage where nothing was seen."""
    generator = torch.Generator().manual_seed(seed)
    batch, taken = len(counts), torch.tensor(counts)
    shown = HISTORY_OBSERVERS[observation].key  # type: ignore[index]
    indices = torch.randint(len(GRID), (batch, STEPS), generator=generator)
    return {
        shown: torch.rand(batch, STEPS * WIDTHS[shown], generator=generator),
        "locations": torch.from_numpy(GRID.normalised)[indices].flatten(1),
        "mask": (torch.arange(STEPS) < taken[:, None]).float(),
        "step": F.one_hot(taken, STEPS + 1).float(),
    }


def reordered(observations: dict[str, Tensor], order: list[int]) -> dict[str, Tensor]:
    """Returns observations with their T glimpses in another order."""
    changed = dict(observations)
    for key in WIDTHS.keys() & observations.keys():
        changed[key] = observations[key].unflatten(1, (STEPS, -1))[:, order].flatten(1)
    return changed


def grey_dataset(count: int = 48) -> GlimpseDataset:
    """Image i is all of one grey, black to white in four steps: i mod 4."""
    greys = (np.arange(count) % 4 * 85).astype(np.uint8)
    images = np.broadcast_to(greys[:, None, None, None], (count, SIZE, SIZE, 1)).copy()
    return toy_dataset(count, images=images)


def grey_demonstrations(count: int = 48) -> Demonstrations:
    """Location 9, then 10 + i mod 4, 20 + i mod 4, ...: what was seen decides. EPE maps are 0 there, else 1."""
    branch = np.arange(count) % 4
    locations = np.stack([np.full(count, 9)] + [10 * t + branch for t in range(1, STEPS)], axis=1)
    return demonstrations(locations, 1.0 - np.eye(len(GRID))[locations])


def demonstrations(
    locations: np.ndarray, epe: np.ndarray | None = None, indices: np.ndarray | None = None
) -> Demonstrations:
    """Demonstrations on images 0, 1, ..."""
    return Demonstrations(
        indices=np.arange(len(locations)) if indices is None else indices,
        locations=locations.astype(np.int64),
        entropies=np.zeros(locations.shape, dtype=np.float32),
        epe=None if epe is None else epe.astype(np.float16),
        manifest={},
    )


def random_data(count: int = 24, seed: int = 0) -> CloningData:
    """Random sequences without repetition on noise, with random EPE maps."""
    rng = np.random.default_rng(seed)
    locations = rng.permuted(np.tile(np.arange(len(GRID)), (count, 1)), axis=1)[:, :STEPS]
    made = demonstrations(locations, rng.random((count, STEPS, len(GRID))))
    return CloningData.from_demonstrations(made, toy_dataset(count), temperature=0.2)


def toy_data(observation: str = "history") -> CloningData:
    """:func:`random_data` as one of :data:`OBSERVATIONS` shows it."""
    if observation == "features":
        return random_data().featured(toy_table())
    return random_data() if observation == "history" else random_data().embedded(toy_judge())


def toy_table(dataset: GlimpseDataset | None = None, copies: tuple[ImageCopy, ...] = (ORIGINAL,)) -> FeatureTable:
    """Features, as :func:`frozen_judge` reads them, of the toy data set or another, which needs its own fingerprint."""
    features = frozen_judge().frozen
    assert features is not None
    return FeatureTable(dataset or toy_dataset(), features, copies)


def state_observations(data: CloningData) -> dict[str, Tensor]:
    """Raw observations of all N * T states, a demonstration's behind one another."""
    rows = np.repeat(np.arange(len(data)), data.num_glimpses)
    return data.batch(rows, np.tile(np.arange(data.num_glimpses), len(data)))[0]


def in_sequence(policy: Any, count: int) -> tuple[Any, ...]:
    """What a policy is given beside the observations of ``count`` whole episodes, an episode's behind one another:
    nothing, or of a recurrent one the LSTMs' first states and where episodes start."""
    if not hasattr(policy, "lstm_actor"):
        return ()
    layers, _, width = policy.lstm_hidden_state_shape
    zeros = torch.zeros(layers, count, width)
    starts = torch.zeros(count, STEPS)
    starts[:, 0] = 1
    return RNNStates((zeros, zeros), (zeros, zeros)), starts.flatten()


def values_in_sequence(policy: Any, observations: dict[str, Tensor], count: int) -> Tensor:
    """(count * T, 1): ``predict_values`` of any policy for the states of ``count`` whole episodes."""
    given = in_sequence(policy, count)
    return policy.predict_values(observations, given[0].vf, given[1]) if given else policy.predict_values(observations)


def weights_of(*modules: torch.nn.Module) -> list[Tensor]:
    """Copies of all parameters."""
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


def equal(before: list[Tensor], after: list[Tensor]) -> bool:
    """Whether lists of tensors agree bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
