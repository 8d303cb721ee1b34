"""Small things for tests: a data set of noise images, an untrained judge, and one whose answers are known."""

from typing import Any

import numpy as np
import torch

from glimpse_env.datasets.base import Geometry, GlimpseDataset
from glimpse_env.judge import Judge, JudgeCard
from glimpse_env.posterior import GlimpsePosterior, PosteriorConfig

GEOMETRY = Geometry(glimpse_size=12, stride=4, num_glimpses=4)
"""Of the toy data set; a (12, 4) encoder exists."""
SIZE = 40
"""Side of its images in pixels: an 8 x 8 grid of locations."""
NUM_CLASSES = 3


def toy_dataset(
    count: int = 24,
    *,
    size: int = SIZE,
    channels: int = 1,
    num_classes: int = NUM_CLASSES,
    num_folds: int = 2,
    seed: int = 0,
    **fields: Any,
) -> GlimpseDataset:
    """Images of noise; image i has label i mod ``num_classes``, and folds come in turn. ``fields`` override."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {
        "name": "toy",
        "split": "train",
        "images": rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8),
        "labels": np.arange(count, dtype=np.int64) % num_classes,
        "folds": np.arange(count, dtype=np.int64) // num_classes % num_folds,
        "class_names": tuple(f"class {k}" for k in range(num_classes)),
        "part_names": (),
        "parts": np.zeros((count, 0, 3), dtype=np.float32),
        "fingerprint": "toy",
    }
    return GlimpseDataset(**(arrays | fields))


def toy_judge(
    geometry: Geometry = GEOMETRY,
    *,
    size: int = SIZE,
    channels: int = 1,
    scales: int = 1,
    num_classes: int = NUM_CLASSES,
    num_networks: int = 2,
    num_parts: int = 0,
    fingerprint: str = "toy",
    seed: int = 0,
) -> Judge:
    """Random small networks whose batch normalisation has statistics of its own, and random temperatures."""
    config = PosteriorConfig(
        glimpse_size=geometry.glimpse_size,
        stride=geometry.stride,
        channels=channels * scales,
        num_classes=num_classes,
        num_parts=num_parts,
        features=48,
        embedding=32,
        hidden=24,
    )
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = [GlimpsePosterior(config) for _ in range(num_networks)]
        for network in networks:
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    torch.nn.init.normal_(module.running_mean, std=0.2)
                    torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
                    torch.nn.init.uniform_(module.weight, 0.5, 2.0)
                    torch.nn.init.normal_(module.bias, std=0.2)
    card = JudgeCard(
        dataset="toy",
        fingerprint=fingerprint,
        config=config,
        image_size=size,
        scales=scales,
        num_glimpses=geometry.num_glimpses,
        num_networks=num_networks,
        temperatures=rng.uniform(0.1, 0.3, (num_networks, geometry.num_glimpses + 1)).tolist(),
        seed=seed,
        splits={},
        scores={},
        command="tests/toy.py",
    )
    return Judge(networks, card)


class CountingJudge:
    """p(theta) from the sum of the glimpses' pixels and positions; counts how many histories it was asked about."""

    def __init__(self, num_classes: int = NUM_CLASSES):
        self.num_classes = num_classes
        self.asked = 0

    def probabilities(
        self, glimpses: np.ndarray, corners: np.ndarray, counts: np.ndarray, folds: np.ndarray
    ) -> np.ndarray:
        self.asked += len(counts)
        seen = np.arange(glimpses.shape[1]) < counts[:, None]
        brightness = glimpses.astype(np.float64).mean(axis=(2, 3, 4)) / 255  # (B, T)
        evidence = ((brightness + 0.1 * corners.sum(axis=2)) * seen).sum(axis=1) + 0.3 * folds  # (B,)
        logits = np.cos(evidence[:, None] * np.arange(1, self.num_classes + 1))
        p = np.exp(2 * logits)
        return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
