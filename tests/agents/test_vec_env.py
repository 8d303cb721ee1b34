from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.vec_env import GlimpseVecEnv
from glimpse_env import GlimpseEnv, GlimpseVectorEnv
from glimpse_env.errors import ConfigurationError
from tests.support.toy import GEOMETRY, toy_dataset, toy_judge

NUM_ENVS = 3
STEPS = GEOMETRY.num_glimpses


def make(num_envs: int = NUM_ENVS, **settings: Any) -> GlimpseVecEnv:
    return GlimpseVecEnv(GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=num_envs, **settings))


def make_dummy(num_envs: int = NUM_ENVS, **settings: Any) -> DummyVecEnv:
    return DummyVecEnv([lambda: Monitor(GlimpseEnv(toy_dataset(), toy_judge(), **settings)) for _ in range(num_envs)])


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Equal in structure, types and dtypes, and in values to what batching does to float32; times may differ."""
    if isinstance(first, dict):
        assert isinstance(second, dict), where
        assert first.keys() == second.keys(), where
        for key in first:
            if not (where.endswith("/episode") and key == "t"):
                assert_same(first[key], second[key], f"{where}/{key}")
        return
    assert type(first) is type(second), where
    if isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for place, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}/{place}")
    else:
        assert np.asarray(first).dtype == np.asarray(second).dtype, where
        assert np.allclose(first, second, atol=1e-5), where


@pytest.mark.parametrize(
    "settings",
    [
        {"observation": observation, **others}
        for observation in ("history", "glimpse", "canvas", "embedding")
        for others in ({}, {"posterior_info": False}, {"reward": "information"}, {"action": "continuous"})
        if (observation, others.get("action")) != ("embedding", "continuous")
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_transitions_equal_those_of_monitored_single_environments(settings: dict[str, Any]) -> None:
    env, dummy = make(**settings), make_dummy(**settings)
    assert env.observation_space == dummy.observation_space
    assert env.action_space == dummy.action_space
    assert env.seed(5) == dummy.seed(5)
    assert_same(env.reset(), dummy.reset())
    assert_same(env.reset_infos, dummy.reset_infos)
    env.action_space.seed(0)
    for _ in range(3 * STEPS + 1):
        actions = np.array([env.action_space.sample() for _ in range(NUM_ENVS)])
        assert_same(env.step(actions), dummy.step(actions))
        assert_same(env.reset_infos, dummy.reset_infos)
    assert_same(env.reset(), dummy.reset())  # in the middle of an episode, its return is forgotten
    for _ in range(STEPS):
        assert_same(env.step(actions), dummy.step(actions))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"glimpse_cost": 0.25, "posterior_info": False},
        {"reward": "information", "observation": "glimpse"},
        {"action": "continuous", "observation": "canvas"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_transitions_of_episodes_that_stop_equal_those_of_monitored_single_environments(
    settings: dict[str, Any],
) -> None:
    env, dummy = make(stop=True, **settings), make_dummy(stop=True, **settings)
    assert env.action_space == dummy.action_space
    assert env.seed(5) == dummy.seed(5)
    assert_same(env.reset(), dummy.reset())
    rng, lengths = np.random.default_rng(0), set()
    for _ in range(8 * STEPS):
        actions = np.array([env.action_space.sample() for _ in range(NUM_ENVS)])
        stops = rng.random(NUM_ENVS) < 0.3
        if actions.ndim == 1:
            actions = np.where(stops, 64, actions)
        else:
            actions[:, 2] = np.where(stops, 1, -1)
        told = env.step(actions)
        assert_same(told, dummy.step(actions))
        assert_same(env.reset_infos, dummy.reset_infos)
        lengths |= {info["episode"]["l"] for info in told[3] if "episode" in info}
    assert lengths == set(range(1, STEPS + 1))  # steps, of which one that stops is one


def test_the_end_of_an_episode_is_told() -> None:
    env = make(posterior_info=False)
    env.seed(0)
    env.reset()
    for location in range(STEPS):
        _, rewards, dones, infos = env.step(np.full(NUM_ENVS, location))
        assert dones.all() == (location == STEPS - 1)
        assert all(info["TimeLimit.truncated"] is False for info in infos)
        if not dones.any():
            assert all(info.keys() == {"index", "glimpses", "TimeLimit.truncated"} for info in infos)
    for reward, info in zip(rewards, infos, strict=True):
        assert info["terminal_observation"]["step"] == STEPS
        assert info["episode"]["r"] == reward == info["is_success"]
        assert info["episode"]["l"] == STEPS
        assert info["episode"]["t"] >= 0


def test_options_are_used_once() -> None:
    env = make()
    env.seed(0)
    env.set_options({"index": 6})
    env.reset()
    assert [info["index"] for info in env.reset_infos] == [6, 6, 6]
    env.set_options([{"index": 1}, {"index": 2}, {"index": 3}])
    env.reset()
    assert [info["index"] for info in env.reset_infos] == [1, 2, 3]
    env.reset()
    assert [info["index"] for info in env.reset_infos] != [1, 2, 3]
    env.set_options([{"index": 1}, {}, {}])
    with pytest.raises(ConfigurationError, match="options"):
        env.reset()


def test_attributes_and_methods_are_reached() -> None:
    env = make(render_mode="rgb_array")
    env.reset()
    assert env.get_attr("render_mode") == ["rgb_array"] * 3
    assert env.get_attr("num_envs", indices=[0, 2]) == [3, 3]
    assert env.has_attr("action_masks")
    assert not env.has_attr("wings")
    env.set_attr("remark", "seen")
    assert env.get_attr("remark", indices=1) == ["seen"]
    with pytest.raises(ConfigurationError, match="remark"):
        env.set_attr("remark", "unseen", indices=[1])
    env.step(np.array([4, 5, 6]))
    masks = env.env_method("action_masks", indices=[2, 0])
    assert [np.flatnonzero(~mask).tolist() for mask in masks] == [[6], [4]]
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, indices=0) == [False]
    frame = env.render()
    assert frame is not None
    assert frame.shape == (2 * 384, 2 * 640, 3)
    env.close()


def test_masks_reach_maskable_algorithms() -> None:
    env = make()
    assert is_masking_supported(env)
    env.reset()
    env.step(np.array([4, 5, 6]))
    assert np.array_equal(get_action_masks(env), env.env.action_masks())


@pytest.mark.parametrize("algorithm", [PPO, A2C, MaskablePPO])
def test_algorithms_learn_and_log_success(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, Any] = {}
    monkeypatch.setattr(Logger, "record", lambda self, key, value, exclude=None: logged.setdefault(key, value))
    minibatch = {} if algorithm is A2C else {"batch_size": 2 * STEPS * NUM_ENVS}
    policy = {"net_arch": [8]}
    model = algorithm(
        "MultiInputPolicy", make(posterior_info=False), n_steps=2 * STEPS, policy_kwargs=policy, **minibatch
    )
    model.learn(2 * STEPS * NUM_ENVS, log_interval=1)
    assert logged["rollout/ep_len_mean"] == STEPS
    assert 0 <= logged["rollout/success_rate"] == logged["rollout/ep_rew_mean"] <= 1


def test_sb3_evaluates_in_it() -> None:
    env, dummy = make(), make_dummy()
    model = PPO("MultiInputPolicy", env, n_steps=STEPS, batch_size=STEPS * NUM_ENVS, policy_kwargs={"net_arch": [8]})
    env.seed(1)
    dummy.seed(1)
    expected = evaluate_policy(model, dummy, n_eval_episodes=9, return_episode_rewards=True)
    assert evaluate_policy(model, env, n_eval_episodes=9, return_episode_rewards=True) == expected
