from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import configure
from torch import Tensor

from agents.algorithms.demonstrations import demonstration_rewards
from agents.algorithms.dqfd import GlimpseDQN, GlimpseQRDQN, margin_loss
from agents.algorithms.policies import NEVER
from agents.algorithms.q_policies import GlimpseQPolicy, GlimpseQuantilePolicy
from agents.cloning import DemonstrationLoss, agreement
from agents.cloning_data import CloningData
from agents.networks.encoders import ENCODED, WHOLE, GlimpseEncoder
from agents.registry import ARCHITECTURES
from agents.vec_env import GlimpseVecEnv
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.rollout import play
from glimpse_env.vector_env import GlimpseVectorEnv
from tests.support.toy import CountingJudge, toy_dataset, toy_judge
from tests.support.toy_agents import (
    GRID,
    STEPS,
    demonstrations,
    equal,
    grey_dataset,
    grey_demonstrations,
    random_data,
    state_observations,
    weights_of,
)

ALGORITHMS: dict[str, Any] = {"dqn": (GlimpseDQN, GlimpseQPolicy), "qrdqn": (GlimpseQRDQN, GlimpseQuantilePolicy)}
ENVS = 4


def make_env(num_envs: int = ENVS, observation: Any = "history", dataset: Any = None, **options: Any) -> GlimpseVecEnv:
    chosen: dict[str, Any] = {"reward": "information", "posterior_info": False, **options}
    images = toy_dataset() if dataset is None else dataset
    env = GlimpseVectorEnv(images, toy_judge(), num_envs=num_envs, observation=observation, **chosen)
    return GlimpseVecEnv(env)


def make_model(
    algo: str = "dqn", architecture: str = "mlp", *, env: Any = None, frozen: bool = True, **options: Any
) -> Any:
    algorithm, policy = ALGORITHMS[algo]
    judge = toy_judge()
    extractor = {"posterior": asdict(judge.card.config), "frozen": frozen}
    if ARCHITECTURES[architecture].needs_grid:
        extractor["grid"] = asdict(GRID)
    kwargs = {
        "grid": asdict(GRID),
        "features_extractor_class": ARCHITECTURES[architecture],
        "features_extractor_kwargs": extractor,
        **options.pop("policy_kwargs", {}),
    }
    chosen: dict[str, Any] = {"seed": 0, "device": "cpu", "buffer_size": 400, "batch_size": 32, "learning_rate": 1e-3}
    chosen |= {"gradient_steps": 2, "learning_starts": 0, "target_update_interval": 1, "tau": 0.1}
    model = algorithm(policy, make_env() if env is None else env, policy_kwargs=kwargs, **(chosen | options))
    for module in model.policy.modules():
        if isinstance(module, GlimpseEncoder):
            module.copy_from(judge.networks[0])
    return model


def with_demonstrations(model: Any, data: CloningData | None = None) -> Any:
    shown = random_data() if data is None else data
    model.load_demonstrations(shown, demonstration_rewards(shown, toy_dataset(), toy_judge()))
    return model


def every_state(batch: Any) -> dict[str, Tensor]:
    """Returns the observation of each state of whole episodes."""
    last = {key: value for key, value in batch.observations.items() if key != WHOLE}
    shown: dict[str, list[Tensor]] = {key: [] for key in last}
    for episode in range(len(batch.actions)):
        for t in range(STEPS):
            for key, value in last.items():
                row = value[episode].clone()
                if key == "step":
                    row[...] = t
                else:
                    row.unflatten(0, (STEPS, -1))[t:] = 0
                shown[key].append(row)
    return {key: torch.stack(rows) for key, rows in shown.items()}


# --- losses


def test_margin_loss_by_hand() -> None:
    q = torch.tensor([[1.0, 2.0, NEVER], [3.0, 1.0, 2.5], [0.0, 0.0, 0.0]])
    margins = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.5, 0.5], [0.5, 0.1, 0.0]])
    # 2 + 0.5 - 1; 3 - 3 as 2.5 + 0.5 is no more; 0 + 0.5 - 0
    expected = (1.5 + 0.0 + 0.5) / 3
    assert margin_loss(q, torch.tensor([0, 0, 2]), margins).item() == pytest.approx(expected)
    none = margin_loss(q[:0], torch.zeros(0, dtype=torch.int64), margins[:0])
    assert none.item() == 0


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("architecture", ["mlp", "canvas"])
def test_losses_against_brute_force(algo: str, architecture: str) -> None:
    """Computes the loss by loops over states: double-DQN targets over unvisited locations, demonstrations' margins."""
    model = with_demonstrations(make_model(algo, architecture, demo_share=0.5, margin=0.6, margin_weight=2.0))
    model.learn(2 * ENVS * STEPS)
    policy = model.policy
    for network in (policy.net, policy.target):  # worth most where nobody may look
        torch.nn.init.normal_(network.head[-1].bias, std=3.0)
    batch = model.replay_buffer.sample_episodes(6)
    observations, taken = every_state(batch), batch.actions.numpy()
    with torch.no_grad():
        values = policy.net(observations).reshape(6, STEPS, -1, len(GRID)).numpy()  # (E, T, quantiles, L)
        later = policy.target(observations).reshape(values.shape).numpy()
        loss, margin = (part.item() for part in model.losses(batch))
    differences, margins = [], []
    for e in range(6):
        for t in range(STEPS):
            free = [a for a in range(len(GRID)) if a not in taken[e, :t]]
            assert (values[e, t].mean(0) < NEVER / 2).sum() == len(GRID) - len(free)
            target = np.full(values.shape[2], batch.rewards[e, t].item())
            if t + 1 < STEPS:
                best = max((a for a in free if a != taken[e, t]), key=lambda a: values[e, t + 1, :, a].mean())
                target += later[e, t + 1, :, best]
            now = values[e, t, :, taken[e, t]]
            for i, current in enumerate(now):
                for wanted in target:
                    error = wanted - current
                    huber = 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5
                    weight = abs((i + 0.5) / len(now) - (error < 0)) if algo == "qrdqn" else 1.0
                    differences.append(weight * huber)
            if batch.demonstrated[e]:
                q = values[e, t].mean(0)
                near = batch.agreement[e, t].numpy()
                margins.append(max(q[a] + 0.6 * (1 - near[a]) for a in free) - q[taken[e, t]])
    assert batch.demonstrated.sum() == 3
    assert margin == pytest.approx(np.mean(margins), rel=1e-4)
    assert loss == pytest.approx(np.mean(differences) + 2.0 * np.mean(margins), rel=1e-4)


def test_margins_follow_the_demonstrator() -> None:
    model = make_model()
    data = random_data()
    with_demonstrations(model, data)
    kept = model.replay_buffer.demonstrations
    q = data.targets[3, 1]
    expected = np.minimum(q / q[data.taken[3, 1]], 1)
    np.testing.assert_allclose(kept.agreement[3, 1], expected, atol=1e-3)
    hard = CloningData.from_demonstrations(demonstrations(data.taken), toy_dataset(), targets="argmax")
    with_demonstrations(model, hard)
    np.testing.assert_array_equal(model.replay_buffer.demonstrations.agreement, np.eye(len(GRID))[data.taken])


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_second_looks_do_not_count(algo: str) -> None:
    taken = np.array([[7, 2, 7, 1], [3, 5, 4, 0]])
    data = CloningData.from_demonstrations(demonstrations(taken), toy_dataset(), targets="argmax")
    model = with_demonstrations(make_model(algo), data)
    result = model.pretrain(3, progress=False)
    assert max(result.loss) < 100


@pytest.mark.parametrize("reward", ["information", "classification"])
@pytest.mark.parametrize("tabulated", [False, True])
def test_demonstrations_are_paid_as_in_the_environment(
    reward: Any, tabulated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLIMPSE_CACHE", str(tmp_path))
    data, judge = random_data(), toy_judge()
    paid = demonstration_rewards(data, toy_dataset(), judge, reward, tabulated=tabulated)
    env = GlimpseVectorEnv(
        toy_dataset(), judge, num_envs=len(data), reward=reward, tabulated=tabulated, posterior_info=False
    )
    env.reset(options={"index": data.indices})
    played = np.stack([env.step(data.taken[:, t])[1] for t in range(STEPS)], axis=1)
    assert paid.dtype == np.float32
    assert np.abs(paid).sum() > 0
    np.testing.assert_allclose(paid, played, atol=1e-6)


# --- policies


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_pass_equals_asking_state_by_state(algo: str, architecture: str) -> None:
    policy = make_model(algo, architecture, policy_kwargs={"temperature": 0.5}).policy
    data = random_data()
    with torch.no_grad():
        fast = DemonstrationLoss(policy, data).logits(np.arange(len(data)))
        slow = policy.net.expected(policy.net(state_observations(data)))
    possible = slow > NEVER / 2
    assert possible.sum(1).tolist() == [len(GRID) - t for t in range(STEPS)] * len(data)
    torch.testing.assert_close((fast * 0.5).flatten(0, 1)[possible], slow[possible], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_both_networks_have_the_judges_encoder(frozen: bool) -> None:
    model = with_demonstrations(make_model(frozen=frozen))
    net, target = model.policy.net.features_extractor, model.policy.target.features_extractor
    before = weights_of(net.encoder)
    assert equal(before, weights_of(target.encoder))
    model.pretrain(2, progress=False)
    assert (net.encoder is target.encoder) == frozen == model.policy.encodes_once
    assert equal(before, weights_of(net.encoder)) == frozen
    head, old = weights_of(model.policy.net.head), weights_of(model.policy.target.head)
    model.policy.update_target(0.25)
    for a, b, c in zip(head, old, weights_of(model.policy.target.head), strict=True):
        torch.testing.assert_close(c, 0.25 * a + 0.75 * b)
    model.policy.update_target(1.0)
    assert equal(weights_of(model.policy.net), weights_of(model.policy.target))


def test_encoded_glimpses_may_stand_for_pixels() -> None:
    policy = make_model().policy
    observations = state_observations(random_data())
    with torch.no_grad():
        expected = policy.net(observations)
        encoded = {**observations, ENCODED: policy.encode(observations)}
        del encoded["glimpses"]
        torch.testing.assert_close(policy.net(encoded), expected)


# --- acting


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("learning_starts", [0, 10**6])
def test_nothing_is_looked_at_twice(algo: str, learning_starts: int) -> None:
    model = make_model(algo, learning_starts=learning_starts, gradient_steps=1)
    model.learn(10 * ENVS * STEPS)
    actions = model.replay_buffer.own.actions[: model.replay_buffer.num_own]
    assert len(actions) == 10 * ENVS
    assert all(len(set(row)) == STEPS for row in actions.tolist())
    assert (model._n_updates == 0) == (learning_starts > 0)
    assert len(np.unique(actions)) > 40


def test_each_environment_has_a_coin_of_its_own() -> None:
    model = make_model()
    observations: Any = {key: value.numpy() for key, value in state_observations(random_data(100)).items()}
    greedy, _ = model.predict(observations, deterministic=True)
    model.exploration_rate = 0.3
    model.set_random_seed(1)
    explored = [model.predict(observations)[0] for _ in range(2)]
    for actions in explored:
        assert actions.shape == (400,)
        assert 0.2 < (actions != greedy).mean() < 0.4
    assert not np.array_equal(*explored)
    model.set_random_seed(1)
    np.testing.assert_array_equal(model.predict(observations)[0], explored[0])
    one = {key: value[5] for key, value in observations.items()}
    model.exploration_rate = 1.0
    assert {int(model.predict(one)[0]) for _ in range(20)} - {int(greedy[5])}
    assert model.predict(one)[0].shape == ()
    model.exploration_rate = 0.0
    np.testing.assert_array_equal(model.predict(observations)[0], greedy)


def test_exploration_falls_with_all_timesteps() -> None:
    model = make_model(exploration_initial_eps=0.9, exploration_final_eps=0.1, exploration_timesteps=100)
    rates = []
    for chunk in range(4):
        model.learn(2 * ENVS * STEPS, reset_num_timesteps=chunk == 0)
        rates.append(model.exploration_rate)
    np.testing.assert_allclose(rates, [0.9 - 0.8 * 0.32, 0.9 - 0.8 * 0.64, 0.9 - 0.8 * 0.96, 0.1])


# --- learning


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_demonstrator_that_looks_is_imitated(algo: str) -> None:
    """The demonstrator acts by the grey it has seen, so only an agent that sees it too agrees on held-out images."""
    data = CloningData.from_demonstrations(grey_demonstrations(), grey_dataset())
    train, held = data.split(0.25, seed=0)
    model = make_model(algo, learning_rate=1e-2, margin_weight=3.0, env=make_env(dataset=grey_dataset()))
    model.load_demonstrations(train, demonstration_rewards(train, grey_dataset(), toy_judge()))
    result = model.pretrain(500, 48, progress=False)
    assert len(result.loss) == len(result.margin_loss) == 500
    assert result.margin_loss[-1] < 0.1 < result.margin_loss[0]
    assert agreement(DemonstrationLoss(model.policy, held)) == (1.0, 1.0)
    played = play(model, grey_dataset(8), CountingJudge(), np.arange(8), progress=False)
    np.testing.assert_array_equal(played.locations, grey_demonstrations(8).locations)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_stopped_run_ends_as_if_it_had_not_been_stopped(algo: str, tmp_path: Path) -> None:
    weights = []
    for stopped in (False, True):
        model = with_demonstrations(make_model(algo, "gru", buffer_size=100))
        model.pretrain(2, progress=False)
        for chunk in range(3):
            if stopped and chunk > 0:
                model.save(tmp_path / "model.zip")
                model.save_replay_buffer(tmp_path / "replay.npz")
                model = type(model).load(tmp_path / "model.zip", env=make_env(), device="cpu")
                model.load_replay_buffer(tmp_path / "replay.npz")
            model.set_random_seed(chunk + 10)
            model.set_env(model.get_env(), force_reset=True)
            model.learn(3 * ENVS * STEPS, reset_num_timesteps=False)
        assert (model.num_timesteps, model._n_updates) == (9 * ENVS * STEPS, 2 + 9 * 2)
        weights.append(weights_of(model.policy))
    assert equal(*weights)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_loaded_model_acts_the_same(algo: str, tmp_path: Path) -> None:
    model = make_model(algo)
    model.learn(2 * ENVS * STEPS)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", device="cpu")
    assert equal(weights_of(model.policy), weights_of(loaded.policy))
    observations: Any = {key: value.numpy() for key, value in state_observations(random_data()).items()}
    for one in (model, loaded):
        one.set_random_seed(3)
    np.testing.assert_array_equal(model.predict(observations)[0], loaded.predict(observations)[0])


def test_what_is_logged(tmp_path: Path) -> None:
    model = with_demonstrations(make_model())
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(4 * ENVS * STEPS, log_interval=2)
    model.logger.close()
    lines = (tmp_path / "progress.csv").read_text().splitlines()
    assert len(lines) == 3  # names and two rows: every second training
    for name in ("train/loss", "demonstrations/loss", "rollout/exploration_rate", "rollout/success_rate"):
        assert name in lines[0]
    assert 0 <= np.mean(model.ep_success_buffer) <= 1
    assert len(model.ep_success_buffer) == 4 * ENVS


def test_embeddings_are_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_CACHE", str(tmp_path))
    model = make_model(env=make_env(observation="embedding", tabulated=True))
    data = random_data()
    rewards = demonstration_rewards(data, toy_dataset(), toy_judge())
    with pytest.raises(ConfigurationError, match="Give both the same"):
        model.load_demonstrations(data, rewards)
    model.load_demonstrations(data.embedded(toy_judge()), rewards)
    model.pretrain(2, progress=False)
    model.learn(2 * ENVS * STEPS)
    assert model._n_updates == 2 + 2 * 2


def test_arguments_out_of_range_are_named(tmp_path: Path) -> None:
    for options, match in (
        ({"margin": -1.0}, "margin=-1"),
        ({"exploration_timesteps": 0}, "exploration_timesteps=0"),
        ({"exploration_fraction": 0.1}, "exploration_timesteps"),
        ({"train_freq": STEPS + 1}, "whole episodes"),
        ({"policy_kwargs": {"temperature": 0.0}}, r"temperature=0\.0"),
        ({"demo_share": 2.0}, r"demo_share=2\.0"),
        ({"buffer_size": 3}, "buffer_size=3"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            make_model(**options)
    model = make_model()
    with pytest.raises(ConfigurationError, match="call load_demonstrations first"):
        model.pretrain(2, progress=False)
    with pytest.raises(ConfigurationError, match="are needed"):
        model.load_demonstrations(random_data(), np.zeros((3, STEPS)))
    with_demonstrations(model)
    with pytest.raises(ConfigurationError, match="steps=0"):
        model.pretrain(0, progress=False)
    with pytest.raises(ArtifactError, match="cannot be read"):
        model.load_replay_buffer(tmp_path / "none.npz")
