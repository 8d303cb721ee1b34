"""Rules that stop a policy: each by hand, by name, and against the bound that peeks."""

import numpy as np
import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from oracles.baselines import FixedPolicy
from oracles.boed.anytime import AnytimeConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.registry import POLICIES, make_policy, peeks, policy_settings
from oracles.stopping import RULES, STOPPING, ClairvoyantStop, Outlook, StopConfig, StoppingPolicy
from oracles.validation.optimal import AnytimeProblem
from tests.support import toy
from tests.support.toy_problem import ToyJudge, ToySource
from tests.support.toy_worlds import HOPELESS, exact_judge, greedy, images_of, random_world

NOISE = toy.toy_dataset(split="test", folds=np.full(24, -1))
EVERY = np.arange(24)


def test_each_rule_by_hand() -> None:
    outlook = Outlook(
        counts=np.array([0, 1, 2]),
        probabilities=np.array([[0.5, 0.5], [0.8, 0.2], [1.0, 0.0]], dtype=np.float32),
        present=np.array([0.5, 0.2, 0.0], dtype=np.float32),
        following=np.array([0.3, 0.19, 0.1], dtype=np.float32),
    )
    np.testing.assert_allclose(outlook.gain, [0.2, 0.01, 0.0], atol=1e-6)
    for rule, threshold, stops in (
        ("gain", 0.0, [False, False, False]),
        ("gain", 0.05, [False, True, True]),
        ("gain", 1.0, [True, True, True]),
        ("entropy", 0.6, [False, True, True]),
        ("entropy", 0.0, [False, False, False]),
        ("confidence", 0.7, [False, True, True]),
        ("confidence", 1.0, [False, False, False]),
        ("length", 1, [False, True, True]),
    ):
        assert RULES[rule](outlook, threshold).tolist() == stops, (rule, threshold)


@pytest.mark.parametrize("criterion", ["error", "least_confidence", "entropy", "log_loss"])
def test_of_one_glimpse_the_gain_decides_as_dynamic_programming_does(criterion: str) -> None:
    for seed in range(3):
        for cost in (0.0, 0.1, 0.2, 0.4, 0.8):
            problem = AnytimeProblem(random_world(seed), 1, cost, criterion)
            policy = StoppingPolicy(greedy(problem, criterion), exact_judge(problem), "gain", cost)
            assert problem.worth(policy).value == pytest.approx(problem.value([]), abs=1e-5)


def test_the_gain_at_cost_nothing_never_stops_and_at_more_than_there_is_to_gain_at_once() -> None:
    """Not even with an untrained judge, who may expect harm of a glimpse."""
    for criterion in ("entropy", "error", "least_confidence"):
        for cost, glimpses in ((0.0, 4), (5.0, 0)):
            inner = BOEDOracle(toy.toy_dataset(), toy.toy_judge(), OracleConfig(criterion))
            policy = StoppingPolicy(inner, toy.toy_judge(), "gain", cost)
            rollouts = play(policy, NOISE, toy.toy_judge(), EVERY, stop=True, progress=False)
            assert (rollouts.lengths == glimpses).all()


def test_maps_and_what_stopping_is_worth_say_what_the_gain_does() -> None:
    problem = AnytimeProblem(random_world(0), 3, 0.1)
    policy = StoppingPolicy(greedy(problem, "error"), exact_judge(problem), "gain", problem.cost)
    for history, _, action in problem.walk(policy):
        if len(history) < 3:
            policy.predict(problem.observation([history]))
            maps, stop = policy.last_maps[0].copy(), policy.last_stop[0]
            np.testing.assert_allclose(maps, problem.world.expected(history, "error") + 0.1, atol=1e-5)
            assert stop == pytest.approx(problem.world.present(history, "error"), abs=1e-5)
            maps[[place for place, _ in history]] = np.inf
            assert (action == 9) == (stop < maps.min() - 1e-5)


@pytest.mark.parametrize("network", [None, 1])
def test_the_oracles_state_and_the_glimpses_give_the_same_posterior(
    network: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two networks, whose mean it is, or of one alone."""
    judge, answers = toy.toy_judge(), []

    def keep(outlook: Outlook, _: float) -> np.ndarray:
        answers.append(outlook.probabilities)
        return outlook.counts > 9

    inner = BOEDOracle(toy.toy_dataset(), judge, OracleConfig(), network=network)
    locations = play(inner, NOISE, judge, EVERY[:1], progress=False).locations[0]
    for policy in (inner, FixedPolicy(judge.grid, locations)):
        stopping = StoppingPolicy(policy, judge, "confidence", 0.0, network=network)
        monkeypatch.setattr(stopping, "rule", keep)
        play(stopping, NOISE, judge, EVERY[:1], stop=True, progress=False)
    folds = np.array([-1 if network is None else network])
    corners = judge.grid.corners[locations][None]
    glimpses = NOISE.geometry.sensor(NOISE.images, np.zeros(4, dtype=int), corners[0])[None]
    for t in range(4):
        exact = judge.probabilities(glimpses, corners, np.array([t]), folds)
        np.testing.assert_allclose(answers[t], exact, atol=1e-5)
        np.testing.assert_allclose(answers[4 + t], exact, atol=1e-5)


def test_the_stop_that_peeks_is_the_best_on_the_path_in_hindsight() -> None:
    problem = AnytimeProblem(HOPELESS, 3, 0.1)
    judge, world = exact_judge(problem), images_of(problem, split="test")
    every = np.arange(len(world))
    bound = ClairvoyantStop(greedy(problem, "entropy"), judge, problem.cost)
    rollouts = play(bound, world, judge, every, stop=True, progress=False, start=lambda rows: bound.start(world, rows))
    # its guess before the first glimpse is class 2, right for two; of the rest the first family is told by two glimpses
    # and the second guessed after one or never
    returns = rollouts.returns(problem.cost)
    family = world.labels < 2
    assert (rollouts.lengths[family] <= 2).all()
    for rule, threshold in (("gain", 0.1), ("entropy", 0.3), ("entropy", 1.0), ("confidence", 0.9), ("length", 2)):
        rival = StoppingPolicy(greedy(problem, "entropy"), judge, rule, threshold)
        theirs = play(rival, world, judge, every, stop=True, progress=False).returns(problem.cost)
        assert (theirs <= returns + 1e-9).all(), rule
    free = ClairvoyantStop(greedy(problem, "entropy"), judge, 0.0)
    longest = play(free, world, judge, every, stop=True, progress=False, start=lambda rows: free.start(world, rows))
    assert (longest.lengths[longest.success] == 3).all()


def test_by_name_with_settings() -> None:
    source, judge = ToySource(), ToyJudge()
    test, every = source.load("test"), np.arange(24)
    for length in (0, 1, 2):
        policy = make_policy("fixed-length", source, judge, config=StopConfig(length))
        assert (play(policy, test, judge, every, stop=True, progress=False).lengths == length).all()
    assert policy_settings("fixed-length", source, judge, StopConfig(1)) == {
        "policy": "fixed-length",
        "threshold": 1,
        "looks": {"policy": "fixed"},
    }
    gain = policy_settings("boed-gain", source, judge)
    assert gain is not None
    assert (gain["threshold"], gain["looks"]["criterion"]) == (0.02, "least_confidence")
    other = StopConfig(0.5, OracleConfig("log_loss"))
    assert policy_settings("boed-gain", source, judge, other)["looks"]["criterion"] == "log_loss"
    assert policy_settings("boed-anytime", source, judge)["oracle"]["criterion"] == "entropy"
    assert {name for name in POLICIES if POLICIES[name].stops} == {*STOPPING, "boed-anytime", "oracle-stop"}
    assert [name for name in STOPPING if peeks(name)] == ["boed-clairvoyant-stop"]


def test_what_does_not_fit_is_refused() -> None:
    source, judge = ToySource(), ToyJudge()
    with pytest.raises(ConfigurationError, match="boed-gain' takes a StopConfig"):
        make_policy("boed-gain", source, judge, config=OracleConfig())
    with pytest.raises(ConfigurationError, match="boed-anytime' takes an AnytimeConfig"):
        make_policy("boed-anytime", source, judge, config=StopConfig())
    with pytest.raises(ConfigurationError, match="boed' takes an OracleConfig"):
        make_policy("boed", source, judge, config=AnytimeConfig())
    blind = StoppingPolicy(FixedPolicy(judge.grid, np.array([0, 1])), judge, "gain", 0.1)
    with pytest.raises(ConfigurationError, match="rule='gain' needs a policy"):
        play(blind, source.load("test"), judge, EVERY, stop=True, progress=False)
    with pytest.raises(ConfigurationError, match="rule='mood'"):
        StoppingPolicy(FixedPolicy(judge.grid, np.array([0, 1])), judge, "mood", 0.1)
