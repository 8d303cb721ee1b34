from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnv

from agents.algorithms.replay_buffer import EpisodeReplayBuffer
from agents.networks.encoders import WHOLE
from agents.vec_env import GlimpseVecEnv
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.vector_env import GlimpseVectorEnv
from tests.glimpse_env.judge.test_frozen import frozen_judge
from tests.support.toy import GEOMETRY, SIZE, toy_dataset, toy_judge
from tests.support.toy_agents import GRID, STEPS, toy_vec_env

FIELDS = {"image_size": SIZE, "glimpse_size": GEOMETRY.glimpse_size, "stride": GEOMETRY.stride}
ENVS = 3


def glimpse_vec_env(observation: Any = "history", num_envs: int = ENVS) -> GlimpseVecEnv:
    judge = frozen_judge() if observation == "features" else toy_judge()
    env = GlimpseVectorEnv(toy_dataset(), judge, num_envs=num_envs, observation=observation, reward="information")
    return GlimpseVecEnv(env)


def make_buffer(env: VecEnv, episodes: int = 9, **options: Any) -> EpisodeReplayBuffer:
    buffer = EpisodeReplayBuffer(
        episodes * STEPS,
        env.observation_space,
        env.action_space,
        device="cpu",
        n_envs=env.num_envs,
        grid=FIELDS,
        **options,
    )
    buffer.seed(0)
    return buffer


def play_into(buffer: EpisodeReplayBuffer, env: VecEnv, rounds: int, seed: int = 0) -> list[list[dict[str, Any]]]:
    """Random episodes; each as its transitions (``obs``, ``action``, ``reward``, ``next_obs``)."""
    rng = np.random.default_rng(seed)
    env.seed(seed)
    obs: Any = env.reset()
    after: Any
    episodes = []
    for _ in range(rounds):
        taken = rng.permuted(np.tile(np.arange(len(GRID)), (env.num_envs, 1)), axis=1)
        begun: list[list[dict[str, Any]]] = [[] for _ in range(env.num_envs)]
        for t in range(STEPS):
            actions = taken[:, t]
            after, rewards, dones, infos = env.step(actions)
            buffer.add(obs, after, actions, rewards, dones, infos)
            for i, info in enumerate(infos):
                begun[i].append(
                    {
                        "obs": {key: value[i].copy() for key, value in obs.items()},
                        "action": actions[i],
                        "reward": rewards[i],
                        "next_obs": info.get("terminal_observation", {k: v[i].copy() for k, v in after.items()}),
                    }
                )
            obs = after
        episodes += begun
    return episodes


def demonstrate(buffer: EpisodeReplayBuffer, count: int = 5, reward: float = -7.0) -> None:
    """Demonstrations that can be told by their reward."""
    rng = np.random.default_rng(1)
    seen = np.ones((count, STEPS - 1, buffer.width), dtype=buffer.own["seen"].dtype)
    actions = rng.permuted(np.tile(np.arange(len(GRID)), (count, 1)), axis=1)[:, :STEPS]
    agreement = np.eye(len(GRID))[actions]
    buffer.set_demonstrations(seen, actions, np.full((count, STEPS), reward), agreement)


@pytest.mark.parametrize("observation", ["history", "embedding", "features", "single environments"])
def test_samples_are_what_the_environment_showed(observation: str) -> None:
    env = toy_vec_env(ENVS, reward="information") if observation.startswith("single") else glimpse_vec_env(observation)
    buffer = make_buffer(env)
    episodes = {tuple(one["action"] for one in e): e for e in play_into(buffer, env, 2)}
    batch = buffer.sample_episodes(50)
    assert batch.observations[WHOLE] is batch.observations["mask"]
    for i in range(50):
        played = episodes[tuple(batch.actions[i].tolist())]
        np.testing.assert_array_equal(batch.rewards[i], [one["reward"] for one in played])
        for key, value in played[-1]["obs"].items():
            np.testing.assert_array_equal(batch.observations[key][i].numpy(), value)
            assert batch.observations[key].numpy().dtype == np.asarray(value).dtype
    assert len({tuple(row) for row in batch.actions.tolist()}) == len(episodes)
    assert len(batch.agreement) == 0
    assert buffer.size() == len(episodes) * STEPS


def test_oldest_episodes_go_and_demonstrations_stay() -> None:
    env = glimpse_vec_env()
    buffer = make_buffer(env, episodes=7, demo_share=0.3)
    demonstrate(buffer)
    before = {name: values.copy() for name, values in buffer.demonstrations.items()}
    played = [tuple(one["action"] for one in e) for e in play_into(buffer, env, 5)]
    assert (buffer.full, buffer.num_own, buffer.size()) == (True, 7, 12 * STEPS)
    assert {tuple(row) for row in buffer.own["actions"].tolist()} == set(played[-7:])
    for name, values in buffer.demonstrations.items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize(("share", "expected"), [(0.25, 10), (0.0, 0), (1.0, 40)])
def test_demonstrations_have_their_share(share: float, expected: int) -> None:
    env = glimpse_vec_env()
    buffer = make_buffer(env, demo_share=share)
    demonstrate(buffer)
    assert len(buffer.sample_episodes(40).agreement) == 40, "there is nothing else yet"
    play_into(buffer, env, 2)
    for _ in range(3):
        whole = buffer.sample_episodes(40)
        np.testing.assert_array_equal((whole.rewards == -7).all(1), np.arange(40) < expected)
        assert whole.agreement.shape == (expected, STEPS, len(GRID))
        assert (whole.agreement.argmax(-1) == whole.actions[:expected]).all()
    assert len(buffer.sample_episodes(6, demo_share=1.0).agreement) == 6


def test_a_seed_decides_what_is_sampled() -> None:
    env = glimpse_vec_env()
    buffer = make_buffer(env)
    play_into(buffer, env, 2)
    drawn = []
    for seed in (3, 3, 4):
        buffer.seed(seed)
        drawn.append(buffer.sample_episodes(30).rewards)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_saved_and_loaded_it_is_the_same(rounds: int, tmp_path: Path) -> None:
    env = glimpse_vec_env("embedding")
    buffer, other = make_buffer(env, episodes=7), make_buffer(env, episodes=7)
    if rounds != 1:  # also without demonstrations
        demonstrate(buffer)
    play_into(buffer, env, rounds)
    buffer.save(tmp_path / "replay.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["replay.npz"]
    play_into(other, env, 3, seed=9)
    other.load(tmp_path / "replay.npz")
    assert (other.pos, other.full, other.size()) == (buffer.pos, buffer.full, buffer.size())
    for one in (buffer, other):
        one.seed(5)
    first, second = buffer.sample_episodes(20), other.sample_episodes(20)
    assert torch.equal(first.agreement, second.agreement)
    for key, value in first.observations.items():
        assert torch.equal(value, second.observations[key])
    for one in (buffer, other):  # and both go on in the same place
        play_into(one, env, 1, seed=2)
    held = buffer.num_own
    assert other.num_own == held
    np.testing.assert_array_equal(buffer.own["actions"][:held], other.own["actions"][:held])


def test_bad_files_are_named(tmp_path: Path) -> None:
    env = glimpse_vec_env()
    path = tmp_path / "replay.npz"
    with pytest.raises(ArtifactError, match="cannot be read"):
        make_buffer(env).load(path)
    path.write_bytes(b"PK nonsense")
    with pytest.raises(ArtifactError, match="cannot be read"):
        make_buffer(env).load(path)
    make_buffer(env, episodes=5).save(path)
    with pytest.raises(ArtifactError, match="5 episodes of uint8"):
        make_buffer(env).load(path)


def test_episodes_out_of_step_are_named() -> None:
    env = glimpse_vec_env()
    buffer = make_buffer(env)
    obs: Any = env.reset()
    after: Any
    after, rewards, dones, infos = env.step(np.arange(ENVS))
    with pytest.raises(ConfigurationError, match="begin at a reset"):
        buffer.add(after, after, np.arange(ENVS), rewards, dones, infos)
    buffer.add(obs, after, np.arange(ENVS), rewards, dones, infos)
    with pytest.raises(ConfigurationError, match=f"after 2 of {STEPS} steps and did not stop"):
        buffer.add(after, after, np.arange(ENVS), rewards, np.array([True, False, False]), infos)
    play_into(buffer, env, 1)  # a reset begins anew
    assert buffer.num_own == ENVS


def test_arguments_out_of_range_are_named() -> None:
    env = glimpse_vec_env()
    with pytest.raises(ConfigurationError, match=r"demo_share=1\.5"):
        make_buffer(env, demo_share=1.5)
    with pytest.raises(ConfigurationError, match="fewer than the 3"):
        make_buffer(env, episodes=2)
    with pytest.raises(ConfigurationError, match="optimize_memory_usage"):
        make_buffer(env, optimize_memory_usage=True)
    with pytest.raises(ConfigurationError, match="the replay buffer needs"):
        make_buffer(toy_vec_env(2, observation="canvas"))
    buffer = make_buffer(env)
    with pytest.raises(ConfigurationError, match="the replay buffer is empty"):
        buffer.sample_episodes(4)
    with pytest.raises(ConfigurationError, match="are needed"):
        buffer.set_demonstrations(
            np.zeros((2, STEPS, buffer.width), dtype=np.uint8),
            np.zeros((2, STEPS), dtype=np.int64),
            np.zeros((2, STEPS)),
            np.zeros((2, STEPS, len(GRID))),
        )
