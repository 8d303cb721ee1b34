from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.utils import obs_as_tensor

from agents.features import GlimpseEncoder
from agents.policies import GlimpseHistoryPolicy
from glimpse_env.errors import ConfigurationError
from glimpse_env.locations import LocationGrid
from tests.toy import GEOMETRY, toy_judge
from tests.toy_agents import GRID, STEPS, random_data, state_observations, toy_model, toy_vec_env, weights_of

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


@pytest.mark.parametrize("grid", [GRID, LocationGrid(45, 12, 4), LocationGrid(12, 12, 4)])
def test_every_location_is_recognised(grid: LocationGrid) -> None:
    """Also where the last location is not at the image's border."""
    policy: Any = toy_model().policy
    policy.grid = grid
    locations = torch.from_numpy(grid.normalised)[:, None]  # (L, 1, 2)
    visited = policy.visited(locations, torch.ones(len(grid), 1, dtype=torch.bool))
    assert torch.equal(visited, torch.eye(len(grid), dtype=torch.bool))
    assert not policy.visited(locations, torch.zeros(len(grid), 1, dtype=torch.bool)).any()


@pytest.mark.parametrize("algo", ALGOS)
def test_all_ways_to_ask_agree(algo: str) -> None:
    model = toy_model(algo)
    policy: Any = model.policy.eval()
    observations = state_observations(random_data())
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


def test_continuous_actions_work_without_a_mask() -> None:
    env = toy_vec_env(action="continuous")
    model = toy_model(env=env).learn(64)
    assert isinstance(model.action_space, spaces.Box)
    observations: Any = env.reset()
    actions, _ = model.predict(observations)
    assert actions.shape == (8, 2)
    assert np.abs(actions).max() <= 1


def test_a_policy_can_be_saved_alone(tmp_path: Any) -> None:
    policy: Any = toy_model().policy
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
    """A user's own SB3 call, as the documentation shows it."""
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
