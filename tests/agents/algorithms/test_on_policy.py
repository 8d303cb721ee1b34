from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, MaskablePPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.buffers import DictRolloutBuffer

from agents.algorithms import on_policy
from agents.registry import ALGORITHMS, ARCHITECTURES
from glimpse_env.errors import ConfigurationError
from tests.support.toy_agents import (
    STEPS,
    equal,
    fill_zeros,
    toy_model,
    toy_vec_env,
    weights_of,
)

ON_POLICY = tuple(algo for algo, spec in ALGORITHMS.items() if not spec.off_policy)
OFF_POLICY = tuple(algo for algo, spec in ALGORITHMS.items() if spec.off_policy)
NOT_RECURRENT = tuple(algo for algo in ON_POLICY if ALGORITHMS[algo].core is None)


@pytest.mark.parametrize("algo", ON_POLICY)
def test_training_leaves_a_frozen_encoder_alone(algo: str) -> None:
    model: Any = toy_model(algo)
    extractor = model.policy.pi_features_extractor
    core = model.policy.lstm_actor if ALGORITHMS[algo].core == "lstm" else extractor.core
    before, untrained = weights_of(extractor.encoder), weights_of(core, extractor.glimpse_projection)
    model.learn(2 * STEPS * 8)
    assert equal(before, weights_of(extractor.encoder))
    for start, now in zip(untrained, weights_of(core, extractor.glimpse_projection), strict=True):
        assert not torch.equal(start, now)


@pytest.mark.parametrize(
    ("algo", "architecture"),
    [*((algo, "gru") for algo in NOT_RECURRENT), *(("ppo", other) for other in ARCHITECTURES if other != "gru")],
)
def test_glimpses_are_encoded_when_collected_only(
    algo: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training gives the same weights as SB3's own algorithms, which encode glimpses in every epoch and whose buffers
    yield single states."""
    trained: dict[str, list[torch.Tensor]] = {}
    training_calls: dict[str, int] = {}
    for name in ("once", "again"):
        options: dict[str, Any] = {"architecture": architecture}
        if name == "again":
            ours = on_policy.WholeEpisodes if algo != "maskable_ppo" else on_policy.GlimpseMaskablePPO
            monkeypatch.delattr(ours, "collect_rollouts")
            if algo == "reinforce":
                monkeypatch.delattr(on_policy.GlimpseReinforce, "collect_rollouts")  # asks the buffer for whole ones
            options |= {"rollout_buffer_class": DictRolloutBuffer} if algo != "maskable_ppo" else {}
        model: Any = toy_model(algo, **options)
        calls: list[bool] = []
        model.policy.pi_features_extractor.encoder.register_forward_hook(
            lambda *_, policy=model.policy, calls=calls: calls.append(policy.training)
        )
        model.learn(2 * STEPS * 8)
        trained[name], training_calls[name] = weights_of(model.policy), sum(calls)
    assert training_calls["once"] == 0 < training_calls["again"]
    for once, again in zip(trained["once"], trained["again"], strict=True):
        torch.testing.assert_close(once, again, rtol=1e-3, atol=1e-4)


# --- REINFORCE


def rewards_to_go(buffer: Any, gamma: float) -> np.ndarray:
    """Returns (n_steps, n_envs), the discounted sum of each episode's rewards from each step on."""
    returns = np.zeros_like(buffer.rewards)
    for first in range(0, buffer.buffer_size, STEPS):
        for step in range(STEPS):
            later = buffer.rewards[first + step : first + STEPS]
            returns[first + step] = (later * gamma ** np.arange(len(later))[:, None]).sum(0)
    return returns


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_reinforce_has_whole_returns_and_a_baseline(architecture: str, gamma: float) -> None:
    """Nothing is bootstrapped: returns do not depend on the baseline of later states."""
    env = toy_vec_env(reward="information")
    model: Any = toy_model("reinforce", env=env, architecture=architecture, gamma=gamma, n_steps=2 * STEPS)
    assert model.gae_lambda == model.rollout_buffer.gae_lambda == 1
    fill_zeros(model.policy)
    model.policy.value_net.bias.data.fill_(30)
    _, callback = model._setup_learn(1)
    buffer = model.rollout_buffer
    model.collect_rollouts(model.env, callback, buffer, 2 * STEPS)
    returns = rewards_to_go(buffer, gamma)
    assert np.abs(buffer.rewards).min(axis=1).max() > 0
    assert np.abs(returns).max() < 10 < buffer.values.min()
    np.testing.assert_allclose(buffer.returns, returns, atol=2e-5)
    with torch.no_grad():
        for step in range(2 * STEPS):
            shown = {key: torch.from_numpy(values[step]) for key, values in buffer.observations.items()}
            baseline = model.policy.predict_values(shown).flatten().numpy()
            np.testing.assert_allclose(buffer.advantages[step], returns[step] - baseline, atol=2e-5)


def test_reinforce_follows_its_gradient() -> None:
    """The gradient is that of the mean over states of log pi(l_t | s_t) (R_t - b(s_t)) with a constant baseline."""
    options: dict[str, Any] = {"normalize_advantage": False, "max_grad_norm": 1e9, "vf_coef": 0.3}
    model: Any = toy_model("reinforce", env=toy_vec_env(reward="information"), n_steps=2 * STEPS, **options)
    _, callback = model._setup_learn(1)
    buffer, policy = model.rollout_buffer, model.policy
    model.collect_rollouts(model.env, callback, buffer, 2 * STEPS)
    returns, losses = torch.from_numpy(rewards_to_go(buffer, 1.0)), []
    for step in range(2 * STEPS):
        shown = {key: torch.from_numpy(values[step]) for key, values in buffer.observations.items()}
        values, log_probabilities, _ = policy.evaluate_actions(shown, torch.from_numpy(buffer.actions[step]).flatten())
        missed = returns[step] - values.flatten()
        losses.append(0.3 * missed.square().mean() - (log_probabilities * missed.detach()).mean())
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    expected = torch.autograd.grad(torch.stack(losses).mean(), parameters)
    model.train()
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algo", ["ppo", "a2c", "reinforce", "maskable_ppo"])
def test_a_saved_agent_learns_on_in_the_class_that_others_know(algo: str, tmp_path: Path) -> None:
    toy_model(algo).save(tmp_path / "model.zip")
    kind: Any = {"ppo": PPO, "maskable_ppo": MaskablePPO}.get(algo, A2C)
    model = kind.load(tmp_path / "model.zip", env=toy_vec_env(), device="cpu")
    before = weights_of(model.policy.action_net)
    model.learn(2 * STEPS * 8)
    assert not equal(before, weights_of(model.policy.action_net))


@pytest.mark.parametrize("algo", OFF_POLICY)
def test_one_that_others_cannot_train_says_who_can(algo: str, tmp_path: Path) -> None:
    toy_model(algo).save(tmp_path / "model.zip")
    kind = QRDQN if algo == "qrdqn" else DQN
    settings = {"learning_starts": 0, "target_update_interval": 8}  # one that does not make SB3 warn
    with pytest.raises(ConfigurationError, match=r"agents\.algorithms\.dqfd\.GlimpseDQN or GlimpseQRDQN"):
        kind.load(tmp_path / "model.zip", env=toy_vec_env(), device="cpu", **settings).learn(20 * STEPS)
