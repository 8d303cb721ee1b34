"""Small things for tests of agents: environments, demonstrations of a known policy, and observations."""

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from agents.algorithms import make_model
from agents.cloning import CloningData
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.env import GlimpseEnv
from glimpse_env.episodes import Posterior
from glimpse_env.locations import LocationGrid
from oracles.demonstrations import Demonstrations
from tests.toy import GEOMETRY, SIZE, CountingJudge, toy_dataset, toy_judge

GRID = LocationGrid(SIZE, GEOMETRY.glimpse_size, GEOMETRY.stride)
STEPS = GEOMETRY.num_glimpses


def toy_vec_env(
    num_envs: int = 8, dataset: GlimpseDataset | None = None, judge: Posterior | None = None, **options: Any
) -> DummyVecEnv:
    """Environments of the toy data set; ``options`` of :class:`GlimpseEnv`."""
    images = toy_dataset() if dataset is None else dataset
    asked = CountingJudge() if judge is None else judge
    return DummyVecEnv([lambda: GlimpseEnv(images, asked, GEOMETRY, **options) for _ in range(num_envs)])


def toy_model(algo: str = "ppo", *, pretrained: bool = True, **overrides: Any) -> OnPolicyAlgorithm:
    """A model for :func:`toy_vec_env`; with the encoder of the toy judge, frozen, if ``pretrained``."""
    options: dict[str, Any] = {"seed": 0, "n_steps": STEPS, "device": "cpu"}
    env = overrides.pop("env", None) or toy_vec_env()
    return make_model(algo, env, judge=toy_judge(), pretrained=pretrained, **(options | overrides))


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
    return CloningData.from_demonstrations(made, toy_dataset(count), GEOMETRY, temperature=0.2)


def state_observations(data: CloningData) -> dict[str, Tensor]:
    """Raw observations of all N * T states, a demonstration's behind one another."""
    rows = np.repeat(np.arange(len(data)), data.num_glimpses)
    return data.batch(rows, np.tile(np.arange(data.num_glimpses), len(data)))[0]


def weights_of(*modules: torch.nn.Module) -> list[Tensor]:
    """Copies of all parameters."""
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


def equal(before: list[Tensor], after: list[Tensor]) -> bool:
    """Whether lists of tensors agree bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
