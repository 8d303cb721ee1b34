import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

from agents import register_algorithm, register_architecture
from agents.algorithms.demonstrations import DemonstrationLossCallback, demonstration_rewards, warm_up_critic
from agents.cloning import actor_modules, clone
from agents.presets import Args
from agents.registry import ALGORITHMS, ARCHITECTURES, algorithm_of, make_model, steps_between_updates
from agents.vec_env import GlimpseVecEnv
from glimpse_env.errors import ConfigurationError
from glimpse_env.vector_env import GlimpseVectorEnv
from tests.support.registries import registries_restored
from tests.support.toy import toy_dataset, toy_judge
from tests.support.toy_agents import (
    OBSERVATIONS,
    STEPS,
    equal,
    in_sequence,
    random_data,
    state_observations,
    toy_data,
    toy_env_showing,
    toy_model,
    toy_vec_env,
    weights_of,
)

ON_POLICY = tuple(algo for algo, spec in ALGORITHMS.items() if not spec.off_policy)
OFF_POLICY = tuple(algo for algo, spec in ALGORITHMS.items() if spec.off_policy)
NOT_RECURRENT = tuple(algo for algo in ON_POLICY if ALGORITHMS[algo].core is None)


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
    model.learn(STEPS * 4, callback=DemonstrationLossCallback(random_data()))
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
    before = weights_of(*actor_modules(model.policy)[1:])
    model.learn(STEPS * 8)
    assert not equal(before, weights_of(*actor_modules(model.policy)[1:]))
    model.save(tmp_path / "model.zip")
    loaded: Any = type(model).load(tmp_path / "model.zip", device="cpu")
    observations = state_observations(toy_data(observation))
    for mine, theirs in zip(model.policy(observations, True), loaded.policy(observations, True), strict=True):
        assert torch.equal(mine, theirs)


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


@pytest.mark.parametrize(("num_envs", "n_steps", "batch_size"), [(8, 4, 32), (64, 128, 1024), (1, 8190, 910)])
def test_minibatches_are_of_one_size_near_the_algorithms(num_envs: int, n_steps: int, batch_size: int) -> None:
    model: Any = toy_model(env=toy_vec_env(num_envs), n_steps=n_steps)
    assert model.batch_size == batch_size


def test_a_rollout_without_a_fitting_minibatch_is_named() -> None:
    """A rollout of 4 times a prime has the divisors 1, 2 and 4 only."""
    with pytest.raises(ConfigurationError, match=r"n_steps=4132 in 1 environments .* 512 to 1024 .* give batch_size"):
        toy_model(env=toy_vec_env(1), n_steps=4 * 1033)
    with pytest.warns(UserWarning, match="truncated mini-batch"):
        model: Any = toy_model(env=toy_vec_env(1), n_steps=4 * 1033, batch_size=1024)
    assert model.batch_size == 1024


# --- what other packages add

OUTSIDER = '''
"""Algorithms and an architecture of another package."""

import torch

from agents import Algorithm, register_algorithm, register_architecture
from agents.algorithms.dqfd import GlimpseDQN
from agents.algorithms.on_policy import GlimpsePPO
from agents.algorithms.policies import GlimpseHistoryPolicy
from agents.algorithms.q_policies import GlimpseQPolicy
from agents.networks.encoders import HistoryExtractor


class CarefulPPO(GlimpsePPO):
    pass


class CarefulDQN(GlimpseDQN):
    pass


class MeanExtractor(HistoryExtractor):
    def __init__(self, observation_space, **kwargs):
        super().__init__(observation_space, features_dim=16, tokens=16, **kwargs)

    def read(self, features, locations, counts):
        seen = torch.arange(features.shape[1]) < counts[:, None]
        return (self.tokens(features, locations) * seen[..., None]).sum(1) / counts.clamp(min=1)[:, None]


register_algorithm("careful_ppo", Algorithm(CarefulPPO, GlimpseHistoryPolicy, 1536, 512, {"n_epochs": 2}))
register_algorithm("careful_dqn", "toy_outsider:DQN")
DQN = Algorithm(CarefulDQN, GlimpseQPolicy, None, None, {"gradient_steps": 2})
register_architecture("mean", MeanExtractor)
'''


@pytest.fixture
def _outsider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module ``toy_outsider`` that can be imported; what it registers is forgotten afterwards."""
    (tmp_path / "toy_outsider.py").write_text(OUTSIDER)
    monkeypatch.syspath_prepend(tmp_path)
    with registries_restored():
        yield
    sys.modules.pop("toy_outsider", None)


@pytest.mark.usefixtures("_outsider")
@pytest.mark.parametrize("name", ["careful_ppo", "careful_dqn"])
def test_an_outsiders_algorithm_and_architecture_are_trained(name: str, tmp_path: Path) -> None:
    algo, architecture = f"toy_outsider:{name}", "toy_outsider:mean"
    args = Args(algo=algo, architecture=architecture, demos="none")
    assert args.folder == Path(f"runs/GlimpseBirds-v0-{name}-none-s0")
    model: Any = make_model(
        args.algo, toy_vec_env(), seed=0, architecture=args.architecture, judge=toy_judge(), device="cpu"
    )
    assert algorithm_of(name).off_policy == (name == "careful_dqn")
    assert model.__class__.__name__ == algorithm_of(algo).model.__name__
    assert algorithm_of(algo) is ALGORITHMS[name]
    assert type(model.policy.pi_features_extractor) is ARCHITECTURES["mean"]
    data, judge = random_data(), toy_judge()
    if algorithm_of(algo).off_policy:
        model.load_demonstrations(data, demonstration_rewards(data, toy_dataset(), judge))
        model.pretrain(2, progress=False)
        assert model.gradient_steps == 2
    else:
        clone(model, data, passes=1, progress=False)
        assert model.n_steps * 8 == 1536
    model.learn(steps_between_updates(model))
    model.save(tmp_path / "model.zip")
    loaded: Any = algorithm_of(algo).model.load(tmp_path / "model.zip", device="cpu")
    assert equal(weights_of(model.policy), weights_of(loaded.policy))


@pytest.mark.usefixtures("_outsider")
def test_an_outsiders_names_are_one_word_and_free() -> None:
    for add in (lambda: register_algorithm("my ppo", "a:b"), lambda: register_architecture("a:b", "a:b")):
        with pytest.raises(ConfigurationError, match="cannot be a name"):
            add()
    with pytest.raises(ConfigurationError, match="'ppo' is taken"):
        register_algorithm("ppo", "toy_outsider:PPO")
    for choice in ({"algo": "no_such_module:ppo"}, {"architecture": "no_such_module:gru"}):
        with pytest.raises(ConfigurationError, match=r"'no_such_module' cannot be imported"):
            Args(**choice)


def test_names_are_listed_without_torch_and_stable_baselines() -> None:
    """Looking at settings of agents, as ``--help`` does, imports neither."""
    code = "import sys, agents, agents.presets; list(agents.registry.ALGORITHMS)"
    code += "; assert not {'torch', 'stable_baselines3', 'sb3_contrib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
