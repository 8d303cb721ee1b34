"""What is computed on another device is what the CPU computes; see the fixture ``device``."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.algorithms.demonstrations import DemonstrationLossCallback, warm_up_critic
from agents.cloning import clone
from agents.registry import ALGORITHMS
from agents.saving import load_agent, save_agent
from glimpse_env import devices
from glimpse_env.encoding.features import StoredFeatures, glimpse_features
from glimpse_env.encoding.registry import EFFICIENTNET_LITE0, load_encoder, unavailable_reason
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.tables import TabulatedJudge
from oracles.amortised.oracle import AmortisedOracle
from oracles.base import GlimpsePolicy
from oracles.baselines import ClairvoyantPolicy, best_fixed
from oracles.boed.completion import CompletionConfig
from oracles.boed.kernel import KernelConfig, KernelOracle
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.training.judge import train_judge
from oracles.training.plans import JudgePlan, ScorerPlan
from oracles.training.scorer import ScorerTrainer
from tests.agents.ram.test_algorithm import ram as pixels_ram
from tests.agents.ram.test_algorithm import to_the_corner, train
from tests.agents.ram.test_features import ram as features_ram
from tests.glimpse_env.judge.test_frozen import frozen_judge
from tests.oracles.boed.test_oracle import observe
from tests.oracles.training.test_frozen import Bars
from tests.support.other_device import OTHER
from tests.support.toy import GEOMETRY, toy_dataset, toy_judge, toy_oracle
from tests.support.toy_agents import toy_data, toy_env_showing, toy_model
from tests.support.toy_encoder import TOY

pytestmark = pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")  # the imitation does copy
JUDGES: dict[str, Any] = {"convolutional": toy_judge, "frozen": frozen_judge}
COMPLETION = CompletionConfig(effective_samples=4, label_weight=0.5, samples=6, short_list=6)
ORACLES: dict[str, OracleConfig] = {
    "pixels": OracleConfig(completion=COMPLETION),
    "embedding": OracleConfig("log_loss", replace(COMPLETION, match="embedding"), history="completion"),
    "coarse": OracleConfig("error", replace(COMPLETION, short_list=3, samples=3, coarse=4, coarse_keep=2)),
    "last": OracleConfig(completion=replace(COMPLETION, bandwidth=3.0), horizon="last"),
}
POLICIES = (*ORACLES, "kernel", "amortised")


@pytest.fixture(autouse=True)
def _cache(fresh_cache: Path) -> None:
    pass


def agree(ours: Any, theirs: Any, device: torch.device, tolerance: float = 1e-2) -> None:
    """Checks arrays or tensors within the tolerance of docs/performance.md; the imitation rounds as the CPU does."""
    if isinstance(ours, torch.Tensor):
        ours, theirs = ours.cpu().numpy(), theirs.cpu().numpy()
    tolerance = 1e-5 if device == OTHER else tolerance
    np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=tolerance)


def seen(count: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Glimpses (B, T, 12, 12, 1) of the toy data set, their corners, and counts and folds of all kinds (B,)."""
    dataset, grid = toy_dataset(), GEOMETRY.grid
    locations = np.random.default_rng(1).integers(len(grid), size=(count, 4))
    corners = grid.corners[locations]
    glimpses = GEOMETRY.sensor(dataset.images, np.repeat(np.arange(count), 4), corners.reshape(-1, 2))
    return glimpses.reshape(count, 4, 12, 12, 1), corners, np.arange(count), np.arange(count) % 3 - 1


def test_features(device: torch.device) -> None:
    source = Bars()
    on_cpu = glimpse_features(source, TOY, 8)
    expected = np.array(FeatureTable(source.load("val"), on_cpu, rows=np.arange(9)).array)
    moved = glimpse_features(source, TOY, 8, device)
    assert moved.encoder.device.type == device.type
    found = FeatureTable(source.load("val"), moved, rows=np.arange(1, 10)).array  # another file than that of the CPU
    agree(found[:8], expected[1:], device)
    stored = StoredFeatures(TOY, moved.identity, 8, 1, 1, moved.reduction).to(device)
    assert torch.device(pickle.loads(pickle.dumps(stored)).encoder.device).type == device.type


@pytest.mark.parametrize("kind", JUDGES)
def test_the_posterior(device: torch.device, kind: str, tmp_path: Path) -> None:
    glimpses, corners, counts, folds = seen()
    answers, judge, dataset = [], JUDGES[kind](), toy_dataset()
    identity = judge.identity
    for where in (torch.device("cpu"), device):
        judge.to(where)
        sums = judge.embed_sum(glimpses, corners, folds)
        tabulated = TabulatedJudge(dataset, judge).probabilities(np.arange(6), np.arange(18).reshape(6, 3))
        answers.append(
            (
                judge.probabilities(glimpses, corners, counts, folds),
                judge.predict_from_sum(sums, 4, folds),
                tabulated,
                judge.embed_split(0, dataset, np.arange(3)),
            )
        )
    for ours, theirs in zip(*answers, strict=True):
        agree(theirs, ours, device)
    assert judge.device.type == device.type
    assert judge.identity == identity
    judge.save(tmp_path / "judge.safetensors")
    assert Judge.load(tmp_path / "judge.safetensors").identity == identity
    again = pickle.loads(pickle.dumps(judge))
    assert again.device.type == device.type
    agree(again.probabilities(glimpses, corners, counts, folds), answers[0][0], device)
    assert again.to("cpu").identity == identity


def policy(name: str, judge: Judge) -> GlimpsePolicy:
    if name == "amortised":
        return toy_oracle(judge.to("cpu"), relative=2).to(judge.device)
    if name == "kernel":
        return KernelOracle(toy_dataset(), judge, KernelConfig(images=20, side_images=8))
    return BOEDOracle(toy_dataset(), judge, ORACLES[name])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("room", [0, 2**30])
def test_maps_of_oracles(device: torch.device, name: str, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tables on the device, and where there is no room for them."""
    monkeypatch.setattr(devices, "free_bytes", lambda where: room if where.type == device.type else 0)
    dataset, rows = toy_dataset(), np.arange(7)
    answers: dict[str, list[np.ndarray]] = {"cpu": [], device.type: []}
    for where, maps in answers.items():
        oracle = policy(name, toy_judge().to(where))
        locations = np.random.default_rng(0).permuted(np.tile(np.arange(64), (7, 1)), axis=1)[:, :3]
        if name == "kernel":
            locations[:, 0] = oracle.sequence[0]  # type: ignore[attr-defined]
        state = oracle.start(dataset, rows)
        for t in range(4):
            oracle.predict(observe(dataset, oracle, rows, locations[:, :t]), state)
            maps.append(np.array(oracle.last_maps))
    for ours, theirs in zip(*answers.values(), strict=True):
        agree(theirs, ours, device)


def test_baselines(device: torch.device) -> None:
    dataset, judge = toy_dataset(), toy_judge()
    fixed, (sequences, maps) = best_fixed(dataset, judge, 4), ClairvoyantPolicy(judge, 4).start(dataset, np.arange(3))
    judge.to(device)
    np.testing.assert_array_equal(best_fixed(dataset, judge, 4), fixed)
    again, moved = ClairvoyantPolicy(judge, 4).start(dataset, np.arange(3))
    np.testing.assert_array_equal(again, sequences)
    agree(moved, maps, device)


def test_an_amortised_oracle_is_pickled_and_loaded(device: torch.device, tmp_path: Path) -> None:
    oracle = toy_oracle(toy_judge(), relative=2).to(device).for_fold(1)
    identity = oracle.identity
    observation = observe(toy_dataset(), oracle, np.arange(3), np.arange(6).reshape(3, 2))
    expected, _ = oracle.predict(observation)
    again = pickle.loads(pickle.dumps(oracle))
    assert (again.device.type, again.network) == (device.type, 1)
    np.testing.assert_array_equal(again.predict(observation)[0], expected)
    oracle.save(tmp_path / "oracle.safetensors")
    assert AmortisedOracle.load(tmp_path / "oracle.safetensors").to("cpu").card == oracle.card
    assert oracle.to("cpu").identity == identity


@pytest.mark.parametrize("encoder", ["convolutional", TOY])
def test_training_of_a_judge(device: torch.device, encoder: str) -> None:
    plan = JudgePlan(passes=2, rounds=1, visited_images=8, batch_size=16, features=24, embedding=16, hidden=16)
    plan = replace(plan, heldout_images=16, encoder=encoder, width=8)
    source = Bars()
    expected = train_judge(source, plan, seed=0)
    found = train_judge(source, replace(plan), seed=0, device=device)
    assert found.device.type == device.type
    for name, values in expected.card.scores.items():
        agree(np.array(found.card.scores[name]), np.array(values), device, tolerance=0.1)


@pytest.mark.parametrize("kind", JUDGES)
def test_training_of_an_amortised_oracle(device: torch.device, kind: str, tmp_path: Path) -> None:
    plan = ScorerPlan(images=32, histories=2, batch_size=16, locations=4, ahead=4, relative=3, chunk=16)
    source = Bars()
    if kind == "convolutional":
        judge = toy_judge(source.geometry, num_classes=2)
    else:
        judge = train_judge(source, JudgePlan(passes=1, rounds=0, encoder=TOY, width=8, embedding=16), seed=0)
    networks = {}
    for where in (torch.device("cpu"), device):
        judge.to(where)
        arguments: dict[str, Any] = {"criterion": "entropy", "seed": 0}
        greedy = ScorerTrainer(source, judge, 0, plan, **arguments)
        greedy.run(tmp_path / f"{where.type}.pt")
        ahead = ScorerTrainer(source, judge, 0, plan, guide=greedy.network, **arguments)
        ahead.run()
        networks[where] = ahead.network
        again = ScorerTrainer(source, judge, 0, plan, **arguments)
        again.restore(tmp_path / f"{where.type}.pt")
        assert again.done == plan.images
    for ours, theirs in zip(*(network.state_dict().values() for network in networks.values()), strict=True):
        agree(theirs, ours, device, tolerance=0.1)


AGENTS = [*((algo, "history") for algo in ALGORITHMS), ("ppo", "embedding"), ("ppo", "features")]


@pytest.mark.parametrize(("algo", "observation"), AGENTS)
def test_agents(device: torch.device, algo: str, observation: str, tmp_path: Path) -> None:
    data, losses, weights, actions = toy_data(observation), [], [], []
    for where in (torch.device("cpu"), device):
        model: Any = toy_model(algo, env=toy_env_showing(observation, 4), device=where)
        assert model.device.type == where.type
        if ALGORITHMS[algo].off_policy:
            model.load_demonstrations(data, np.zeros(data.taken.shape, dtype=np.float32))
            model.learn(32)
        else:
            losses.append(clone(model, data, passes=2, progress=False).held_out_loss)
            warm_up_critic(model, timesteps=16, epochs=1)
            model.learn(16, DemonstrationLossCallback(data))
        save_agent(model, tmp_path / "model.json")
        weights.append(model.policy.state_dict())
    if device == OTHER:  # others draw other numbers
        for ours, theirs in zip(*map(dict.values, weights), strict=True):
            agree(theirs, ours, device)
    if losses:
        agree(np.array(losses[1]), np.array(losses[0]), device)
    loaded = load_agent(tmp_path, device=device)
    assert loaded.device.type == device.type
    observations = toy_env_showing(observation).reset()
    for agent in (loaded, load_agent(tmp_path)):
        actions.append(agent.predict(observations, deterministic=True)[0])
    np.testing.assert_array_equal(*actions)


RAMS: dict[str, dict[str, Any]] = {
    "supervised": {"sequences": to_the_corner()},
    "wake-sleep": {"wake_sleep": 3, "every_step": True},
}


@pytest.mark.parametrize("settings", [*RAMS, "features"])
def test_ram(device: torch.device, settings: str, tmp_path: Path) -> None:
    networks = []
    for where in (torch.device("cpu"), device):
        model = features_ram(device=where) if settings == "features" else pixels_ram(device=where, **RAMS[settings])
        save_agent(train(model, 2), tmp_path / "model.json")
        networks.append(model.policy.state_dict())
        assert model.policy.device.type == where.type
    if device == OTHER:  # others draw other numbers
        for ours, theirs in zip(networks[1].values(), networks[0].values(), strict=True):
            agree(ours, theirs, device)
    looked = model.look(model._episodes.dataset, np.arange(6))
    loaded: Any = load_agent(tmp_path, device=device)
    loaded.env = model.env  # it knows the features
    np.testing.assert_array_equal(loaded.look(model._episodes.dataset, np.arange(6)).locations, looked.locations)
    assert loaded.policy.device.type == device.type


def test_encoders(device: torch.device) -> None:
    """That of a user, and EfficientNet-Lite0 where its weights are installed."""
    windows = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), np.uint8))
    for name in (TOY, EFFICIENTNET_LITE0):
        if unavailable_reason(name) is None:
            encoder = load_encoder(name)
            expected = encoder(windows)
            agree(encoder.to(device)(windows), expected, device)
            assert encoder(windows.to(device)).device.type == device.type


def test_episodes_ask_a_judge_on_the_device(device: torch.device) -> None:
    rewards = []
    for where in (torch.device("cpu"), device):
        for tabulated in (False, True):
            batch = EpisodeBatch(toy_dataset(), toy_judge().to(where), 3, observation="embedding", tabulated=tabulated)
            batch.begin(np.arange(3))
            rewards.append(batch.step(np.arange(3)).rewards)
    agree(np.array(rewards[2:]), np.array(rewards[:2]), device)
