from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import configure

from agents.algorithms.demonstrations import DemonstrationLossCallback, warm_up_critic
from agents.cloning import DemonstrationLoss, actor_parameters
from agents.registry import ALGORITHMS
from glimpse_env.errors import ConfigurationError
from tests.support.toy import toy_dataset
from tests.support.toy_agents import (
    STEPS,
    equal,
    in_sequence,
    random_data,
    state_observations,
    toy_data,
    toy_env_showing,
    toy_model,
    toy_vec_env,
    values_in_sequence,
    weights_of,
)

ON_POLICY = tuple(algo for algo, spec in ALGORITHMS.items() if not spec.off_policy)
OFF_POLICY = tuple(algo for algo, spec in ALGORITHMS.items() if spec.off_policy)
NOT_RECURRENT = tuple(algo for algo in ON_POLICY if ALGORITHMS[algo].core is None)


class SureJudge:
    """A judge that is sure of class 0 for every image."""

    num_classes = 1

    def probabilities(self, glimpses: np.ndarray, *_: np.ndarray) -> np.ndarray:
        return np.ones((len(glimpses), 1), dtype=np.float32)


# --- critic


@pytest.mark.parametrize("algo", ON_POLICY)
def test_critic_learns_returns_and_nothing_else_moves(algo: str, tmp_path: Path) -> None:
    env = toy_vec_env(16, toy_dataset(num_classes=1), SureJudge())  # every return is 1
    model: Any = toy_model(algo, env=env, tensorboard_log=str(tmp_path / "logs"))
    policy = model.policy
    actor = weights_of(*policy.actor_modules)
    losses = warm_up_critic(model, timesteps=STEPS * 16 * 3, epochs=10, batch_size=16)
    assert len(losses) == 30
    assert losses[-1] < 0.02 < 0.3 < losses[0]
    with torch.no_grad():
        values = values_in_sequence(policy, state_observations(random_data()), 24)
    np.testing.assert_allclose(values, 1, atol=0.3)
    assert equal(actor, weights_of(*policy.actor_modules))
    assert not policy.optimizer.state
    assert model.num_timesteps == 0
    assert model.rollout_buffer.gae_lambda == (1 if algo == "reinforce" else 0.95)
    assert not (tmp_path / "logs").exists()
    assert model.tensorboard_log == str(tmp_path / "logs")
    model.learn(STEPS * 16)
    assert model.num_timesteps == STEPS * 16


def test_warm_up_names_what_it_lacks(tmp_path: Path) -> None:
    model = toy_model()
    with pytest.raises(ConfigurationError, match="epochs=0"):
        warm_up_critic(model, epochs=0)
    model.save(tmp_path / "model.zip")
    with pytest.raises(ConfigurationError, match="no environment"):
        warm_up_critic(type(model).load(tmp_path / "model.zip", device="cpu"))


# --- loss on demonstrations


def begin(model: Any, callback: DemonstrationLossCallback) -> None:
    model.set_logger(configure(None, []))
    callback.init_callback(model)
    callback.on_training_start({}, {})


@pytest.mark.parametrize("algo", ON_POLICY)
def test_gradient_added_is_that_of_the_combined_loss(algo: str) -> None:
    model: Any = toy_model(algo, pretrained=False)
    data = random_data()
    begin(model, DemonstrationLossCallback(data, 0.3, batch_size=40, seed=5))
    observations, actions = state_observations(data), torch.arange(96) % 64
    given = in_sequence(model.policy, len(data))

    def algorithm_loss() -> torch.Tensor:
        values, log_probabilities, entropy = model.policy.evaluate_actions(observations, actions, *given)
        return values.square().mean() - log_probabilities.clamp(min=-10).mean() - 0.1 * entropy.mean()

    rows = np.random.default_rng(5).integers(len(data), size=40 // STEPS)
    parameters = list(model.policy.parameters())
    combined = algorithm_loss() + 0.3 * DemonstrationLoss(model.policy, data)(rows)
    expected = torch.autograd.grad(combined, parameters)

    model.policy.optimizer.zero_grad()
    algorithm_loss().backward()
    model.policy.optimizer.step()
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algo", ON_POLICY)
def test_coefficient_0_is_plain_training(algo: str) -> None:
    plain = toy_model(algo).learn(2 * STEPS * 8)
    kept = toy_model(algo).learn(2 * STEPS * 8, callback=DemonstrationLossCallback(random_data(), 0.0))
    assert equal(weights_of(plain.policy), weights_of(kept.policy))


@pytest.mark.parametrize("algo", ON_POLICY)
def test_demonstrations_are_kept_and_the_hook_goes(algo: str) -> None:
    data, rollouts = random_data(), 12 if ALGORITHMS[algo].minibatch is None else 6
    losses = []
    for coefficient in (0.0, 3.0):
        model: Any = toy_model(algo, pretrained=False, learning_rate=3e-3)
        callback = DemonstrationLossCallback(data, coefficient)
        model.learn(rollouts * STEPS * 8, callback=callback)
        assert not model.policy.optimizer._optimizer_step_pre_hooks
        with torch.no_grad():
            losses.append(DemonstrationLoss(model.policy, data)(np.arange(len(data))).item())
    assert losses[1] < losses[0] - 0.01


def test_only_the_actor_is_pulled() -> None:
    model: Any = toy_model(pretrained=False)
    begin(model, DemonstrationLossCallback(random_data()))
    model.policy.optimizer.zero_grad()
    model.policy.optimizer.step()
    moved = {id(parameter) for parameter in model.policy.parameters() if parameter.grad is not None}
    assert moved == {id(parameter) for parameter in actor_parameters(model.policy)}


def test_coefficient_fades_and_is_logged() -> None:
    model: Any = toy_model()
    callback = DemonstrationLossCallback(random_data(), 0.2, fade_timesteps=100)
    begin(model, callback)
    for timesteps, expected in ((0, 0.2), (25, 0.15), (100, 0.0), (500, 0.0)):
        model.num_timesteps = timesteps
        assert callback.coefficient == pytest.approx(expected)
    model.num_timesteps = 50
    callback.on_rollout_end()
    model.policy.optimizer.step()
    logged = model.logger.name_to_value
    assert logged["demonstrations/coefficient"] == pytest.approx(0.1)
    assert logged["demonstrations/loss"] > 0
    callback.detach()
    callback.detach()
    assert not model.policy.optimizer._optimizer_step_pre_hooks


def test_impossible_coefficients_are_named() -> None:
    for options in ({"coefficient": -1.0}, {"fade_timesteps": 0}, {"batch_size": 0}):
        with pytest.raises(ConfigurationError, match="must be positive"):
            DemonstrationLossCallback(random_data(), **options)


@pytest.mark.parametrize("algo", ON_POLICY)
def test_every_algorithm_learns_from_embeddings_and_demonstrations(algo: str) -> None:
    model: Any = toy_model(algo, env=toy_env_showing("embedding"))
    assert not model.policy.encodes_once
    before = weights_of(*model.policy.actor_modules)
    warm_up_critic(model, timesteps=1, epochs=1)
    assert equal(before, weights_of(*model.policy.actor_modules))
    model.learn(2 * STEPS * 8, callback=DemonstrationLossCallback(toy_data("embedding")))
    assert not equal(before, weights_of(*model.policy.actor_modules))
