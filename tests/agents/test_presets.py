"""Defaults by data set, also for data sets that nobody listed."""

import pytest

from agents.presets import Args, Budget, budget_of
from glimpse_env.errors import ConfigurationError
from glimpse_env.presets import ENV_IDS


@pytest.mark.parametrize("dataset", [*ENV_IDS.values(), "a data set of another package"])
def test_every_data_set_has_a_budget(dataset: str) -> None:
    budget = budget_of(dataset)
    assert budget.num_demos >= 10
    assert budget.timesteps > 0
    assert budget.temperature > 0


def test_an_unknown_data_set_has_a_folders_budget() -> None:
    photographs = Budget(num_demos=2100, timesteps=30_000, temperature=0.1, learning_rate=2e-5)
    assert budget_of("unknown") == budget_of("folder") == photographs
    assert budget_of("birds").num_demos == 4800


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"num_demos": 9}, "--num-demos 9 must be at least 10"),
        ({"eval_images": 1}, "--eval-images 1 must be at least 2"),
        ({"demo_coefficient": -0.1}, "--demo-coefficient -0.1 must be at least 0"),
        ({"scales": 0}, "--scales 0 must be at least 1"),
        ({"algo": "maskable_ppo", "group": 2}, "--group 2 does nothing with maskable_ppo"),
        ({"algo": "dqn", "rollout": 640}, "--rollout 640 does nothing with dqn"),
        ({"hyperparameters": "[]"}, "must be a JSON object"),
    ],
)
def test_settings_out_of_range_are_named(setting: dict, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        Args(**setting)
