from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.utils import obs_as_tensor

from agents.algorithms.policies import GlimpseHistoryPolicy
from agents.networks.encoders import ENCODED, WHOLE, GlimpseEncoder
from agents.registry import ARCHITECTURES
from glimpse_env.errors import ConfigurationError
from tests.support.toy import GEOMETRY, toy_judge
from tests.support.toy_agents import (
    GRID,
    OBSERVATIONS,
    STEPS,
    fill_zeros,
    random_data,
    state_observations,
    toy_data,
    toy_env_showing,
    toy_model,
    toy_vec_env,
    weights_of,
)

ALGOS = ("ppo", "maskable_ppo")


@pytest.mark.parametrize("algo", ALGOS)
def test_visited_locations_get_no_probability(algo: str) -> None:
    model, env = toy_model(algo), toy_vec_env()
    policy: Any = model.policy
    observations: Any = env.reset()
    for step in range(STEPS):
        with torch.no_grad():
            distribution = policy.get_distribution(obs_as_tensor(observations, policy.device)).distribution
        allowed = np.array(env.env_method("action_masks"))
        assert (~allowed).sum() == 8 * step
        assert (distribution.probs.numpy()[~allowed] == 0).all()
        assert (distribution.probs.numpy()[allowed] > 0).all()
        # nearly uniform at first (the head starts small), over what is left
        expected = np.log(len(GRID) - step)
        np.testing.assert_allclose(distribution.entropy().numpy(), expected, atol=0.01)
        observations = env.step(model.predict(observations, deterministic=True)[0])[0]


def test_without_masking_all_locations_have_probability() -> None:
    policy: Any = toy_model(policy_kwargs={"mask_visited": False}).policy
    with torch.no_grad():
        probabilities = policy.get_distribution(state_observations(random_data())).distribution.probs
    assert probabilities.min() > 0


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("algo", ALGOS)
def test_all_ways_to_ask_agree(algo: str, architecture: str, observation: str) -> None:
    model = toy_model(algo, architecture=architecture, env=toy_env_showing(observation))
    policy: Any = model.policy.eval()
    fill_zeros(policy)
    observations = state_observations(toy_data(observation))
    with torch.no_grad():
        actions, values, log_probabilities = policy(observations)
        again = policy.evaluate_actions(observations, actions)
        distribution = policy.get_distribution(observations)
        torch.testing.assert_close(again[0], values)
        torch.testing.assert_close(again[1], log_probabilities)
        torch.testing.assert_close(distribution.log_prob(actions), log_probabilities)
        torch.testing.assert_close(distribution.entropy(), again[2])
        torch.testing.assert_close(policy.predict_values(observations), values)
    chosen = model.predict({key: value.numpy() for key, value in observations.items()}, deterministic=True)[0]
    np.testing.assert_array_equal(chosen, distribution.mode().numpy())


def test_action_masks_come_on_top() -> None:
    policy: Any = toy_model("maskable_ppo").policy
    observations = state_observations(random_data())
    masks = np.random.default_rng(0).random((len(observations["mask"]), len(GRID))) < 0.5
    with torch.no_grad():
        free = policy.get_distribution(observations).distribution.probs.numpy()
        masked = policy.get_distribution(observations, action_masks=masks).distribution.probs.numpy()
    np.testing.assert_allclose(masked, free * masks / (free * masks).sum(1, keepdims=True), atol=1e-6)


def test_frozen_encoder_is_shared_and_runs_once() -> None:
    policy: Any = toy_model().policy
    assert policy.pi_features_extractor.encoder is policy.vf_features_extractor.encoder
    calls = []
    policy.pi_features_extractor.encoder.register_forward_hook(lambda *_: calls.append(1))
    policy(state_observations(random_data()))
    assert len(calls) == 1


@pytest.mark.parametrize(("observation", "pretrained"), [("history", True), ("history", False), ("embedding", True)])
def test_only_a_frozen_encoder_encodes_once(observation: str, pretrained: bool) -> None:
    policy: Any = toy_model(pretrained=pretrained, env=toy_env_showing(observation)).policy
    assert policy.encodes_once == (observation == "history" and pretrained)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("algo", ALGOS)
def test_encoded_observations_are_taken_for_the_glimpses(algo: str, architecture: str) -> None:
    policy: Any = toy_model(algo, architecture=architecture).policy.eval()
    observations = state_observations(random_data())
    instead = {key: value for key, value in observations.items() if key != "glimpses"}
    instead[ENCODED] = policy.encode(observations)
    actions = torch.from_numpy(random_data().taken.flatten())
    with torch.no_grad():
        expected = policy.evaluate_actions(observations, actions)
        for mine, theirs in zip(policy.evaluate_actions(instead, actions), expected, strict=True):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("mask_visited", [True, False])
def test_whole_episodes_are_judged_as_state_by_state(architecture: str, observation: str, mask_visited: bool) -> None:
    options: dict[str, Any] = {"policy_kwargs": {"mask_visited": mask_visited}, "architecture": architecture}
    policy: Any = toy_model(env=toy_env_showing(observation), **options).policy.eval()
    fill_zeros(policy)
    data = toy_data(observation)
    whole, _ = data.batch(np.arange(len(data)), np.full(len(data), STEPS - 1))
    whole[WHOLE] = whole["mask"]
    actions = torch.from_numpy(data.taken.flatten())
    with torch.no_grad():
        expected = policy.evaluate_actions(state_observations(data), actions)
        for mine, theirs in zip(policy.evaluate_actions(whole, actions), expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(policy.predict_values(whole), expected[0], rtol=1e-4, atol=1e-5)
        distribution = policy.get_distribution(whole).distribution
    looked = np.eye(len(GRID), dtype=bool)[data.taken].cumsum(1) > 0
    visited = np.pad(looked, ((0, 0), (1, 0), (0, 0)))[:, :-1].reshape(-1, len(GRID))
    np.testing.assert_array_equal(distribution.probs.numpy() == 0, visited & mask_visited)


def test_trained_encoders_are_apart_and_values_cannot_move_the_actor() -> None:
    policy: Any = toy_model(pretrained=False).policy
    assert policy.pi_features_extractor.encoder is not policy.vf_features_extractor.encoder
    values, _, _ = policy.evaluate_actions(state_observations(random_data()), torch.zeros(96))
    values.sum().backward()
    actor = (policy.pi_features_extractor, policy.mlp_extractor.policy_net, policy.action_net)
    assert all(parameter.grad is None for module in actor for parameter in module.parameters())
    assert all(parameter.grad is not None for parameter in policy.vf_features_extractor.parameters())


def test_judges_weights_are_in_both_extractors() -> None:
    encoder = GlimpseEncoder(toy_judge().card.config)
    encoder.copy_from(toy_judge().networks[0])
    unfrozen = {"features_extractor_kwargs": {"frozen": False}}
    for policy_kwargs in ({}, unfrozen):
        policy: Any = toy_model(policy_kwargs=policy_kwargs).policy
        for extractor in (policy.pi_features_extractor, policy.vf_features_extractor):
            for mine, expected in zip(weights_of(extractor.encoder), weights_of(encoder), strict=True):
                assert torch.equal(mine, expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_continuous_actions_work_without_a_mask(architecture: str) -> None:
    env = toy_vec_env(action="continuous")
    model = toy_model(env=env, architecture=architecture).learn(64)
    assert isinstance(model.action_space, spaces.Box)
    observations: Any = env.reset()
    actions, _ = model.predict(observations)
    assert actions.shape == (8, 2)
    assert np.abs(actions).max() <= 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_policy_can_be_saved_alone(architecture: str, tmp_path: Any) -> None:
    policy: Any = toy_model(architecture=architecture).policy
    policy.save(tmp_path / "policy.pth")
    loaded: Any = GlimpseHistoryPolicy.load(tmp_path / "policy.pth", device="cpu")
    observations = state_observations(random_data())
    for mine, theirs in zip(policy(observations, True), loaded(observations, True), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"share_features_extractor": True}, "value loss"),
        ({"grid": None}, "needs the grid"),
        ({"grid": {"image_size": 60, "glimpse_size": 12, "stride": 4}}, "169 locations"),
    ],
)
def test_what_does_not_fit_is_named(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        toy_model(policy_kwargs=kwargs)


def test_policy_needs_nothing_of_make_model() -> None:
    """SB3 called as in the documentation, without make_model."""
    config = toy_judge().card.config
    model = PPO(
        GlimpseHistoryPolicy,
        toy_vec_env(),
        n_steps=GEOMETRY.num_glimpses,
        batch_size=32,
        policy_kwargs={"mask_visited": False, "features_extractor_kwargs": {"posterior": vars(config)}},
        device="cpu",
    )
    model.learn(32)
    assert model.num_timesteps == 32
