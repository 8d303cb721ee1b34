from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.logger import configure

from agents import registry as algorithms
from agents.algorithms.dqfd import demonstration_rewards
from agents.cloning import DemonstrationLoss, actor_parameters
from agents.networks.extractors import ARCHITECTURES
from agents.registry import ALGORITHMS, KeepDemonstrations, make_model, steps_between_updates, warm_up_critic
from agents.vec_env import GlimpseVecEnv
from glimpse_env.errors import ConfigurationError
from glimpse_env.vector_env import GlimpseVectorEnv
from tests.support.toy import toy_dataset, toy_judge
from tests.support.toy_agents import (
    OBSERVATIONS,
    STEPS,
    equal,
    fill_zeros,
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
    """Knows that every image is of class 0."""

    num_classes = 1

    def probabilities(self, glimpses: np.ndarray, *_: np.ndarray) -> np.ndarray:
        return np.ones((len(glimpses), 1), dtype=np.float32)


# --- models


@pytest.mark.parametrize("algo", ON_POLICY)
@pytest.mark.parametrize("num_envs", [1, 6, 64])
def test_rollouts_are_whole_episodes(algo: str, num_envs: int) -> None:
    model: Any = make_model(algo, toy_vec_env(num_envs), seed=0, judge=toy_judge(), device="cpu")
    rollout = model.n_steps * num_envs
    assert model.n_steps % STEPS == 0
    assert steps_between_updates(model) == rollout
    assert 0.7 < rollout / ALGORITHMS[algo].rollout < 1.5
    if ALGORITHMS[algo].minibatch is not None:
        assert rollout % model.batch_size == 0
        assert 512 <= model.batch_size <= 1024


@pytest.mark.parametrize("algo", ON_POLICY)
def test_the_vector_environment_is_trained_on(algo: str) -> None:
    env = GlimpseVecEnv(GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=4, posterior_info=False))
    model = make_model(algo, env, seed=0, judge=toy_judge(), n_steps=STEPS, device="cpu")
    warm_up_critic(model, timesteps=STEPS * 4, epochs=1)
    model.learn(STEPS * 4, callback=KeepDemonstrations(random_data()))
    assert model.num_timesteps == STEPS * 4


def test_arguments_override() -> None:
    model: Any = toy_model(
        n_epochs=7,
        batch_size=16,
        policy_kwargs={"net_arch": {"pi": [8], "vf": [9]}, "features_extractor_kwargs": {"hidden": 11}},
    )
    assert (model.n_steps, model.batch_size, model.n_epochs) == (STEPS, 16, 7)
    assert model.policy.features_dim == 11
    assert model.policy.pi_features_extractor.frozen
    assert model.policy.mlp_extractor.latent_dim_vf == 9


def test_without_a_judge_the_encoder_is_trained() -> None:
    model: Any = make_model("ppo", toy_vec_env(), seed=0, n_steps=STEPS, device="cpu")
    before = weights_of(model.policy.pi_features_extractor.encoder)
    model.learn(1)
    assert not equal(before, weights_of(model.policy.pi_features_extractor.encoder))


@pytest.mark.parametrize("algo", ON_POLICY)
def test_training_leaves_a_frozen_encoder_alone(algo: str) -> None:
    model: Any = toy_model(algo)
    extractor = model.policy.pi_features_extractor
    core = model.policy.lstm_actor if algo == "recurrent_ppo" else extractor.core
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
    """And training comes out as with SB3's own algorithms, which encode them again in every epoch and whose buffers
    hand out states one by one."""
    trained: dict[str, list[torch.Tensor]] = {}
    training_calls: dict[str, int] = {}
    for name in ("once", "again"):
        options: dict[str, Any] = {"architecture": architecture}
        if name == "again":
            ours = algorithms._WholeEpisodes if algo != "maskable_ppo" else algorithms.GlimpseMaskablePPO
            monkeypatch.delattr(ours, "collect_rollouts")
            if algo == "reinforce":
                monkeypatch.delattr(algorithms.GlimpseReinforce, "collect_rollouts")  # asks the buffer for whole ones
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


@pytest.mark.parametrize("algo", ON_POLICY)
def test_a_saved_model_is_the_same_and_trains_on(algo: str, tmp_path: Path) -> None:
    model: Any = toy_model(algo).learn(STEPS * 8)
    model.save(tmp_path / "model.zip")
    loaded = ALGORITHMS[algo].model.load(tmp_path / "model.zip", env=toy_vec_env(), device="cpu")
    policy: Any = loaded.policy
    observations = state_observations(random_data())
    given, actions = in_sequence(policy, 24), torch.from_numpy(random_data().taken.flatten())
    for mine, theirs in zip(
        model.policy.evaluate_actions(observations, actions, *given),
        policy.evaluate_actions(observations, actions, *given),
        strict=True,
    ):
        assert torch.equal(mine, theirs)
    if algo in NOT_RECURRENT:
        for mine, theirs in zip(model.policy(observations, True), policy(observations, True), strict=True):
            assert torch.equal(mine, theirs)
        assert policy.pi_features_extractor.encoder is policy.vf_features_extractor.encoder
    encoder = weights_of(policy.pi_features_extractor.encoder)
    loaded.learn(STEPS * 8, reset_num_timesteps=False)
    assert loaded.num_timesteps == 2 * STEPS * 8
    assert equal(encoder, weights_of(policy.pi_features_extractor.encoder))


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_trained_saved_and_loaded(architecture: str, observation: str, tmp_path: Path) -> None:
    model: Any = toy_model(architecture=architecture, env=toy_env_showing(observation))
    assert type(model.policy.pi_features_extractor) is ARCHITECTURES[architecture]
    assert type(model.policy.vf_features_extractor) is ARCHITECTURES[architecture]
    before = weights_of(*model.policy.actor_modules[1:])
    model.learn(STEPS * 8)
    assert not equal(before, weights_of(*model.policy.actor_modules[1:]))
    model.save(tmp_path / "model.zip")
    loaded: Any = type(model).load(tmp_path / "model.zip", device="cpu")
    observations = state_observations(toy_data(observation))
    for mine, theirs in zip(model.policy(observations, True), loaded.policy(observations, True), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("algo", ON_POLICY)
def test_every_algorithm_learns_from_embeddings_and_demonstrations(algo: str) -> None:
    model: Any = toy_model(algo, env=toy_env_showing("embedding"))
    assert not model.policy.encodes_once
    before = weights_of(*model.policy.actor_modules)
    warm_up_critic(model, timesteps=1, epochs=1)
    assert equal(before, weights_of(*model.policy.actor_modules))
    model.learn(2 * STEPS * 8, callback=KeepDemonstrations(toy_data("embedding")))
    assert not equal(before, weights_of(*model.policy.actor_modules))


def test_seeds_repeat() -> None:
    weights = [weights_of(toy_model(seed=seed).learn(STEPS * 8).policy) for seed in (1, 1, 2)]
    assert equal(weights[0], weights[1])
    assert not equal(weights[0], weights[2])


def test_what_cannot_be_trained_is_named() -> None:
    for make, match in (
        (lambda: make_model("sac", toy_vec_env(), seed=0), "'sac' must be one of ppo"),
        (lambda: toy_model(architecture="lstm"), "'lstm' must be one of gru, attention"),
        (lambda: toy_model("reinforce", gae_lambda=0.95), "REINFORCE does not"),
        (lambda: make_model("ppo", gym.make("CartPole-v1"), seed=0), "not one of this project's"),
        (lambda: toy_model(env=toy_vec_env(observation="glimpse")), 'observation="history"'),
    ):
        with pytest.raises(ConfigurationError, match=match):
            make()


# --- off-policy algorithms


def rewards_of(judge: Any) -> np.ndarray:
    """(N, T): what the environment would have paid for the looks of :func:`random_data`."""
    return demonstration_rewards(random_data(), toy_dataset(), judge)


@pytest.mark.parametrize("algo", OFF_POLICY)
@pytest.mark.parametrize("num_envs", [1, 6])
def test_off_policy_algorithms_are_trained_after_whole_episodes(algo: str, num_envs: int) -> None:
    for frequency, options in ((STEPS, {}), (3 * STEPS, {"train_freq": 3 * STEPS})):
        model: Any = make_model(algo, toy_vec_env(num_envs), seed=0, judge=toy_judge(), device="cpu", **options)
        assert model.train_freq.frequency == frequency
        assert steps_between_updates(model) == frequency * num_envs
        trained: list[int] = []
        model.train = lambda *_, model=model, trained=trained, **__: trained.append(model.num_timesteps)
        model.learn(6 * STEPS * num_envs)
        per_training = frequency * num_envs
        assert trained == list(range(per_training, 6 * STEPS * num_envs + 1, per_training))


@pytest.mark.parametrize("algo", OFF_POLICY)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_off_policy_algorithms_learn_in_the_vector_environment(algo: str, observation: Any) -> None:
    """From demonstrations too; a frozen encoder is the judge's and stays so, all else moves."""
    judge = toy_judge()
    options = {"num_envs": 4, "posterior_info": False, "observation": observation}
    env = GlimpseVecEnv(GlimpseVectorEnv(toy_dataset(), judge, **options))
    model: Any = make_model(algo, env, seed=0, judge=judge, device="cpu")
    assert model.policy.encodes_once == (observation == "history")
    extractor = model.policy.pi_features_extractor
    frozen = [extractor.encoder] if observation == "history" else []
    before, untrained = weights_of(*frozen), weights_of(extractor.core, extractor.glimpse_projection)
    model.load_demonstrations(toy_data(observation), rewards_of(judge))
    pretrained = model.pretrain(3, progress=False)
    assert len(pretrained.loss) == 3
    assert model.num_timesteps == 0
    after = weights_of(extractor.core, extractor.glimpse_projection)
    model.learn(2 * STEPS * 4)
    assert model.num_timesteps == 2 * STEPS * 4
    for start, between, now in zip(
        untrained, after, weights_of(extractor.core, extractor.glimpse_projection), strict=True
    ):
        assert not torch.equal(start, between)
        assert not torch.equal(between, now)
    assert equal(before, weights_of(*frozen))


@pytest.mark.parametrize("algo", OFF_POLICY)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_off_policy_model_is_the_same_and_trains_on(algo: str, architecture: str, tmp_path: Path) -> None:
    model: Any = toy_model(algo, architecture=architecture).learn(STEPS * 8)
    assert type(model.policy.pi_features_extractor) is ARCHITECTURES[architecture]
    model.save(tmp_path / "model.zip")
    loaded: Any = ALGORITHMS[algo].model.load(tmp_path / "model.zip", env=toy_vec_env(), device="cpu")
    assert equal(weights_of(model.policy), weights_of(loaded.policy))
    observations = {key: value.numpy() for key, value in state_observations(random_data()).items()}
    actions, _ = model.predict(observations, deterministic=True)
    np.testing.assert_array_equal(actions, loaded.predict(observations, deterministic=True)[0])
    loaded.learn(STEPS * 8, reset_num_timesteps=False)
    assert loaded.num_timesteps == 2 * STEPS * 8
    assert not equal(weights_of(model.policy), weights_of(loaded.policy))


# --- REINFORCE


def rewards_to_go(buffer: Any, gamma: float) -> np.ndarray:
    """(n_steps, n_envs): what each episode still paid, added up by hand."""
    returns = np.zeros_like(buffer.rewards)
    for first in range(0, buffer.buffer_size, STEPS):
        for step in range(STEPS):
            later = buffer.rewards[first + step : first + STEPS]
            returns[first + step] = (later * gamma ** np.arange(len(later))[:, None]).sum(0)
    return returns


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_reinforce_has_whole_returns_and_a_baseline(architecture: str, gamma: float) -> None:
    """Nothing is bootstrapped: what the baseline says of later states does not come in."""
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
    """That of the mean over states of log pi(l_t | s_t) (R_t - b(s_t)), the baseline held fixed."""
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


# --- keeping demonstrations


def begin(model: Any, callback: KeepDemonstrations) -> None:
    model.set_logger(configure(None, []))
    callback.init_callback(model)
    callback.on_training_start({}, {})


@pytest.mark.parametrize("algo", ON_POLICY)
def test_gradient_added_is_that_of_the_combined_loss(algo: str) -> None:
    model: Any = toy_model(algo, pretrained=False)
    data = random_data()
    begin(model, KeepDemonstrations(data, 0.3, batch_size=40, seed=5))
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
    kept = toy_model(algo).learn(2 * STEPS * 8, callback=KeepDemonstrations(random_data(), 0.0))
    assert equal(weights_of(plain.policy), weights_of(kept.policy))


@pytest.mark.parametrize("algo", ON_POLICY)
def test_demonstrations_are_kept_and_the_hook_goes(algo: str) -> None:
    data, rollouts = random_data(), 12 if ALGORITHMS[algo].minibatch is None else 6
    losses = []
    for coefficient in (0.0, 3.0):
        model: Any = toy_model(algo, pretrained=False, learning_rate=3e-3)
        callback = KeepDemonstrations(data, coefficient)
        model.learn(rollouts * STEPS * 8, callback=callback)
        assert not model.policy.optimizer._optimizer_step_pre_hooks
        with torch.no_grad():
            losses.append(DemonstrationLoss(model.policy, data)(np.arange(len(data))).item())
    assert losses[1] < losses[0] - 0.01


def test_only_the_actor_is_pulled() -> None:
    model: Any = toy_model(pretrained=False)
    begin(model, KeepDemonstrations(random_data()))
    model.policy.optimizer.zero_grad()
    model.policy.optimizer.step()
    moved = {id(parameter) for parameter in model.policy.parameters() if parameter.grad is not None}
    assert moved == {id(parameter) for parameter in actor_parameters(model.policy)}


def test_coefficient_fades_and_is_logged() -> None:
    model: Any = toy_model()
    callback = KeepDemonstrations(random_data(), 0.2, fade_timesteps=100)
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
            KeepDemonstrations(random_data(), **options)
