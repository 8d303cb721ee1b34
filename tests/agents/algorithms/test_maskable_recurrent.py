"""MaskableRecurrentPPO: RecurrentPPO where all is allowed, brute force where it is not, and a task that needs both."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.algorithms.maskable_recurrent import (
    MaskableRecurrentPPO,
    MaskedRNNStates,
    evaluate_policy,
    mask_dims,
    mask_logits,
)
from tests.support.toy_agents import STEPS, equal, toy_model, toy_observations, weights_of

CUES, ACTIONS, WAITS = 3, 6, 2


class Recall(gym.Env):
    """A cue is shown first, of three; two steps later the action of its name pays 1. Only four of six actions, among
    them the right one, are allowed then, and another one pays -1: who ignores masks or memory loses."""

    def __init__(self, *, in_dict: bool = False, everything: bool = False):
        cue = spaces.Box(0.0, 1.0, (CUES + 1,), np.float32)
        self.in_dict, self.everything = in_dict, everything
        self.observation_space = spaces.Dict({"cue": cue}) if in_dict else cue
        self.action_space = spaces.Discrete(ACTIONS)
        self.forbidden_taken = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.cue, self.t = int(self.np_random.integers(CUES)), 0
        return self._shown(), {}

    def action_masks(self) -> np.ndarray:
        allowed = np.ones(ACTIONS, dtype=bool)
        if not self.everything:
            allowed[[3 + self.cue, 3 + (self.cue + self.t) % 3]] = False
        return allowed

    def step(self, action: Any) -> Any:
        legal = bool(self.action_masks()[int(action)])
        self.forbidden_taken += not legal
        self.t += 1
        ended = self.t > WAITS
        reward = float(ended and int(action) == self.cue) - float(not legal)
        return self._shown(), reward, ended, False, {}

    def _shown(self) -> Any:
        shown = np.zeros(CUES + 1, dtype=np.float32)
        shown[self.cue if self.t == 0 else CUES] = 1.0
        return {"cue": shown} if self.in_dict else shown


def recall_envs(num_envs: int = 4, **options: Any) -> DummyVecEnv:
    return DummyVecEnv([lambda: Monitor(Recall(**options)) for _ in range(num_envs)])


def model_of(kind: Any, env: Any, **options: Any) -> Any:
    in_dict = isinstance(env.observation_space, spaces.Dict)
    settings = {"n_steps": 24, "batch_size": 32, "n_epochs": 3, "seed": 0, "device": "cpu"} | options
    settings.setdefault("policy_kwargs", {"lstm_hidden_size": 16, "net_arch": [16]})
    return kind("MultiInputLstmPolicy" if in_dict else "MlpLstmPolicy", env, **settings)


@pytest.mark.parametrize("in_dict", [False, True])
def test_where_all_is_allowed_it_is_recurrent_ppo_bit_for_bit(in_dict: bool) -> None:
    trained = {}
    for kind in (RecurrentPPO, MaskableRecurrentPPO):
        model = model_of(kind, recall_envs(in_dict=in_dict, everything=True)).learn(4 * 24 * 2)
        trained[kind] = weights_of(model.policy), model.rollout_buffer.actions, model.rollout_buffer.log_probs
    ours, theirs = trained[MaskableRecurrentPPO], trained[RecurrentPPO]
    assert equal(theirs[0], ours[0])
    assert np.array_equal(theirs[1], ours[1])
    assert np.array_equal(theirs[2], ours[2])


@pytest.mark.parametrize("in_dict", [False, True])
def test_masked_actions_are_never_taken(in_dict: bool) -> None:
    env = recall_envs(in_dict=in_dict)
    model = model_of(MaskableRecurrentPPO, env).learn(4 * 24 * 2)
    assert env.get_attr("forbidden_taken") == [0] * 4
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 9.0, 9.0, 9.0]))  # what is forbidden, most
    evaluate_policy(model, env, 20, deterministic=False)
    evaluate_policy(model, env, 20, deterministic=True)
    assert env.get_attr("forbidden_taken") == [0] * 4
    assert model.policy._masks is None
    assert model.policy.mask_source is None


@pytest.mark.parametrize("batch_size", [96, 17])
def test_masks_of_minibatches_are_those_that_were_acted_by(batch_size: int) -> None:
    """The probabilities of a minibatch are those of the rollout; padded steps are allowed everything."""
    model = model_of(MaskableRecurrentPPO, recall_envs(), batch_size=batch_size)
    _, callback = model._setup_learn(1)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 24)
    kept = model.rollout_buffer.action_masks.copy()
    assert (kept.sum(-1) < ACTIONS).all()
    found = []
    for batch in model.rollout_buffer.get(batch_size):
        real = batch.mask > 0.5
        masks = batch.lstm_states.action_masks
        assert isinstance(batch.lstm_states, MaskedRNNStates)
        assert (masks[~real] == 1).all()
        assert (~real).any() or batch_size == 1
        given = (batch.observations, batch.actions.long().flatten(), batch.lstm_states, batch.episode_starts)
        _, log_prob, entropy = model.policy.evaluate_actions(*given)
        torch.testing.assert_close(log_prob[real], batch.old_log_prob[real], rtol=1e-4, atol=1e-5)
        assert torch.isfinite(entropy).all()
        states = RNNStates(batch.lstm_states.pi, batch.lstm_states.vf)
        unmasked = model.policy.evaluate_actions(given[0], given[1], states, given[3])[1]
        assert (unmasked[real] < log_prob[real]).all()
        found.append(masks[real])
    assert torch.equal(torch.cat(found).sum(0), torch.from_numpy(kept.sum((0, 1))))


@pytest.mark.parametrize(
    "space", [spaces.Discrete(5), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)], ids=["one", "many", "binary"]
)
def test_log_probabilities_are_those_of_brute_force(space: Any) -> None:
    class Any_(gym.Env):
        observation_space, action_space = spaces.Box(-1.0, 1.0, (3,), np.float32), space

    model = model_of(MaskableRecurrentPPO, DummyVecEnv([Any_]))
    rng = np.random.default_rng(0)
    obs = torch.from_numpy(rng.uniform(-1, 1, (16, 3)).astype(np.float32))
    masks = rng.random((16, mask_dims(space))) < 0.6
    if isinstance(space, spaces.Discrete):
        parts, every = [np.arange(5)], np.arange(5)[:, None]
    else:
        sizes = [2, 3] if isinstance(space, spaces.MultiDiscrete) else [2, 2]
        parts = np.split(np.arange(sum(sizes)), [sizes[0]])
        every = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, len(sizes))
    for part in parts:
        masks[np.arange(16), rng.choice(part, 16)] = True  # something is allowed
    states, starts = (torch.zeros(1, 16, 16),) * 2, torch.ones(16)
    policy = model.policy
    with torch.no_grad():
        policy.action_net.weight.normal_()
        weights = {}
        for action in every:
            actions = torch.from_numpy(np.tile(action, (16, 1))).reshape(16, *space.shape)
            actions = actions.float() if isinstance(space, spaces.MultiBinary) else actions
            both = RNNStates(states, states)
            free = policy.evaluate_actions(obs, actions, both, starts)[1].exp().numpy()
            allowed = np.all([masks[:, part[number]] for part, number in zip(parts, action, strict=True)], axis=0)
            _, log_prob, entropy = policy.evaluate_actions(obs, actions, both, starts, action_masks=masks)
            weights[tuple(action)] = np.where(allowed, free, 0.0), log_prob.exp().numpy()
    total = sum(by_hand for by_hand, _ in weights.values())
    for by_hand, ours in weights.values():
        np.testing.assert_allclose(ours, by_hand / total, rtol=1e-4, atol=1e-7)
    shares = np.stack([by_hand / total for by_hand, _ in weights.values()])
    by_hand = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(0)
    np.testing.assert_allclose(entropy.numpy(), by_hand, rtol=1e-3, atol=1e-5)


def test_it_wins_a_task_that_needs_memory_and_masks(tmp_path: Path) -> None:
    options = {"batch_size": 96, "n_epochs": 4, "learning_rate": 4e-3, "gamma": 1.0, "ent_coef": 0.01}
    model = model_of(MaskableRecurrentPPO, recall_envs(8), **options).learn(8 * 24 * 20)
    mean, spread = evaluate_policy(model, recall_envs(2), 60)
    assert (mean, spread) == (1.0, 0.0)
    model.save(tmp_path / "model.zip")
    loaded = MaskableRecurrentPPO.load(tmp_path / "model.zip", env=recall_envs(8), device="cpu")
    assert evaluate_policy(loaded, recall_envs(2), 60) == (1.0, 0.0)
    state = None
    shown = np.eye(4, dtype=np.float32)
    for _ in range(3):
        masks = np.array([[False, True, True, True, False, True]] * 4)
        ours, state_after = model.predict(shown, state, deterministic=True, action_masks=masks)
        theirs, _ = loaded.predict(shown, state, deterministic=True, action_masks=masks)
        assert np.array_equal(ours, theirs)
        assert not np.isin(ours, [0, 4]).any()
        state = state_after
    loaded.learn(8 * 24)


def test_one_forgets_without_states() -> None:
    """What makes the task one of memory: after the cue all observations are alike."""
    env = Recall()
    seen = set()
    for seed in range(20):
        env.reset(seed=seed)
        seen.add(env.step(0)[0].tobytes())
    assert len(seen) == 1


def test_what_cannot_be_masked_is_named() -> None:
    with pytest.raises(ValueError, match="cannot be masked"):
        model_of(MaskableRecurrentPPO, DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    unmasked = model_of(MaskableRecurrentPPO, DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    with pytest.raises(ValueError, match="no action masks"):
        unmasked.learn(24)
    with pytest.raises(ValueError, match="no action masks"):
        evaluate_policy(unmasked, gym.make("CartPole-v1"))
    logits = torch.randn(2, 3)
    assert mask_logits(logits, None, spaces.Discrete(3)) is logits


def test_agents_never_look_twice() -> None:
    model: Any = toy_model("maskable_recurrent_ppo", policy_kwargs={"mask_visited": False}).learn(STEPS * 8 * 2)
    places = model.rollout_buffer.actions.reshape(STEPS, 8)
    model.collect_rollouts(model.env, model._setup_learn(1)[1], model.rollout_buffer, STEPS)
    places = model.rollout_buffer.actions[..., 0].T
    assert all(len(set(row)) == STEPS for row in places)
    shown: Any = {key: value.numpy() for key, value in toy_observations([0] * 8).items()}
    assert model.predict(shown, action_masks=np.eye(64, dtype=bool)[:8])[0].tolist() == list(range(8))
