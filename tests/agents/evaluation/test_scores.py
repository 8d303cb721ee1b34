"""Statistics of a benchmark against values worked out by hand."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.evaluation.curves import (
    curves_of,
    efficiency,
    first_crossing,
    mean_curve,
    speed_up,
    spread,
    step_interpolate,
    times_to_threshold,
    to_threshold,
)
from agents.evaluation.results import Method, baseline_of, checked, methods_of
from agents.evaluation.scores import (
    aggregate,
    aggregates,
    best_by_env,
    final_scores,
    finals,
    improvements,
    over_seeds,
    probability_of_improvement,
    profiles,
)
from agents.evaluation.statistics import Estimate
from glimpse_env.errors import ConfigurationError

pandas = pytest.importorskip("pandas", reason="pip install -c constraints.txt -e '.[benchmark]'")
pytest.importorskip("rliable", reason="pip install -c constraints.txt -e '.[benchmark]'")

from tests.support.toy_results import cell, cells, grid, success  # noqa: E402

NOTHING = Estimate(None, None, None)
WITHOUT = Method("ppo", "gru", "none", 0)
WITH = Method("ppo", "gru", "oracle", 10)


def arriving(*steps: int | None, budget: int = 1000) -> list[dict[int, float]]:
    """Curves of seeds that are at 0.95 of the gap from given environment steps on; None for never."""
    return [{0: 0.0, budget: 0.1} if at is None else {0: 0.0, at: 0.95, budget: 0.95} for at in steps]


def both(ours: list[dict[int, float]], theirs: list[dict[int, float]]) -> Any:
    """Results with 10 demonstrations of 8 glimpses, and without."""
    return pandas.concat([cells(ours, demos="oracle", num_demos=10, making_s=5.0), cells(theirs)], ignore_index=True)


def faster(results: Any, **settings: Any) -> SimpleNamespace:
    """The one speed-up, with the times of the method with demonstrations (ours) and without (theirs)."""
    [gain] = speed_up(results, **settings).itertuples()
    times = {row.method: row for row in times_to_threshold(results, 0.9, **settings).itertuples()}
    return SimpleNamespace(ratio=gain.ratio, ours=times[gain.method], theirs=times[gain.baseline])


def inside(estimate: Estimate) -> bool:
    return estimate.low <= estimate.value <= estimate.high


def test_first_crossing_is_the_first_evaluation_at_or_above():
    xs, ys = np.array([0.0, 10.0, 20.0, 30.0]), np.array([0.1, 0.5, 0.4, 0.9])
    assert first_crossing(xs, ys, 0.5) == 10.0
    assert first_crossing(xs, ys, 0.51) == 30.0
    assert first_crossing(xs, ys, 0.05) == 0.0
    assert first_crossing(xs, ys, 0.95) is None
    rounded = (0.5 - 0.2) / (0.8 - 0.2)
    assert rounded < 0.5
    assert first_crossing(np.array([7.0]), np.array([rounded]), 0.5) == 7.0


@pytest.mark.parametrize(
    ("xs", "ys", "threshold"), [([], [], 0.5), ([0, 1], [0], 0.5), ([1, 0], [0, 1], 0.5), ([0], [0], 0.0)]
)
def test_first_crossing_refuses_what_is_no_curve(xs, ys, threshold):
    with pytest.raises(ConfigurationError, match="need"):
        first_crossing(np.array(xs, dtype=float), np.array(ys, dtype=float), threshold)


def test_step_interpolation_keeps_the_last_value():
    values = step_interpolate(np.array([2.0, 4.0]), np.array([0.2, 0.4]), np.array([1.0, 2.0, 3.9, 4.0, 9.0]))
    np.testing.assert_array_equal(values, [np.nan, 0.2, 0.2, 0.4, 0.4])


def test_to_threshold_counts_steps_seconds_and_the_making():
    results = both(arriving(200), arriving(None))
    steps = to_threshold(results, 0.9)
    assert list(steps["demos"]) == ["none", "oracle"]
    assert list(steps["value"]) == [np.inf, 200 + 80]
    assert list(steps["budget"]) == [1000, 1080]
    assert list(to_threshold(results, 0.9, "wall_s")["value"]) == [np.inf, 3.0]
    assert list(to_threshold(results, 0.9, "wall_with_making_s")["value"]) == [np.inf, 8.0]
    with pytest.raises(ConfigurationError, match="measure='steps'"):
        to_threshold(results, 0.9, "steps")


def test_iqm_mean_and_deviation_of_a_small_matrix():
    scores = np.array([[0.0, 0.1], [0.2, 0.3], [0.4, 0.5], [0.6, 1.7]])
    iqm, mean, deviation = aggregate(scores, resamples=300)
    assert iqm.value == pytest.approx((0.2 + 0.3 + 0.4 + 0.5) / 4)  # the middle four of eight
    assert mean.value == pytest.approx(3.8 / 8)
    assert deviation.value == pytest.approx(np.sqrt((scores[:, 0].var(ddof=1) + scores[:, 1].var(ddof=1)) / 2))
    assert inside(iqm)
    assert inside(mean)


def test_aggregates_leave_the_global_generator_as_it_was():
    scores = np.random.default_rng(0).random((4, 3))
    state = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    assert aggregate(scores, resamples=100, seed=3) == aggregate(scores, resamples=100, seed=3)
    assert aggregate(scores, resamples=100, seed=3) != aggregate(scores, resamples=100, seed=4)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], state)  # noqa: NPY002


def test_the_bootstrap_resamples_seeds_inside_each_environment():
    """Two tasks far apart and each without spread: any resample that mixed them would move the mean."""
    _, mean, deviation = aggregate(np.tile([0.1, 0.9], (5, 1)), resamples=200)
    assert (mean.low, mean.high) == pytest.approx((0.5, 0.5))
    assert deviation.value == 0.0


def test_one_run_has_no_interval():
    iqm, mean, deviation = aggregate(np.array([[0.2, 0.4]]))
    assert (iqm, mean, deviation) == (Estimate(iqm.value, None, None), Estimate(mean.value, None, None), NOTHING)
    assert mean.value == pytest.approx(0.3)
    assert probability_of_improvement(np.array([[0.2]]), np.array([[0.1], [0.3]])) == Estimate(0.5, None, None)
    with pytest.raises(ConfigurationError, match="shape"):
        aggregate(np.zeros((0, 2)))


def test_probability_of_improvement_counts_pairs():
    ours, theirs = np.array([[0.5, 1.0], [0.9, 1.0]]), np.array([[0.5, 1.0], [0.7, 2.0], [0.1, 2.0]])
    # first task: 0.5 beats 0.1 and ties one, 0.9 beats three; second task: each ties one of three
    by_hand = ((1.5 + 3) / 6 + (0.5 + 0.5) / 6) / 2
    estimate = probability_of_improvement(ours, theirs, resamples=300)
    assert estimate.value == pytest.approx(by_hand)
    assert inside(estimate)
    with pytest.raises(ConfigurationError, match="same tasks"):
        probability_of_improvement(ours, theirs[:, :1])


def test_probability_of_improvement_is_rliables():
    from rliable.metrics import probability_of_improvement as theirs

    rng = np.random.default_rng(5)
    for _ in range(5):
        a, b = rng.integers(0, 4, size=(4, 3)) / 4, rng.integers(0, 4, size=(5, 3)) / 4
        assert probability_of_improvement(a, b, resamples=2).value == pytest.approx(theirs(a, b))


def test_over_seeds_resamples_each_sample_by_itself():
    estimate = over_seeds(
        lambda a, b, axis: np.mean(a, axis) - np.mean(b, axis), np.arange(9.0), np.arange(4.0), resamples=500
    )
    assert estimate.value == pytest.approx(2.5)
    assert inside(estimate)
    assert over_seeds(np.mean, np.array([2.0])) == Estimate(2.0, None, None)
    assert over_seeds(np.mean, np.array([np.nan])) == NOTHING


def test_speed_up_is_a_ratio_of_medians():
    gain = faster(both(arriving(20, 120, 220), arriving(400, 600, 800)), resamples=500)
    assert (gain.ours.method, gain.theirs.method) == (WITH, WITHOUT)
    assert gain.ratio.value == pytest.approx(600 / (120 + 80))
    assert (gain.ratio.at_least, gain.ratio.open_above) == (False, False)
    assert (gain.ours.reached, gain.theirs.reached) == (3, 3)
    assert gain.ratio.low == pytest.approx(400 / 300)
    assert gain.ratio.high == pytest.approx(800 / 100)


def test_speed_up_over_runs_that_never_arrive_is_a_lower_bound():
    gain = faster(both(arriving(20, 120, 220), arriving(None, None, None)), resamples=500)
    assert gain.ratio.value == pytest.approx(1000 / 200)
    assert gain.ratio.at_least
    assert gain.ratio.open_above
    assert gain.theirs.reached == 0
    assert gain.theirs.median.at_least


def test_speed_up_is_exact_where_the_median_run_arrives():
    """One seed that never arrives does not move the median of three, only what the interval may say above."""
    gain = faster(both(arriving(120, 120, 120), arriving(400, 600, None)), resamples=500)
    assert gain.ratio.value == pytest.approx(600 / 200)
    assert not gain.ratio.at_least
    assert gain.ratio.open_above
    assert gain.theirs.median.value == 600
    assert (gain.theirs.reached, gain.theirs.median.at_least, gain.theirs.median.open_above) == (2, False, True)


def test_speed_up_where_the_median_lies_beside_a_run_that_never_arrives():
    gain = faster(both(arriving(120, 120), arriving(600, None)), resamples=200)
    assert gain.ratio.value == pytest.approx((600 + 1000) / 2 / 200)
    assert gain.ratio.at_least


def test_a_short_budget_does_not_pass_for_an_early_arrival():
    """A run that was stopped before the others arrived: the median with its budget is only a bound."""
    short = {0: 0.0, 100: 0.1}
    gain = faster(both(arriving(120, 120, 120), [short, *arriving(400, 600)]), resamples=200)
    assert gain.ratio.value == pytest.approx(400 / 200)
    assert gain.ratio.at_least


def test_no_speed_up_where_demonstrations_do_not_help():
    gain = faster(both(arriving(None, None, 20), arriving(400, 600, 800)), resamples=200)
    assert gain.ratio.value is None
    assert not gain.ratio.at_least
    some = faster(both(arriving(None, 20, 20), arriving(400, 600, 800)), resamples=500)
    assert some.ratio.value == pytest.approx(600 / 100)
    assert some.ratio.low == pytest.approx(0.0)  # two of three resampled may never arrive


def test_speed_up_of_single_seeds_has_no_interval():
    gain = faster(both(arriving(120), arriving(None)))
    assert (gain.ratio.value, gain.ratio.low, gain.ratio.high) == (5.0, None, None)
    assert gain.ratio.at_least
    assert speed_up(cells(arriving(120))).empty


def test_spread_by_hand():
    ours = [{0: 0.0, at: 0.95} for at in (100, 200, 300, 400)]
    theirs = [{0: 0.0, at: 0.91} for at in (200, 400, 600, 800)]
    results = both(ours, theirs)
    test = results["split"] == "test"
    for demos, scores in (("oracle", (0.9, 0.9, 1.0, 1.0)), ("none", (0.5, 0.5, 0.9, 0.9))):
        rows = test & (results["demos"] == demos)
        results.loc[rows, "normalised"] = scores
        results.loc[rows, "success"] = [success(score) for score in scores]
    [found] = spread(results, resamples=1000).itertuples()
    assert found.success_with.value == pytest.approx(np.std([0.9, 0.9, 1.0, 1.0], ddof=1) * 0.6)
    assert found.success_ratio.value == pytest.approx(0.25)
    assert found.steps_with.value == pytest.approx(np.std([100, 200, 300, 400], ddof=1))
    assert found.steps_ratio.value == pytest.approx(0.5)
    assert inside(found.steps_with)
    assert inside(found.steps_ratio)


def test_spread_is_not_defined_where_a_seed_never_arrives_or_is_alone():
    [found] = spread(both(arriving(100, 200), arriving(400, None)), resamples=200).itertuples()
    assert found.steps_with.value is not None
    assert found.steps_without == NOTHING
    assert found.steps_ratio == NOTHING
    [alone] = spread(both(arriving(100), arriving(400))).itertuples()
    assert alone.success_ratio == NOTHING
    assert alone.steps_with == NOTHING


def test_finals_and_the_best_of_an_environment():
    results = pandas.concat(
        [
            cells([{0: 0.5}, {0: 0.7}, {0: 0.9}]),
            cells([{0: 0.8}, {0: 0.8}, {0: 0.8}], algo="a2c"),
            cell({0: 0.1}, env="Other-v0"),
        ],
        ignore_index=True,
    )
    scored = finals(results, resamples=300)
    rows = list(scored.itertuples())
    assert [(final.env, final.method.algo, final.seeds) for final in rows] == [
        ("GlimpseToy-v0", "a2c", 3),
        ("GlimpseToy-v0", "ppo", 3),
        ("Other-v0", "ppo", 1),
    ]
    assert rows[1].normalised.value == pytest.approx(0.7)
    assert rows[1].success.value == pytest.approx(success(0.7))
    assert rows[1].std.value == pytest.approx(0.6 * 0.2)
    assert inside(rows[1].success)
    assert (rows[2].success.low, rows[2].std) == (None, NOTHING)
    assert {env: final.method.algo for env, final in best_by_env(scored).items()} == {
        "GlimpseToy-v0": "a2c",
        "Other-v0": "ppo",
    }


def test_final_scores_have_a_row_a_seed_and_a_column_an_environment():
    results = pandas.concat([cells([{0: 0.1}, {0: 0.2}], env="B-v0"), cells([{0: 0.3}], env="A-v0")])
    envs, scores = final_scores(results, WITHOUT)
    assert envs == ("A-v0", "B-v0")
    np.testing.assert_allclose(scores, [[0.3, 0.1]])
    np.testing.assert_allclose(final_scores(results, WITHOUT, ["B-v0"])[1], [[0.1], [0.2]])
    with pytest.raises(ConfigurationError, match="no score on test images"):
        final_scores(results, WITH)


def test_improvements_use_shared_environments():
    results = pandas.concat([both(arriving(100, 200), arriving(None, None)), cells(arriving(9, 9), env="Other-v0")])
    [found] = improvements(results, resamples=50).itertuples()
    assert (found.method, found.baseline, found.envs) == (WITH, WITHOUT, ("GlimpseToy-v0",))
    assert found.probability == Estimate(1.0, 1.0, 1.0)


def test_profiles_by_hand():
    taus = np.array([0.0, 0.5, 0.75, 1.0])
    found = profiles(cells([{0: 0.25}, {0: 0.5}, {0: 0.75}, {0: 1.0}]), taus, resamples=100)[WITHOUT]
    np.testing.assert_allclose(found[0], [1.0, 0.5, 0.25, 0.0])
    assert (found[1] <= found[0]).all()
    assert (found[0] <= found[2]).all()
    assert np.isnan(profiles(cell({0: 0.25}), taus, resamples=10)[WITHOUT][1:]).all()


def test_mean_curve_begins_with_the_last_seed_and_carries_values_on():
    results = cells([{0: 0.0, 10: 0.4, 20: 0.6}, {5: 0.2, 20: 0.4}])
    grid_, values = mean_curve(curves_of(results)["GlimpseToy-v0", WITHOUT], "normalised", resamples=200)
    np.testing.assert_array_equal(grid_, [5, 10, 20])
    np.testing.assert_allclose(values[0], [0.1, 0.3, 0.5])
    np.testing.assert_allclose(values[1:, -1], [0.4, 0.6])


def test_efficiency_is_defined_from_the_demonstrations_to_the_budget():
    steps, lines = efficiency(both(arriving(200, 200), arriving(500, None)), points=30, resamples=50)
    assert steps[0] == 0
    assert steps[-1] == 1080
    np.testing.assert_array_equal(np.isfinite(lines[WITH][0]), steps >= 80)
    np.testing.assert_array_equal(np.isfinite(lines[WITHOUT][0]), steps <= 1000)
    assert lines[WITH][0, -1] == pytest.approx(0.95)
    assert lines[WITHOUT][0, np.searchsorted(steps, 1000, side="right") - 1] == pytest.approx(
        (0.95 + 0.0) / 2, abs=0.06
    )


def test_methods_are_named_ordered_and_paired():
    ablated = Method("ppo", "gru", "oracle", 1000, "no_warm_up")
    assert ablated.label == "PPO · GRU · 1,000 oracle demos · no warm up"
    assert WITHOUT.label == "PPO · GRU · no demos"
    assert baseline_of(ablated, [ablated, WITH, WITHOUT]) == WITHOUT
    own = Method("ppo", "gru", "none", 0, "no_warm_up")
    assert baseline_of(ablated, [WITHOUT, own]) == own
    assert baseline_of(ablated, [Method("ppo", "mlp", "none", 0)]) is None
    assert methods_of(both(arriving(1), arriving(1))) == [WITHOUT, WITH]


def test_every_interval_of_a_whole_benchmark_holds_its_value():
    results = grid(architectures=("gru",), seeds=3)
    estimates = list(finals(results, resamples=200)["success"])
    together = aggregates(results, resamples=200)
    estimates += [*together["iqm"], *together["mean"]]
    estimates += list(improvements(results, resamples=200)["probability"])
    estimates += list(times_to_threshold(results, 0.8, resamples=200)["median"])
    estimates += [ratio for ratio in speed_up(results, resamples=200)["ratio"] if ratio.value is not None]
    assert len(estimates) > 30
    assert all(map(inside, estimates))


def test_the_order_of_rows_does_not_matter():
    results = grid(envs=("GlimpseDigits-v0",), algos=("ppo",), architectures=("gru",))
    shuffled = results.sample(frac=1.0, random_state=1)
    assert speed_up(results, resamples=100).equals(speed_up(shuffled, resamples=100))
    assert finals(results, resamples=100).equals(finals(shuffled, resamples=100))


def test_categories_are_read_like_words():
    results = both(arriving(1, 2), arriving(3, 4))
    kept = results.astype(dict.fromkeys(("env", "algo", "architecture", "demos", "variant", "split"), "category"))
    assert finals(kept, resamples=50).equals(finals(results, resamples=50))
    assert speed_up(kept, resamples=50).equals(speed_up(results, resamples=50))


def spoilt(column: str, value: object) -> Any:
    results = both(arriving(1), arriving(1))
    results[column] = results[column].astype(object)
    results.loc[0, column] = value
    return results


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (lambda: cell({0: 0.1}).drop(columns=["oracle", "seed"]), r"lack the columns \['seed', 'oracle'\]"),
        (lambda: cell({0: 0.1}).iloc[:0], "no evaluation"),
        (lambda: spoilt("success", np.nan), "'success' holds a value that is no finite number"),
        (lambda: spoilt("wall_s", "long"), "'wall_s' holds"),
        (lambda: spoilt("num_demos", np.nan), "'num_demos' holds"),
        (lambda: spoilt("oracle", 0.2), "oracle is not above random on GlimpseToy-v0"),
        (lambda: both(arriving(1), arriving(1)).assign(oracle=0.2, normalised=np.nan), "oracle is not above random"),
        (lambda: spoilt("normalised", 0.3), "compute it anew"),
        (lambda: spoilt("split", "train"), "'train'"),
        (lambda: pandas.concat([cell({0: 0.1})] * 2), "two evaluations on test images"),
        (lambda: pandas.concat([cell({0: 0.1}).iloc[:1]] * 2), "validation images after the same steps"),
    ],
)
def test_bad_results_are_named(results, words):
    with pytest.raises(ConfigurationError, match=words):
        checked(results())


def test_without_rliable_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rliable", None)
    with pytest.raises(ConfigurationError, match=r"pip install .*'\.\[benchmark\]'"):
        aggregate(np.zeros((2, 2)))
