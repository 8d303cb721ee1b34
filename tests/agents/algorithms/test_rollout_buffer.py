from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.algorithms.rollout_buffer import EpisodeRolloutBuffer
from agents.networks.encoders import ENCODED, REAL, WHOLE
from agents.registry import ARCHITECTURES
from agents.vec_env import GlimpseVecEnv
from glimpse_env.errors import ConfigurationError
from glimpse_env.vector_env import GlimpseVectorEnv
from tests.support.toy import toy_dataset, toy_judge
from tests.support.toy_agents import GRID, OBSERVATIONS, STEPS, fill_zeros, toy_env_showing, toy_model

NUM_ENVS = 6


def collected(observation: str = "history", *, n_steps: int = 2 * STEPS, **options: Any) -> Any:
    """A model none of whose parameters are zero, and whose buffer is full. Advantages and returns are made numbers
    that tell transitions apart, in the order in which (n_steps, n_envs) is flat."""
    options = {"env": toy_env_showing(observation, NUM_ENVS), "n_steps": n_steps, **options}
    model: Any = toy_model(**options)
    fill_zeros(model.policy)
    _, callback = model._setup_learn(n_steps * NUM_ENVS)
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, n_steps)
    buffer = model.rollout_buffer
    assert isinstance(buffer, EpisodeRolloutBuffer)
    buffer.advantages = np.arange(n_steps * NUM_ENVS, dtype=np.float32).reshape(n_steps, NUM_ENVS)
    buffer.returns = buffer.advantages + 0.5
    return model


def one_by_one(model: Any) -> tuple[Tensor, ...]:
    """Values, log-probabilities and entropies (n_steps * n_envs,) of the buffer's transitions, state by state."""
    buffer = model.rollout_buffer
    told = []
    with torch.no_grad():
        for step in range(buffer.buffer_size):
            shown = {key: torch.from_numpy(values[step]) for key, values in buffer.observations.items()}
            actions = torch.from_numpy(buffer.actions[step]).long().flatten()
            told.append([part.flatten() for part in model.policy.evaluate_actions(shown, actions)])
    return tuple(torch.cat(parts) for parts in zip(*told, strict=True))


def check_minibatches(model: Any, batch_size: int | None, expected: tuple[Tensor, ...]) -> list[Any]:
    """Each transition is in one of an epoch's minibatches, with its own values."""
    buffer = model.rollout_buffer
    batches = list(buffer.get(batch_size))
    for batch in batches:
        transitions = batch.advantages.long()
        assert batch.advantages.shape == batch.returns.shape == batch.old_values.shape == batch.old_log_prob.shape
        assert torch.equal(batch.returns, batch.advantages + 0.5)
        for mine, kept in (
            (batch.actions, buffer.actions),
            (batch.old_values[:, None], buffer.values),
            (batch.old_log_prob[:, None], buffer.log_probs),
        ):
            assert torch.equal(mine, torch.from_numpy(kept.reshape(buffer.buffer_size * NUM_ENVS, -1))[transitions])
        with torch.no_grad():
            told = model.policy.evaluate_actions(batch.observations, batch.actions.long().flatten())
        for mine, theirs in zip(told, expected, strict=True):
            torch.testing.assert_close(mine.flatten(), theirs[transitions], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(told[1], batch.old_log_prob, rtol=1e-4, atol=1e-5)  # nothing was trained yet
    found = torch.cat([batch.advantages for batch in batches])
    assert sorted(found.tolist()) == list(range(buffer.buffer_size * NUM_ENVS))
    return batches


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("observation", "pretrained"), [("history", True), ("history", False), ("embedding", True)])
def test_whole_episodes_are_handed_out_once(architecture: str, observation: str, pretrained: bool) -> None:
    model = collected(observation, architecture=architecture, pretrained=pretrained)
    expected = one_by_one(model)
    assert expected[0].std() > 1e-2
    assert expected[2].std() > 1e-4
    orders = []
    for batch_size, sizes in ((None, [12]), (5 * STEPS, [5, 5, 2]), (5 * STEPS + 3, [5, 5, 2]), (1, [1] * 12)):
        batches = check_minibatches(model, batch_size, expected)
        assert [len(batch.observations["mask"]) for batch in batches] == sizes
        assert [len(batch.advantages) for batch in batches] == [size * STEPS for size in sizes]
        assert all(WHOLE in batch.observations for batch in batches)
        orders.append(torch.cat([batch.advantages for batch in batches]).tolist())
    assert len({tuple(order) for order in orders}) == len(orders)


def test_of_an_episode_the_last_state_is_kept() -> None:
    model = collected("embedding")
    buffer = model.rollout_buffer
    for batch in buffer.get(STEPS):
        numbers = batch.advantages.long().tolist()
        assert np.diff(numbers).tolist() == [NUM_ENVS] * (STEPS - 1), "one environment's, in order"
        step, env = divmod(numbers[-1], NUM_ENVS)
        for key, values in buffer.observations.items():
            assert torch.equal(batch.observations[key][0], torch.from_numpy(values[step, env]))
        assert batch.observations["mask"].sum() == STEPS - 1


def test_features_of_a_frozen_encoder_take_the_glimpses_place() -> None:
    model = collected()
    buffer, width = model.rollout_buffer, model.policy.pi_features_extractor.width
    assert "glimpses" not in buffer.folded
    assert buffer.folded[ENCODED].shape == (2 * NUM_ENVS, STEPS * width)
    assert buffer.folded[ENCODED].dtype == np.float32
    expected = one_by_one(model)
    calls: list[int] = []
    handle = model.policy.pi_features_extractor.encoder.register_forward_hook(lambda *_: calls.append(1))
    check_minibatches(model, 5 * STEPS, expected)
    assert not calls
    buffer.fold()
    assert ENCODED not in buffer.folded
    check_minibatches(model, 5 * STEPS, expected)
    assert calls
    handle.remove()


@pytest.mark.parametrize(("observation", "pretrained"), [("history", False), ("embedding", True)])
def test_what_is_not_encoded_once_is_kept_as_it_is(observation: str, pretrained: bool) -> None:
    folded = collected(observation, pretrained=pretrained).rollout_buffer.folded
    assert ENCODED not in folded
    assert ("glimpses" if observation == "history" else "embeddings") in folded


def begun_before(model: Any) -> None:
    """All environments are one step into their episodes when the rollout begins."""
    for key, values in model.rollout_buffer.observations.items():
        model.rollout_buffer.observations[key] = np.roll(values, -1, axis=0)
    roll_rest(model, slice(None))


def one_begun_before(model: Any) -> None:
    """One environment is one step ahead of the others."""
    for values in model.rollout_buffer.observations.values():
        values[:, 2] = np.roll(values[:, 2], -1, axis=0)
    roll_rest(model, 2)


def roll_rest(model: Any, envs: Any) -> None:
    for name in ("actions", "values", "log_probs"):
        values = getattr(model.rollout_buffer, name)
        values[:, envs] = np.roll(values[:, envs], -1, axis=0)


@pytest.mark.parametrize("change", [begun_before, one_begun_before])
@pytest.mark.parametrize(("observation", "pretrained"), [("history", True), ("history", False), ("embedding", True)])
def test_parts_of_episodes_are_handed_out_once(
    observation: str, pretrained: bool, change: Callable[[Any], None]
) -> None:
    model = collected(observation, pretrained=pretrained, architecture="canvas")
    change(model)
    model.rollout_buffer.fold(model._encode if model.policy.encodes_once else None)
    batches = check_minibatches(model, 10, one_by_one(model))
    assert len(batches) == 5
    assert all(REAL in batch.observations for batch in batches)
    assert all((ENCODED in batch.observations) == model.policy.encodes_once for batch in batches)


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("n_steps", [STEPS - 1, STEPS + 1])
def test_episodes_cut_by_the_rollout_are_handed_out_in_parts(observation: str, n_steps: int) -> None:
    model = collected(observation, n_steps=n_steps)
    batches = check_minibatches(model, None, one_by_one(model))
    assert len(batches) == 1
    assert len(batches[0].observations["mask"]) == -(-n_steps // STEPS) * NUM_ENVS
    assert len(batches[0].advantages) == n_steps * NUM_ENVS
    model.learn(3 * n_steps * NUM_ENVS)
    assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_continuous_actions_are_handed_out_with_their_episodes() -> None:
    model: Any = toy_model(env=toy_env_showing("history", NUM_ENVS, action="continuous"), n_steps=STEPS)
    _, callback = model._setup_learn(1)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, STEPS)
    with torch.no_grad():
        for batch in model.rollout_buffer.get(2 * STEPS):
            assert batch.actions.shape == (2 * STEPS, 2)
            _, log_probabilities, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
            torch.testing.assert_close(log_probabilities, batch.old_log_prob, rtol=1e-4, atol=1e-5)


def test_masks_of_whole_episodes_leave_what_was_taken() -> None:
    """Every action has a probability in the state it was taken in."""
    model = collected("embedding")
    for batch in model.rollout_buffer.get():
        with torch.no_grad():
            probabilities = model.policy.get_distribution(batch.observations).distribution.probs
        assert probabilities.shape == (2 * NUM_ENVS * STEPS, len(GRID))
        assert probabilities.gather(1, batch.actions.long()).min() > 0
        assert torch.equal((probabilities == 0).sum(1), torch.arange(STEPS).repeat(2 * NUM_ENVS))


# --- baselines that a group shares


def grouped_model(group: int) -> Any:
    """PPO in 6 environments of which ``group`` neighbours show the same images."""
    env = GlimpseVecEnv(
        GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=6, reward="information", posterior_info=False),
        group=group,
    )
    return toy_model(env=env, n_steps=2 * STEPS)


def test_a_group_shows_the_same_images() -> None:
    env = grouped_model(3).get_env()
    shown = []
    for _ in range(5):
        env.reset()
        shown.append(env.env.batch.indices.copy())
        for _ in range(STEPS):
            env.step(np.zeros(6, dtype=np.int64))
        shown.append(env.env.batch.indices.copy())
    assert all((row[:3] == row[0]).all() and (row[3:] == row[3]).all() for row in shown)
    assert any(row[0] != row[3] for row in shown)


def test_baselines_are_the_means_of_the_others() -> None:
    alone, grouped = grouped_model(1), grouped_model(3)
    buffer = alone.rollout_buffer
    alone.learn(2 * STEPS * 6)
    before = buffer.advantages.copy()
    expected = before.copy()
    for step in range(2 * STEPS):
        for env in range(6):
            others = [other for other in range(env - env % 3, env - env % 3 + 3) if other != env]
            expected[step, env] -= before[step, others].mean()
    buffer.share_baselines(3)
    np.testing.assert_allclose(buffer.advantages, expected, rtol=1e-5, atol=1e-6)
    grouped.learn(2 * STEPS * 6)
    of_groups = grouped.rollout_buffer.advantages.reshape(2 * STEPS, 2, 3)
    np.testing.assert_allclose(of_groups.sum(2), 0, atol=1e-4)  # what one gains the others lose
    assert np.abs(of_groups).max() > 1e-3


def test_groups_must_divide_the_environments() -> None:
    with pytest.raises(ConfigurationError, match="group=4 must divide 6"):
        grouped_model(4)
