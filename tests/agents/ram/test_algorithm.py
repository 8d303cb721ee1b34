"""RAM and its relatives on images whose class is told at one place, and their losses against what is done by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from agents.evaluation.evaluate import evaluate
from agents.ram.algorithm import RAM, Episodes
from agents.ram.losses import Played
from agents.ram.minibatches import FREE, Minibatch
from agents.ram.network import CORES, GlimpseNetwork, RAMNetwork, spatial_plan
from agents.ram.policy import RAMPolicy
from agents.ram.sequences import Sequences
from agents.vec_env import GlimpseVecEnv
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.env import GlimpseEnv
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.posterior import PosteriorConfig
from glimpse_env.sensing.geometry import Geometry
from glimpse_env.vector_env import GlimpseVectorEnv
from tests.support.toy import toy_dataset, toy_judge

SIZE, LOCATIONS, CLASSES, CORNER = 28, 25, 3, 24
"""A 5 x 5 grid; what tells the class lies in the lower right corner, where only location 24 shows all of it."""
SMALL = {"posterior": {"features": 16}, "tokens": 24, "hidden": 24}
AVERAGED = {"policy_kwargs": {**SMALL, "averaging": 0.3}}
GEOMETRY = Geometry(SIZE, glimpse_size=12, stride=4, num_glimpses=2)
STEPS = GEOMETRY.num_glimpses + 1


def marked(count: int = 480, seed: int = 0) -> GlimpseDataset:
    """Returns noise images whose last four rows and columns show the class as a brightness."""
    dataset = toy_dataset(count, geometry=GEOMETRY, seed=seed)
    images = np.array(dataset.images) // 4
    images[:, -4:, -4:, 0] = (60 + 90 * dataset.labels)[:, None, None]
    return replace(dataset, images=images)


def vec_env(num_envs: int = 12, **settings: Any) -> GlimpseVecEnv:
    arguments = {"observation": "glimpse", "task": "classify"} | settings
    return GlimpseVecEnv(GlimpseVectorEnv(marked(), None, num_envs=num_envs, **arguments))


def ram(num_envs: int = 12, **settings: Any) -> RAM:
    return RAM("RAMPolicy", vec_env(num_envs), **{"seed": 0, "policy_kwargs": dict(SMALL), **settings})


def to_the_corner(count: int = 240) -> Sequences:
    """Sequences that look at the middle, then at what tells the class."""
    return Sequences(np.arange(count), np.tile([12, CORNER], (count, 1)))


def train(model: RAM, iterations: int) -> RAM:
    return model.learn(iterations * STEPS * model.n_envs, reset_num_timesteps=False, log_interval=0)


def accuracy(model: RAM) -> float:
    """Returns the share of right answers on images that were not trained on."""
    unseen = marked(60, seed=9)
    return float(model.look(unseen, np.arange(60)).success.mean())


def played(model: RAM) -> tuple[Minibatch, Episodes, Played]:
    """Draws, plays and reads the next minibatch."""
    _, callback = model._setup_learn(1)
    drawn = model._sampler.draw(model.iterations)
    episodes = model._play(drawn, callback)
    assert episodes is not None
    return drawn, episodes, model.read(drawn, episodes)


# Learning


@pytest.mark.parametrize("core", CORES)
def test_supervised_networks_look_where_the_class_is_told(core: str) -> None:
    model = ram(sequences=to_the_corner(), policy_kwargs={**SMALL, "core": core}, learning_rate=3e-3)
    assert accuracy(model) < 0.6
    train(model, 80)
    assert accuracy(model) > 0.95
    looked = model.look(marked(60, seed=9), np.arange(60)).locations
    assert (looked == [12, CORNER]).all()


def test_reinforce_finds_the_place_by_itself() -> None:
    model = ram(num_envs=64, learning_rate=3e-3, weights={"reinforce": 1.0})
    train(model, 250)
    assert accuracy(model) > 0.9
    assert (model.look(marked(60, seed=9), np.arange(60)).locations == CORNER).any(1).mean() > 0.9


def test_wake_sleep_finds_the_place_by_itself() -> None:
    def found(seed: int) -> bool:
        model = ram(num_envs=64, learning_rate=5e-3, wake_sleep=8, seed=seed)
        return any(accuracy(train(model, 100)) > 0.9 for _ in range(5))

    first = [found(0), found(1)]
    assert all(first) or (any(first) and found(2))  # one in a few settles on another place, which rounding can decide


def test_pretraining_moves_all_but_the_locator() -> None:
    model = ram(pretraining=5)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    train(model, 5)
    moved = {name.split(".")[1] for name, value in model.policy.state_dict().items() if not value.equal(before[name])}
    assert moved == {"glimpse_network", "core", "classifier"}
    train(model, 1)  # then RAM begins
    after = model.policy.state_dict()
    assert not after["network.locator.2.bias"].equal(before["network.locator.2.bias"])


# The loss


def test_sampled_locations_pass_no_gradient_but_reinforces() -> None:
    model = ram(weights={"reinforce": 0.0, "entropy": 0.0})
    drawn, _, found = played(model)
    model.loss(drawn, found).backward()
    for parameter in model.policy.network.locator.parameters():
        assert parameter.grad is None or not parameter.grad.any()  # classification does not reach it

    model = ram(weights={"reinforce": 0.7, "baseline": 0.0, "entropy": 0.0})
    drawn, episodes, found = played(model)
    found = replace(found, returns=torch.arange(12.0) % 2)
    model.loss(drawn, found).backward()
    gradient = model.policy.network.locator[2].bias.grad
    assert gradient is not None
    # of log softmax by its bias: one-hot less pi, at both looks
    network = model.policy.network
    shown = {"glimpse": episodes.glimpses.reshape(24, -1), "location": episodes.places.reshape(24, 2)}
    states = network.states(network.read(shown).unflatten(0, (12, 2)))[:, :-1]
    advantages = found.returns[:, None] - network.expected_return(states)
    one_hot = F.one_hot(torch.from_numpy(episodes.locations), LOCATIONS)
    by_hand = -0.7 * ((one_hot - network.locator(states).softmax(-1)) * advantages[..., None]).sum(1).mean(0)
    assert torch.allclose(gradient, by_hand, atol=1e-6)


def test_supervised_images_know_no_reinforce() -> None:
    model = ram(sequences=to_the_corner())
    drawn, _, found = played(model)
    assert drawn.supervised.tolist() == [True] * 6 + [False] * 6
    supervised = torch.from_numpy(drawn.supervised)
    loss = model.loss(drawn, found)
    paid = replace(found, returns=torch.where(supervised, 5.0, found.returns))
    assert model.loss(drawn, paid).item() == pytest.approx(loss.item())  # what they are paid is of no account
    paid = replace(found, returns=torch.where(supervised, found.returns, 5.0))
    assert model.loss(drawn, paid).item() != pytest.approx(loss.item())
    log_pi = torch.log(torch.full((12, 2), 0.5))
    values = torch.zeros(12, 2)
    known = replace(found, log_pi=log_pi, values=values, returns=torch.ones(12), entropies=torch.full((12, 2), 1.5))
    weights = model.weights
    expected = (
        F.cross_entropy(found.logits[:, -1], found.labels)
        + weights["imitation"] * 2 * np.log(2)
        + weights["reinforce"] * 2 * np.log(2)
        + weights["baseline"]
        - weights["entropy"] * 2 * 1.5
    )
    assert model.loss(drawn, known).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_does_not_depend_on_the_size_of_the_batch() -> None:
    model = ram(sequences=to_the_corner(), every_step=True)
    drawn, _, found = played(model)
    twice = Minibatch(
        **{name: np.concatenate([getattr(drawn, name)] * 2) for name in ("indices", "given", "supervised")}, group=1
    )
    names = ("log_pi", "entropies", "values", "logits", "foreseen", "labels", "returns")
    doubled = Played(log_q=None, **{name: torch.cat([getattr(found, name)] * 2) for name in names})
    assert model.loss(twice, doubled).item() == pytest.approx(model.loss(drawn, found).item(), rel=1e-5)


def test_wake_sleep_weights_in_closed_form() -> None:
    model = ram(num_envs=2, wake_sleep=2, weights={"imitation": 1.0})
    drawn, _, found = played(model)
    # of one image: the second episode explains the label three times as well, and q proposed it half as often
    right = torch.tensor([0.2, 0.6])
    logits = torch.stack([right.log(), ((1 - right) / 2).log(), ((1 - right) / 2).log()], dim=1)[:, None]
    log_pi, log_q = torch.log(torch.tensor([[0.5, 0.5]] * 2)), torch.log(torch.tensor([[0.5, 0.5], [0.5, 0.25]]))
    known = replace(found, logits=logits, labels=torch.zeros(2, dtype=torch.int64), log_pi=log_pi, log_q=log_q)
    weights = torch.tensor([1 / 7, 6 / 7])  # 0.2 * 1 to 0.6 * 2
    expected = -(weights * (right.log() + log_pi.sum(1) + log_q.sum(1))).sum()
    assert model.loss(drawn, known).item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_is_foreseen_is_the_entropy_of_the_next_glimpse() -> None:
    model = ram(every_step=True)
    drawn, _, found = played(model)
    assert found.foreseen is not None
    assert found.logits.shape == (12, 2, CLASSES)
    entropy = torch.distributions.Categorical(logits=found.logits[:, 1]).entropy()
    exact = replace(found, foreseen=entropy[:, None].detach())
    wrong = replace(found, foreseen=entropy[:, None].detach() + 1.0)
    assert (model.loss(drawn, wrong) - model.loss(drawn, exact)).item() == pytest.approx(1.0, rel=1e-4)


# Minibatches


def test_supervised_images_are_shown_what_their_sequences_say() -> None:
    sequences = Sequences(np.arange(240), np.random.default_rng(0).integers(LOCATIONS, size=(240, 2)))
    model = ram(sequences=sequences)
    drawn, episodes, _ = played(model)
    looked = episodes.locations
    assert np.array_equal(looked[:6], sequences.locations[drawn.indices[:6]])
    assert (drawn.given[6:] == FREE).all()
    assert not np.isin(drawn.indices[6:], sequences.indices).any()


def test_all_images_come_before_one_comes_again() -> None:
    model = ram(sequences=to_the_corner())
    drawn = []
    for iteration in range(80):
        model.iterations = iteration
        drawn.append(model._sampler.draw(model.iterations).indices)
    seen = np.stack(drawn)
    for part, members in ((seen[:, :6], np.arange(240)), (seen[:, 6:], np.arange(240, 480))):
        assert np.bincount(part.ravel(), minlength=480)[members].tolist() == [2] * 240


def test_where_all_images_have_a_sequence_all_are_played_freely_too() -> None:
    model = ram(sequences=to_the_corner(480))
    free = []
    for iteration in range(80):
        model.iterations = iteration
        drawn = model._sampler.draw(model.iterations)
        assert drawn.supervised.tolist() == [True] * 6 + [False] * 6
        assert (drawn.given[6:] == FREE).all()
        free.append(drawn.indices[6:])
    assert np.bincount(np.concatenate(free), minlength=480).tolist() == [1] * 480


def test_wake_sleep_plays_neighbours_on_one_image() -> None:
    drawn, _, found = played(ram(wake_sleep=4))
    assert (drawn.indices.reshape(3, 4) == drawn.indices[::4, None]).all()
    assert found.log_q is not None


# As an SB3 algorithm


@pytest.mark.parametrize(
    "settings", [{}, {"sequences": to_the_corner()}, {"wake_sleep": 4}, {"every_step": True}, AVERAGED]
)
def test_training_that_goes_on_ends_as_if_it_had_not_stopped(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = train(ram(**settings), 6)
    train(ram(**settings), 3).save(tmp_path / "model")
    resumed = RAM.load(tmp_path / "model", env=vec_env(), sequences=settings.get("sequences"))
    assert resumed.iterations == 3
    train(resumed, 3)
    for name, value in whole.policy.state_dict().items():
        assert value.equal(resumed.policy.state_dict()[name]), name
    assert resumed.num_timesteps == whole.num_timesteps == 6 * STEPS * 12


def test_it_acts_by_the_average_of_its_weights(tmp_path: Path) -> None:
    model, name = ram(**AVERAGED), "locator.2.bias"
    by_hand = None
    for kept in (0, 2 / 11, 3 / 12, 0.3, 0.3):  # of what was averaged before
        train(model, 1)
        now = model.policy.network.state_dict()[name]
        by_hand = now.clone() if by_hand is None else kept * by_hand + (1 - kept) * now
    average = model.policy.acting.state_dict()
    assert by_hand is not None
    assert torch.allclose(average[name], by_hand, atol=1e-6)
    statistics = "glimpse_network.encoder.1.running_mean"
    assert not average[statistics].equal(model.policy.network.state_dict()[statistics])
    held = {id(parameter) for group in model.policy.optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.policy.network.parameters()}

    classifier: Any = model.policy.acting.classifier
    with torch.no_grad():
        classifier[2].bias += 100 * F.one_hot(torch.tensor(1), CLASSES)
    model.look(marked(60), np.arange(60))
    assert np.all(model.last_probabilities.argmax(1) == 1)
    model.save(tmp_path / "model")
    assert RAM.load(tmp_path / "model").policy.acting.state_dict()[name].equal(average[name])
    assert ram().policy.averaged is None


def test_the_same_seed_gives_the_same_network() -> None:
    first, second, other = (train(ram(seed=seed), 2).policy.state_dict() for seed in (1, 1, 2))
    assert all(value.equal(second[name]) for name, value in first.items())
    assert not first["network.locator.2.bias"].equal(other["network.locator.2.bias"])


@pytest.mark.parametrize("core", CORES)
def test_a_saved_model_acts_without_an_environment(core: str, tmp_path: Path) -> None:
    model = train(ram(policy_kwargs={**SMALL, "core": core}), 2)
    model.save(tmp_path / "model")
    again = RAM.load(tmp_path / "model")
    env = GlimpseEnv(marked(), None, task="classify", observation="glimpse")
    observation, _ = env.reset(seed=0)
    state, restored, ended = None, None, False
    while not ended:
        action, state = model.predict(observation, state, deterministic=True)
        same, restored = again.predict(observation, restored, deterministic=True)
        assert np.array_equal(action, same)
        assert action.shape == (2,)
        observation, _, ended, _, _ = env.step(action)
    assert np.allclose(again.last_probabilities.sum(1), 1, atol=1e-5)
    with pytest.raises(ConfigurationError, match="no environment"):
        again.learn(1)


def test_batched_predictions_are_those_of_single_episodes() -> None:
    model = train(ram(), 2)
    dataset, indices = marked(), np.array([3, 8, 11])
    together = model.look(dataset, indices)
    for row, index in enumerate(indices):
        assert np.array_equal(model.look(dataset, np.array([index])).locations[0], together.locations[row])


def test_without_determinism_locations_are_sampled() -> None:
    model = ram()
    observation = model.env.reset()
    drawn = np.stack([model.predict(observation)[0][:, 0] for _ in range(40)])
    assert len(np.unique(drawn)) > LOCATIONS / 2
    assert len(np.unique(np.stack([model.predict(observation, deterministic=True)[0][:, 0] for _ in range(3)]))) == 1


def test_single_environments_are_trained_in_as_well() -> None:
    env = GlimpseEnv(marked(), None, task="classify", observation="glimpse")
    model = RAM("RAMPolicy", env, seed=0, policy_kwargs=dict(SMALL))
    assert isinstance(model.env, DummyVecEnv)
    assert train(model, 2).num_timesteps == 2 * STEPS


def test_it_is_evaluated_like_every_other_agent() -> None:
    model = train(ram(), 1)
    evaluation = evaluate(model, marked(), None, np.arange(20), name="ram", observation="glimpse", progress=False)
    assert len(evaluation.outcomes) == 20
    assert np.isfinite(evaluation.log_loss).all()
    assert evaluation.entropy.max() <= np.log(CLASSES) + 1e-5


def test_training_is_logged(tmp_path: Path) -> None:
    model = ram(sequences=to_the_corner(), tensorboard_log=str(tmp_path))
    model.learn(4 * STEPS * 12, log_interval=2)
    events = EventAccumulator(str(tmp_path / "RAM_1"))
    events.Reload()
    terms = ("classification", "imitation", "reinforce", "baseline")
    assert {f"train/{term}_loss" for term in terms} | {"rollout/success_rate"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("time/iterations")] == [2 * STEPS * 12, 4 * STEPS * 12]


def test_a_callback_can_end_training() -> None:
    class Enough(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 5

    model = ram()
    model.learn(100 * STEPS * 12, callback=Enough())
    assert model.iterations == 1
    assert model.num_timesteps == 5 * 12


# Networks


def network_and_tokens(core: str) -> tuple[RAMNetwork, torch.Tensor]:
    """A small network, and tokens (3, 4, 8) for it."""
    torch.manual_seed(0)
    shape = vars(PosteriorConfig(12, 4, 1, CLASSES, features=16))
    return RAMNetwork(shape, LOCATIONS, core=core, tokens=8, hidden=8), torch.randn(3, 4, 8)


@pytest.mark.parametrize("core", CORES)
def test_states_do_not_know_what_comes_later(core: str) -> None:
    network, tokens = network_and_tokens(core)
    states = network.states(tokens)
    assert states.shape == (3, 5, 8)
    changed = tokens.clone()
    changed[:, 2] += 1
    other = network.states(changed)
    assert torch.allclose(other[:, :3], states[:, :3], atol=1e-6)
    assert not torch.allclose(other[:, 3], states[:, 3], atol=1e-3)
    assert not torch.allclose(other[:, 4], states[:, 4], atol=1e-3)


@pytest.mark.parametrize("core", CORES)
def test_all_states_are_those_of_its_steps(core: str) -> None:
    network, tokens = network_and_tokens(core)
    state, memory = network.core.begin(3)
    states = [state]
    for token in tokens.unbind(1):
        state, memory = network.core.step(token, memory)
        states.append(state)
    assert torch.allclose(network.states(tokens), torch.stack(states, dim=1), atol=1e-6)


@pytest.mark.parametrize("side", range(1, 40))
def test_spatial_layers_see_all_of_a_glimpse(side: int) -> None:
    left = side
    for kernel, stride, _ in spatial_plan(side):
        assert (left - kernel) % stride == 0  # no pixel is left over
        left = (left - kernel) // stride + 1
    assert left == 1


def test_tokens_depend_on_glimpse_and_place() -> None:
    torch.manual_seed(0)
    network = GlimpseNetwork(PosteriorConfig(12, 4, 1, CLASSES, features=16), 8).eval()
    glimpse, place = torch.rand(1, 144), torch.zeros(1, 2)
    token = network(glimpse, place)
    assert not torch.allclose(network(1 - glimpse, place), token)
    assert not torch.allclose(network(glimpse, place + 0.5), token)


def test_baseline_and_foresight_do_not_move_what_they_read() -> None:
    network = RAMNetwork(vars(PosteriorConfig(12, 4, 1, CLASSES, features=16)), LOCATIONS, tokens=8, hidden=8)
    state = torch.randn(2, 8, requires_grad=True)
    (network.expected_return(state).sum() + network.expected_entropy(state).sum()).backward()
    assert state.grad is None


# Sequences


def test_sequences_are_cut() -> None:
    cut = to_the_corner().first(1)
    assert np.array_equal(cut.indices, to_the_corner().indices)
    assert cut.locations.tolist() == [[12]] * len(cut)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Sequences(np.array([1, 1]), np.zeros((2, 2), int)), "1 images"),
        (lambda: Sequences(np.array([], int), np.zeros((0, 2), int)), "N >= 1"),
        (lambda: to_the_corner().first(1000), "1000 glimpses"),
        (lambda: ram(sequences=to_the_corner(481)), "image 480"),
        (lambda: ram(sequences=Sequences(np.array([0]), np.array([[25, 0]]))), "location 25"),
        (lambda: ram(sequences=Sequences(np.array([0]), np.array([[5]]))), "2 glimpses"),
        (lambda: ram(sequences=to_the_corner(), wake_sleep=2), "leave sequences and pretraining out"),
        (lambda: ram(pretraining=3, wake_sleep=2), "leave sequences and pretraining out"),
        (lambda: ram(wake_sleep=1), "wake_sleep=1"),
        (lambda: ram(wake_sleep=5), "must divide 12"),
        (lambda: ram(wake_sleep=2, exploration=1.0), "exploration=1.0"),
        (lambda: ram(control_variates=True), "give wake_sleep too"),
        (lambda: ram(supervised_share=1.5), "supervised_share=1.5"),
        (lambda: ram(policy_kwargs={"core": "lstm"}), "lstm"),
        (lambda: ram(policy_kwargs={"averaging": 1.0}), "averaging=1.0"),
        (lambda: RAM("RAMPolicy", vec_env(observation="history")), "observation='glimpse'"),
        (lambda: RAM("RAMPolicy", vec_env(action="continuous")), "discrete"),
        (lambda: RAM("RAMPolicy", gym.make("CartPole-v1")), "MultiDiscrete|not one of this project's"),
    ],
)
def test_wrong_arguments_are_named(make: Any, named: str) -> None:
    with pytest.raises((ConfigurationError, AssertionError), match=named):
        make()


def test_an_environment_with_a_judge_is_refused() -> None:
    judged = GlimpseVectorEnv(toy_dataset(geometry=GEOMETRY), toy_judge(GEOMETRY), num_envs=2)
    with pytest.raises((ConfigurationError, AssertionError), match="MultiDiscrete"):
        RAM(RAMPolicy, GlimpseVecEnv(judged))
