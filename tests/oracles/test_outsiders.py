"""What another package registers works like the package's own: policies, criteria and presets."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import oracles
from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from oracles.boed.criteria import map_title
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.demonstrations import generate
from oracles.presets import PRESETS, Preset, preset_of
from oracles.registry import POLICIES, make_policy, peeks, policy_settings
from oracles.training.plans import JudgePlan, ScorerPlan
from oracles.training.scorer import train_oracle
from tests.support.registries import registries_restored
from tests.support.toy_problem import ToyJudge, ToySource

MODULE = """
import oracles
from oracles.base import GlimpsePolicy


class Diagonal(GlimpsePolicy):
    \"\"\"Looks along the diagonal.\"\"\"

    def __init__(self, grid):
        self.grid = grid

    def choose(self, histories, state, episode_start):
        return histories.counts * (self.grid.side + 1), state


def make(source, judge, *, network=None, seed=0, config=None):
    return Diagonal(judge.grid)


def brier(log_probabilities, labels):
    p = log_probabilities.exp()
    return p.square().sum(-1) - 2 * p.gather(-1, labels[..., None])[..., 0] + 1


oracles.register_policy("diagonal", make, settings=lambda source, judge, config: {"step": 1})
oracles.register_criterion("brier", brier, "Brier score")
"""


@pytest.fixture(scope="module", autouse=True)
def _outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder on the path of imports, of workers too, with the module ``policies_outside``."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "policies_outside.py").write_text(MODULE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, registries_restored():
        patch.syspath_prepend(str(folder))
        yield


def test_a_policy_is_made_played_and_described_by_name() -> None:
    source, judge = ToySource(), ToyJudge()
    policy = make_policy("policies_outside:diagonal", source, judge)
    test = source.load("test")
    rollouts = play(policy, test, judge, np.arange(4), progress=False)
    assert rollouts.locations.tolist() == [[0, 4]] * 4
    assert "diagonal" in POLICIES
    assert not peeks("policies_outside:diagonal")
    assert policy_settings("diagonal", source, judge) == {"policy": "diagonal", "step": 1}


def test_workers_make_its_demonstrations(tmp_path: Path) -> None:
    made = [
        generate("policies_outside:diagonal", ToySource(), ToyJudge(), 20, out=tmp_path / f"{n}.npz", workers=n)
        for n in (1, 2)
    ]
    assert made[0].manifest == made[1].manifest
    assert made[0].manifest["policy"] == "diagonal"
    for one in made:
        assert one.locations.tolist() == [[0, 4]] * 20


def test_a_criterion_is_what_the_oracle_minimises_and_what_training_expects() -> None:
    """The first map is the criterion after one glimpse, averaged over all images of the world."""
    source, judge = ToySource(), ToyJudge()
    train = source.load("train")
    config = OracleConfig(criterion="policies_outside:brier")
    found = BOEDOracle(train, judge, config).first_map()
    p = judge.class_log_probabilities(0, judge.embed_grid(0, train.images), 1).exp().numpy()
    exact = np.square(p - np.eye(4)[train.labels][:, None]).sum(-1).mean(0)
    np.testing.assert_allclose(found, exact, atol=1e-5)
    assert map_title("brier", "next") == "Expected Brier score"
    plan = ScorerPlan(images=64, histories=2, batch_size=16, locations=4, chunk=64)
    oracle = train_oracle(source, judge, plan, criterion="brier", horizon="next", seed=0)
    scores = oracle.networks[0].scores(torch.zeros(32), 0).numpy()
    np.testing.assert_allclose(scores, exact, atol=0.2)
    with pytest.raises(ConfigurationError, match="criterion='surprise' must be one of entropy"):
        OracleConfig(criterion="surprise")


def test_a_preset_is_taken_for_a_data_set_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(ToySource):
        name = "elsewhere"

    assert preset_of(Elsewhere()) == Preset()
    preset = Preset(judge=JudgePlan(passes=3), oracle="fixed")
    monkeypatch.setattr("oracles.presets.PRESETS", dict(PRESETS))
    oracles.register_preset("elsewhere", preset)
    assert preset_of(Elsewhere()) == preset
    assert type(make_policy("oracle", Elsewhere(), ToyJudge())).__name__ == "FixedPolicy"
    with pytest.raises(ConfigurationError, match="taken"):
        oracles.register_preset("elsewhere", Preset())
