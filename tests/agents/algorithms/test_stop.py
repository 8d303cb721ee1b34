"""Agents in environments whose episodes may stop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.evaluation.evaluate import Evaluation, evaluate, joined
from agents.evaluation.recordings import episode_frames, record
from agents.networks.encoders import REAL
from agents.ram.algorithm import RAM
from agents.registry import ALGORITHMS, ARCHITECTURES
from agents.vec_env import GlimpseVecEnv
from glimpse_env.env import GlimpseEnv
from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import can_stop, play
from glimpse_env.vector_env import GlimpseVectorEnv
from tests.agents.algorithms.test_rollout_buffer import NUM_ENVS, check_minibatches, collected, one_by_one
from tests.support.toy import CountingJudge, toy_dataset, toy_judge
from tests.support.toy_agents import GRID, STEPS, toy_env_showing, toy_model, toy_vec_env

STOP = len(GRID)
N_STEPS = 3 * STEPS + 1


def ready_to_stop(model: Any, by: float = 4.0) -> Any:
    """The model, whose policy stops often."""
    with torch.no_grad():
        model.policy.action_net.bias[STOP] += by
    return model


def rollout(**options: Any) -> Any:
    """A model with a full buffer of episodes of many lengths, whose advantages and returns are numbers that tell
    transitions apart."""
    observation = options.pop("observation", "embedding")
    env = toy_env_showing(observation, NUM_ENVS, stop=True)
    model = ready_to_stop(collected(observation, env=env, n_steps=N_STEPS, **options))
    kept = model.rollout_buffer.advantages, model.rollout_buffer.returns
    assert model.collect_rollouts(model.env, model._setup_learn(1)[1], model.rollout_buffer, N_STEPS)
    model.rollout_buffer.advantages, model.rollout_buffer.returns = kept
    return model


# Rollouts


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("observation", "pretrained"), [("history", True), ("history", False), ("features", True)])
def test_transitions_are_handed_out_once(architecture: str, observation: str, pretrained: bool) -> None:
    model = rollout(observation=observation, architecture=architecture, pretrained=pretrained)
    buffer = model.rollout_buffer
    assert not buffer.whole
    stopped = buffer.actions == STOP
    assert 0.1 < stopped.mean() < 0.9
    expected = one_by_one(model)
    for size in (None, 10, 1):
        batches = check_minibatches(model, size, expected)
        assert all(REAL in batch.observations for batch in batches)
    lengths = (buffer.places >= 0).sum(axis=1)
    assert set(lengths.tolist()) >= {1, 2}
    assert len(lengths) == buffer.episode_starts.sum() + (buffer.episode_starts[0] == 0).sum()


def test_reinforce_learns_from_episodes_that_ended() -> None:
    model = rollout(algo="reinforce")
    buffer, last = model.rollout_buffer, (N_STEPS - 1) * NUM_ENVS
    assert 0 < model._last_episode_starts.sum() < NUM_ENVS
    final = buffer.places.max(axis=1)
    assert sorted(final[final >= last] - last) == np.flatnonzero(model._last_episode_starts).tolist()
    (batch,) = buffer.get()
    kept = np.zeros(buffer.actions.size, dtype=bool)
    kept[batch.advantages.long().numpy()] = True
    kept = kept.reshape(N_STEPS, NUM_ENVS)
    for env in range(NUM_ENVS):
        begun = np.flatnonzero(buffer.episode_starts[:, env])[-1]
        unfinished = slice(begun, None) if not model._last_episode_starts[env] else slice(0)
        expected = np.ones(N_STEPS, dtype=bool)
        expected[unfinished] = False
        assert np.array_equal(kept[:, env], expected)


def test_reinforce_needs_an_end() -> None:
    model: Any = toy_model("reinforce", env=toy_vec_env(2, stop=True), n_steps=1)
    ready_to_stop(model, by=-50.0)
    with pytest.raises(ConfigurationError, match="n_steps=1"):
        model.learn(2)


# Replay


def transitions_of(env: Any, buffer: Any, steps: int) -> list[list[dict[str, Any]]]:
    """Plays at random, stopping often, into the buffer; the episodes that ended, in the order of their ends."""
    rng = np.random.default_rng(0)
    obs = env.reset()
    begun: list[list[dict[str, Any]]] = [[] for _ in range(env.num_envs)]
    over = []
    for _ in range(steps):
        actions = np.where(rng.random(env.num_envs) < 0.3, STOP, rng.integers(0, STOP, env.num_envs))
        after, rewards, dones, infos = env.step(actions)
        buffer.add(obs, after, actions, rewards, dones, infos)
        for i in range(env.num_envs):
            shown = infos[i]["terminal_observation"] if dones[i] else {key: value[i] for key, value in after.items()}
            begun[i].append(
                {
                    "obs": {key: torch.from_numpy(np.array(value[i])[None]) for key, value in obs.items()},
                    "next": {key: torch.from_numpy(np.array(value)[None]) for key, value in shown.items()},
                    "action": int(actions[i]),
                    "reward": float(rewards[i]),
                    "done": bool(dones[i]),
                }
            )
            if dones[i]:
                over.append(begun[i])
                begun[i] = []
        obs = after
    return over


def key_of(episode: list[dict[str, Any]]) -> tuple[float, ...]:
    """What tells an episode of :func:`transitions_of` from others."""
    return tuple(one[name] for name in ("action", "reward") for one in episode)


def key_of_row(actions: np.ndarray, rewards: np.ndarray) -> tuple[float, ...]:
    """The same of a row of a buffer."""
    return (*actions[actions >= 0].tolist(), *rewards[actions >= 0].tolist())


@pytest.mark.parametrize("algo", ["dqn", "qrdqn"])
def test_the_loss_is_that_of_single_transitions(algo: str) -> None:
    env = GlimpseVecEnv(GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=3, stop=True, glimpse_cost=0.2))
    model: Any = toy_model(algo, env=env, buffer_size=40 * STEPS)
    buffer = model.replay_buffer
    episodes = transitions_of(env, buffer, 40)
    assert {len(episode) for episode in episodes} == set(range(1, STEPS + 1))
    assert buffer.full
    newest = episodes[-40:]
    assert sorted(map(key_of, newest)) == sorted(
        key_of_row(*rows) for rows in zip(buffer.own["actions"], buffer.own["rewards"], strict=True)
    )
    drawn = buffer.sample_episodes(12)
    values, targets = [], []
    net, target = model.policy.quantile_net, model.policy.quantile_net_target
    known = {key_of(episode): episode for episode in newest}
    for rows in zip(drawn.actions.numpy(), drawn.rewards.numpy(), strict=True):
        for one in known[key_of_row(*rows)]:
            quantiles = net(one["obs"])[0]  # (n_quantiles, L + 1)
            if quantiles[:, one["action"]].mean() < -1e7:
                continue  # looked at twice
            values.append(quantiles[:, one["action"]])
            best = net(one["next"])[0].mean(0).argmax()
            later = 0.0 if one["done"] else target(one["next"])[0, :, best].detach()
            targets.append(one["reward"] + torch.zeros(model.policy.quantile_net.n_quantiles) + later)
    expected = model.td_loss(torch.stack(values), torch.stack(targets))
    assert model.losses(drawn)[0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_replay_of_stops_is_saved_and_read(tmp_path: Path) -> None:
    env = GlimpseVecEnv(GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=3, stop=True))
    first: Any = toy_model("dqn", env=env, buffer_size=20 * STEPS)
    transitions_of(env, first.replay_buffer, 15)
    first.save_replay_buffer(tmp_path / "replay.npz")
    second: Any = toy_model("dqn", env=env, buffer_size=20 * STEPS)
    second.load_replay_buffer(tmp_path / "replay.npz")
    for one in (first, second):
        one.replay_buffer.seed(0)
    mine, theirs = (one.replay_buffer.sample_episodes(5) for one in (first, second))
    assert torch.equal(mine.actions, theirs.actions)
    assert (mine.actions == STOP).any()
    assert all(torch.equal(mine.observations[key], theirs.observations[key]) for key in mine.observations)


# Learning


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_where_looking_is_dear_agents_learn_to_stop(algo: str) -> None:
    env = GlimpseVecEnv(
        GlimpseVectorEnv(toy_dataset(), CountingJudge(), num_envs=8, stop=True, glimpse_cost=1.0, posterior_info=False)
    )
    options: dict[str, Any] = {"exploration_timesteps": 600}
    if "ppo" in algo:
        options = {"n_steps": 16, "batch_size": 64, "target_kl": None, "learning_rate": 5e-3}
    elif not ALGORITHMS[algo].off_policy:
        options = {"n_steps": 8, "learning_rate": 1e-2}
    model = toy_model(algo, env=env, **options)
    before = play(model, toy_dataset(), CountingJudge(), np.arange(24), deterministic=False, progress=False)
    model.learn(1200 if ALGORITHMS[algo].off_policy else 2500)
    after = play(model, toy_dataset(), CountingJudge(), np.arange(24), deterministic=False, progress=False)
    assert before.lengths.mean() > 0.8 * STEPS
    assert after.lengths.mean() < 0.25


def test_an_untrained_policy_never_looks_twice_but_may_stop() -> None:
    for algo in ("ppo", "maskable_ppo", "recurrent_ppo", "dqn"):
        model: Any = toy_model(algo, env=toy_vec_env(4, stop=True), architecture=None)
        dataset, judge = toy_dataset(), toy_judge()
        assert can_stop(model, dataset, judge)
        played = play(model, dataset, judge, np.arange(24), deterministic=False, progress=False)
        for row, length in zip(played.locations, played.lengths, strict=True):
            assert len(set(row[:length].tolist())) == length


# What cannot stop yet says so


def test_what_needs_lockstep_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"group=2 needs .* stop=True"):
        GlimpseVecEnv(GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=4, stop=True), group=2)


def test_ram_is_refused() -> None:
    env = GlimpseEnv(toy_dataset(), None, task="classify", stop=True)
    with pytest.raises(ConfigurationError, match="stop=False"):
        RAM("RAMPolicy", env).learn(8)


def test_episodes_that_stopped_are_evaluated_and_recorded() -> None:
    dataset, judge = toy_dataset(), toy_judge()
    model = ready_to_stop(toy_model("ppo", env=toy_vec_env(4, stop=True)), by=50.0)
    evaluation = evaluate(model, dataset, judge, np.arange(9), name="agent", progress=False)
    assert evaluation.glimpses is not None
    assert not evaluation.glimpses.any()
    again = Evaluation.from_json(evaluation.to_json())
    assert np.array_equal(again.glimpses, evaluation.glimpses)
    parts = [
        (rows, evaluate(model, dataset, judge, rows, name="agent", progress=False))
        for rows in (np.arange(4), np.arange(4, 9))
    ]
    assert joined(parts, np.arange(9)).glimpses is not None
    recording = record(model, dataset, judge, np.arange(2))
    assert recording.lengths is not None
    assert not recording.lengths.any()
    # what the judge says of nothing seen, four times
    nothing = GlimpseEnv(dataset, judge, stop=True).reset(options={"index": 1})[1]["probabilities"]
    np.testing.assert_allclose(recording.probabilities[1], np.broadcast_to(nothing, (STEPS, 3)), atol=1e-5)
    (frame,) = episode_frames(recording, 1, dataset, name="agent")
    assert frame.ndim == 3
    never = evaluate(toy_model("ppo"), dataset, judge, np.arange(4), name="agent", progress=False)
    assert never.glimpses is None
    assert "glimpses" not in never.to_json()
