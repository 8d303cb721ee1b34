from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.utils import obs_as_tensor

from agents.algorithms.demonstrations import values_of, warm_up_critic
from agents.algorithms.recurrent import GlimpseRecurrentPolicy, NewestGlimpseExtractor
from agents.cloning import DemonstrationLoss, actor_parameters, critic_parameters
from agents.networks.encoders import WHOLE
from glimpse_env.errors import ConfigurationError
from tests.support.toy import toy_dataset, toy_judge
from tests.support.toy_agents import (
    CONFIG,
    GRID,
    OBSERVATIONS,
    SPACES,
    STEPS,
    WIDTHS,
    equal,
    fill_zeros,
    in_sequence,
    state_observations,
    toy_data,
    toy_env_showing,
    toy_model,
    toy_observations,
    toy_vec_env,
    values_in_sequence,
    weights_of,
)

BOTH = pytest.mark.parametrize("observation", OBSERVATIONS)
EACH = pytest.mark.parametrize(
    ("observation", "pretrained"), [("history", True), ("history", False), ("embedding", True)]
)


def recurrent_model(observation: str = "history", **options: Any) -> Any:
    """Makes a policy without parameters that are zero, whose actor is not uniform."""
    model: Any = toy_model("recurrent_ppo", **{"env": toy_env_showing(observation), **options})
    fill_zeros(model.policy)
    torch.nn.init.normal_(model.policy.action_net.weight)
    return model


def newest(observation: str) -> NewestGlimpseExtractor:
    torch.manual_seed(0)
    space: Any = SPACES[observation]
    return NewestGlimpseExtractor(space, posterior=asdict(CONFIG), tokens=16)


# --- what is shown


@BOTH
def test_features_are_the_newest_glimpses_token(observation: str) -> None:
    extractor, counts = newest(observation), torch.tensor([0, 1, 3, STEPS])
    observations = toy_observations(counts.tolist(), observation)
    features, locations = extractor.encode(observations), observations["locations"].unflatten(1, (STEPS, 2))
    read = extractor(observations)
    assert not read[0].any()
    tokens = extractor.tokens(features, locations)
    torch.testing.assert_close(read[1:], tokens[torch.arange(1, 4), counts[1:] - 1])
    states = extractor.states(features, locations)  # (B, T + 1, tokens)
    torch.testing.assert_close(states[torch.arange(4), counts], read)
    assert read[1:].abs().amax(1).min() > 1e-3


@BOTH
def test_neither_older_nor_unseen_glimpses_are_looked_at(observation: str) -> None:
    extractor, counts = newest(observation), [0, 1, 3, STEPS]
    one, other = toy_observations(counts, observation, seed=1), toy_observations(counts, observation, seed=2)
    for key in WIDTHS.keys() & one.keys():
        for row, count in enumerate(counts):
            kept = slice(max(count - 1, 0) * WIDTHS[key], count * WIDTHS[key])
            other[key][row, kept] = one[key][row, kept]
        assert not torch.equal(one[key], other[key])
    assert torch.equal(extractor(other), extractor(one))


def test_whole_episodes_are_their_tokens() -> None:
    extractor, observations = newest("embedding"), toy_observations([STEPS - 1] * 2, "embedding")
    features, locations = extractor.encode(observations), observations["locations"].unflatten(1, (STEPS, 2))
    expected = extractor.states(features[:, :-1], locations[:, :-1]).flatten(0, 1)
    assert torch.equal(extractor(observations | {WHOLE: observations["mask"]}), expected)


# --- the policy


@EACH
@torch.no_grad()
def test_demonstration_logits_are_those_of_stepping(observation: str, pretrained: bool) -> None:
    policy, data = recurrent_model(observation, pretrained=pretrained).policy, toy_data(observation)
    logits = DemonstrationLoss(policy, data).logits(np.arange(len(data)))
    assert logits.shape == (len(data), STEPS, len(GRID))
    states = tuple(torch.zeros(1, len(data), 128) for _ in range(2))
    for step in range(STEPS):
        shown, _ = data.batch(np.arange(len(data)), np.full(len(data), step))
        starts = torch.full((len(data),), float(step == 0))
        distribution, states = policy.get_distribution(shown, states, starts)
        told = distribution.distribution.logits
        torch.testing.assert_close(logits[:, step].log_softmax(-1), told, rtol=1e-4, atol=1e-4)
        assert step == 0 or told.exp().amax(1).std() > 1e-3
        # states at an episode's start are of no account
        garbage = tuple(torch.randn_like(state) for state in states)
        if step == 0:
            again, _ = policy.get_distribution(shown, garbage, starts)
            assert torch.equal(again.distribution.logits, told)


@EACH
@torch.no_grad()
def test_sequences_are_judged_as_their_steps(observation: str, pretrained: bool) -> None:
    policy, data = recurrent_model(observation, pretrained=pretrained).policy, toy_data(observation)
    observations, actions = state_observations(data), torch.from_numpy(data.taken.flatten())
    given = in_sequence(policy, len(data))
    values, log_probabilities, entropies = policy.evaluate_actions(observations, actions, *given)
    torch.testing.assert_close(values_in_sequence(policy, observations, len(data)), values)
    log_p = DemonstrationLoss(policy, data).logits(np.arange(len(data))).log_softmax(-1).flatten(0, 1)
    torch.testing.assert_close(log_probabilities, log_p.gather(1, actions[:, None])[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(entropies, -(log_p.exp() * log_p).sum(1), rtol=1e-4, atol=1e-4)
    assert values.std() > 1e-3
    states = given[0]
    for step in range(STEPS):
        shown, _ = data.batch(np.arange(len(data)), np.full(len(data), step))
        starts = torch.full((len(data),), float(step == 0))
        _, stepped, _, states = policy(shown, states, starts)
        torch.testing.assert_close(stepped, values[step::STEPS], rtol=1e-4, atol=1e-5)


@BOTH
def test_visited_locations_get_no_probability(observation: str) -> None:
    model = recurrent_model(observation)
    env, policy = model.env, model.policy
    observations: Any = env.reset()
    states = tuple(torch.zeros(1, 8, 128) for _ in range(2))
    chosen = np.zeros((8, 0), dtype=int)
    for step in range(STEPS):
        starts = torch.full((8,), float(step == 0))
        with torch.no_grad():
            distribution, states = policy.get_distribution(obs_as_tensor(observations, policy.device), states, starts)
        allowed = np.array(env.env_method("action_masks"))
        assert (~allowed).sum() == 8 * step
        probabilities = distribution.distribution.probs.numpy()
        assert (probabilities[~allowed] == 0).all()
        assert (probabilities[allowed] > 0).all()
        actions = distribution.mode().numpy()
        chosen = np.concatenate([chosen, actions[:, None]], axis=1)
        observations = env.step(actions)[0]
    assert all(len(set(row)) == STEPS for row in chosen)
    assert policy._visited is None, "nothing is masked after the call"


def test_without_masking_all_locations_have_probability() -> None:
    policy, data = recurrent_model(policy_kwargs={"mask_visited": False}).policy, toy_data()
    with torch.no_grad():
        probabilities = DemonstrationLoss(policy, data).logits(np.arange(len(data))).softmax(-1)
        distribution, _ = policy.get_distribution(
            state_observations(data), in_sequence(policy, len(data))[0].pi, in_sequence(policy, len(data))[1]
        )
    assert probabilities.min() > 0
    torch.testing.assert_close(distribution.distribution.probs, probabilities.flatten(0, 1), rtol=1e-3, atol=1e-6)


def test_what_was_seen_first_is_remembered_in_the_state() -> None:
    """Older glimpses in observations change nothing, except that their locations are masked."""
    policy, data = recurrent_model(policy_kwargs={"mask_visited": False}).policy, toy_data()
    rows = np.arange(len(data))
    first, second = (data.batch(rows, np.full(len(data), step))[0] for step in (1, 2))
    zeros = tuple(torch.zeros(1, len(data), 128) for _ in range(2))
    begins, goes_on = torch.ones(len(data)), torch.zeros(len(data))
    with torch.no_grad():
        _, states = policy.get_distribution(first, zeros, begins)
        told = policy.get_distribution(second, states, goes_on)[0].distribution.logits
        _, others = policy.get_distribution({key: value.roll(1, 0) for key, value in first.items()}, zeros, begins)
        assert (policy.get_distribution(second, others, goes_on)[0].distribution.logits - told).abs().max() > 1e-3
        older = second["glimpses"].clone()
        older[:, : WIDTHS["glimpses"]] = 0
        again = policy.get_distribution(second | {"glimpses": older}, states, goes_on)[0].distribution.logits
    assert torch.equal(again, told)


def test_continuous_actions_work_without_a_mask() -> None:
    model: Any = toy_model("recurrent_ppo", env=toy_env_showing("history", action="continuous")).learn(64)
    assert isinstance(model.action_space, spaces.Box)
    actions, states = model.predict(model.env.reset())
    assert actions.shape == (8, 2)
    assert states[0].shape == (1, 8, 128)


def test_what_does_not_fit_is_named() -> None:
    for kwargs, match in (
        ({"grid": None}, "needs the grid"),
        ({"grid": {"image_size": 60, "glimpse_size": 12, "stride": 4}}, "169 locations"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            toy_model("recurrent_ppo", policy_kwargs=kwargs)


# --- saving


def answers(model: Any, observation: str) -> list[np.ndarray]:
    """Returns actions and states of two episodes, one after the other."""
    env, state, told = toy_env_showing(observation), None, []
    env.seed(3)
    shown: Any = env.reset()
    for step in range(2 * STEPS):
        starts = np.full(8, step % STEPS == 0)
        actions, state = model.predict(shown, state=state, episode_start=starts, deterministic=True)
        told += [actions, *state]
        shown = env.step(actions)[0]
    return told


@BOTH
def test_a_saved_model_predicts_the_same(observation: str, tmp_path: Path) -> None:
    model = recurrent_model(observation).learn(STEPS * 8)
    model.save(tmp_path / "model.zip")
    loaded = RecurrentPPO.load(tmp_path / "model.zip", device="cpu")
    for mine, theirs in zip(answers(model, observation), answers(loaded, observation), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("width", [128, 16])
def test_a_policy_can_be_saved_alone(width: int, tmp_path: Path) -> None:
    model = recurrent_model(policy_kwargs={"lstm_hidden_size": width})
    model.policy.save(tmp_path / "policy.pth")
    loaded = GlimpseRecurrentPolicy.load(str(tmp_path / "policy.pth"), device="cpu")
    for mine, theirs in zip(answers(model.policy, "history"), answers(loaded, "history"), strict=True):
        np.testing.assert_array_equal(mine, theirs)


# --- training


@EACH
def test_gradients_reach_all_that_is_trained(observation: str, pretrained: bool) -> None:
    """Demonstrations give gradients to the actor only, values to the critic only."""
    policy, data = recurrent_model(observation, pretrained=pretrained).policy, toy_data(observation)
    actor, critic = actor_parameters(policy), critic_parameters(policy)
    DemonstrationLoss(policy, data)(np.arange(len(data))).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in actor)
    assert all(parameter.grad is None for parameter in critic)
    policy.zero_grad()
    values_in_sequence(policy, state_observations(data), len(data)).square().sum().backward()
    assert all(parameter.grad is None for parameter in actor)
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in critic)


@BOTH
def test_values_of_minibatches_are_those_of_the_rollout(observation: str) -> None:
    """Also where minibatches cut episodes, or hold episodes of different lengths, which are padded."""
    model = recurrent_model(observation, n_steps=STEPS + 1)
    _, callback = model._setup_learn(1)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, STEPS + 1)
    expected = np.sort(model.rollout_buffer.returns.flatten())
    found = []
    with torch.no_grad():
        for batch in model.rollout_buffer.get(14):
            values, returns = values_of(model.policy, batch)
            real = batch.mask > 0.5
            assert values.shape == returns.shape == (int(real.sum()),)
            torch.testing.assert_close(values, batch.old_values[real], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(returns, batch.returns[real])
            found.append(returns)
    np.testing.assert_array_equal(np.sort(torch.cat(found).numpy()), expected)


@EACH
def test_the_critic_is_warmed_up_and_the_actor_stays(observation: str, pretrained: bool) -> None:
    judge, images = toy_judge(num_classes=1), toy_dataset(num_classes=1)  # every return is 1
    env = toy_vec_env(dataset=images, judge=judge, observation=observation)
    model = recurrent_model(pretrained=pretrained, env=env)
    model.policy.value_net.bias.data.fill_(-1)
    actor, critic = weights_of(*model.policy.actor_modules), weights_of(*model.policy.critic_modules)
    losses = warm_up_critic(model, timesteps=2 * STEPS * 8, epochs=10, batch_size=8, learning_rate=3e-3)
    assert len(losses) == 20
    assert losses[-1] < 0.1 * losses[0]
    assert equal(actor, weights_of(*model.policy.actor_modules))
    assert not equal(critic, weights_of(*model.policy.critic_modules))
