import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse_env import GlimpseEnv, GlimpseVectorEnv
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.tables import EmbeddingTable, TabulatedJudge
from glimpse_env.sensing.sensor import Sensor
from oracles.boed.completion import ImageBank
from tests.support.toy import GEOMETRY, CountingJudge, toy_dataset, toy_judge

STEPS = GEOMETRY.num_glimpses


@pytest.fixture
def dataset(fresh_cache: Path) -> GlimpseDataset:
    folds = np.array([0, 1, -1] * 8)
    return toy_dataset(folds=folds)


def test_a_table_holds_the_judges_embeddings(dataset: GlimpseDataset) -> None:
    judge, rows = toy_judge(), np.array([2, 3, 11, 20])
    table = EmbeddingTable(dataset, judge, 1, rows)
    expected = judge.embed_grid(1, dataset.images[rows]).numpy()
    assert table.array.dtype == np.float16
    assert np.allclose(table.array, expected, atol=1e-3)
    found = table(np.array([11, 2, 20]), np.array([5, 63, 0]))
    assert np.allclose(found, [expected[2, 5], expected[0, 63], expected[3, 0]], atol=1e-3)
    summed = table.summed(np.array([11, 2]), np.array([[5, 5, 7], [1, 2, 3]]))
    assert np.allclose(summed[0], 2 * expected[2, 5] + expected[2, 7], atol=3e-3)
    assert np.allclose(summed[1], expected[0, 1:4].sum(0), atol=3e-3)


def test_nothing_is_embedded_twice(dataset: GlimpseDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, embedded = toy_judge(), []

    def embed_grid(self: Judge, network: int, images: np.ndarray) -> Any:
        embedded.append(len(images))
        return original(self, network, images)

    original = Judge.embed_grid
    monkeypatch.setattr(Judge, "embed_grid", embed_grid)
    TabulatedJudge(dataset, judge)
    assert embedded
    embedded.clear()
    TabulatedJudge(dataset, judge)
    ImageBank(dataset, judge, 0, 10_000)  # the oracle reads the same table
    assert embedded == []
    EmbeddingTable(dataset, toy_judge(seed=1), 0)  # another judge's are others
    assert embedded


@pytest.mark.parametrize("scales", [1, 2])
def test_a_tabulated_judge_answers_as_the_judge(dataset: GlimpseDataset, scales: int) -> None:
    judge = toy_judge(replace(GEOMETRY, scales=scales))
    indices = np.arange(len(dataset))
    locations = np.random.default_rng(0).integers(0, 64, (len(dataset), 3))
    corners = judge.grid.corners[locations]
    glimpses = Sensor(12, scales)(dataset.images, np.repeat(indices, 3), corners.reshape(-1, 2))
    expected = judge.probabilities(
        glimpses.reshape(len(dataset), 3, 12, 12, -1), corners, np.full(len(dataset), 3), dataset.folds
    )
    assert np.allclose(TabulatedJudge(dataset, judge).probabilities(indices, locations), expected, atol=5e-3)
    assert np.ptp(expected) > 0.2


@pytest.mark.parametrize("settings", [{}, {"reward": "information"}, {"posterior_info": False}])
def test_episodes_are_the_same_with_and_without_a_table(dataset: GlimpseDataset, settings: dict[str, Any]) -> None:
    judge = toy_judge()
    plain, fast = (
        GlimpseVectorEnv(dataset, judge, num_envs=5, tabulated=tabulated, **settings) for tabulated in (False, True)
    )
    for env in (plain, fast):
        env.reset(seed=0)
    plain.action_space.seed(0)
    for _ in range(3 * STEPS):
        actions = plain.action_space.sample()
        told, expected = fast.step(actions), plain.step(actions)
        for key, value in expected[0].items():
            assert np.array_equal(told[0][key], value)
        assert np.allclose(told[1], expected[1], atol=2e-2)
        assert np.array_equal(told[2], expected[2])
        assert told[4].keys() == expected[4].keys()
        assert np.array_equal(told[4]["index"], expected[4]["index"])


def test_embedding_observations_are_the_tables(dataset: GlimpseDataset) -> None:
    judge = toy_judge()
    env = GlimpseVectorEnv(dataset, judge, num_envs=2, observation="embedding")
    table = judge.embed_grid(0, dataset.images).numpy()
    blank, info = env.reset(seed=0)
    assert not blank["embeddings"].any()
    taken = np.array([[3, 60, 3], [9, 0, 1]])
    for t in range(3):
        observations, *_ = env.step(taken[:, t])
    shown = observations["embeddings"].reshape(2, STEPS, 32)
    for i, index in enumerate(info["index"]):
        assert np.allclose(shown[i, :3], table[index, taken[i]], atol=1e-3)
    assert not shown[:, 3:].any()
    assert observations["mask"].tolist() == [[1, 1, 1, 0]] * 2
    assert np.allclose(observations["locations"][0, :2], env.batch.grid.normalised[3])
    assert observations in env.observation_space


def test_what_cannot_be_tabulated_is_refused(dataset: GlimpseDataset) -> None:
    other = replace(dataset, geometry=replace(GEOMETRY, stride=2))
    for settings in ({"tabulated": True}, {"observation": "embedding"}):
        with pytest.raises(ConfigurationError, match="action='continuous'"):
            GlimpseEnv(dataset, toy_judge(), action="continuous", **settings)
        with pytest.raises(ConfigurationError, match="CountingJudge"):
            GlimpseEnv(dataset, CountingJudge(), **settings)
        with pytest.raises(ConfigurationError, match="stride=2"):
            GlimpseEnv(other, toy_judge(), **settings)


def test_neither_images_nor_tables_are_pickled(tmp_path: Path, fresh_cache: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (400, 40, 40, 1), dtype=np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    dataset = toy_dataset(400, images=images, num_folds=1, folds=np.full(400, -1))
    judge = toy_judge(num_networks=1)
    batch = EpisodeBatch(dataset, judge, 2, observation="embedding")
    batch.begin(np.array([7, 399]))
    batch.step([5, 6])
    pickled = pickle.dumps(batch)
    assert len(pickled) < len(pickle.dumps(judge)) + 50_000 < images.nbytes
    twin = pickle.loads(pickled)
    assert isinstance(twin.dataset.images, np.memmap)
    for one, other in zip(
        batch.step([1, 2]).observations.values(), twin.step([1, 2]).observations.values(), strict=True
    ):
        assert np.array_equal(one, other)
    assert copy.deepcopy(batch).embeddings is batch.embeddings


def test_a_pickle_whose_images_are_gone_says_so(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((6, 40, 40, 1), np.uint8))
    pickled = pickle.dumps(toy_dataset(6, images=np.load(path, mmap_mode="r")))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"images\.npy.*is gone"):
        pickle.loads(pickled)
