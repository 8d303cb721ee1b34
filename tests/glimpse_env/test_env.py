"""Every registered id, at toy size with untrained judges; and the single environment on noise."""

import copy
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from glimpse_env import ANYTIME_IDS, ENV_IDS, GlimpseEnv, GlimpseVectorEnv
from glimpse_env.errors import ConfigurationError, InvalidActionError
from tests.support.toy import GEOMETRY, SIZE, CountingJudge, toy_dataset, toy_judge, write_toy_world

MODES = ("history", "glimpse", "canvas", "embedding")
STEPS = GEOMETRY.num_glimpses


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDL_VIDEODRIVER", "dummy")
        patch.setattr(GlimpseEnv, "metadata", {**GlimpseEnv.metadata, "render_fps": 1000})  # no waiting
        yield write_toy_world(tmp_path_factory.mktemp("world"), patch)


@pytest.fixture(params=[*ENV_IDS, *ANYTIME_IDS])
def env_id(request: pytest.FixtureRequest) -> str:
    return request.param


def play(env: gym.Env, seed: int, episodes: int = 2) -> list[Any]:
    """Everything that ``episodes`` episodes of random actions return."""
    env.action_space.seed(seed)
    told: list[Any] = [env.reset(seed=seed)]
    for _ in range(episodes):
        ended = False
        while not ended:
            told.append(env.step(env.action_space.sample()))
            ended = told[-1][2]
        told.append(env.reset())
    return told


# Every id


@pytest.mark.parametrize("render_mode", [None, "rgb_array", "human"])
def test_both_checkers_pass_in_each_render_mode(
    world: dict[str, dict[str, Any]], env_id: str, render_mode: str | None
) -> None:
    env = gym.make(env_id, render_mode=render_mode, **world[env_id])
    check_env(env.unwrapped)  # which makes the environment again in each render mode
    sb3_check_env(env.unwrapped, skip_render_check=render_mode is None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"observation": "glimpse"},
        {"observation": "canvas"},
        {"observation": "embedding"},
        {"tabulated": True},
        {"action": "continuous"},
        {"observation": "glimpse", "action": "continuous"},
        {"observation": "canvas", "action": "continuous"},
        {"reward": "information"},
        {"posterior_info": False},
    ],
)
def test_both_checkers_pass_with_each_setting(
    world: dict[str, dict[str, Any]], env_id: str, arguments: dict[str, Any]
) -> None:
    env = gym.make(env_id, **world[env_id], **arguments)
    check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)
    sb3_check_env(env.unwrapped)


def test_several_scales_pass_the_checkers() -> None:
    for observation in MODES:
        wide = replace(GEOMETRY, scales=3)
        env = GlimpseEnv(toy_dataset(geometry=wide), toy_judge(wide), observation=observation)
        check_env(env, skip_render_check=True, skip_close_check=True)
        sb3_check_env(env)


def test_the_protocol_of_each_id(world: dict[str, dict[str, Any]], env_id: str) -> None:
    env = gym.make(env_id, **world[env_id])
    size, side, steps, channels = {
        "GlimpseCUB-v0": (128, 32, 5, 3),
        "GlimpseCUBFull-v0": (224, 32, 6, 3),
        "GlimpseBirds-v0": (128, 32, 5, 3),
        "GlimpseFolder-v0": (60, 12, 6, 3),
        "GlimpseCelebAHQ-v0": (224, 16, 5, 3),
        "GlimpseSignpost-v0": (36, 12, 2, 1),
        "GlimpseNeedle-v0": (200, 4, 6, 1),
        "GlimpseMemory-v0": (64, 8, 12, 1),
    }.get(env_id.replace("Anytime", ""), (60, 12, 6, 1))
    whole = env_id == "GlimpseCUBFull-v0"
    many = {"GlimpseCUBFull-v0": 625, "GlimpseCelebAHQ-v0": 2500, "GlimpseSignpost-v0": 9, "GlimpseNeedle-v0": 2500}
    many["GlimpseMemory-v0"] = 64
    locations = many.get(env_id, 169)
    if env_id in ANYTIME_IDS:  # grids of windows twice and four times as wide, and the action that stops
        wide = {"GlimpseCUBFullAnytime-v0": 625 + 121 + 16, "GlimpseCelebAHQAnytime-v0": 2500 + 529 + 100}
        # twice as wide only
        wide |= {"GlimpseSignpostAnytime-v0": 9 + 1, "GlimpseNeedleAnytime-v0": 2500 + 625}
        wide["GlimpseMemoryAnytime-v0"] = 64 + 16
        locations = wide.get(env_id, 169 + 25 + 1) + 1
    assert env.action_space == gym.spaces.Discrete(locations)
    assert isinstance(env.observation_space, gym.spaces.Dict)
    assert env.observation_space["glimpses"].shape == (steps * side * side * channels * (2 if whole else 1),)
    assert env.observation_space["step"] == gym.spaces.Discrete(steps + 1)
    canvas = gym.make(env_id, observation="canvas", **world[env_id]).observation_space
    assert canvas.shape == (size, size, channels + 1)


def test_the_spec_survives_json(world: dict[str, dict[str, Any]], env_id: str) -> None:
    env = gym.make(env_id, observation="glimpse", reward="information", **world[env_id])
    assert env.spec is not None
    written = env.spec.to_json()
    json.loads(written)
    spec = EnvSpec.from_json(written)
    assert spec == env.spec
    assert data_equivalence(play(gym.make(spec), seed=3), play(env, seed=3))


def test_the_same_seed_gives_the_same_episodes(world: dict[str, dict[str, Any]], env_id: str) -> None:
    first, second = (gym.make(env_id, **world[env_id]) for _ in range(2))
    told = play(first, seed=7)
    assert data_equivalence(told, play(second, seed=7), exact=True)
    assert data_equivalence(told, play(first, seed=7), exact=True)
    assert [entry[-1]["index"] for entry in told] != [entry[-1]["index"] for entry in play(second, seed=8)]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_go_on_as_the_original_does(world: dict[str, dict[str, Any]], env_id: str, copied: Any) -> None:
    env = gym.make(env_id, render_mode="human", **world[env_id])
    env.reset(seed=1)
    env.step(5)
    twin = copied(env)
    between = (9, 60)[: max(0, env.observation_space["step"].n - 4)]  # type: ignore[index]
    for location in between:
        assert data_equivalence(env.step(location), twin.step(location), exact=True)
    env.step(3)
    twin.step(4)  # from here on they differ: nothing that changes is shared
    histories, other = env.unwrapped.batch.histories, twin.unwrapped.batch.histories  # type: ignore[attr-defined]
    last = 1 + len(between)
    assert np.array_equal(histories.corners[0, last - 1], other.corners[0, last - 1])
    assert not np.array_equal(histories.corners[0, last], other.corners[0, last])
    env.close()
    twin.close()


@pytest.mark.parametrize(
    "wrapper",
    [
        gym.wrappers.RecordEpisodeStatistics,
        gym.wrappers.FlattenObservation,
        lambda env: gym.wrappers.FrameStackObservation(env, 2),
    ],
)
def test_gymnasium_wrappers_apply(world: dict[str, dict[str, Any]], env_id: str, wrapper: Any) -> None:
    env = wrapper(gym.make(env_id, **world[env_id]))
    observation, *_, info = play(env, seed=0, episodes=1)[-2]
    assert observation in env.observation_space
    assert "is_success" in info


# The single environment


@pytest.fixture
def env() -> GlimpseEnv:
    return GlimpseEnv(toy_dataset(), toy_judge())


def test_an_episode_ends_with_its_last_glimpse(env: GlimpseEnv) -> None:
    env.reset(seed=0)
    ends = [env.step(location)[2:4] for location in range(STEPS)]
    assert ends == [(False, False)] * (STEPS - 1) + [(True, False)]


def test_steps_need_a_running_episode(env: GlimpseEnv) -> None:
    with pytest.raises(ResetNeeded):
        env.step(0)
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(seed=0)
    for location in range(STEPS):
        env.step(location)
    with pytest.raises(ResetNeeded, match="ended"):
        env.step(0)
    env.reset()
    env.step(0)


@pytest.mark.parametrize(
    "bad", [-1, 64, 2.0, True, None, "3", [3], [3, 4], [[1], [2, 3]], np.nan, np.array([1]), np.array(3.0), {}, 2**70]
)
def test_invalid_discrete_actions_are_named_and_harmless(env: GlimpseEnv, bad: Any) -> None:
    twin = copy.deepcopy(env)
    for one in (env, twin):
        one.reset(seed=0)
        one.step(11)
    named = "64" if bad == 64 and isinstance(bad, int) else "action"
    with pytest.raises(InvalidActionError, match=named):
        env.step(bad)
    assert data_equivalence(env.step(np.int32(12)), twin.step(12), exact=True)


@pytest.mark.parametrize(
    "bad",
    [0.5, [0.5], [0.1, 0.2, 0.3], [np.nan, 0.0], [0.0, np.inf], [1.01, 0.0], ["a", "b"], [True, False], None, [[0, 0]]],
)
def test_invalid_continuous_actions_are_named_and_harmless(bad: Any) -> None:
    env = GlimpseEnv(toy_dataset(), toy_judge(), action="continuous")
    twin = copy.deepcopy(env)
    for one in (env, twin):
        one.reset(seed=0)
        one.step([0.1, 0.2])
    with pytest.raises(InvalidActionError, match="action"):
        env.step(bad)
    assert data_equivalence(env.step([0.5, -0.5]), twin.step(np.array([0.5, -0.5], np.float32)), exact=True)


def test_reset_shows_the_image_asked_for(env: GlimpseEnv) -> None:
    for index in (0, 7, 23):
        _, info = env.reset(options={"index": index})
        assert info["index"] == index
        observation = env.step(0)[0]
        expected = env.dataset.images[index, :12, :12] * np.float32(1 / 255)
        assert np.array_equal(observation["glimpses"][: 12 * 12], expected.ravel())


@pytest.mark.parametrize("options", [{"index": 24}, {"index": -1}, {"index": 1.5}, {"index": [1, 2]}, {"image": 3}])
def test_impossible_reset_options_are_refused(env: GlimpseEnv, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"index|image"):
        env.reset(options=options)
    env.reset()


def test_all_images_are_drawn() -> None:
    env = GlimpseEnv(toy_dataset(6), toy_judge())
    env.reset(seed=0)
    assert {env.reset()[1]["index"] for _ in range(100)} == set(range(6))


def test_the_label_is_told_only_at_the_end(env: GlimpseEnv) -> None:
    _, info = env.reset(seed=0)
    always = {"index", "glimpses", "probabilities", "entropy"}
    assert set(info) == always
    for location in range(STEPS - 1):
        assert set(env.step(location)[-1]) == always
    reward, *_, info = env.step(STEPS)[1:]
    assert set(info) == always | {"is_success", "label", "log_loss"}
    label, p = env.dataset.labels[info["index"]], info["probabilities"]
    assert info["label"] == label
    assert isinstance(info["is_success"], bool)
    assert info["is_success"] == (p.argmax() == label) == bool(reward)
    assert info["log_loss"] == pytest.approx(-np.log(p[label]), rel=1e-5)
    assert info["entropy"] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)


def test_the_judge_is_asked_about_the_glimpses_seen(env: GlimpseEnv) -> None:
    judge, grid = env.batch.judge, env.batch.grid
    for index in (3, 4):  # one image of each fold
        env.reset(options={"index": index})
        image = env.dataset.images[index]
        glimpses, corners = np.zeros((1, STEPS, 12, 12, 1), np.uint8), np.zeros((1, STEPS, 2), np.int64)
        for t, location in enumerate((0, 33, 63, 5)):
            row, col = grid.corners[location]
            glimpses[0, t], corners[0, t] = image[row : row + 12, col : col + 12], (row, col)
            info = env.step(location)[-1]
            expected = judge.probabilities(glimpses, corners, np.array([t + 1]), env.dataset.folds[[index]])
            assert np.allclose(info["probabilities"], expected[0], atol=1e-6)


def test_classification_pays_for_a_right_judgement_at_the_end() -> None:
    dataset, judge = toy_dataset(), toy_judge()
    env = GlimpseEnv(dataset, judge)
    totals = []
    for index in range(len(dataset)):
        env.reset(options={"index": index})
        rewards = [env.step(location)[1] for location in range(STEPS)]
        assert rewards[:-1] == [0.0] * (STEPS - 1)
        totals.append(rewards[-1])
    assert set(totals) == {0.0, 1.0}


def test_information_pays_the_fall_of_the_log_loss() -> None:
    dataset = toy_dataset()
    env = GlimpseEnv(dataset, toy_judge(), reward="information")
    for index in (0, 5, 10):
        _, info = env.reset(options={"index": index})
        losses = [-np.log(info["probabilities"][dataset.labels[index]])]
        for location in (3, 40, 17, 3):
            _, reward, *_, info = env.step(location)
            losses.append(-np.log(info["probabilities"][dataset.labels[index]]))
            assert reward == pytest.approx(losses[-2] - losses[-1], abs=1e-5)
        assert info["log_loss"] == pytest.approx(losses[-1], abs=1e-5)


def test_without_posterior_info_the_judge_is_asked_once_an_episode() -> None:
    judge = CountingJudge()
    env = GlimpseEnv(toy_dataset(), judge, posterior_info=False)
    told = play(env, seed=0, episodes=3)
    assert judge.asked == 3
    assert all("probabilities" not in entry[-1] and "entropy" not in entry[-1] for entry in told)
    full = play(GlimpseEnv(toy_dataset(), CountingJudge()), seed=0, episodes=3)
    for light, heavy in zip(told, full, strict=True):
        assert data_equivalence(light[:-1], heavy[:-1], exact=True)
        assert light[-1] == {key: value for key, value in heavy[-1].items() if key in light[-1]}


@pytest.mark.parametrize("observation", MODES)
@pytest.mark.parametrize("scales", [1, 2])
def test_what_was_not_looked_at_leaves_no_trace(observation: str, scales: int) -> None:
    """Two images that agree in the glimpsed windows only, of different classes: all observations agree bit for bit."""
    dataset = toy_dataset(2, num_classes=2, fingerprint="all but the same", geometry=replace(GEOMETRY, scales=scales))
    judge = toy_judge(dataset.geometry, num_classes=2)
    looked_at = (0, 9, 62, 31)
    first, second = dataset.images
    seen = np.zeros((SIZE, SIZE), dtype=bool)
    margin = 6 if scales == 2 else 0
    for row, col in judge.grid.corners[list(looked_at)]:
        seen[max(row - margin, 0) : row + 12 + margin, max(col - margin, 0) : col + 12 + margin] = True
    second[seen] = first[seen]
    assert not seen.all()
    assert (first[~seen] != second[~seen]).mean() > 0.9
    env = GlimpseEnv(dataset, judge, observation=observation)
    shown: list[list[Any]] = []
    for index in (0, 1):
        observations = [env.reset(options={"index": index})[0]]
        observations += [env.step(location)[0] for location in looked_at]
        shown.append(observations)
    assert data_equivalence(shown[0], shown[1], exact=True)
    env.reset(options={"index": 0})
    assert not data_equivalence(env.step(20)[0], env.reset(options={"index": 1})[0])


def test_spaces_tell_nothing_of_the_classes() -> None:
    for mode in MODES:
        few, many = (GlimpseEnv(toy_dataset(num_classes=k), toy_judge(num_classes=k), observation=mode) for k in (2, 8))
        assert few.observation_space == many.observation_space
        assert few.action_space == many.action_space


def test_action_masks_leave_out_what_was_looked_at(env: GlimpseEnv) -> None:
    env.reset(seed=0)
    assert env.action_masks().shape == (64,)
    assert env.action_masks().all()
    for t, location in enumerate((5, 63, 5)):
        env.step(location)
        assert set(np.flatnonzero(~env.action_masks())) == set((5, 63, 5)[: t + 1])
    env.reset()
    assert env.action_masks().all()


def test_continuous_actions_have_no_masks() -> None:
    env = GlimpseEnv(toy_dataset(), toy_judge(), action="continuous")
    env.reset()
    with pytest.raises(ConfigurationError, match="discrete"):
        env.action_masks()


def test_no_gradient_passes_through_an_action() -> None:
    env = GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=1, action="continuous")
    location = torch.zeros((1, 2), requires_grad=True)
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match="detach"):
        env.step(location)
    observations, *_ = env.step(location.detach())
    assert isinstance(observations["glimpses"], np.ndarray)
    assert location.grad is None


def test_continuous_actions_reach_every_pixel() -> None:
    dataset = toy_dataset(1, num_classes=1)
    env = GlimpseEnv(dataset, toy_judge(num_classes=1), action="continuous", observation="glimpse")
    span = SIZE - 12
    for row in range(span + 1):
        for col in range(span + 1):
            env.reset()
            observation = env.step(np.array([row, col], np.float32) * 2 / span - 1)[0]
            expected = dataset.images[0, row : row + 12, col : col + 12] * np.float32(1 / 255)
            assert np.array_equal(observation["glimpse"], expected.ravel())
            assert np.allclose(observation["location"], np.array([row, col]) * 2 / span - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"observation": "picture"}, "picture"),
        ({"action": "both"}, "both"),
        ({"reward": "gold"}, "gold"),
        ({"render_mode": "ansi"}, "ansi"),
    ],
)
def test_unknown_settings_are_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        GlimpseEnv(toy_dataset(), toy_judge(), **arguments)


def test_a_judge_of_other_classes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="5 classes"):
        GlimpseEnv(toy_dataset(), toy_judge(num_classes=5))


def test_images_must_be_square() -> None:
    images = np.zeros((6, 40, 44, 1), np.uint8)
    with pytest.raises(ConfigurationError, match="40 x 44"):
        GlimpseEnv(toy_dataset(6, images=images), toy_judge())
