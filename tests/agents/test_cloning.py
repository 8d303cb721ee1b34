from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from agents.cloning import DemonstrationLoss, actor_parameters, agreement, clone, critic_modules, critic_parameters
from agents.cloning_data import CloningData
from agents.registry import ARCHITECTURES
from glimpse_env.datasets.copies import copies_of
from glimpse_env.env import GlimpseEnv
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.rollout import play
from oracles.demonstrations import Demonstrations
from tests.glimpse_env.judge.test_frozen import frozen_judge
from tests.support import toy
from tests.support.toy import CountingJudge, toy_dataset, toy_judge
from tests.support.toy_agents import (
    CONFIG,
    GRID,
    OBSERVATIONS,
    STEPS,
    demonstrations,
    equal,
    fill_zeros,
    grey_dataset,
    grey_demonstrations,
    random_data,
    state_observations,
    toy_data,
    toy_env_showing,
    toy_model,
    toy_table,
    toy_vec_env,
    weights_of,
)

LOCATIONS = np.array([[3, 5, 4, 0], [7, 2, 7, 1]])


def make_data(epe: np.ndarray | None = None, locations: np.ndarray = LOCATIONS, **options: Any) -> CloningData:
    return CloningData.from_demonstrations(demonstrations(locations, epe), toy_dataset(), **options)


def plain_model(env: Any = None, **options: Any) -> PPO:
    """A model with SB3's own policy, an MLP over the whole observation."""
    return PPO("MultiInputPolicy", env or toy_vec_env(), n_steps=STEPS, batch_size=32, seed=0, device="cpu", **options)


# --- data


def test_soft_targets_by_hand() -> None:
    epe = np.full((2, STEPS, len(GRID)), np.inf)
    epe[..., :4] = [0.0, 0.5, 1.0, 1.5]
    epe[1, 2, 1] = np.nan
    targets = make_data(epe, temperature=0.5).targets
    assert targets.dtype == np.float32
    assert targets.shape == (2, STEPS, len(GRID))
    e = np.exp(-np.arange(4.0))
    np.testing.assert_allclose(targets[0, 0, :4], e / e.sum(), rtol=1e-5)
    np.testing.assert_allclose(targets[0, 1, :4], [*(e[:3] / e[:3].sum()), 0], rtol=1e-5)  # 3 was looked at
    np.testing.assert_allclose(
        targets[1, 2, :4], [*(e[[0, 3]] / e[[0, 3]].sum())[[0]], 0, 0, (e[3] / e[[0, 3]].sum())], rtol=1e-5
    )
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-5)


def test_argmax_targets_by_hand() -> None:
    targets = make_data(targets="argmax").targets
    np.testing.assert_array_equal(targets[0], np.eye(len(GRID))[LOCATIONS[0]])
    np.testing.assert_array_equal(targets[1, [0, 1, 3]], np.eye(len(GRID))[LOCATIONS[1, [0, 1, 3]]])
    assert (targets[1, 2] == 0).all()  # the second look at 7 is no target


def test_states_are_what_the_environment_shows() -> None:
    data = random_data()
    env = GlimpseEnv(toy_dataset(), CountingJudge())
    for row in range(3):
        observation, _ = env.reset(options={"index": row})
        for step in range(STEPS):
            tensors, targets = data.batch(np.array([row]), np.array([step]))
            for key, shown in observation.items():
                assert tensors[key].dtype == torch.from_numpy(np.asarray(shown)).dtype
                np.testing.assert_array_equal(tensors[key][0], shown)
            np.testing.assert_array_equal(targets[0], data.targets[row, step])
            observation = env.step(data.taken[row, step])[0]


def test_embedded_states_are_what_the_environment_shows() -> None:
    """The environment's table is in half precision; embeddings are the first network's, whichever network judges."""
    judge, data = toy_judge(), random_data()
    embedded = data.embedded(judge)
    assert (data.observation, embedded.observation) == ("history", "embedding")
    assert embedded.glimpses.shape == (len(data), STEPS - 1, CONFIG.embedding)
    assert embedded.glimpses.dtype == np.float16
    env = GlimpseEnv(toy_dataset(), judge, observation="embedding")
    for row in range(0, len(data), 5):
        observation, _ = env.reset(options={"index": row})
        for step in range(STEPS):
            tensors, targets = embedded.batch(np.array([row]), np.array([step]))
            assert tensors.keys() == observation.keys()
            for key, shown in observation.items():
                assert tensors[key].dtype == torch.from_numpy(np.asarray(shown)).dtype
                tolerance = 2e-3 if key == "embeddings" else 0
                np.testing.assert_allclose(tensors[key][0], shown, rtol=tolerance, atol=tolerance)
            assert np.ptp(observation["embeddings"]) > 0.1 or step == 0
            np.testing.assert_array_equal(targets[0], data.targets[row, step])
            observation = env.step(data.taken[row, step])[0]


def test_embedding_keeps_all_but_the_glimpses() -> None:
    data = random_data()
    embedded = data.embedded(toy_judge())
    for field in ("indices", "taken", "targets"):
        np.testing.assert_array_equal(getattr(embedded, field), getattr(data, field))
    rows = np.array([7, 2])
    np.testing.assert_array_equal(embedded[rows].glimpses, data[rows].embedded(toy_judge()).glimpses)
    train, held = embedded.split(0.25, seed=1)
    assert (len(train), len(held), held.observation) == (18, 6, "embedding")


def test_mirror_images_are_embedded_as_such() -> None:
    """Demonstrations that are mirrored, then embedded, equal those of an environment of mirrored images."""
    judge = toy_judge()
    count = 5
    embedded = random_data(count).with_mirror_images().embedded(judge)[count:]
    dataset = toy_dataset(count)
    flipped = toy_dataset(count, images=np.ascontiguousarray(dataset.images[:, :, ::-1]), fingerprint="flipped")
    env = GlimpseEnv(flipped, judge, observation="embedding")
    for row in range(count):
        env.reset(options={"index": row})
        for step in range(STEPS - 1):
            observation = env.step(embedded.taken[row, step])[0]
        shown, _ = embedded.batch(np.array([row]), np.array([STEPS - 1]))
        np.testing.assert_allclose(shown["embeddings"][0], observation["embeddings"], rtol=2e-3, atol=2e-3)


def test_features_are_what_environments_of_the_images_and_of_their_mirror_images_show() -> None:
    """They are read from the table, without a glimpse being encoded."""
    count = 5
    dataset = toy_dataset(count, fingerprint="five")
    flipped = toy_dataset(count, images=np.ascontiguousarray(dataset.images[:, :, ::-1]), fingerprint="five, flipped")
    table = toy_table(dataset, copies_of(True, 0))
    data = random_data(count).with_mirror_images().featured(table)
    assert (len(data), data.observation, data.glimpses.dtype) == (2 * count, "features", np.float16)
    alone = random_data(count).featured(toy_table(dataset))
    np.testing.assert_array_equal(alone.glimpses, data.glimpses[:count])
    for first, images in ((0, dataset), (count, flipped)):
        env = GlimpseEnv(images, frozen_judge(), observation="features")
        for row in range(first, first + count):
            observation, _ = env.reset(options={"index": int(data.indices[row])})
            for step in range(STEPS):
                shown, targets = data.batch(np.array([row]), np.array([step]))
                assert shown.keys() == observation.keys()
                for key, value in observation.items():
                    np.testing.assert_allclose(shown[key][0], value, rtol=2e-3, atol=2e-3, err_msg=key)
                np.testing.assert_array_equal(targets[0], data.targets[row, step])
                observation = env.step(data.taken[row, step])[0]
    assert data[:count].observation == "features"
    assert not np.allclose(data.glimpses[:count], data.glimpses[count:], atol=2e-3)
    with pytest.raises(ConfigurationError, match="features cannot be mirrored"):
        data.with_mirror_images()


def test_split_keeps_images_apart() -> None:
    rng = np.random.default_rng(0)
    indices = rng.integers(20, size=60)
    locations = rng.permuted(np.tile(np.arange(64), (60, 1)), axis=1)[:, :STEPS]
    made = demonstrations(locations, indices=indices)
    data = CloningData.from_demonstrations(made, toy_dataset(), targets="argmax")
    train, held = data.split(0.25, seed=1)
    assert len(train) + len(held) == 60
    assert not set(train.indices) & set(held.indices)
    assert len(set(held.indices)) == round(0.25 * len(set(indices)))
    np.testing.assert_array_equal(data.split(0.25, seed=1)[1].taken, held.taken)
    assert not np.array_equal(data.split(0.25, seed=2)[1].indices, held.indices)
    with pytest.raises(ConfigurationError, match="leaves one part empty"):
        data.split(0.0, seed=0)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ConfigurationError, "no EPE maps"),
        ({"epe": np.zeros((2, 4, 64)), "temperature": 0}, ConfigurationError, "temperature"),
        ({"targets": "hard"}, ConfigurationError, "'hard'"),
        ({"epe": np.zeros((2, 4, 63))}, ArtifactError, "maps are"),
        (
            {"epe": np.full((2, 4, 64), np.nan)},
            ArtifactError,
            "demonstration 0 has no finite EPE before glimpse 1",
        ),
        ({"locations": LOCATIONS + 60}, ArtifactError, "locations 60 to 67"),
        ({"locations": LOCATIONS[:, :3]}, ArtifactError, "3 glimpses"),
        ({"locations": np.tile(LOCATIONS, (20, 1))}, ArtifactError, "images 0 to 39"),
    ],
)
def test_bad_demonstrations_are_named(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make_data(**options)


# --- the loss


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo"])
@pytest.mark.parametrize(
    ("observation", "pretrained"), [("history", True), ("history", False), ("embedding", True), ("features", True)]
)
def test_one_pass_equals_asking_state_by_state(
    algo: str, observation: str, pretrained: bool, architecture: str
) -> None:
    env = toy_env_showing(observation)
    policy: Any = toy_model(algo, pretrained=pretrained, architecture=architecture, env=env).policy
    policy.set_training_mode(False)
    fill_zeros(policy)
    torch.nn.init.normal_(policy.action_net.weight)
    data = toy_data(observation)
    with torch.no_grad():
        fast = DemonstrationLoss(policy, data).logits(np.arange(len(data)))
        slow = policy.get_distribution(state_observations(data)).distribution.logits
    torch.testing.assert_close(fast.log_softmax(-1).flatten(0, 1), slow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("plain", [True, False])
def test_loss_is_the_divergence(plain: bool, observation: str) -> None:
    env = toy_env_showing(observation)
    policy: Any = (plain_model(env) if plain else toy_model(env=env)).policy
    policy.set_training_mode(False)
    torch.nn.init.normal_(policy.action_net.weight)
    data, rows = toy_data(observation), np.array([5, 2, 5])
    with torch.no_grad():
        loss = DemonstrationLoss(policy, data)(rows).item()
        probabilities = policy.get_distribution(state_observations(data)).distribution.probs
    p = probabilities.numpy().reshape(len(data), STEPS, -1)[rows].astype(np.float64)
    q = data.targets[rows].astype(np.float64)
    expected = np.where(q > 0, q * np.log(np.where(q > 0, q, 1) / np.maximum(p, 1e-300)), 0).sum(-1).mean()
    assert loss == pytest.approx(expected, rel=1e-4)


def test_training_drops_features_in_the_loss_alone() -> None:
    """Updates on a policy's own rollouts drop none: they would compare it with another."""
    policy: Any = toy_model(env=toy_env_showing("features")).policy
    torch.nn.init.normal_(policy.action_net.weight)
    data = toy_data("features")
    loss, rows, states = DemonstrationLoss(policy, data), np.arange(len(data)), state_observations(data)
    for training in (False, True):
        policy.set_training_mode(training)
        with torch.no_grad():
            own = policy.get_distribution(states).distribution.logits
            first, again = (loss.logits(rows).log_softmax(-1).flatten(0, 1) for _ in range(2))
        assert torch.equal(first, again) != training
        assert torch.allclose(first, own, atol=1e-4) != training
    agreement(loss)
    assert not policy.training


def test_states_without_target_do_not_count() -> None:
    policy: Any = toy_model().policy
    data = make_data(targets="argmax")
    loss = DemonstrationLoss(policy, data)
    with torch.no_grad():
        log_p = loss.logits(np.arange(2)).log_softmax(-1).numpy()
        expected = [-log_p[n, t, LOCATIONS[n, t]] for n in range(2) for t in range(STEPS) if (n, t) != (1, 2)]
        assert loss(np.arange(2)).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert 0 <= agreement(loss)[0] <= agreement(loss)[1] <= 1


def test_wrong_spaces_are_named() -> None:
    data = random_data()
    continuous: Any = toy_model(env=toy_vec_env(action="continuous")).policy
    canvas = PPO("MlpPolicy", toy_vec_env(observation="canvas"), n_steps=STEPS, batch_size=32, device="cpu")
    for policy, match in ((continuous, "discrete"), (canvas.policy, "history")):
        with pytest.raises(ConfigurationError, match=match):
            DemonstrationLoss(policy, data)
    embedded = data.embedded(toy_judge())
    for mismatch, policy in (
        (embedded, toy_model().policy),
        (data, toy_model(env=toy_env_showing("embedding")).policy),
    ):
        with pytest.raises(ConfigurationError, match="Give both the same"):
            DemonstrationLoss(policy, mismatch)
    wider = replace(embedded, glimpses=np.tile(embedded.glimpses, 2))
    with pytest.raises(ConfigurationError, match="embeddings of shape"):
        DemonstrationLoss(toy_model(env=toy_env_showing("embedding")).policy, wider)
    fewer = CloningData(GRID, data.indices, data.taken[:, :3], data.glimpses[:, :2], data.targets[:, :3])
    with pytest.raises(ConfigurationError, match="glimpses of shape"):
        DemonstrationLoss(toy_model().policy, fewer)


# --- cloning


@pytest.mark.parametrize(
    ("algo", "architecture", "observation"),
    [
        *((algo, "gru", "history") for algo in ("ppo", "a2c", "maskable_ppo", "plain")),
        ("recurrent_ppo", "lstm", "history"),
        ("ppo", "attention", "embedding"),
    ],
)
def test_a_policy_that_looks_is_cloned(
    algo: str, architecture: str, observation: Literal["history", "embedding"]
) -> None:
    """The demonstrator acts by the grey it has seen, so only a policy that sees it too agrees on held-out images."""
    data = CloningData.from_demonstrations(grey_demonstrations(), grey_dataset())
    if observation == "embedding":
        data = data.embedded(toy_judge())
    if algo == "plain":
        model: Any = plain_model(policy_kwargs={"activation_fn": torch.nn.ReLU})
    else:
        model = toy_model(algo, architecture=architecture, env=toy_env_showing(observation))
    policy: Any = model.policy
    critic = critic_modules(policy)
    before = weights_of(*critic)
    result = clone(
        model,
        data,
        passes=100 if architecture == "attention" else 150,
        batch_size=48,
        learning_rate={"recurrent_ppo": 1e-2, "ppo": 6e-3}.get(algo, 3e-3),  # an LSTM is slow to begin to remember
        held_out=0.25,
        progress=False,
    )
    assert result.held_out_loss[0] > 1
    assert min(result.held_out_loss) < 0.05
    assert (result.top_1, result.top_5) == (1.0, 1.0)

    assert equal(before, weights_of(*critic))
    assert not policy.optimizer.state  # cloning has its own
    assert all(parameter.grad is None for parameter in policy.parameters())

    judge = CountingJudge() if observation == "history" else toy_judge(fingerprint="grey")
    grey = replace(grey_dataset(8), fingerprint="grey")
    played = play(model, grey, judge, np.arange(8), observation=observation, progress=False)
    np.testing.assert_array_equal(played.locations, grey_demonstrations(8).locations)


def test_the_last_weights_are_kept() -> None:
    """Also where the held-out loss only rises, as random targets can only be memorised."""
    model, data = toy_model(pretrained=False), random_data(count=40)
    calls: list[tuple[int, float, float]] = []
    result = clone(
        model,
        data,
        passes=30,
        learning_rate=3e-3,
        held_out=0.5,
        seed=3,
        progress=False,
        on_pass=lambda *values: calls.append(values),
    )
    assert calls == list(zip(range(30), result.train_loss, result.held_out_loss, strict=True))
    assert result.train_loss[-1] < min(result.train_loss[:10])
    assert result.held_out_loss[-1] > min(result.held_out_loss)
    held = data.split(0.5, 3)[1]
    with torch.no_grad():
        kept = DemonstrationLoss(model.policy, held)(np.arange(len(held))).item()
    assert kept == pytest.approx(result.held_out_loss[-1], rel=1e-5)


def test_cloning_repeats() -> None:
    results = [clone(toy_model(), random_data(), passes=3, seed=4, progress=False) for _ in range(2)]
    assert results[0] == results[1]


def test_actor_and_critic_parameters_are_apart() -> None:
    own = [toy_model(architecture=name, pretrained=some) for name in ARCHITECTURES for some in (True, False)]
    recurrent = [toy_model("recurrent_ppo", pretrained=some) for some in (True, False)]
    for model in (*own, *recurrent, plain_model()):
        policy: Any = model.policy
        actor, critic = ({id(p) for p in part} for part in (actor_parameters(policy), critic_parameters(policy)))
        trainable = {id(parameter) for parameter in policy.parameters() if parameter.requires_grad}
        assert not actor & critic
        assert actor | critic == trainable
    assert isinstance(model.observation_space, spaces.Dict)


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(ConfigurationError, match="passes=0"):
        clone(toy_model(), random_data(), passes=0)


def test_mirror_images_of_demonstrations_are_demonstrations_of_mirror_images() -> None:
    """Cut out of mirrored images, the mirrored sequences have the mirrored glimpses."""
    dataset = toy.toy_dataset()
    rng = np.random.default_rng(0)
    side, count = 8, 5
    taken = rng.integers(side * side, size=(count, toy.GEOMETRY.num_glimpses))
    epe = rng.random((*taken.shape, side * side)).astype(np.float16)
    entropies = np.zeros(taken.shape, dtype=np.float32)
    made = Demonstrations(np.arange(count), taken, entropies, epe, {})
    data = CloningData.from_demonstrations(made, dataset).with_mirror_images()
    rows, cols = np.divmod(taken, side)
    mirrored = rows * side + side - 1 - cols
    flipped = toy.toy_dataset(images=np.ascontiguousarray(dataset.images[:, :, ::-1]))
    maps = epe.reshape(*taken.shape, side, side)[..., ::-1].reshape(epe.shape)
    again = Demonstrations(np.arange(count), mirrored, entropies, maps, {})
    expected = CloningData.from_demonstrations(again, flipped)
    assert len(data) == 2 * count
    for field in ("indices", "taken", "glimpses", "targets"):
        np.testing.assert_array_equal(getattr(data[count:], field), getattr(expected, field))
    train, held = data.split(0.4, seed=0)
    assert not set(train.indices) & set(held.indices), "an image and its mirror image stay together"
