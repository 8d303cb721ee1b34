"""Training with zooms: the few wide windows are seen as often as the many narrow ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glimpse_env.judge.judge import judge_path
from glimpse_env.sensing.geometry import LocationGrid, ZoomGrid
from oracles.base import random_keys, random_locations
from oracles.presets import PRESETS, Preset, preset_of
from oracles.training.judge import ensure_judge, train_judge
from oracles.training.plans import JudgePlan, ScorerPlan
from oracles.training.posterior import NetworkTrainer, prefix_sums, random_histories
from oracles.training.scorer import train_oracle
from tests.oracles.training.test_judge import PLAN, Stripes
from tests.support.toy import GEOMETRY, toy_dataset, toy_judge

GRID = ZoomGrid(60, 12, 4, (1, 2, 4))


def shares(locations: np.ndarray) -> np.ndarray:
    """The share of locations in each level."""
    return np.array([((locations >= part.start) & (locations < part.stop)).mean() for part in GRID.level_slices])


def test_each_level_is_drawn_as_often() -> None:
    rng = np.random.default_rng(0)
    assert np.allclose(shares(random_locations(rng, (30_000,), GRID)), 1 / 3, atol=0.01)
    histories = random_histories(rng, (300, 100, 4), GRID)
    assert np.allclose(shares(histories[..., 0]), 1 / 3, atol=0.01)
    mixed, narrow = histories[:, :50], histories[:, 50:]
    # the only wide window is looked at once; what is left is shared by the others
    seen_wide = (mixed[..., 0] == len(GRID) - 1).mean()
    assert np.allclose(shares(mixed[..., 1])[2], (1 - seen_wide) / 3, atol=0.02)
    assert shares(narrow[..., 1:]).tolist() == [1, 0, 0], "the other half goes on with the narrowest windows"
    assert (np.sort(histories, axis=-1)[..., 1:] > np.sort(histories, axis=-1)[..., :-1]).all(), "no repetition"
    for part in GRID.level_slices[:2]:  # every place of a level as often
        counts = np.bincount(histories[..., 0].reshape(-1), minlength=len(GRID))[part]
        assert counts.min() > 0.6 * counts.mean()


def test_without_zooms_draws_are_as_they_were() -> None:
    grid = LocationGrid(60, 12, 4)
    assert np.array_equal(
        random_keys(np.random.default_rng(1), (2, 3), grid),
        np.random.default_rng(1).random((2, 3, 169), dtype=np.float32),
    )
    order = np.random.default_rng(1).random((2, 3, 169), dtype=np.float32)
    assert np.array_equal(
        random_histories(np.random.default_rng(1), (2, 3, 5), grid), order.argpartition(5, axis=-1)[..., :5]
    )


def test_glimpses_of_all_zooms_are_normalised_together() -> None:
    """By the statistics of all that were looked at: what the network, in evaluation, has for each of them."""
    geometry = replace(GEOMETRY, zooms=(1, 2, 3))
    network = toy_judge(geometry).networks[0].train().requires_grad_(True)
    norm = next(layer for layer in network.encoder if isinstance(layer, torch.nn.BatchNorm2d))
    norm.momentum, before = 1.0, int(norm.num_batches_tracked)
    images = np.asarray(toy_dataset(4).images)
    locations = random_histories(np.random.default_rng(0), (4, 3, 4), geometry.grid)
    prefix_sums(network, images, locations, geometry.grid)
    assert norm.num_batches_tracked == before + 1
    owners = np.repeat(np.arange(4), 12)
    glimpses = geometry.sensor(images, owners, geometry.grid.corners[locations.reshape(-1)])
    pixels = torch.from_numpy(glimpses).permute(0, 3, 1, 2) / 127.5 - 1
    outputs = network.encoder[0](pixels)
    assert torch.allclose(norm.running_mean, outputs.mean((0, 2, 3)), atol=1e-4)


def test_a_judge_of_zooms_begins_as_the_one_without(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "stripes", Preset(judge=PLAN, zoomed={"start": "stripes"}))
    plain, zoomed = Stripes(), Stripes().with_zooms((1, 2))
    plan = preset_of(zoomed).judge
    assert (preset_of(plain).judge, plan) == (PLAN, replace(PLAN, start="stripes"))
    judge = ensure_judge(plain)
    images = np.asarray(plain.load("test").images[:4])
    trainer = NetworkTrainer(zoomed, 0, plan, seed=0)
    trained = trainer.provisional_judge()
    assert torch.equal(trained.embed_grid(0, images)[:, : len(judge.grid)], judge.embed_grid(0, images))
    sums = torch.randn(5, judge.card.config.embedding, generator=torch.Generator().manual_seed(0))
    assert torch.equal(trained.networks[0].logits(sums), judge.networks[0].logits(sums))
    trainer.run()
    kept, own = judge.networks[0].state_dict(), trainer.network.state_dict()
    assert all(torch.equal(own[name], kept[name]) for name in own if name.startswith("encoder."))
    assert not torch.equal(own["head.1.weight"], kept["head.1.weight"])


def test_windows_near_parts_are_of_every_zoom(fresh_cache: Path) -> None:
    source = Stripes().with_zooms((1, 2))
    trainer = NetworkTrainer(source, 0, replace(PLAN, histories=64), seed=0)
    grid, rng = source.geometry.grid, np.random.default_rng(0)
    centres = rng.uniform(10, 18, (400, 2))
    places = rng.integers(len(grid), size=400)
    near = trainer._nearest(centres, np.zeros_like(centres), places)
    zooms = grid.corners[near, 2]
    assert np.array_equal(zooms, grid.corners[places, 2])
    assert set(zooms) == {1, 2}
    for zoom, level in zip(grid.zooms, grid.levels, strict=True):
        mine = zooms == zoom
        middles = level.corners + level.glimpse_size / 2
        distances = np.abs(centres[mine][:, None] - middles).sum(-1)
        found = near[mine] - grid.level_slices[grid.zooms.index(zoom)].start
        assert np.allclose(distances[np.arange(len(found)), found], distances.min(1))


def test_a_judge_of_zooms_learns_and_is_kept_under_its_own_name(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = JudgePlan(passes=40, rounds=1, visited_images=8, batch_size=16, features=24, embedding=16, hidden=16)
    monkeypatch.setitem(PRESETS, "stripes", Preset(judge=plan))
    source = Stripes().with_zooms((1, 2))
    judge = ensure_judge(source)
    assert judge.geometry == source.geometry
    assert judge.card.scores["random_accuracy"][-1] > 0.9
    assert judge_path(source).is_file()
    assert ensure_judge(source).identity == judge.identity
    # a wide window in the middle shows both stripes' places, and tells alone
    test = source.load("test")
    wide = np.tile(source.geometry.grid.corners[-1], (64, 1))
    glimpses = source.geometry.sensor(test.images, np.arange(64), wide)
    answers = judge.probabilities(glimpses[:, None], wide[:, None], np.ones(64, dtype=np.int64), test.folds[:64])
    assert (answers.argmax(1) == test.labels[:64]).mean() > 0.9

    oracle_plan = ScorerPlan(images=64, histories=2, batch_size=16, locations=4, ahead=4, relative=3, chunk=32)
    greedy = train_oracle(source, judge, oracle_plan, criterion="entropy", horizon="next", seed=0)
    assert greedy.card.relative == 0, "offsets need one square grid"
    assert greedy.card.zooms == [1, 2]


def test_zooms_change_what_a_run_in_the_middle_is_found_by(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, zoomed = (train_judge(x, PLAN, seed=0) for x in (Stripes(), Stripes().with_zooms((1, 2))))
    assert plain.identity != zoomed.identity
    assert NetworkTrainer(Stripes(), 0, PLAN, seed=0).identity.endswith(f"x1 seed 0 {PLAN}")
