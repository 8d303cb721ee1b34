"""The task in which the agent names the class itself: every id at toy size, and the rules on noise."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from agents.evaluation.evaluate import evaluate
from agents.vec_env import GlimpseVecEnv
from glimpse_env import CLASSIFY_IDS, GlimpseEnv, GlimpseVectorEnv
from glimpse_env.errors import ConfigurationError, InvalidActionError
from glimpse_env.rollout import play
from tests.glimpse_env.test_env import play as play_out
from tests.glimpse_env.test_vector_env import assert_same, check_equal_to_singles
from tests.support.toy import GEOMETRY, NUM_CLASSES, toy_dataset, toy_judge, write_toy_world

STEPS, LOCATIONS = GEOMETRY.num_glimpses, 64
SETTINGS: list[dict[str, Any]] = [
    {},
    {"observation": "glimpse"},
    {"observation": "canvas"},
    {"action": "continuous"},
    {"action": "continuous", "reward": "log_loss"},
]
PPO_SETTINGS = {"n_steps": 42, "batch_size": 42, "n_epochs": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDL_VIDEODRIVER", "dummy")
        patch.setattr(GlimpseEnv, "metadata", {**GlimpseEnv.metadata, "render_fps": 1000})  # no waiting
        arguments = write_toy_world(tmp_path_factory.mktemp("world"), patch)
        yield {env_id: arguments[env_id.replace("Classify", "")] for env_id in CLASSIFY_IDS}


@pytest.fixture(params=CLASSIFY_IDS)
def env_id(request: pytest.FixtureRequest) -> str:
    return request.param


def make(**settings: Any) -> GlimpseEnv:
    return GlimpseEnv(toy_dataset(), None, task="classify", **settings)


# Every id


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_both_checkers_pass(world: dict[str, dict[str, Any]], env_id: str, settings: dict[str, Any]) -> None:
    env = gym.make(env_id, **world[env_id], **settings)
    check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)
    sb3_check_env(env.unwrapped)


@pytest.mark.parametrize("render_mode", ["rgb_array", "human"])
def test_both_checkers_pass_in_each_render_mode(world: dict[str, dict[str, Any]], render_mode: str) -> None:
    env = gym.make("GlimpseDigitsClassify-v0", render_mode=render_mode, **world["GlimpseDigitsClassify-v0"])
    check_env(env.unwrapped)
    sb3_check_env(env.unwrapped, skip_render_check=False)


def test_an_action_is_a_location_and_a_class(world: dict[str, dict[str, Any]], env_id: str) -> None:
    env = gym.make(env_id, **world[env_id])
    batch = env.unwrapped.batch  # type: ignore[attr-defined]
    assert batch.judge is None
    assert env.action_space == spaces.MultiDiscrete([len(batch.grid), len(batch.dataset.class_names)])


def test_the_argument_is_the_same_as_the_id(world: dict[str, dict[str, Any]], env_id: str) -> None:
    first = gym.make(env_id, **world[env_id])
    second = gym.make(env_id.replace("Classify", ""), task="classify", **world[env_id])
    assert data_equivalence(play_out(first, seed=2), play_out(second, seed=2), exact=True)


def test_specs_survive_json_and_seeds_repeat(world: dict[str, dict[str, Any]], env_id: str) -> None:
    env = gym.make(env_id, **world[env_id])
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    json.loads(env.spec.to_json())
    assert data_equivalence(play_out(env, seed=3), play_out(again, seed=3), exact=True)


def test_make_vec_gives_the_episodes_of_single_environments(world: dict[str, dict[str, Any]], env_id: str) -> None:
    env = gym.make_vec(env_id, num_envs=2, **world[env_id])
    assert isinstance(env, GlimpseVectorEnv)
    singles = gym.make_vec(
        env_id,
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        **world[env_id],
    )
    check_equal_to_singles(env, singles, steps=9)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_algorithms_learn_as_they_are(world: dict[str, dict[str, Any]], env_id: str, algorithm: Any) -> None:
    env = gym.make(env_id, **world[env_id])
    settings = PPO_SETTINGS if algorithm is PPO else {"n_steps": 7}
    small = {"net_arch": [8]}
    model = algorithm("MultiInputPolicy", env, seed=0, device="cpu", policy_kwargs=small, **settings).learn(42)
    assert model.num_timesteps == 42
    action, _ = model.predict(env.reset(seed=0)[0], deterministic=True)
    assert env.action_space.contains(action)


# The rules


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_vector_environments_agree_with_single_ones(settings: dict[str, Any]) -> None:
    arguments: Any = (toy_dataset(), None)
    env = GlimpseVectorEnv(*arguments, num_envs=3, task="classify", **settings)
    singles = SyncVectorEnv([lambda: make(**settings)] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    check_equal_to_singles(env, singles, steps=2 * (STEPS + 1) + 1)


@pytest.mark.parametrize("settings", [*SETTINGS, {"glimpse_cost": 0.2}], ids=str)
def test_vector_environments_agree_where_any_step_may_answer(settings: dict[str, Any]) -> None:
    arguments: Any = (toy_dataset(), None)
    env = GlimpseVectorEnv(*arguments, num_envs=5, task="classify", stop=True, **settings)
    singles = SyncVectorEnv([lambda: make(stop=True, **settings)] * 5, autoreset_mode=AutoresetMode.SAME_STEP)
    rng = np.random.default_rng(0)
    assert_same(env.reset(seed=11), singles.reset(seed=11))
    lengths = set()
    for _ in range(50):
        actions = env.action_space.sample()
        stops = rng.random(5) < 0.25
        if settings.get("action") == "continuous":
            actions[:, 2] = np.where(stops, 1, -1)
        else:
            actions[:, 0] = np.where(stops, LOCATIONS, rng.integers(0, LOCATIONS, 5))
        told = env.step(actions)
        assert_same(told, singles.step(actions))
        if "final_info" in told[-1]:
            lengths |= set(told[-1]["final_info"]["glimpses"][told[2]].tolist())
    assert lengths == set(range(STEPS + 1))


def test_the_answer_is_given_with_all_glimpses_in_view() -> None:
    env = make()
    env.reset(options={"index": 4})
    label, shown = int(env.dataset.labels[4]), []
    for t in range(STEPS):
        observation, reward, ended, truncated, info = env.step([t, label])  # right, but not the answer yet
        assert (reward, ended, truncated) == (0.0, False, False)
        assert info == {"index": 4, "glimpses": t + 1}
        shown.append(observation)
    assert shown[-1]["step"] == STEPS
    observation, reward, ended, _, info = env.step([63, label])
    assert (reward, ended) == (1.0, True)
    assert info == {"index": 4, "glimpses": STEPS, "is_success": True, "label": label}
    assert data_equivalence(observation, shown[-1], exact=True)  # the place of the answer shows nothing
    with pytest.raises(ResetNeeded, match="ended"):
        env.step([0, 0])


def test_only_the_last_class_counts() -> None:
    env = make()
    env.reset(options={"index": 4})
    label = int(env.dataset.labels[4])
    for t in range(STEPS):
        env.step([t, label])
    _, reward, _, _, info = env.step([0, (label + 1) % NUM_CLASSES])
    assert reward == 0.0
    assert not info["is_success"]


@pytest.mark.parametrize("reward", ["classification", "log_loss"])
def test_numbers_become_probabilities(reward: Any) -> None:
    env = make(action="continuous", reward=reward)

    def answered(numbers: list[float]) -> tuple[float, dict[str, Any]]:
        env.reset(options={"index": 5})  # of class 2
        for _ in range(STEPS):
            env.step(np.zeros(2 + NUM_CLASSES, np.float32))
        _, paid, ended, _, info = env.step(np.array([0.3, -0.3, *numbers], np.float32))
        assert ended
        return float(paid), info

    paid, info = answered([-1.0, -0.5, 0.5])  # weights 0, 0.5, 1.5
    assert info["log_loss"] == pytest.approx(-np.log(0.75))
    assert info["is_success"]
    assert paid == pytest.approx(np.log(0.75) if reward == "log_loss" else 1.0)
    paid, info = answered([-1.0, -1.0, -1.0])
    assert info["log_loss"] == pytest.approx(np.log(NUM_CLASSES))
    paid, info = answered([1.0, 0.0, -1.0])
    assert not info["is_success"]
    assert paid == pytest.approx(np.log(1e-4) if reward == "log_loss" else 0.0)


@pytest.mark.parametrize("bad", [3, [3], [0, NUM_CLASSES], [LOCATIONS, 0], [-1, 0], [0.5, 0], [[0, 0]], None])
def test_invalid_actions_change_nothing(bad: Any) -> None:
    env, twin = make(), make()
    for one in (env, twin):
        one.reset(seed=0)
        one.step([11, 0])
    with pytest.raises(InvalidActionError, match=r"location in 0\.\.63 and a class in 0\.\.2"):
        env.step(bad)
    assert data_equivalence(env.step([12, 1]), twin.step([12, 1]), exact=True)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"reward": "information"}, "information"),
        ({"reward": "log_loss"}, "continuous"),
        ({"observation": "embedding"}, "embedding"),
        ({"tabulated": True}, "tabulated"),
    ],
)
def test_what_only_a_judge_can_give_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make(**settings)


def test_judge_and_task_belong_together() -> None:
    with pytest.raises(ConfigurationError, match="has no judge"):
        GlimpseEnv(toy_dataset(), toy_judge(), task="classify")
    with pytest.raises(ConfigurationError, match="needs a judge"):
        GlimpseEnv(toy_dataset(), None)
    with pytest.raises(ConfigurationError, match="task='guess'"):
        GlimpseEnv(toy_dataset(), None, task="guess")
    with pytest.raises(ConfigurationError, match="log_loss"):
        GlimpseEnv(toy_dataset(), toy_judge(), reward="log_loss")


def test_a_judge_that_would_not_be_asked_is_refused(world: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="judge="):
        gym.make("GlimpseDigitsClassify-v0", judge=str(tmp_path / "judge.safetensors"))


def test_masks_leave_every_class() -> None:
    env = make()
    env.reset(seed=0)
    env.step([7, 1])
    masks = env.action_masks()
    assert masks.shape == (LOCATIONS + NUM_CLASSES,)
    assert np.flatnonzero(~masks).tolist() == [7]
    model = MaskablePPO(
        "MultiInputPolicy", env, seed=0, policy_kwargs={"net_arch": [8]}, n_steps=40, batch_size=40
    ).learn(40)
    looked = model.rollout_buffer.actions.reshape(-1, STEPS + 1, 2)[:, :STEPS, 0]
    assert all(len(set(locations)) == STEPS for locations in looked)


def test_the_picture_tells_the_class_named_last() -> None:
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    frames = [env.render()]
    for action in ([0, 0], [0, 1]):
        env.step(action)
        frames.append(env.render())
    panel = [np.asarray(frame)[:, 340:] for frame in frames]
    assert not np.array_equal(panel[0], panel[1])
    assert not np.array_equal(panel[1], panel[2])


# Rollouts and evaluation


class Knowing:
    """Names class 2 after every look and says how sure it is."""

    def __init__(self) -> None:
        self.last_probabilities = np.zeros((0, NUM_CLASSES), np.float32)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        steps = observation["step"]
        sure = (1 + steps) / (2 + steps)
        self.last_probabilities = np.stack([(1 - sure) / 2, (1 - sure) / 2, sure], axis=1).astype(np.float32)
        return np.stack([steps % LOCATIONS, np.full(len(steps), 2)], axis=1), None


def test_rollouts_of_agents_that_classify() -> None:
    dataset = toy_dataset()
    rollouts = play(Knowing(), dataset, None, np.arange(6), batch_size=4, progress=False)
    assert rollouts.success.tolist() == (dataset.labels[:6] == 2).tolist()
    assert rollouts.locations.tolist() == [list(range(STEPS))] * 6
    sure = (1 + np.arange(1, STEPS + 1)) / (2 + np.arange(1, STEPS + 1))
    assert rollouts.log_loss[2] == pytest.approx(-np.log(sure))
    assert rollouts.log_loss[0] == pytest.approx(-np.log((1 - sure) / 2), rel=1e-5)


def test_an_agent_that_tells_no_probabilities_is_evaluated_by_success() -> None:
    agent = PPO("MultiInputPolicy", make(), seed=0, policy_kwargs={"net_arch": [8]}, **PPO_SETTINGS)
    dataset = toy_dataset()
    evaluation = evaluate(agent, dataset, None, np.arange(8), name="ppo", progress=False)
    assert len(evaluation.outcomes) == 8
    assert np.isnan(evaluation.final_log_loss).all()
    assert evaluation.judge == "none"
    known = evaluate(Knowing(), dataset, None, np.arange(8), name="knowing", progress=False)
    assert known.success_rate == (dataset.labels[:8] == 2).mean()


def test_sb3s_vector_environment_counts_the_answer_as_a_step() -> None:
    env = GlimpseVecEnv(GlimpseVectorEnv(toy_dataset(), None, num_envs=2, task="classify"))
    env.reset()
    for _ in range(STEPS + 1):
        *_, infos = env.step(np.array([[1, 2], [3, 0]]))
    assert [info["episode"]["l"] for info in infos] == [STEPS + 1] * 2
    assert all("terminal_observation" in info for info in infos)
