"""Agents learn from demonstrations when to stop."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.algorithms.demonstrations import DemonstrationLossCallback, demonstration_rewards, warm_up_critic
from agents.cloning import DemonstrationLoss, agreement, clone
from agents.cloning_data import CloningData
from agents.ram.sequences import Sequences
from agents.registry import ALGORITHMS
from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from oracles.demonstrations import Demonstrations
from tests.support import toy
from tests.support.toy import CountingJudge, toy_dataset, toy_judge
from tests.support.toy_agents import GRID, STEPS, demonstrations, grey_dataset, toy_model, toy_vec_env

STOP = len(GRID)
LOCATIONS = np.array([[3, 5, -1, -1], [7, 2, 1, 0], [-1, -1, -1, -1]])
TAKEN = np.array([[3, 5, STOP, -1], [7, 2, 1, 0], [STOP, -1, -1, -1]])


def stopping(locations: np.ndarray, epe: np.ndarray | None = None) -> Demonstrations:
    """Demonstrations of a policy that can stop."""
    return replace(demonstrations(np.maximum(locations, 0), epe), locations=locations, manifest={"stops": True})


def branching(count: int = 48) -> Demonstrations:
    """Location 9; then dark images stop, and light ones look at 20 first."""
    light = np.arange(count) % 4 >= 2
    locations = np.full((count, STEPS), -1)
    locations[:, 0] = 9
    locations[light, 1] = 20
    return stopping(locations)


# Data


def test_soft_targets_by_hand() -> None:
    epe = np.full((3, STEPS, STOP + 1), np.inf)
    epe[..., :3] = [0.0, 0.5, 1.0]
    epe[..., STOP] = 0.5
    epe[0, 3] = epe[2, 1:] = np.nan
    data = CloningData.from_demonstrations(stopping(LOCATIONS, epe), toy_dataset(), temperature=0.5)
    assert data.stop
    np.testing.assert_array_equal(data.taken, TAKEN)
    e = np.exp(-np.array([0.0, 1.0, 2.0, 1.0]))
    np.testing.assert_allclose(data.targets[0, 2, [0, 1, 2, STOP]], e / e.sum(), rtol=1e-5)
    left = e[[0, 1, 3]]  # 2 was looked at
    np.testing.assert_allclose(data.targets[1, 2, [0, 1, STOP]], left / left.sum(), rtol=1e-5)
    going_on = [[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    np.testing.assert_allclose(data.targets.sum(-1), going_on, rtol=1e-5)
    seen = (data.glimpses != 0).any(axis=(2, 3, 4))
    np.testing.assert_array_equal(seen, [[1, 1, 0], [1, 1, 1], [0, 0, 0]])


def test_a_stop_without_a_value_has_all_of_the_target() -> None:
    epe = np.zeros((3, STEPS, STOP + 1))
    epe[..., STOP] = np.nan
    epe[0, 3] = epe[2, 1:] = np.nan
    targets = CloningData.from_demonstrations(stopping(LOCATIONS, epe), toy_dataset()).targets
    np.testing.assert_array_equal(targets[[0, 2], [2, 0]], np.eye(STOP + 1)[[STOP, STOP]])
    assert not targets[1, :, STOP].any()
    np.testing.assert_allclose(targets[1, 0, :STOP], 1 / STOP, rtol=1e-5)


def test_argmax_targets_by_hand_and_mirrored() -> None:
    data = CloningData.from_demonstrations(stopping(LOCATIONS), toy_dataset(), targets="argmax")
    expected = np.where((TAKEN >= 0)[..., None], np.eye(STOP + 1)[TAKEN], 0)
    np.testing.assert_array_equal(data.targets, expected)
    both = data.with_mirror_images()
    mirror = np.append(GRID.mirrored, STOP)
    np.testing.assert_array_equal(both.taken[3:], np.where(TAKEN < 0, -1, mirror[TAKEN]))
    np.testing.assert_array_equal(both.targets[3:].argmax(-1)[0, :3], mirror[TAKEN[0, :3]])


def test_who_cannot_stop_teaches_who_can_but_not_the_other_way_round() -> None:
    epe = np.zeros((1, STEPS, STOP))
    data = CloningData.from_demonstrations(demonstrations(LOCATIONS[1:2], epe), toy_dataset(), stop=True)
    assert data.targets.shape == (1, STEPS, STOP + 1)
    assert not data.targets[..., STOP].any()
    with pytest.raises(ConfigurationError, match="stop=True"):
        CloningData.from_demonstrations(stopping(LOCATIONS), toy_dataset(), targets="argmax", stop=False)
    with pytest.raises(ConfigurationError, match="stop=True"):
        DemonstrationLoss(toy_model("ppo").policy, data)
    with pytest.raises(ConfigurationError, match="cannot supervise RAM"):
        Sequences(np.arange(3), LOCATIONS)


@pytest.mark.parametrize("reward", ["information", "classification"])
def test_rewards_are_the_environments(reward: Any) -> None:
    data = CloningData.from_demonstrations(stopping(LOCATIONS), toy_dataset(), targets="argmax")
    rewards = demonstration_rewards(data, toy_dataset(), toy_judge(), reward, glimpse_cost=0.1)
    env = toy_vec_env(1, judge=toy_judge(), stop=True, reward=reward, glimpse_cost=0.1).envs[0]
    for row, actions in enumerate(TAKEN):
        env.reset(options={"index": row})
        paid = [env.step(action)[1] for action in actions[actions >= 0]]
        np.testing.assert_allclose(rewards[row], np.pad(paid, (0, STEPS - len(paid))), atol=1e-5)


# Agents


@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_agents_stop_where_the_demonstrator_did(algo: str) -> None:
    dataset, shown = grey_dataset(), branching()
    data = CloningData.from_demonstrations(shown, dataset, targets="argmax")
    env = toy_vec_env(8, dataset, CountingJudge(), stop=True, glimpse_cost=0.1)
    options = {"learning_rate": 1e-2, "margin_weight": 3.0} if ALGORITHMS[algo].off_policy else {}
    model: Any = toy_model(algo, env=env, **options)
    if ALGORITHMS[algo].off_policy:
        rewards = demonstration_rewards(data, dataset, CountingJudge(), glimpse_cost=0.1)
        model.load_demonstrations(data, rewards)
        model.pretrain(400, 48, seed=0, progress=False)
    else:
        clone(model, data, passes=100, batch_size=48, learning_rate=5e-3, seed=0, progress=False)
    played = play(model, dataset, CountingJudge(), np.arange(48), progress=False)
    np.testing.assert_array_equal(played.lengths, np.where(np.arange(48) % 4 >= 2, 2, 1))
    np.testing.assert_array_equal(played.locations, shown.locations)
    assert agreement(DemonstrationLoss(model.policy, data)) == (1.0, 1.0)


@pytest.mark.parametrize("algo", ["ppo", "recurrent_ppo", "reinforce"])
def test_the_critic_is_warmed_up_and_the_loss_kept(algo: str) -> None:
    dataset = grey_dataset()
    data = CloningData.from_demonstrations(branching(), dataset, targets="argmax")
    env = toy_vec_env(8, dataset, CountingJudge(), stop=True, glimpse_cost=0.1)
    model: Any = toy_model(algo, env=env, n_steps=16)
    clone(model, data, passes=100, batch_size=48, learning_rate=5e-3, seed=0, progress=False)
    losses = warm_up_critic(model, timesteps=512, epochs=4)
    assert losses[-1] < losses[0]
    callback = DemonstrationLossCallback(data, coefficient=10.0)
    model.learn(256, callback)
    assert torch.isfinite(model.policy.action_net.bias).all()
    played = play(model, dataset, CountingJudge(), np.arange(48), progress=False)
    assert (played.locations == branching().locations).mean() > 0.9


def test_the_same_loss_state_by_state() -> None:
    """Of a policy that does not know demonstrations, as SB3's own, and of ours."""
    data = CloningData.from_demonstrations(stopping(LOCATIONS), toy_dataset(), targets="argmax")
    env = toy_vec_env(2, stop=True)
    model: Any = toy_model("ppo", env=env)
    rows = np.arange(3)
    whole = DemonstrationLoss(model.policy, data)
    one_by_one = DemonstrationLoss(model.policy, data)
    one_by_one._in_one_pass = False
    model.policy.set_training_mode(False)
    assert whole(rows).item() == pytest.approx(one_by_one(rows).item(), abs=1e-4)


def test_windows_of_every_width_and_stops_are_learned_together() -> None:
    geometry = replace(toy.GEOMETRY, zooms=(1, 2, 3))
    grid, dataset = geometry.grid, toy_dataset(geometry=geometry)
    wide = len(grid) - 1
    locations = np.tile([wide, 4, -1, -1], (24, 1))
    data = CloningData.from_demonstrations(stopping(locations), dataset, targets="argmax").with_mirror_images()
    assert set(data.taken[24:, 0].tolist()) == {int(grid.mirrored[wide])}
    judge = toy_judge(geometry)
    model: Any = toy_model("ppo", env=toy_vec_env(4, dataset, judge, stop=True))
    clone(model, data[:24], passes=60, learning_rate=5e-3, seed=0, progress=False)
    played = play(model, dataset, judge, np.arange(24), progress=False)
    np.testing.assert_array_equal(played.locations, locations)
