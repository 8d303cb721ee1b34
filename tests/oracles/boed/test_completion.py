"""Mirrored and shifted copies in a bank."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.copies import ORIGINAL, ImageCopy, copies_of
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from oracles.boed import completion
from oracles.boed.completion import CompletionConfig, ImageBank, queries_of
from oracles.boed.oracle import BOEDOracle, OracleConfig
from tests.oracles.boed.test_oracle import observe
from tests.support import toy


@pytest.fixture
def dataset(fresh_cache: Path) -> GlimpseDataset:
    return toy.toy_dataset()


def test_copies_by_hand() -> None:
    image = np.arange(9).reshape(1, 3, 3, 1)
    assert ImageCopy(mirrored=True)(image)[0, :, :, 0].tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]
    assert ImageCopy(down=1)(image)[0, :, :, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert ImageCopy(right=-1)(image)[0, :, :, 0].tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]
    assert ImageCopy(mirrored=True, right=1)(image)[0, :, :, 0].tolist() == [[2, 2, 1], [5, 5, 4], [8, 8, 7]]
    assert copies_of(False, 0) == (ORIGINAL,)
    assert copies_of(True, 0) == (ORIGINAL, ImageCopy(mirrored=True))
    assert len(set(copies_of(True, 4))) == 10


def test_entries_are_the_copies_of_as_many_images_as_asked_for(dataset: GlimpseDataset) -> None:
    bank = ImageBank(dataset, toy.toy_judge(), 1, 5, mirrored=True, shifts=3)
    assert len(bank) == 50
    assert np.array_equal(bank.rows.reshape(10, 5), np.broadcast_to(bank.rows[:5], (10, 5)))
    assert np.array_equal(bank.labels, dataset.labels[bank.rows])
    with pytest.raises(ConfigurationError, match="shifts=40"):
        ImageBank(dataset, toy.toy_judge(), 1, 5, shifts=40)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("scales", [1, 2])
def test_a_copys_embeddings_are_those_of_the_copied_image(dataset: GlimpseDataset, cached: bool, scales: int) -> None:
    judge = toy.toy_judge(replace(toy.GEOMETRY, scales=scales))
    bank = ImageBank(dataset, judge, 0, 100, cached=cached, mirrored=True, shifts=4)
    count = len(bank) // 10
    for c, copy in enumerate(copies_of(True, 4)):
        expected = judge.embed_grid(0, np.ascontiguousarray(copy(dataset.images[bank.rows[:count]])))
        np.testing.assert_allclose(bank.embeddings[c * count :][:count].float(), expected, rtol=2e-3, atol=2e-3)
    flipped = bank.embeddings[5 * count :][:count].reshape(count, 8, 8, -1).flip(2)
    assert not np.allclose(flipped.float(), bank.embeddings[:count].reshape(count, 8, 8, -1).float(), atol=0.05)


def test_copies_are_embedded_once(dataset: GlimpseDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = toy.toy_judge()
    ImageBank(dataset, judge, 0, 100, mirrored=True)
    monkeypatch.setattr(Judge, "embed_grid", None)
    ImageBank(dataset, judge, 0, 100, mirrored=True)
    with pytest.raises(TypeError):  # these are others
        ImageBank(dataset, judge, 0, 100)


def test_glimpses_of_copies_are_compared(dataset: GlimpseDataset) -> None:
    judge = toy.toy_judge()
    bank = ImageBank(dataset, judge, 0, 100, mirrored=True, shifts=5)
    count = len(bank) // 10
    corner, glimpse = np.array([[9, 14]]), np.random.default_rng(0).integers(0, 256, (1, 12, 12, 1), dtype=np.uint8)
    found = bank.squared_distances(
        queries_of(glimpse, judge.embed_glimpses(0, glimpse, corner), "pixels"), corner, "pixels"
    )[0]
    for c, copy in enumerate(copies_of(True, 5)):
        patches = copy(dataset.images[bank.rows[:count]])[:, 9:21, 14:26].astype(float)
        expected = np.square(patches / 255 - glimpse / 255.0).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(found[c * count :][:count], expected, rtol=1e-3)


def test_a_mirrored_glimpse_is_as_far_from_mirror_images_as_the_glimpse_from_the_images(
    dataset: GlimpseDataset,
) -> None:
    judge = toy.toy_judge()
    bank = ImageBank(dataset, judge, 0, 100, mirrored=True)
    count = len(bank) // 2
    glimpse, corner = dataset.images[3:4, 8:20, 4:16], np.array([[8, 4]])
    mirrored, opposite = np.ascontiguousarray(glimpse[:, :, ::-1]), np.array([[8, 40 - 12 - 4]])
    nothing = torch.zeros(1, 32)
    found = bank.squared_distances(queries_of(np.ascontiguousarray(glimpse), nothing, "pixels"), corner, "pixels")[0]
    again = bank.squared_distances(queries_of(mirrored, nothing, "pixels"), opposite, "pixels")[0]
    np.testing.assert_allclose(again, found.roll(count), rtol=1e-4)
    assert not np.allclose(found[:count], found[count:], rtol=0.01)


@pytest.mark.parametrize("coarse", [0, 6])
def test_leaving_an_image_out_leaves_out_its_copies(dataset: GlimpseDataset, coarse: int) -> None:
    judge, single = toy.toy_judge(num_networks=1), toy.toy_dataset(num_folds=1)
    config = CompletionConfig(
        samples=8, short_list=118, effective_samples=4, mirrored=True, shifts=2, coarse=coarse, coarse_keep=2
    )  # the coarse search lists 236 of 240 entries, ten of them to be left out
    oracle = BOEDOracle(single, judge, OracleConfig(completion=config))
    state = oracle.start(single, np.array([4]))
    assert torch.isinf(state.distances[0]).nonzero()[:, 1].tolist() == [c * 24 + 4 for c in range(10)]
    oracle.predict(observe(single, judge, np.array([4]), np.array([[8, 30]])), state)
    candidates = oracle._nearest(0, state, np.array([0]))[1]
    assert not (oracle.banks[0].rows[candidates] == 4).any()
    oracle.predict(observe(single, judge, np.array([4]), np.array([[8, 30]])))
    assert oracle.last_maps.shape == (1, 64)


@pytest.mark.parametrize("match", ["pixels", "embedding"])
def test_an_exact_search_is_one_product_to_the_bit(
    match: str, dataset: GlimpseDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = toy.toy_judge()
    bank = ImageBank(dataset, judge, 0, 100)
    corners = np.array([[8, 4], [8, 4], [20, 28]])
    glimpses = np.random.default_rng(1).integers(0, 256, (3, 12, 12, 1), dtype=np.uint8)
    embedded = judge.embed_glimpses(0, glimpses, corners)
    expected = torch.empty(3, len(bank))
    for rows in ([0, 1], [2]):
        r, c = corners[rows[0]]
        windows = torch.from_numpy(dataset.images[bank.rows, r : r + 12, c : c + 12]).flatten(1) / 255.0
        theirs = windows if match == "pixels" else bank.embeddings[:, int(judge.grid.nearest(corners[rows[0]]))].float()
        ours = torch.from_numpy(glimpses[rows]).flatten(1) / 255.0 if match == "pixels" else embedded[rows]
        squares = ours.square().sum(1)[:, None] + theirs.square().sum(1)[None] - 2.0 * ours @ theirs.T
        expected[rows] = squares.clamp_min(0.0)
    assert torch.equal(bank.squared_distances(queries_of(glimpses, embedded, match), corners, match), expected)
    monkeypatch.setattr(completion, "ENTRIES_PER_COMPARISON", 5)
    np.testing.assert_allclose(
        bank.squared_distances(queries_of(glimpses, embedded, match), corners, match), expected, rtol=1e-3
    )


def test_a_part_of_sorted_images_stands_for_all_classes() -> None:
    """CUB's files are sorted by class, as here: the first images would be of one class."""
    labels = np.repeat(np.arange(3), 100)
    data = toy.toy_dataset(300, labels=labels, folds=np.zeros(300, dtype=np.int64))
    judge = toy.toy_judge(num_networks=1)
    bank = ImageBank(data, judge, 0, 60, cached=False)
    assert np.bincount(bank.labels, minlength=3).min() >= 10
    assert (np.diff(bank.rows) > 0).all()
    assert np.array_equal(ImageBank(data, judge, 0, 60, cached=False).rows, bank.rows)
    assert set(ImageBank(data, judge, 0, 30, cached=False).rows) < set(bank.rows)
    assert np.array_equal(ImageBank(data, judge, 0, 300, cached=False).rows, np.arange(300))
