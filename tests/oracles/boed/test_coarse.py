"""The coarse search: what it estimates, what it misses, and where it is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from oracles.boed import coarse
from oracles.boed.coarse import RESIDUAL, CoarseTable
from oracles.boed.completion import LARGE_BANK, CompletionConfig, ImageBank
from oracles.boed.oracle import BOEDOracle, OracleConfig
from tests.oracles.boed.test_oracle import observe
from tests.support import toy

COUNT, WIDTH = 60, 12


def numbers(locations: int = 2) -> Tensor:
    """(N, L, F) of decreasing variance, so that the first components hold most of it."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(COUNT, locations, WIDTH)) * 0.7 ** np.arange(WIDTH) + 5.0
    return torch.from_numpy(values.astype(np.float32))


def table_of(values: Tensor, dimensions: int) -> CoarseTable:
    return CoarseTable.made(
        lambda entries, place: values[torch.from_numpy(entries), place].clone(),
        COUNT,
        values.shape[1],
        dimensions,
        None,
    )


def exact(queries: Tensor, entries: Tensor) -> Tensor:
    return (queries[:, None] - entries[None]).square().sum(-1)


def test_all_components_give_the_distances() -> None:
    values = numbers()
    queries = torch.from_numpy(np.random.default_rng(4).normal(5.0, 1.0, (3, WIDTH)).astype(np.float32))
    for place in (0, 1):
        found = table_of(values, 100).squared_distances(queries, place)
        np.testing.assert_allclose(found, exact(queries, values[:, place]), rtol=0.01, atol=0.02)


def test_estimates_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse, "ENTRIES_PER_SEARCH", 7)
    values, dimensions = numbers(), 3
    queries = values[5:9, 1] + 0.3
    centred = values[:, 1] - values[:, 1].mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)  # the components, in another way
    ours = (queries - values[:, 1].mean(0)) @ axes[:dimensions].T
    theirs = centred @ axes[:dimensions].T
    left = centred.square().sum(1) - theirs.square().sum(1)
    ours_left = (queries - values[:, 1].mean(0)).square().sum(1) - ours.square().sum(1)
    expected = exact(ours, theirs) + RESIDUAL * (left[None] + ours_left[:, None])
    found = table_of(values, dimensions).squared_distances(queries, 1)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02)


@pytest.fixture
def smooth(fresh_cache: Path) -> GlimpseDataset:
    """120 images with little in them: a few waves each."""
    rng = np.random.default_rng(0)
    row, col = np.mgrid[:40, :40] / 40
    waves = np.stack([np.cos(np.pi * (a * row + b * col)) for a in range(4) for b in range(4)])  # (16, H, W)
    strengths = rng.normal(size=(120, 16)) * 20
    images = np.clip(128 + np.tensordot(strengths, waves, 1), 0, 255).astype(np.uint8)[..., None]
    return toy.toy_dataset(120, images=images, num_folds=1)


@pytest.mark.parametrize("match", ["pixels", "embedding"])
def test_coarse_choices_are_the_exact_ones(match: str, smooth: GlimpseDataset) -> None:
    judge = toy.toy_judge(num_networks=1)
    rows = np.arange(6)
    maps, distances = [], []
    for components in (0, 8):
        completion = CompletionConfig(match, samples=10, short_list=15, effective_samples=4, coarse=components)
        oracle = BOEDOracle(smooth, judge, OracleConfig(completion=completion))
        locations, state = np.empty((6, 0), dtype=np.int64), oracle.start(smooth, rows)
        for t in range(3):
            locations = np.c_[locations, np.full(6, (9, 50, 30)[t])]
            _, state = oracle.predict(observe(smooth, judge, rows, locations), state)
        maps.append(oracle.last_maps)
        distances.append(state.distances[0])
    np.testing.assert_allclose(maps[0], maps[1], atol=2e-3)
    assert np.ptp(maps[0], axis=1).min() > 0.02
    assert not torch.equal(*distances)  # these are estimates
    assert (distances[0].isinf() == distances[1].isinf()).all()


def test_the_shortlist_is_ordered_by_exact_distances_and_leaves_out_what_must_be(smooth: GlimpseDataset) -> None:
    judge = toy.toy_judge(num_networks=1)
    completion = CompletionConfig(samples=5, short_list=20, coarse=2, coarse_keep=2)
    oracle = BOEDOracle(smooth, judge, OracleConfig(completion=completion))
    state = oracle.start(smooth, np.array([7]))
    locations = np.array([[3, 44]])
    oracle.predict(observe(smooth, judge, np.array([7]), locations), state)
    nearest, candidates = oracle._nearest(0, state, np.array([0]))
    assert 7 not in candidates[0].tolist()
    assert len(set(candidates[0].tolist())) == 20
    for found, entry in zip(nearest[0], candidates[0], strict=True):
        by_hand = 0.0
        for r, c in judge.grid.corners[locations[0]]:
            windows = smooth.images[[7, int(entry)], r : r + 12, c : c + 12].astype(float) / 255
            by_hand += np.square(windows[0] - windows[1]).sum()
        assert found.item() == pytest.approx(by_hand, rel=1e-3)


def test_a_table_is_made_once_for_a_bank_and_lies_in_the_cache_in_half_precision(
    smooth: GlimpseDataset, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, made = toy.toy_judge(num_networks=1), []
    original = coarse._fill
    monkeypatch.setattr(coarse, "_fill", lambda *args, **files: (made.append(1), original(*args, **files)))
    first = ImageBank(smooth, judge, 0, 100).coarse_table("pixels", 4)
    again = ImageBank(smooth, judge, 0, 100).coarse_table("pixels", 4)
    assert len(made) == 1
    assert torch.equal(first.projections, again.projections)
    assert first.projections.dtype == torch.float16
    assert first.projections.shape == (64, 100, 4)  # a location's lie together
    assert [path.suffix for path in (fresh_cache / "coarse").rglob("*.*")] == [".npy"] * 4
    for other in (
        ImageBank(smooth, judge, 0, 99),
        ImageBank(smooth, toy.toy_judge(num_networks=1, seed=1), 0, 100),
        ImageBank(smooth, judge, 0, 100, mirrored=True),
    ):
        other.coarse_table("pixels", 4)
    assert len(made) == 4
    ImageBank(smooth, judge, 0, 100, cached=False).coarse_table("pixels", 4)
    assert len(list((fresh_cache / "coarse").iterdir())) == 4


def test_only_large_banks_are_searched_coarsely_by_default() -> None:
    assert CompletionConfig().dimensions(LARGE_BANK) == 0
    assert CompletionConfig().dimensions(LARGE_BANK + 1) > 0
    assert CompletionConfig(coarse=0).dimensions(10**6) == 0
    assert CompletionConfig(coarse=16).dimensions(1001) == 16
    assert CompletionConfig(coarse=16).dimensions(1000) == 0, "all of the bank is listed"
    for wrong in ({"coarse": -1}, {"coarse_keep": 0}, {"shifts": -3}, {"bank_size": 0}):
        with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))}="):
            CompletionConfig(**wrong)
