"""DAgger on the digits: who acts, what is asked, and that one round is the oracle's own demonstrations."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.dagger import betas, dagger
from glimpse_env.datasets import make_source
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge, find_judge
from oracles.demonstrations import Demonstrations, generate
from oracles.registry import make_policy
from tests.support.few_completions import few_completions

SOURCE = make_source("digits")
ITS_PLACES = np.array([3, 7, 40, 41, 42, 43])
"""Where the agent of these tests looks."""


class Stubborn:
    """Always looks at the same places."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        step = observation["step"].reshape(-1)
        return ITS_PLACES[step], state


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        few_completions(patch, "digits")
        yield


@pytest.fixture(scope="module")
def judge() -> Judge:
    return find_judge(SOURCE)


@pytest.fixture(scope="module")
def own(judge: Judge, tmp_path_factory: pytest.TempPathFactory) -> Demonstrations:
    """The oracle's own demonstrations."""
    return generate("oracle", SOURCE, judge, 12, out=tmp_path_factory.mktemp("demos") / "own.npz")


def test_schedules() -> None:
    assert betas(4).tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert betas(3, "first").tolist() == [1, 0, 0]
    assert betas(1).tolist() == [1]


def test_one_round_is_the_oracles_demonstrations(judge: Judge, own: Demonstrations) -> None:
    made = dagger(
        SOURCE, judge, 12, lambda _: pytest.fail("there is nothing to learn before the first round"), rounds=1
    )
    assert np.array_equal(made.indices, own.indices)
    assert np.array_equal(made.locations, own.locations)
    assert own.epe is not None
    np.testing.assert_allclose(made.epe, own.epe, atol=2e-3)
    np.testing.assert_allclose(made.entropies, own.entropies, atol=1e-4)


def test_the_oracle_is_asked_where_the_agent_gets_to(judge: Judge, own: Demonstrations) -> None:
    """Behind its own first round it is asked, with its network for the image, after the agent's glimpses."""
    learned: list[Demonstrations] = []

    def teach(demonstrations: Demonstrations) -> Stubborn:
        learned.append(demonstrations)
        return Stubborn()

    made = dagger(SOURCE, judge, 12, teach, rounds=3, schedule="first")
    assert [len(one) for one in learned] == [4, 8]
    assert np.array_equal(made.indices, own.indices)
    assert np.array_equal(made.locations[:4], own.locations[:4])
    assert (made.locations[4:] == ITS_PLACES).all()
    assert np.array_equal(learned[1].locations, made.locations[:8])
    train = SOURCE.load("train")
    for row in (5, 11):
        image = made.indices[[row]]
        fold = int(train.folds[image[0]])
        oracle = make_policy("oracle", SOURCE, judge, network=None if fold < 0 else fold)
        batch = EpisodeBatch(train, judge, 1)
        shown, state = batch.begin(image)[0], oracle.start(train, image)
        assert made.epe is not None
        for t, place in enumerate(ITS_PLACES):
            _, state = oracle.predict(shown, state, np.array([t == 0]))
            np.testing.assert_allclose(made.epe[row, t], oracle.last_maps[0], atol=2e-3)
            transition = batch.step(np.array([place]))
            shown = transition.observations
            assert transition.assessment is not None
            assert made.entropies[row, t] == pytest.approx(transition.assessment.entropy[0], abs=1e-4)


def test_beta_is_the_share_of_the_oracles_steps(judge: Judge) -> None:
    made = dagger(SOURCE, judge, 150, lambda _: Stubborn(), rounds=3)
    shares = [(part == ITS_PLACES).mean() for part in np.split(made.locations, 3)]
    assert shares[0] < 0.1
    assert shares[1] == pytest.approx(0.5, abs=0.12)  # 300 steps; now and then the oracle looks there too
    assert shares[2] == 1.0
    again = dagger(SOURCE, judge, 150, lambda _: Stubborn(), rounds=3)
    assert np.array_equal(again.locations, made.locations)


def test_what_cannot_be_asked_is_named(judge: Judge, tmp_path: Path) -> None:
    for settings, named in (
        ({"num": 0}, "num=0"),
        ({"num": 3, "rounds": 4}, "rounds=4"),
        ({"num": 3, "schedule": "cosine"}, "schedule='cosine'"),
        ({"num": 3, "oracle": "random", "rounds": 1}, "oracle='random' has no maps"),
    ):
        with pytest.raises(ConfigurationError, match=named):
            dagger(SOURCE, judge, **{"teach": lambda _: Stubborn(), "rounds": 2, **settings})
