"""Diagnostics: what they draw, and the policies known to be best, by exhaustive search and to the shipped judge."""

from typing import Any

import numpy as np
import pytest

from glimpse_env.datasets import make_source
from glimpse_env.datasets.diagnostics.signpost import AROUND, ARROWS, CENTRE, GLYPHS
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import find_judge
from glimpse_env.rollout import play
from glimpse_env.sensing.observations import Histories
from oracles.base import GlimpsePolicy
from oracles.baselines import FixedPolicy
from oracles.validation.optimal import AnytimeProblem, OptimalPolicy
from oracles.validation.toy_world import ToyWorld

SMALL = {"num_train": 40, "num_val": 8, "num_test": 400, "num_judge": 16}


def signpost_world() -> ToyWorld:
    """What Signpost shows without noise: a value for each arrow and each glyph, causes (arrow, class) as likely."""
    likelihood = np.zeros((32, 9, 8))
    for cause, (arrow, label) in enumerate(np.ndindex(8, 4)):
        likelihood[cause, :, :4] = 1 / 4
        likelihood[cause, CENTRE] = np.eye(8)[arrow]
        likelihood[cause, AROUND[arrow]] = np.eye(8)[label]
    return ToyWorld(likelihood, np.tile(np.arange(4), 8), np.linspace(0, 255, 8).astype(np.uint8))


class FollowsTheArrow(GlimpsePolicy):
    """Looks at the sign, and then where it points."""

    def __init__(self, grid: Any):
        self.grid = grid

    def choose(self, histories: Histories, state: Any, episode_start: np.ndarray | None) -> tuple[np.ndarray, Any]:
        bright = histories.glimpses[:, 0, :, :, 0] > 100
        pointed = AROUND[(bright[:, None] == ARROWS).mean(axis=(2, 3)).argmax(axis=1)]
        return np.where(histories.counts == 0, CENTRE, pointed), state


def test_the_best_policy_follows_the_sign_and_greedy_design_never_begins_there() -> None:
    """By dynamic programming and enumeration: all images against 1/8 + 7/8 x 1/4 of them."""
    problem = AnytimeProblem(signpost_world(), 2, 0.0, "error")
    assert problem.worth(OptimalPolicy(problem)).loss == pytest.approx(0, abs=1e-12)
    assert problem.best_actions([]).tolist() == [CENTRE]
    entropies = problem.world.expected([], "entropy")
    assert entropies[CENTRE] == pytest.approx(np.log(4)), "the sign tells nothing of the class"
    assert (entropies[AROUND] < np.log(4) - 0.01).all(), "any glyph tells a little"
    first = int(AROUND[0])
    assert problem.world.expected([(first, 0)], "entropy").argmin() == CENTRE
    for second in (CENTRE, int(AROUND[3])):
        policy = FixedPolicy(problem.geometry.grid, np.array([first, second]))
        assert problem.worth(policy).loss > 0.6
    assert problem.worth(FixedPolicy(problem.geometry.grid, np.array([first, CENTRE]))).loss == pytest.approx(21 / 32)


def test_the_shipped_judge_names_the_class_of_who_follows_the_sign_and_of_nobody_else() -> None:
    source = make_source("signpost", **SMALL)
    judge, test = find_judge(source), source.load("test")
    rows = np.arange(len(test))
    followed = play(FollowsTheArrow(judge.grid), test, judge, rows, progress=False)
    assert followed.success.mean() > 0.99
    assert followed.final_log_loss.mean() < 0.2
    fixed = play(FixedPolicy(judge.grid, np.array([CENTRE, 0])), test, judge, rows, progress=False)
    assert fixed.success.mean() == pytest.approx(11 / 32, abs=0.08)


def test_signpost_shows_the_class_where_the_arrow_points() -> None:
    data = make_source("signpost", **SMALL).load("train")
    assert np.bincount(data.labels).tolist() == [10] * 4
    cells = data.images.reshape(-1, 3, 12, 3, 12).transpose(0, 1, 3, 2, 4).reshape(-1, 9, 12, 12) > 100
    for image, label in zip(cells, data.labels, strict=True):
        arrow = int((image[CENTRE] == ARROWS).all(axis=(1, 2)).argmax())
        assert (image[AROUND[arrow]] == GLYPHS[label]).all()
        assert all(any((image[place] == glyph).all() for glyph in GLYPHS) for place in AROUND)


def test_splits_of_any_size_share_images_and_different_splits_none() -> None:
    small, large = (make_source("signpost", **{**SMALL, "num_train": count}) for count in (40, 700))
    assert small.fingerprint == large.fingerprint
    here, there = small.load("train"), large.load("train")
    np.testing.assert_array_equal(here.images, there.images[:40])
    assert (small.load("val").images[:8] != here.images[:8]).any(axis=(1, 2, 3)).all()
    assert make_source("signpost", seed=1).fingerprint != small.fingerprint
    drawn = [small.judge_images(0, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0].images, drawn[1].images)
    assert (drawn[0].images != drawn[2].images).any()
    assert len(small.unseen_images(0, np.random.default_rng(0))) == 40


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="num_test"):
        make_source("signpost", num_test=0)
