"""Oracles that choose how closely to look: exact in a finite world, and every policy on places of several zooms."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.copies import ORIGINAL, ImageCopy
from glimpse_env.files import digest
from glimpse_env.rollout import play
from glimpse_env.sensing.geometry import Geometry
from glimpse_env.sensing.observations import Histories
from glimpse_env.sensing.sensor import cut_on_grid
from oracles.baselines import HandCraftedPolicy, centre_out, coarse_to_fine
from oracles.boed.completion import CompletionConfig, ImageBank, queries_of
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.registry import POLICIES, make_policy, unavailable_reason
from oracles.validation.toy_world import IMPOSSIBLE
from tests.oracles.training.test_judge import Stripes
from tests.support import toy
from tests.support.toy_problem import ToyJudge

WORLD = Geometry(image_size=6, glimpse_size=1, stride=1, num_glimpses=3, zooms=(1, 2, 3))
COUNT = 10
ZOOMED = replace(toy.GEOMETRY, zooms=(1, 2, 3))


def world() -> tuple[np.ndarray, np.ndarray]:
    """Images of few grey values, so that a glimpse leaves several possible, and their labels."""
    rng = np.random.default_rng(0)
    return rng.choice([0, 120], (COUNT, 6, 6, 1)).astype(np.uint8), np.arange(COUNT) % 3


class WorldJudge(ToyJudge):
    """Bayes' rule in a world of equally likely images that are seen through windows of several widths."""

    def __init__(self) -> None:
        self.images, self.labels = world()
        super().__init__(self.images, self.labels)
        self.geometry, self.grid, self.card.num_glimpses = WORLD, WORLD.grid, WORLD.num_glimpses
        self.identity = digest("world of zooms")

    def embed_glimpses(self, network: int, glimpses: np.ndarray, corners: np.ndarray) -> Tensor:
        shown = [WORLD.sensor(self.images, np.arange(COUNT), np.tile(corner, (COUNT, 1))) for corner in corners]
        same = np.stack([(a == b).all(axis=(1, 2, 3)) for a, b in zip(shown, glimpses, strict=True)])
        return torch.from_numpy(np.where(same, 0.0, IMPOSSIBLE).astype(np.float32))

    def embed_grid(self, network: int, images: np.ndarray) -> Tensor:
        corners = np.tile(self.grid.corners, (len(images), 1))
        owners = np.repeat(np.arange(len(images)), len(self.grid))
        return self.embed_glimpses(0, WORLD.sensor(images, owners, corners), corners).unflatten(0, (len(images), -1))

    def embed_split(
        self, network: int, dataset: GlimpseDataset, rows: np.ndarray, copy: ImageCopy = ORIGINAL
    ) -> Tensor:
        return self.embed_grid(network, copy(np.asarray(dataset.images[rows])))


def world_dataset() -> GlimpseDataset:
    images, labels = world()
    return toy.toy_dataset(COUNT, geometry=WORLD, images=images, labels=labels, folds=np.zeros(COUNT, dtype=np.int64))


def expected_entropies(history: list[int], image: int) -> np.ndarray:
    """(L,) nats: for each place the entropy expected after a look there, by enumeration of the possible images."""
    images, labels = world()
    every = np.broadcast_to(np.arange(len(WORLD.grid)), (COUNT, len(WORLD.grid)))
    shown = cut_on_grid(images, every, WORLD.grid, 1).reshape(COUNT, -1)  # (M, L)
    possible = np.ones(COUNT, dtype=bool)
    for place in history:
        possible &= shown[:, place] == shown[image, place]
    scores = np.zeros(len(WORLD.grid))
    for place in range(len(WORLD.grid)):
        for n in np.flatnonzero(possible):
            after = possible & (shown[:, place] == shown[n, place])
            p = np.bincount(labels[after], minlength=3) / after.sum()
            scores[place] -= (p[p > 0] * np.log(p[p > 0])).sum() / possible.sum()
    return scores


def after(history: list[int], image: int) -> Histories:
    histories = Histories.empty(1, WORLD.num_glimpses, 1, 1, WORLD.grid.coordinates)
    for t, place in enumerate(history):
        corner = WORLD.grid.corners[place]
        histories.corners[0, t] = corner
        histories.glimpses[0, t] = WORLD.sensor(world()[0], np.array([image]), corner[None])[0]
    histories.counts[0] = len(history)
    return histories


@pytest.mark.parametrize("history", [[], [0], [len(WORLD.grid) - 1], [40, 3]])
def test_expected_entropies_of_all_places_and_zooms_are_exact(history: list[int]) -> None:
    completion = CompletionConfig("pixels", bandwidth=1e-3, samples=COUNT, short_list=COUNT)
    oracle = BOEDOracle(world_dataset(), WorldJudge(), OracleConfig(completion=completion))
    for image in range(3):
        chosen, _ = oracle.choose(after(history, image), None, None)
        expected = expected_entropies(history, image)
        assert np.allclose(oracle.last_maps[0], expected, atol=1e-4)
        open_places = np.delete(np.arange(len(expected)), history)
        assert np.isclose(expected[chosen[0]], expected[open_places].min(), atol=1e-4)
        assert chosen[0] not in history


def test_looking_ahead_plans_over_all_zooms() -> None:
    completion = CompletionConfig("pixels", bandwidth=1e-3, samples=COUNT, short_list=COUNT)
    config = OracleConfig(completion=completion, horizon="last")
    oracle = BOEDOracle(world_dataset(), WorldJudge(), config)
    histories = after([len(WORLD.grid) - 1, 2], 1)  # one glimpse is left: then it is the greedy one
    oracle.choose(histories, None, None)
    tried = oracle.last_maps[0] < oracle.last_maps[0].max()
    expected = expected_entropies([len(WORLD.grid) - 1, 2], 1)
    assert tried.any()
    assert np.allclose(oracle.last_maps[0][tried], expected[tried], atol=1e-4)


def test_glimpses_are_compared_with_windows_of_their_own_zoom() -> None:
    dataset, judge = toy.toy_dataset(geometry=ZOOMED), toy.toy_judge(ZOOMED)
    bank = ImageBank(dataset, judge, 0, 100, cached=False)
    places = np.array([len(ZOOMED.grid) - 1, 3, 66, 3])
    corners = np.concatenate([ZOOMED.grid.corners[places], [[3, 5, 2]]])  # the last between the places
    glimpses = ZOOMED.sensor(dataset.images, np.arange(5), corners)
    queries = queries_of(glimpses, torch.zeros(5, 1), "pixels")
    distances = bank.squared_distances(queries, corners, "pixels")
    coarse = bank.coarse_distances(queries, corners, "pixels", 12)
    for b in range(5):
        theirs = ZOOMED.sensor(dataset.images, bank.rows, np.tile(corners[b], (len(bank), 1)))
        brute = ((theirs.astype(float) - glimpses[b]) ** 2).sum(axis=(1, 2, 3)) / 255**2
        assert np.allclose(distances[b], brute, rtol=1e-3, atol=1e-3)
        assert b == 4 or np.corrcoef(coarse[b], brute)[0, 1] > 0.7
    listed = bank.listed_distances(torch.arange(5), queries, corners, "pixels")
    entries = ZOOMED.sensor(dataset.images, np.tile(bank.rows[:5], 5), np.repeat(corners, 5, axis=0)).reshape(5, 5, -1)
    brute = ((entries.astype(float) - glimpses.reshape(5, 1, -1)) ** 2).sum((0, 2)) / 255**2
    assert np.allclose(listed, brute, rtol=1e-3)


def test_coarse_to_fine_begins_with_the_widest_window() -> None:
    grid = ZOOMED.grid
    sequence = coarse_to_fine(grid, 5)
    assert grid.corners[sequence, 2].tolist() == [3, 2, 1, 1, 1]
    middles = grid.corners[sequence, :2] + grid.corners[sequence, 2:] * grid.glimpse_size / 2
    assert np.abs(middles[:3] - grid.image_size / 2).max() <= 2 + grid.stride / 2
    assert sequence[2:].tolist() == centre_out(grid, 3).tolist() == centre_out(toy.GEOMETRY.grid, 3).tolist()
    assert coarse_to_fine(grid, 1).tolist() == [len(grid) - 1]


def test_parts_are_looked_at_through_the_narrowest_windows() -> None:
    parts = np.zeros((24, 1, 3), dtype=np.float32)
    parts[:, 0] = 20, 15, 1
    dataset = toy.toy_dataset(geometry=ZOOMED, parts=parts, part_names=("beak",))
    sequences, _ = HandCraftedPolicy(ZOOMED.grid, 4).start(dataset, np.arange(2))
    assert (ZOOMED.grid.corners[sequences] == [16, 8, 1]).all()


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_looks_at_places_of_several_zooms(name: str, fresh_cache: Path) -> None:
    source: Any = Stripes().with_zooms((1, 2))
    if unavailable_reason(name, source) is not None:
        pytest.skip("not for these images")
    judge = toy.toy_judge(source.geometry, num_classes=2, fingerprint=source.fingerprint, dataset="stripes")
    judge.save(toy.judge_path(source))
    for horizon in toy.HORIZONS.values():
        toy.toy_oracle(judge, horizon).save(toy.oracle_path(source, judge, horizon))
    policy = make_policy(name, source, judge)
    test = source.load("test")
    rows = np.arange(6)
    rollouts = play(
        policy, test, judge, rows, stop=POLICIES[name].stops, start=lambda indices: policy.start(test, indices)
    )
    assert rollouts.corners.shape == (6, 3, 3)
    for locations, length in zip(rollouts.locations, rollouts.lengths, strict=True):
        assert ((locations[:length] >= 0) & (locations[:length] < len(source.geometry.grid))).all()
        assert (locations[length:] == -1).all()
        assert len(set(locations[:length])) == length, "no place twice"
    if policy.last_maps is not None:
        assert policy.last_maps.shape[1] == len(source.geometry.grid)


def test_coarse_to_fine_needs_zooms() -> None:
    assert "needs zooms" in str(unavailable_reason("coarse-to-fine", Stripes()))
    assert unavailable_reason("coarse-to-fine", Stripes().with_zooms((1, 2))) is None
