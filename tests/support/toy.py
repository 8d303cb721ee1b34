"""Small things for tests: a data set of noise images, an untrained judge, and one whose answers are known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glimpse_env import ENV_IDS
from glimpse_env.datasets import make_source
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.judge.judge import Judge, JudgeCard, judge_path
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig
from glimpse_env.presets import PRESETS, anytime_id
from glimpse_env.sensing.geometry import Geometry
from oracles.amortised.network import LocationScorer
from oracles.amortised.oracle import AmortisedOracle, OracleCard, oracle_path
from oracles.boed.criteria import Horizon
from oracles.entries import HORIZONS
from tests.support.tiny_data import write_tiny_celeba, write_tiny_cub, write_tiny_folder, write_tiny_mnist

SIZE = 40
"""Side of the toy data set's images in pixels: an 8 x 8 grid of locations."""
GEOMETRY = Geometry(SIZE, glimpse_size=12, stride=4, num_glimpses=4)
"""Geometry of the toy data set; a (12, 4) encoder exists."""
NUM_CLASSES = 3
SMALL_BIRDS = {"num_train": 48, "num_val": 4, "num_test": 4, "num_judge": 4, "num_oracle": 48}
"""Options of the drawn birds: one training image of each species."""
SMALL_FOLDER = {"size": 60, "glimpse_size": 12, "stride": 4, "num_glimpses": 6}
"""Options of a folder of images: 169 locations."""
SMALL_CELEBA = {"num_images": 60}
"""Options of CelebA-HQ: 54 training images, 1 for validation and 5 for test."""


def toy_dataset(
    count: int = 24,
    *,
    geometry: Geometry = GEOMETRY,
    channels: int = 1,
    num_classes: int = NUM_CLASSES,
    num_folds: int = 2,
    seed: int = 0,
    **fields: Any,
) -> GlimpseDataset:
    """Images of noise; image i has label i mod ``num_classes``, and folds come in turn. ``fields`` override."""
    rng, size = np.random.default_rng(seed), geometry.image_size
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
        "geometry": geometry,
    }
    return GlimpseDataset(**(arrays | fields))


def toy_twins(locations: Sequence[int]) -> tuple[GlimpseDataset, GlimpseDataset]:
    """Test images twice, the second ones of other classes: they agree at glimpses of ``locations``, and only there."""
    first = toy_dataset(split="test")
    images = np.random.default_rng(9).integers(0, 256, first.images.shape, dtype=np.uint8)
    for row, col in GEOMETRY.grid.corners[list(locations)]:
        images[:, row : row + 12, col : col + 12] = first.images[:, row : row + 12, col : col + 12]
    return first, toy_dataset(split="test", images=images, labels=np.roll(first.labels, 1))


def toy_judge(
    geometry: Geometry = GEOMETRY,
    *,
    channels: int = 1,
    num_classes: int = NUM_CLASSES,
    num_networks: int = 2,
    num_parts: int = 0,
    fingerprint: str = "toy",
    seed: int = 0,
    dataset: str = "toy",
) -> Judge:
    """Random small networks whose batch normalisation has statistics of its own, and random temperatures."""
    config = PosteriorConfig(
        glimpse_size=geometry.glimpse_size,
        stride=geometry.stride,
        channels=channels * geometry.scales,
        num_classes=num_classes,
        num_parts=num_parts,
        features=48,
        embedding=32,
        hidden=24,
        coordinates=geometry.grid.coordinates,
    )
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = [GlimpsePosterior(config) for _ in range(num_networks)]
        for network in networks:
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    for name, tensor in module.state_dict().items():
                        if name in ("running_var", "weight"):
                            tensor.uniform_(0.5, 2.0)
                        elif name in ("running_mean", "bias"):
                            tensor.normal_(std=0.2)
    card = JudgeCard(
        dataset=dataset,
        fingerprint=fingerprint,
        config=config,
        image_size=geometry.image_size,
        scales=geometry.scales,
        zooms=list(geometry.zooms),
        num_glimpses=geometry.num_glimpses,
        num_networks=num_networks,
        temperatures=rng.uniform(0.1, 0.3, (num_networks, geometry.num_glimpses + 1)).tolist(),
        seed=seed,
        splits={},
        scores={},
        command="tests/support/toy.py",
    )
    return Judge(networks, card)


def write_toy_judge(source: DataSource) -> Path:
    """Puts an untrained judge for a data set into the cache, where ``find_judge`` finds it, and amortised oracles."""
    judge = toy_judge(
        source.geometry,
        channels=source.image_shape[2],
        num_classes=len(source.class_names),
        num_networks=source.num_folds,
        fingerprint=source.fingerprint,
        dataset=source.name,
    )
    path = judge_path(source)
    judge.save(path)
    for horizon in HORIZONS.values():
        toy_oracle(judge, horizon).save(oracle_path(source, judge, horizon))
    return path


def toy_oracle(judge: Judge, horizon: Horizon = "next", relative: int = 0) -> AmortisedOracle:
    """Untrained networks on a judge's convolutions, each with weights of its own wherever they start at zero."""
    steps = judge.card.num_glimpses
    with torch.random.fork_rng():
        torch.manual_seed(1)
        networks = [LocationScorer.like(network, len(judge.grid), steps, relative) for network in judge.networks]
        for network in networks:
            torch.nn.init.normal_(network.base, std=0.05)
            if relative:
                torch.nn.init.normal_(network.local_head[-1].weight, std=0.1)
                torch.nn.init.normal_(network.places, std=0.1)
    card = OracleCard(
        dataset=judge.card.dataset,
        fingerprint=judge.card.fingerprint,
        judge=judge.identity,
        horizon=horizon,
        criterion="entropy",
        config=networks[0].config,
        image_size=judge.card.image_size,
        scales=judge.card.scales,
        zooms=judge.card.zooms,
        num_glimpses=steps,
        num_networks=len(networks),
        seed=0,
        plan={},
        command="tests/support/toy.py",
        relative=relative,
    )
    return AmortisedOracle(networks, card)


def write_toy_world(root: Path, patch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Makes every registered id work at toy size, with tiny data and untrained judges below ``root``.

    ``patch`` points GLIMPSE_DATA and GLIMPSE_CACHE there for as long as it lasts.

    Returns:
        For each id the keyword arguments that keep it small.
    """
    patch.setenv("GLIMPSE_DATA", str(root / "data"))
    patch.setenv("GLIMPSE_CACHE", str(root / "cache"))
    write_tiny_cub(root / "data")
    write_tiny_mnist(root / "data")
    write_tiny_celeba(root / "data")
    arguments: dict[str, dict[str, Any]] = {env_id: {} for env_id in ENV_IDS}
    arguments["GlimpseBirds-v0"] = {"dataset_options": SMALL_BIRDS}
    photos = write_tiny_folder(root / "photos")
    arguments["GlimpseFolder-v0"] = {"root": str(photos), **SMALL_FOLDER}
    arguments["GlimpseCelebAHQ-v0"] = SMALL_CELEBA
    for env_id, dataset in ENV_IDS.items():
        given = arguments[anytime_id(env_id)] = arguments[env_id]
        options = given if PRESETS[dataset].flat else given.get("dataset_options")
        source = make_source(dataset, **(options or {}))
        write_toy_judge(source.with_scales(PRESETS[dataset].scales))
        write_toy_judge(source.with_zooms(PRESETS[dataset].zooms))
    return arguments


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
