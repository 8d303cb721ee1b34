"""Stopping by backward induction: against the exact optimum for a policy in finite worlds, and by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from oracles.baselines import FixedPolicy
from oracles.boed.oracle import OracleConfig
from oracles.induction import RECORDING, Induction, Recorded, record
from oracles.registry import make_policy, policy_settings
from oracles.stopping import StopConfig, StoppingPolicy
from oracles.validation.optimal import AnytimeProblem
from oracles.validation.toy_world import History, ToyWorld
from tests.support.toy_problem import ToyJudge, ToySource
from tests.support.toy_worlds import HOPELESS, TOGETHER, exact_judge, greedy, random_world

SEQUENCE = np.array([0, 1, 4])


def best_stopping(problem: AnytimeProblem, history: History) -> float:
    """The least expected loss and further costs of looking at the places of SEQUENCE in turn, by enumeration."""
    stop, world = problem.world.present(history, problem.criterion), problem.world
    if len(history) == problem.num_glimpses:
        return stop
    place = int(SEQUENCE[len(history)])
    chances = world.causes(history) @ world.likelihood[:, place]
    ahead = sum(chances[v] * best_stopping(problem, [*history, (place, int(v))]) for v in np.flatnonzero(chances))
    return min(stop, problem.cost + float(ahead))


def episodes(problem: AnytimeProblem, count: int = 3000) -> Recorded:
    """Episodes on images drawn from a problem's world, looking at SEQUENCE."""
    drawn = problem.world.dataset(*problem.world.draw(count, np.random.default_rng(0)))
    policy = FixedPolicy(problem.geometry.grid, SEQUENCE)
    return record(policy, replace(drawn, geometry=problem.geometry), exact_judge(problem), np.arange(count))


@pytest.mark.parametrize("world", [TOGETHER, HOPELESS, *(ToyWorld.random(np.random.default_rng(s)) for s in range(3))])
@pytest.mark.parametrize("cost", [0.02, 0.1, 0.2])
def test_it_is_near_the_best_stopping_of_a_policy(world: ToyWorld, cost: float) -> None:
    problem = AnytimeProblem(world, 3, cost)
    looking, judge = FixedPolicy(problem.geometry.grid, SEQUENCE), exact_judge(problem)
    policy = StoppingPolicy(looking, judge, Induction(episodes(problem), cost), cost)
    worth, best = problem.worth(policy).value, best_stopping(problem, [])
    assert best - 1e-5 <= worth <= best + 0.015


def test_looking_two_steps_ahead_it_pays_for_what_one_glimpse_does_not_tell() -> None:
    """Either of two pixels alone tells nothing, so that the rule of the next gain stops at once."""
    problem = AnytimeProblem(TOGETHER, 3, 0.1)
    looking, judge = FixedPolicy(problem.geometry.grid, SEQUENCE), exact_judge(problem)
    rule = Induction(episodes(problem), 0.1)
    worth = problem.worth(StoppingPolicy(looking, judge, rule, 0.1))
    assert worth.glimpses == pytest.approx(2.0)
    assert worth.loss == pytest.approx(0.0, abs=1e-5)
    assert rule.value == pytest.approx(0.2, abs=0.01)
    assert problem.worth(StoppingPolicy(greedy(problem, "error"), judge, "gain", 0.1)).value > 0.2


@pytest.mark.parametrize("criterion", ["error", "log_loss"])
def test_a_dear_glimpse_is_never_taken_and_a_cheap_one_while_it_tells(criterion: str) -> None:
    problem = AnytimeProblem(random_world(2), 3, 0.0, criterion)
    recorded, judge = episodes(problem), exact_judge(problem)
    for cost, low, high in ((5.0, 0.0, 0.0), (1e-3, 2.0, 3.0)):
        policy = StoppingPolicy(
            FixedPolicy(problem.geometry.grid, SEQUENCE), judge, Induction(recorded, cost, criterion), cost
        )
        assert low <= problem.worth(policy).glimpses <= high


def test_by_name_recorded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLIMPSE_CACHE", str(tmp_path))
    source, judge = ToySource(), ToyJudge()
    test, every = source.load("test"), np.arange(24)
    lengths = {}
    for cost in (0.01, 0.9):
        policy = make_policy("oracle-stop", source, judge, config=StopConfig(cost))
        assert policy.stops
        lengths[cost] = play(policy, test, judge, every, progress=False).lengths
    assert (lengths[0.01] == 2).all()
    assert (lengths[0.9] == 0).all()
    (path,) = (tmp_path / "recordings").iterdir()
    path.write_bytes(path.read_bytes()[:100])  # damaged: it is played again
    again = make_policy("oracle-stop", source, judge, config=StopConfig(0.01))
    np.testing.assert_array_equal(play(again, test, judge, every, progress=False).lengths, lengths[0.01])
    settings = policy_settings("oracle-stop", source, judge)
    assert settings is not None
    assert settings["threshold"] == 0.02
    assert settings["looks"] == policy_settings("oracle", source, judge)
    assert RECORDING.items() <= settings.items()


def test_what_does_not_fit_is_refused() -> None:
    source, judge = ToySource(), ToyJudge()
    recorded = episodes(AnytimeProblem(HOPELESS, 3, 0.1), 20)
    with pytest.raises(ConfigurationError, match="oracle-stop' takes a StopConfig"):
        make_policy("oracle-stop", source, judge, config=OracleConfig())
    with pytest.raises(ConfigurationError, match="cost=-1"):
        Induction(recorded, -1)
    with pytest.raises(ConfigurationError, match="criterion='entropy'"):
        Induction(recorded, 0.1, "entropy")
    with pytest.raises(ConfigurationError, match="recorded episodes"):
        replace(recorded, labels=recorded.labels[:-1])
