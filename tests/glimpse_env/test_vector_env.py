import copy
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from glimpse_env import ANYTIME_IDS, ENV_IDS, GlimpseEnv, GlimpseVectorEnv
from glimpse_env.errors import ConfigurationError, InvalidActionError
from tests.support.toy import GEOMETRY, CountingJudge, toy_dataset, toy_judge, write_toy_world

NUM_ENVS = 3
STEPS = GEOMETRY.num_glimpses
SETTINGS = [
    {"observation": observation, "action": action, "reward": reward, "posterior_info": posterior_info}
    for observation in ("history", "glimpse", "canvas", "embedding")
    for action, reward, posterior_info in (
        ("discrete", "classification", True),
        ("continuous", "information", True),
        ("discrete", "classification", False),
    )
    if (observation, action) != ("embedding", "continuous")
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    with pytest.MonkeyPatch.context() as patch:
        yield write_toy_world(tmp_path_factory.mktemp("world"), patch)


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Equal in structure, types, shapes and dtypes, and in values to what batching does to float32."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, tuple) or (isinstance(first, np.ndarray) and first.dtype == object):
        assert len(first) == len(second), where
        for place, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}/{place}")
    elif isinstance(first, np.ndarray):
        assert (first.shape, first.dtype) == (second.shape, second.dtype), where
        exact = "probabilities" not in where and first.dtype != np.float64
        assert np.array_equal(first, second) if exact else np.allclose(first, second, atol=1e-5), where
    else:
        assert first == second, where


def check_equal_to_singles(env: gym.vector.VectorEnv, singles: SyncVectorEnv, steps: int) -> None:
    """Step by step, observations, rewards, ends and infos of both are the same."""
    assert env.observation_space == singles.observation_space
    assert env.action_space == singles.action_space
    env.action_space.seed(0)
    assert_same(env.reset(seed=11), singles.reset(seed=11))
    for _ in range(steps):
        actions = env.action_space.sample()
        told = env.step(actions)
        assert told[0] in env.observation_space
        assert_same(told, singles.step(actions))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
@pytest.mark.parametrize("scales", [1, 2])
def test_the_same_seeds_give_the_episodes_of_single_environments(settings: dict[str, Any], scales: int) -> None:
    geometry = replace(GEOMETRY, scales=scales)
    dataset, judge = toy_dataset(geometry=geometry), toy_judge(geometry)

    def single() -> gym.Env:
        return GlimpseEnv(dataset, judge, **settings)

    env = GlimpseVectorEnv(dataset, judge, num_envs=NUM_ENVS, **settings)
    singles = SyncVectorEnv([single] * NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP)
    check_equal_to_singles(env, singles, steps=3 * STEPS + 1)


STOPS = [
    {"observation": observation, **others}
    for observation in ("history", "glimpse", "canvas", "embedding")
    for others in (
        {"glimpse_cost": 0.1},
        {"posterior_info": False, "tabulated": True},
        {"posterior_info": False, "reward": "information", "glimpse_cost": 2.0},
        {"action": "continuous", "posterior_info": False},
    )
    if (observation, others.get("action")) != ("embedding", "continuous")
]


@pytest.mark.parametrize("settings", STOPS, ids=lambda settings: "-".join(map(str, settings.values())))
@pytest.mark.parametrize("zooms", [(1,), (1, 2)])
def test_episodes_that_stop_are_those_of_single_environments(settings: dict[str, Any], zooms: tuple[int, ...]) -> None:
    geometry = replace(GEOMETRY, zooms=zooms)
    dataset, judge = toy_dataset(geometry=geometry), toy_judge(geometry)
    locations, coordinates = len(geometry.grid), geometry.grid.coordinates
    env = GlimpseVectorEnv(dataset, judge, num_envs=NUM_ENVS, stop=True, **settings)
    singles = SyncVectorEnv(
        [lambda: GlimpseEnv(dataset, judge, stop=True, **settings)] * NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert env.action_space == singles.action_space
    rng, lengths = np.random.default_rng(0), set()
    assert_same(env.reset(seed=11), singles.reset(seed=11))
    for _ in range(12 * STEPS):
        actions = env.action_space.sample()
        stops = rng.random(NUM_ENVS) < 0.3
        if settings.get("action") == "continuous":
            actions[:, coordinates] = np.where(stops, 0.5, -0.5)
        else:
            actions = np.where(stops, locations, rng.integers(0, locations, NUM_ENVS))
        told = env.step(actions)
        assert told[0] in env.observation_space
        assert_same(told, singles.step(actions))
        if "final_info" in told[-1]:
            lengths |= set(told[-1]["final_info"]["glimpses"][told[2]].tolist())
    assert lengths == set(range(STEPS + 1))
    assert_same(env.reset(seed=3), singles.reset(seed=3))


def test_many_episodes_later_the_images_are_still_the_same() -> None:
    dataset = toy_dataset(500)
    env = GlimpseVectorEnv(dataset, CountingJudge(), num_envs=2, posterior_info=False)
    singles = [GlimpseEnv(dataset, CountingJudge(), posterior_info=False) for _ in range(2)]
    env.reset(seed=3)
    for i, single in enumerate(singles):
        single.reset(seed=3 + i)
    for _ in range(150):
        for _ in range(STEPS):
            *_, info = env.step([0, 0])
        assert info["index"].tolist() == [single.reset()[1]["index"] for single in singles]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
@pytest.mark.parametrize("env_id", [*ENV_IDS, *ANYTIME_IDS])
def test_make_vec_gives_the_native_environment(
    world: dict[str, dict[str, Any]], env_id: str, settings: dict[str, Any]
) -> None:
    arguments = world[env_id] | settings
    env = gym.make_vec(env_id, num_envs=2, **arguments)
    assert isinstance(env, GlimpseVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    singles = gym.make_vec(
        env_id,
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        **arguments,
    )
    check_equal_to_singles(env, singles, steps=7)
    assert env.spec is not None
    json.loads(env.spec.to_json())
    again = gym.make_vec(EnvSpec.from_json(env.spec.to_json()))
    assert again.num_envs == 2
    assert_same(again.reset(seed=11), env.reset(seed=11))
    singles.close()


def test_final_observations_are_of_the_episodes_that_ended() -> None:
    dataset = toy_dataset()
    env = GlimpseVectorEnv(dataset, toy_judge(), num_envs=2)
    env.reset(options={"index": np.array([4, 9])})
    for location in range(STEPS):
        observations, rewards, terminated, truncated, info = env.step(np.array([location, location + 7]))
        assert not truncated.any()
        assert terminated.all() == (location == STEPS - 1)
        assert ("final_obs" in info) == (location == STEPS - 1)
    final, last = info["final_obs"], info["final_info"]
    assert final[0]["step"] == STEPS
    assert np.array_equal(final[1]["glimpses"][:144], dataset.images[9, :12, 28:40].ravel() * np.float32(1 / 255))
    assert last["index"].tolist() == [4, 9]
    assert last["label"].tolist() == dataset.labels[[4, 9]].tolist()
    assert last["is_success"].tolist() == rewards.astype(bool).tolist()
    assert "label" not in info
    assert not observations["step"].any()
    assert not observations["glimpses"].any()


@pytest.mark.parametrize("observation", ["history", "glimpse", "canvas", "embedding"])
def test_arrays_that_are_held_are_never_used_again(observation: Any) -> None:
    env = GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=2, reward="information", observation=observation)
    kept: list[tuple[Any, Any]] = []
    told: tuple[Any, ...] = env.reset(seed=0)
    for location in range(2 * STEPS):
        kept.append((told, copy.deepcopy(told)))
        told = env.step(np.array([location, location]))
        for original, snapshot in kept:
            assert_same(original, snapshot)


@pytest.mark.parametrize("observation", ["history", "glimpse", "canvas", "embedding"])
def test_arrays_may_be_overwritten_by_who_holds_them(observation: Any) -> None:
    """Whatever is done to what was returned, nothing of it comes back."""
    env, twin = (GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=2, observation=observation) for _ in range(2))
    told: tuple[Any, ...] = env.reset(seed=0)
    expected: tuple[Any, ...] = twin.reset(seed=0)
    for location in range(2 * STEPS):
        assert_same(told, expected)
        for array in told[0].values() if isinstance(told[0], dict) else [told[0]]:
            array.fill(7)
        actions = np.array([location, location + 9])
        told, expected = env.step(actions), twin.step(actions)


def test_images_can_be_chosen() -> None:
    env = GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=3)
    assert env.reset(options={"index": 5})[1]["index"].tolist() == [5, 5, 5]
    assert env.reset(options={"index": [5, 0, 23]})[1]["index"].tolist() == [5, 0, 23]
    for bad in ([5, 0], 24, [0, -1, 2], [0.5, 1, 2], "0"):
        with pytest.raises(ConfigurationError, match="index"):
            env.reset(options={"index": bad})
    with pytest.raises(ConfigurationError, match="reset_mask"):
        env.reset(options={"reset_mask": np.ones(3, dtype=bool)})


def test_seeds_may_be_given_one_by_one() -> None:
    env = GlimpseVectorEnv(toy_dataset(500), toy_judge(), num_envs=3)
    first = env.reset(seed=4)[1]["index"]
    assert env.np_random_seed == (4, 5, 6)
    assert np.array_equal(env.reset(seed=[4, 5, 6])[1]["index"], first)
    assert not np.array_equal(env.reset()[1]["index"], first)
    after = env.reset(seed=[4, None, 6])[1]["index"]
    assert after[[0, 2]].tolist() == first[[0, 2]].tolist()
    assert after[1] != first[1]
    with pytest.raises(ConfigurationError, match="2 seeds"):
        env.reset(seed=[1, 2])


def test_sub_environments_differ_without_a_seed() -> None:
    env = GlimpseVectorEnv(toy_dataset(500), toy_judge(), num_envs=8)
    assert len(set(env.reset()[1]["index"].tolist())) > 2
    assert len({generator.bit_generator.state["state"]["state"] for generator in env.np_random}) == 8


def test_steps_need_a_reset_and_valid_actions() -> None:
    env = GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=2, render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.step(np.array([0, 0]))
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(seed=0)
    for bad in (np.array([0, 64]), np.array([0.0, 1.0]), np.array([1]), 3, None):
        with pytest.raises(InvalidActionError):
            env.step(bad)
    assert env.step([0, 63])[0]["step"].tolist() == [1, 1]


def test_action_masks_of_all_environments() -> None:
    env = GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=2)
    env.reset(seed=0)
    env.step(np.array([3, 8]))
    env.step(np.array([4, 8]))
    masks = env.action_masks()
    assert masks.shape == (2, 64)
    assert [np.flatnonzero(~mask).tolist() for mask in masks] == [[3, 4], [8]]


def test_the_judge_is_asked_once_an_episode_without_posterior_info() -> None:
    judge = CountingJudge()
    env = GlimpseVectorEnv(toy_dataset(), judge, num_envs=NUM_ENVS, posterior_info=False)
    env.reset(seed=0)
    for _ in range(2 * STEPS):
        env.step(env.action_space.sample())
    assert judge.asked == 2 * NUM_ENVS


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_go_on_as_the_original_does(copied: Any) -> None:
    env = GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=2)
    env.reset(seed=1)
    env.step(np.array([1, 2]))
    twin = copied(env)
    for location in range(2 * STEPS):
        actions = np.array([location, location + 1])
        assert_same(env.step(actions), twin.step(actions))


def test_a_vector_environment_renders_frames_but_no_window() -> None:
    env = GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=2, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.array([0, 20]))
    frames = env.render()
    assert frames is not None
    assert len(frames) == 2
    assert not np.array_equal(*frames)
    with pytest.raises(ConfigurationError, match="human"):
        GlimpseVectorEnv(toy_dataset(), toy_judge(), render_mode="human")


def test_gymnasium_statistics_wrapper_counts_episodes() -> None:
    env = gym.wrappers.vector.RecordEpisodeStatistics(GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=2))
    env.reset(seed=0)
    for _ in range(STEPS):
        *_, info = env.step(np.array([1, 2]))
    assert info["episode"]["l"].tolist() == [STEPS, STEPS]
