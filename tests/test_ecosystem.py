"""Every registered id in the tools that users bring: Gymnasium's wrappers and vector modes, SB3's algorithms.

Checkers, specs and copies of every id are in tests/glimpse_env/test_env.py and tests/glimpse_env/test_vector_env.py.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.preprocessing import is_image_space

from glimpse_env import ENV_IDS, GlimpseVectorEnv
from glimpse_env.sensing.observations import OBSERVATIONS
from tests.support.toy import write_toy_world

World = dict[str, dict[str, Any]]
SMALL, RGB = "GlimpseDigits-v0", "GlimpseBirds-v0"
MODES = tuple(name for name in OBSERVATIONS if name != "features")  # of the same form as embeddings


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        yield write_toy_world(tmp_path_factory.mktemp("world"), patch)


@pytest.fixture(params=ENV_IDS)
def env_id(request: pytest.FixtureRequest) -> str:
    return request.param


def play(env: gym.Env, seed: int, episodes: int = 1) -> list[list[tuple[Any, ...]]]:
    """What the steps of some episodes of random actions return."""
    env.action_space.seed(seed)
    played = []
    for episode in range(episodes):
        env.reset(seed=seed + episode)
        steps = [env.step(env.action_space.sample())]
        while not steps[-1][2]:
            steps.append(env.step(env.action_space.sample()))
        played.append(steps)
    return played


# --- Gymnasium's wrappers


def test_videos_show_every_step_of_an_episode(world: World, env_id: str, tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="RecordVideo needs moviepy: pip install moviepy")
    env = gym.make(env_id, render_mode="rgb_array", **world[env_id])
    env = gym.wrappers.RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda episode: episode == 1)
    _, recorded = play(env, seed=0, episodes=2)
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    env.close()
    (video,) = (tmp_path / "videos").iterdir()
    assert video.name == "rl-video-episode-1.mp4"
    frames, told = decoded(video, picture.shape)
    assert len(frames) == len(recorded) + 1
    assert f" {env.metadata['render_fps']} fps" in told
    assert np.abs(frames[-1] - picture).mean() < 5  # of 255: the last look is on it, but for the compression
    assert (np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)) > 0.1).all()  # each look changes the picture


def decoded(video: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """The frames (N, height, width, 3) float of a video, and what ffmpeg says of it."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    command = [ffmpeg, "-i", str(video), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, *shape).astype(float), done.stderr.decode()


@pytest.mark.parametrize("reward", ["classification", "information"])
def test_statistics_of_episodes_are_right(world: World, env_id: str, reward: str) -> None:
    env = gym.wrappers.RecordEpisodeStatistics(gym.make(env_id, reward=reward, **world[env_id]))
    played = play(env, seed=0, episodes=3)
    returns = [sum(step[1] for step in steps) for steps in played]
    assert [steps[-1][-1]["episode"]["l"] for steps in played] == [len(steps) for steps in played]
    assert [steps[-1][-1]["episode"]["r"] for steps in played] == pytest.approx(returns)
    if reward == "classification":
        assert returns == [steps[-1][-1]["is_success"] for steps in played]
    else:
        assert len(set(returns)) == 3


@pytest.mark.parametrize("mode", MODES)
def test_flattened_observations_hold_the_same_numbers(world: World, env_id: str, mode: str) -> None:
    env = gym.make(env_id, observation=mode, **world[env_id])
    flat = gym.wrappers.FlattenObservation(gym.make(env_id, observation=mode, **world[env_id]))
    space = flat.observation_space
    assert isinstance(space, gym.spaces.Box)
    assert len(space.shape) == 1
    for plain, flattened in zip(*(play(one, seed=0)[0] for one in (env, flat)), strict=True):
        assert flattened[0] in space
        assert data_equivalence(gym.spaces.unflatten(env.observation_space, flattened[0]), plain[0])


@pytest.mark.parametrize("mode", MODES)
def test_stacked_observations_are_the_latest(world: World, env_id: str, mode: str) -> None:
    env = gym.make(env_id, observation=mode, **world[env_id])
    stacked = gym.wrappers.FrameStackObservation(gym.make(env_id, observation=mode, **world[env_id]), 2)
    plain = [step[0] for step in play(env, seed=0)[0]]
    pairs = [step[0] for step in play(stacked, seed=0)[0]]
    for older, newer, pair in zip(plain, plain[1:], pairs[1:], strict=False):
        assert pair in stacked.observation_space
        for place, expected in enumerate((older, newer)):
            found = {key: value[place] for key, value in pair.items()} if isinstance(pair, dict) else pair[place]
            assert data_equivalence(found, expected)


# --- vector environments


def told(env: gym.vector.VectorEnv, steps: int) -> list[Any]:
    """What a run says of its episodes, without what batching may round."""
    env.action_space.seed(1)
    said: list[Any] = []
    observations, info = env.reset(seed=5)
    for _ in range(steps):
        said.append((_copied(observations), info["index"].tolist()))
        observations, rewards, terminated, truncated, info = env.step(env.action_space.sample())
        said.append((np.asarray(rewards, dtype=float), terminated.tolist(), truncated.tolist()))
        if "final_info" in info:
            final = info["final_info"]
            said.append((final["label"].tolist(), final["is_success"].tolist(), list(info["final_obs"])))
    env.close()
    return said


def _copied(observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: np.array(value) for key, value in observations.items()}
    return np.array(observations)


def made(
    world: World, env_id: str, vectorization: str, num_envs: int = 3, **vector_kwargs: Any
) -> gym.vector.VectorEnv:
    """Environments that begin the next episode in the step that ends one."""
    vector_kwargs["autoreset_mode"] = AutoresetMode.SAME_STEP
    return gym.make_vec(env_id, num_envs, vectorization, vector_kwargs=vector_kwargs, **world[env_id])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # fork, from Python 3.12
@pytest.mark.parametrize("shared_memory", [True, False])
def test_sync_async_and_native_environments_show_the_same_episodes(
    world: World, env_id: str, shared_memory: bool
) -> None:
    native = gym.make_vec(env_id, 3, **world[env_id])
    assert isinstance(native, GlimpseVectorEnv)
    expected = told(native, steps=13)
    ends = sum(len(entry) == 3 and isinstance(entry[-1], list) and entry[1] == [True] * 3 for entry in expected)
    assert ends == 13 // native.batch.num_steps
    assert data_equivalence(told(made(world, env_id, "sync"), steps=13), expected)
    forked = made(world, env_id, "async", context="fork", shared_memory=shared_memory)
    assert data_equivalence(told(forked, steps=13), expected)


def test_spawned_environments_show_the_same_episodes(world: World) -> None:
    spawned = made(world, SMALL, "async", num_envs=1, context="spawn")
    assert data_equivalence(told(spawned, steps=7), told(made(world, SMALL, "sync", num_envs=1), steps=7))


@pytest.mark.parametrize("vectorization", ["vector_entry_point", "sync"])
def test_vector_statistics_are_right(world: World, env_id: str, vectorization: str) -> None:
    """Natively the next episode begins in the step that ends one, in Gymnasium's own in the step after."""
    env = gym.make_vec(env_id, 3, vectorization, reward="information", **world[env_id])
    env = gym.wrappers.vector.RecordEpisodeStatistics(env)
    env.action_space.seed(0)
    env.reset(seed=0)
    returns, lengths = np.zeros(3), np.zeros(3)
    episodes: list[np.ndarray] = []
    ended = np.zeros(3, dtype=bool)
    while len(episodes) < 3:
        counts = vectorization != "sync" or not ended.any()  # else this step only resets
        _, rewards, ended, _, info = env.step(env.action_space.sample())
        returns += rewards
        lengths += counts
        if ended.all():
            assert info["episode"]["r"] == pytest.approx(returns)
            assert info["episode"]["l"] == pytest.approx(lengths)
            episodes.append(returns)
            returns, lengths = np.zeros(3), np.zeros(3)
    assert len(np.unique(np.round(episodes, 6))) > 3
    env.close()


# --- algorithms, straight from gym.make


@dataclass(frozen=True)
class Trial:
    """A short training."""

    algorithm: type[Any]
    observation: str
    env_id: str = SMALL
    action: str = "discrete"
    settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the algorithm."""

    def __str__(self) -> str:
        return f"{self.algorithm.__name__}-{self.observation}-{self.env_id}"


ON_POLICY = {"n_steps": 60, "batch_size": 60, "n_epochs": 2}
OFF_POLICY = {"buffer_size": 200, "learning_starts": 100, "batch_size": 8, "train_freq": 12}
TRIALS = [
    *(Trial(PPO, "history", env_id, settings=ON_POLICY) for env_id in ENV_IDS),
    *(Trial(PPO, mode, env_id, settings=ON_POLICY) for mode in MODES if mode != "history" for env_id in (SMALL, RGB)),
    Trial(A2C, "history", settings={"n_steps": 12}),
    *(Trial(MaskablePPO, "history", env_id, settings=ON_POLICY) for env_id in (SMALL, RGB)),
    *(Trial(RecurrentPPO, "glimpse", env_id, settings=ON_POLICY) for env_id in (SMALL, RGB)),
    *(Trial(algorithm, mode, settings=OFF_POLICY) for algorithm in (DQN, QRDQN) for mode in ("history", "canvas")),
    Trial(DQN, "canvas", RGB, settings=OFF_POLICY),
    *(Trial(algorithm, "history", action="continuous", settings=OFF_POLICY) for algorithm in (SAC, TD3)),
]


def trained(trial: Trial, env: gym.Env, steps: int) -> Any:
    """The algorithm with small networks after ``steps`` or a few more."""
    kind = "Cnn" if is_image_space(env.observation_space) else "Mlp"
    if isinstance(env.observation_space, gym.spaces.Dict):
        kind = "MultiInput"
    policy = f"{kind}LstmPolicy" if trial.algorithm is RecurrentPPO else f"{kind}Policy"
    small = {"net_arch": [16]} | ({"features_extractor_kwargs": {"features_dim": 16}} if kind == "Cnn" else {})
    model = trial.algorithm(policy, env, seed=0, policy_kwargs=small, device="cpu", **trial.settings)
    return model.learn(steps, log_interval=1)


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_algorithms_learn_straight_from_gym_make(
    world: World, trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, Any] = {}
    monkeypatch.setattr(Logger, "record", lambda self, key, value, exclude=None: logged.__setitem__(key, value))
    env = gym.make(trial.env_id, observation=trial.observation, action=trial.action, **world[trial.env_id])
    model = trained(trial, env, steps=240)
    assert 240 <= model.num_timesteps < 300
    assert model._n_updates > 0
    assert logged["rollout/success_rate"] == pytest.approx(logged["rollout/ep_rew_mean"])  # from is_success
    assert logged["rollout/ep_len_mean"] == env.unwrapped.batch.geometry.num_glimpses  # type: ignore[attr-defined]

    model.save(tmp_path / "model")
    again = trial.algorithm.load(tmp_path / "model", device="cpu")
    state, restored, ended = None, None, False
    observation, _ = env.reset(seed=3)
    while not ended:
        action, state = model.predict(observation, state, deterministic=True)
        same, restored = again.predict(observation, restored, deterministic=True)
        assert np.array_equal(action, same)
        chosen = action.item() if trial.action == "discrete" else action
        assert chosen in env.action_space
        observation, _, ended, _, _ = env.step(chosen)


@pytest.mark.parametrize("env_id", [SMALL, RGB])
def test_masked_algorithms_look_nowhere_twice(world: World, env_id: str) -> None:
    env = gym.make(env_id, **world[env_id])
    model = trained(Trial(MaskablePPO, "history", settings=ON_POLICY), env, steps=60)
    steps = env.unwrapped.batch.geometry.num_glimpses  # type: ignore[attr-defined]
    for locations in model.rollout_buffer.actions.reshape(-1, steps):
        assert len(set(locations)) == steps
    observation, _ = env.reset(seed=0)
    masked, unmasked = [], []
    for _ in range(steps):
        unmasked.append(model.predict(observation, deterministic=True)[0].item())
        masked.append(model.predict(observation, deterministic=True, action_masks=get_action_masks(env))[0].item())
        observation = env.step(masked[-1])[0]
    assert len(set(masked)) == steps
    assert len(set(unmasked)) < steps  # it would have
