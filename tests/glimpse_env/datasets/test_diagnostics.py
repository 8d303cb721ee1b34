"""Diagnostics: what they draw, and the policies known to be best, by exhaustive search and to the shipped judge."""

from functools import cache

import numpy as np
import pytest

from glimpse_env.datasets import make_source
from glimpse_env.datasets.diagnostics import memory, needle
from glimpse_env.datasets.diagnostics.drawn import BRIGHT
from glimpse_env.datasets.diagnostics.signpost import AROUND, ARROWS, CENTRE, GLYPHS
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import find_judge
from glimpse_env.rollout import play
from oracles.baselines import FixedPolicy
from oracles.diagnostics import BEST, Bisection, TrailFollower, best_unavailable
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


def needle_world(side: int, hints: bool) -> ToyWorld:
    """What Needle shows without noise on side x side places: a value for each sign and each of two glyphs."""
    likelihood = np.zeros((2 * side**2, side**2, 11))
    for cause, (lies, label) in enumerate(np.ndindex(side**2, 2)):
        for place in range(side**2):
            row, col = (
                np.sign(there - here) for there, here in zip(divmod(lies, side), divmod(place, side), strict=True)
            )
            likelihood[cause, place, 9 + label if place == lies else int(3 * row + col + 4) if hints else 4] = 1
    return ToyWorld(likelihood, np.tile(np.arange(2), side**2), np.linspace(0, 255, 11).astype(np.uint8))


def memory_world() -> ToyWorld:
    """What Memory shows without noise on 2 x 2 places: the start, a trail of one, two glyphs of two kinds."""
    causes = list(np.ndindex(3, 2, 2, 2, 2))
    likelihood = np.zeros((len(causes), 4, 10))
    for cause, (fork, swapped, key, *shown) in enumerate(causes):
        ends = [place for place in (1, 2, 3) if place != fork + 1]
        likelihood[cause, 0, 2 * fork + key] = 1
        likelihood[cause, fork + 1, 6 + swapped] = 1  # which of the two ends the key 0 means
        for place, glyph in zip(ends[::-1] if swapped else ends, shown, strict=True):
            likelihood[cause, place, 8 + glyph] = 1
    labels = np.array([shown[key] for _, _, key, *shown in causes])
    return ToyWorld(likelihood, labels, np.linspace(0, 255, 10).astype(np.uint8))


class Guesses(Bisection):
    """Looks anywhere among the rows and columns that the signs leave over, as greedy design does."""

    rng = np.random.default_rng(0)

    def targets(self, glimpses: np.ndarray, places: np.ndarray, counts: np.ndarray) -> np.ndarray:
        low, high = self.left_over(glimpses, places)
        row, col = self.rng.integers(low, high + 1)
        return row * self.grid.side + col


@cache
def guessed(side: int, looks: int) -> float:
    """The probability that guesses among the rows left over come upon the needle's:

    g(n, t) = 1/n + sum_k 2 k / n^2 g(k, t - 1), as k rows are left above, or below, in k of n cases.
    """
    if looks == 0 or side == 1:
        return float(looks > 0)
    return 1 / side + sum(2 * k / side**2 * guessed(k, looks - 1) for k in range(1, side))


class Forgets(TrailFollower):
    """Follows the trail and chooses the same quarter always."""

    def targets(self, glimpses: np.ndarray, places: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return super().targets(np.where(glimpses > BRIGHT, glimpses, 0), places, counts)


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


@pytest.mark.parametrize("hints", [True, False])
@pytest.mark.parametrize("side", [3, 4])
def test_a_needle_is_found_at_as_many_places_as_no_search_can_exceed(side: int, hints: bool) -> None:
    """By dynamic programming over all policies with two looks: 3 x 3 places with hints, two without."""
    problem = AnytimeProblem(needle_world(side, hints), 2, 0.0, "error")
    found = needle.places_searched(side, 2, hints) / side**2
    assert problem.value([]) == pytest.approx((1 - found) / 2)
    assert found == (2 if not hints else 9) / side**2


def test_the_optimum_of_needle_is_all_with_hints_and_chance_without() -> None:
    assert needle.Needle().optimum == 1
    assert needle.Needle(hints=False).optimum == pytest.approx(6 / 2500 + 2494 / 2500 / 4)


def test_memory_needs_the_start_which_tells_nothing() -> None:
    """By dynamic programming in a small twin: worth nothing by itself, it leads to all classes."""
    problem = AnytimeProblem(memory_world(), 3, 0.0, "error")
    assert problem.value([]) == pytest.approx(0)
    assert problem.best_actions([]).tolist() == [0]
    entropies = problem.world.expected([], "entropy")
    assert entropies[0] == pytest.approx(np.log(2))
    assert (entropies[1:] < np.log(2) - 0.01).all()
    forgetful = FixedPolicy(problem.geometry.grid, np.array([0, 1, 2]))
    assert problem.worth(forgetful).loss > 0.1


@pytest.mark.parametrize("name", BEST)
def test_the_shipped_judge_names_every_class_to_the_best_policy(name: str) -> None:
    source = make_source(name, **SMALL)
    judge, test = find_judge(source), source.load("test")
    best = play(BEST[name](judge.grid), test, judge, np.arange(len(test)), progress=False)
    assert best.success.mean() > 0.99
    assert best.final_log_loss.mean() < 0.2
    first = judge.grid.nearest(test.parts[:, 0, :2] - (judge.grid.glimpse_size - 1) / 2)
    assert (best.locations == first[:, None]).any(axis=1).all()


@pytest.mark.parametrize(
    ("name", "sequence", "success"),
    [
        ("signpost", (CENTRE, 0), 11 / 32),
        ("needle", range(6), 1 / 4 + 3 / 4 * 6 / 2500),
        ("memory", range(12), 1 / 4 + 3 / 16 * (1 - 7 / 15 * 3 / 4)),
    ],
)
def test_the_shipped_judge_names_few_to_who_looks_at_fixed_places(
    name: str, sequence: tuple[int, ...], success: float
) -> None:
    source = make_source(name, **SMALL)
    judge, test = find_judge(source), source.load("test")
    fixed = play(FixedPolicy(judge.grid, np.array(sequence)), test, judge, np.arange(len(test)), progress=False)
    assert fixed.success.mean() == pytest.approx(success, abs=0.08)


def test_who_follows_the_trail_and_forgets_its_start_guesses_the_quarter() -> None:
    source = make_source("memory", **SMALL)
    judge, test = find_judge(source), source.load("test")
    forgot = play(Forgets(judge.grid), test, judge, np.arange(len(test)), progress=False)
    assert forgot.success.mean() == pytest.approx(7 / 16, abs=0.08)


def test_who_guesses_among_the_places_left_over_finds_a_third_of_the_needles() -> None:
    """Rows and columns are guessed independently: 0.5617^2 of the needles, 48.7 % of the classes."""
    source = make_source("needle", **SMALL)
    judge, test = find_judge(source), source.load("test")
    played = play(Guesses(judge.grid), test, judge, np.arange(len(test)), progress=False)
    assert guessed(50, 6) == pytest.approx(0.5617, abs=1e-4)
    assert played.success.mean() == pytest.approx(1 / 4 + 3 / 4 * guessed(50, 6) ** 2, abs=0.08)


def test_the_best_policy_is_known_for_diagnostics_without_zooms() -> None:
    assert "'birds'" in str(best_unavailable(make_source("birds")))
    assert "zooms" in str(best_unavailable(make_source("needle").with_zooms((1, 2))))
    assert best_unavailable(make_source("memory")) is None


def test_needle_shows_its_class_at_one_place_and_where_that_is_at_the_others() -> None:
    for hints in (True, False):
        data = make_source("needle", **SMALL, hints=hints).load("val")
        cells = data.images.reshape(-1, 50, 4, 50, 4).transpose(0, 1, 3, 2, 4) > BRIGHT
        for image, label, (part,) in zip(cells, data.labels, data.parts, strict=True):
            row, col = ((part[:2] - 1.5) / 4).astype(int)
            assert (image[row, col] == needle.GLYPHS[label]).all()
            assert image[row, col].sum() > 4
            for here, there in ((3, 40), (row, 49), (row, 0), (0, col), (49, col)):
                if (here, there) != (row, col):
                    sign = needle.HINTS[3 * np.sign(row - here) + np.sign(col - there) + 4]
                    assert (image[here, there] == sign * hints).all()


def test_memory_shows_a_trail_to_four_glyphs_one_of_which_the_start_means() -> None:
    data = make_source("memory", **SMALL).load("train")
    cells = data.images.reshape(-1, 8, 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 64, 64)
    for image, label in zip(cells, data.labels, strict=True):
        trail, ends = [memory.START], np.zeros(0, dtype=int)
        while len(ends) == 0:
            dots = np.flatnonzero(image[trail[-1]] > BRIGHT)
            if len(dots) == 1:
                trail.append(int(dots[0]))
            else:
                ends = dots
        assert len(trail) == 1 + memory.TRAIL == len({*trail})
        assert memory.QUARTER_OF[ends].tolist() == [0, 1, 2, 3] or len({*memory.QUARTER_OF[ends]}) == 4
        lit = memory.QUARTER_OF[np.flatnonzero((image[memory.START] >= 70) & (image[memory.START] < BRIGHT))]
        (quarter,) = {*lit.tolist()}
        (end,) = ends[memory.QUARTER_OF[ends] == quarter]
        assert (image[end].reshape(8, 8) > BRIGHT).tolist() == memory.GLYPHS[label].tolist()
        assert sum((cell > BRIGHT).any() for cell in image) == len(trail) + 4


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
