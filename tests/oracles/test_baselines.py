"""The policies beside the oracle, against brute force."""

import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest

from agents.evaluation.evaluate import TITLES
from glimpse_env.datasets import make_source
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import Rollouts, play
from glimpse_env.sensing.geometry import LocationGrid
from oracles import baselines
from oracles.base import GlimpsePolicy
from oracles.baselines import (
    ClairvoyantPolicy,
    HandCraftedPolicy,
    RandomPolicy,
    best_fixed,
    centre_out,
    fitted_images,
)
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.entries import HORIZONS, LEARNED_RIVALS
from oracles.presets import PAPER_CONFIG, preset_of
from oracles.registry import (
    POLICIES,
    REFERENCES,
    make_policy,
    peeks,
    policy_settings,
    unavailable_reason,
)
from tests.support import toy
from tests.support.toy_problem import GEOMETRY, IMAGES, ToyJudge, ToySource, toy_dataset

EVERY = np.arange(len(IMAGES))


def test_centre_out_begins_in_the_middle_and_spreads() -> None:
    grid = LocationGrid(128, 32, 8)
    sequence = centre_out(grid, 5)
    offsets = grid.corners[sequence] - grid.corners[grid.centre]
    assert (offsets[0] == 0).all()
    assert sorted(map(tuple, offsets[1:])) == [(-16, 0), (0, -16), (0, 16), (16, 0)]


def test_best_fixed_finds_the_best_pair_of_the_toy_world() -> None:
    judge = ToyJudge()
    world = toy_dataset(EVERY)

    def success(pair: tuple[int, ...]) -> float:
        corners = np.broadcast_to(judge.grid.corners[list(pair)], (len(EVERY), 2, 2))
        glimpses = np.stack([IMAGES[:, r : r + 1, c : c + 1] for r, c in judge.grid.corners[list(pair)]], axis=1)
        found = judge.probabilities(glimpses, corners, np.full(len(EVERY), 2), np.zeros(len(EVERY)))
        return float((found.argmax(1) == world.labels).mean())

    best = max(map(success, itertools.combinations(range(9), 2)))
    assert success(tuple(best_fixed(world, judge, GEOMETRY.num_glimpses))) == best


def test_clairvoyant_solves_the_toy_world_and_oracle_with_enough_looks_does_too() -> None:
    judge, world = ToyJudge(), toy_dataset(EVERY, "test")
    policy = ClairvoyantPolicy(judge, GEOMETRY.num_glimpses)
    rollouts = play(policy, world, judge, EVERY, progress=False, start=lambda rows: policy.start(world, rows))
    assert rollouts.success.all()


def test_clairvoyant_judges_by_the_network_of_the_image() -> None:
    """By brute force over the first look: the location of the label's lowest log-loss, per fold and for their mean."""
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    policy = ClairvoyantPolicy(judge, toy.GEOMETRY.num_glimpses)
    for fold in (0, 1, -1):
        folds = np.full(len(dataset), fold, dtype=np.int64)
        folded = toy.toy_dataset(folds=folds, split="test")
        sequences, maps = policy.start(folded, np.arange(4))
        corners = judge.grid.corners
        for image in range(4):
            glimpses = np.stack([folded.images[image, r : r + 12, c : c + 12] for r, c in corners])[:, None]
            ones = np.ones(len(corners), dtype=np.int64)
            p = judge.probabilities(glimpses, corners[:, None], ones, np.full(len(corners), fold))
            np.testing.assert_allclose(maps[image, 0], -np.log(p[:, folded.labels[image]]), rtol=1e-3, atol=1e-4)
            assert sequences[image, 0] == maps[image, 0].argmin()


def test_random_never_repeats_and_covers_everything() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset(96)
    rollouts = play(RandomPolicy(judge.grid, seed=3), dataset, judge, np.arange(96), progress=False)
    assert all(len(set(row)) == toy.GEOMETRY.num_glimpses for row in rollouts.locations)
    assert len(np.unique(rollouts.locations)) == len(judge.grid)


def test_hand_crafted_looks_at_the_parts_in_order_and_never_at_hidden_ones() -> None:
    names = ("beak", "left eye", "right eye", "belly")
    parts = np.zeros((24, 4, 3), dtype=np.float32)
    parts[:, :, :2] = [[6, 6], [6, 30], [30, 6], [30, 30]]
    parts[:, :, 2] = [1, 0, 1, 1]
    geometry = replace(toy.GEOMETRY, num_glimpses=2)
    dataset = toy.toy_dataset(part_names=names, parts=parts, geometry=geometry)
    judge = toy.toy_judge(geometry)
    policy = HandCraftedPolicy(judge.grid, 2)
    rollouts = play(
        policy, dataset, judge, np.arange(6), progress=False, start=lambda rows: policy.start(dataset, rows)
    )
    centres = rollouts.corners + 5.5
    assert np.abs(centres[:, 0] - [6, 6]).max() <= 2  # the beak, to the nearest location
    assert np.abs(centres[:, 1] - [30, 6]).max() <= 2  # the eye that shows
    with pytest.raises(ConfigurationError, match="no parts"):
        policy.start(toy.toy_dataset(), np.arange(2))


def played(name: str, world: GlimpseDataset) -> Rollouts:
    """The policy called ``name`` on the toy world."""
    policy = make_policy(name, ToySource(), ToyJudge())
    return play(
        policy,
        world,
        ToyJudge(),
        np.arange(len(world)),
        stop=POLICIES[name].stops,
        progress=False,
        start=lambda rows: policy.start(world, rows),
    )


@pytest.mark.parametrize("name", [name for name in POLICIES if name not in ("best", "hgs", "human", "coarse-to-fine")])
def test_every_policy_plays_by_name(name: str) -> None:
    rollouts = played(name, ToySource().load("test"))
    both = rollouts.lengths == 2
    assert (rollouts.locations[both, 0] != rollouts.locations[both, 1]).all()
    assert both.all() or POLICIES[name].stops
    # these do not know what the judge needs, or are hardly trained
    if name not in ("random", "centre", "saliency", "fixed-length", *HORIZONS, *LEARNED_RIVALS):
        assert rollouts.success.mean() >= 0.75


@pytest.mark.parametrize("name", [name for name in POLICIES if name not in ("best", "hgs", "human", "coarse-to-fine")])
def test_only_those_that_may_peek_do(name: str) -> None:
    """What was not looked at changes, and the label: whoever sees glimpses only looks at the same places again."""
    world = ToySource().load("test")
    first = played(name, world)
    scrambled = np.random.default_rng(1).integers(0, 256, world.images.shape, dtype=np.uint8)
    for image, corners in enumerate(first.corners):
        for row, col in corners:
            scrambled[image, row, col] = world.images[image, row, col]
    changed = replace(world, images=scrambled, labels=(np.asarray(world.labels) + 1) % 4)
    same = (played(name, changed).locations == first.locations).all()
    assert same == (not peeks(name))


def test_oracles_by_name_are_configured_as_told() -> None:
    source, judge = ToySource(), ToyJudge()
    configs = {name: policy_config(make_policy(name, source, judge)) for name in ("boed", "boed-paper", "oracle")}
    assert configs["boed"] == preset_of(source).boed
    assert configs["boed-paper"] == PAPER_CONFIG
    assert preset_of(source).oracle == "boed", "where nothing better was measured"
    assert configs["oracle"] == configs["boed"]
    for name in ("boed", "boed-paper", "oracle"):
        resolved = "boed" if name == "oracle" else name
        assert policy_settings(name, source, judge) == {"policy": resolved, **asdict(configs[name])}
    assert policy_settings("random", source, judge) is None
    assert PAPER_CONFIG.criterion == "entropy"
    paper = PAPER_CONFIG.completion
    assert (paper.match, paper.short_list, paper.samples, paper.label_weight) == ("pixels", 500, 100, 0.0)
    assert policy_config(make_policy("boed", source, judge, config=PAPER_CONFIG)) == PAPER_CONFIG


def policy_config(policy: GlimpsePolicy) -> OracleConfig:
    assert isinstance(policy, BOEDOracle)
    return policy.config


def test_names_agree() -> None:
    defaults = {preset_of(make_source(name)).oracle for name in ("birds", "digits")}
    assert {*REFERENCES, *HORIZONS, *defaults} <= set(POLICIES)
    assert set(POLICIES) <= set(TITLES)


def test_unknown_policies_are_named() -> None:
    with pytest.raises(ConfigurationError, match="'psychic'"):
        make_policy("psychic", ToySource(), ToyJudge())
    with pytest.raises(ConfigurationError, match="no parts"):
        make_policy("hgs", ToySource(), ToyJudge())
    assert unavailable_reason("boed", ToySource()) is None


def test_the_best_fixed_sequence_is_fitted_to_images_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy.toy_dataset(300, labels=np.repeat(np.arange(3), 100))
    judge = toy.toy_judge()
    assert np.array_equal(fitted_images(data, judge), np.arange(300))
    monkeypatch.setattr(baselines, "FITTED_IMAGES", 60)
    assert np.bincount(data.labels[fitted_images(data, judge)], minlength=3).min() >= 10


def test_settings_say_where_a_part_of_the_images_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what was cached when it was their first part is not taken for it."""
    source, judge = ToySource(), ToyJudge()
    small = OracleConfig(completion=CompletionConfig(bank_size=5))
    assert policy_settings("fixed", source, judge) is None
    assert policy_settings("boed", source, judge, small) == {"policy": "boed", **asdict(small), "random_part": 5}
    monkeypatch.setattr(baselines, "FITTED_IMAGES", 10)
    assert policy_settings("fixed", source, judge) == {"policy": "fixed", "random_part": 10}
