"""The ways of testing networks that look and classify, on a network whose locator and answers are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.ram.rollouts import WAYS, answer, answer_all_ways
from glimpse_env.errors import ConfigurationError
from tests.agents.ram.test_algorithm import GEOMETRY, LOCATIONS, marked, ram

IMAGES = np.arange(200)


@pytest.fixture(scope="module")
def biased() -> Any:
    """A network whose locator takes location 3 with probability 1/2, 7 with 1/3 and the others alike."""
    model = ram()
    probabilities = torch.full((LOCATIONS,), (1 - 5 / 6) / (LOCATIONS - 2))
    probabilities[3], probabilities[7] = 1 / 2, 1 / 3
    with torch.no_grad():
        locator: Any = model.policy.network.locator[-1]
        locator.weight.zero_()
        locator.bias.copy_(probabilities.log())
    return model


def test_places_of_each_way(biased: Any) -> None:
    dataset = marked(200, seed=3)
    found = answer_all_ways(biased, dataset, IMAGES)
    assert (found["argmax"].locations == 3).all()
    assert (found["no-repeats"].locations == [3, 7]).all()
    sampled = found["mean-5"].locations
    assert sampled.shape == (5, 200, GEOMETRY.num_glimpses)
    assert (sampled == 3).mean() == pytest.approx(1 / 2, abs=0.04)  # 2000 draws: three standard errors
    assert (sampled == 7).mean() == pytest.approx(1 / 3, abs=0.04)
    assert not np.array_equal(sampled[0], sampled[1])
    assert np.array_equal(found["sampled"].locations, sampled[:1])


def test_argmax_is_what_the_model_does_by_itself(biased: Any) -> None:
    dataset = marked(60, seed=3)
    looked, found = biased.look(dataset, np.arange(60)), answer(biased, dataset, np.arange(60))
    assert np.array_equal(found.locations[0], looked.locations)
    assert np.array_equal(found.success, looked.success)
    np.testing.assert_allclose(found.log_loss, looked.final_log_loss, atol=1e-6)


def test_the_mean_answer_is_that_of_the_mean_probabilities(biased: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = replace(marked(3), labels=np.array([0, 1, 2]))
    answers = np.array([[0.5, 0.3, 0.2], [0.3, 0.6, 0.1], [0.9, 0.1, 0.0], [0.0, 0.2, 0.8], [0.0, 0.7, 0.3]])
    told: list[int] = []

    def locate(observation: Any, state: Any) -> tuple[torch.Tensor, Any]:
        if state is None:
            told.append(0)
        row = answers[len(told) - 1]
        biased.policy.last_probabilities = np.stack([row, row, row]).astype(np.float32)
        return torch.zeros(3, LOCATIONS), "state"

    monkeypatch.setattr(biased.policy, "locate", locate)
    found = answer(biased, dataset, np.arange(3), "mean-5")
    assert len(told) == 5
    assert found.success.tolist() == [False, True, False]  # mean (0.34, 0.38, 0.28): of the five, two say 0, two 1
    np.testing.assert_allclose(np.exp(-found.log_loss), [0.34, 0.38, 0.28], atol=1e-6)


def test_what_is_sampled_depends_on_the_seed_only(biased: Any) -> None:
    dataset = marked(60, seed=3)

    def places(seed: int) -> np.ndarray:
        torch.rand(3)  # the global random numbers are others
        return answer(biased, dataset, np.arange(60), "sampled", seed=seed).locations

    assert np.array_equal(places(1), places(1))
    assert not np.array_equal(places(1), places(2))
    for way in WAYS:
        together = answer_all_ways(biased, dataset, np.arange(60), seed=4)[way]
        assert np.array_equal(together.locations, answer(biased, dataset, np.arange(60), way, seed=4).locations)


def test_an_unknown_way_is_named(biased: Any) -> None:
    with pytest.raises(ConfigurationError, match="rollout='beam' must be one of argmax, no-repeats, sampled, mean-5"):
        answer(biased, marked(4), np.arange(4), "beam")
