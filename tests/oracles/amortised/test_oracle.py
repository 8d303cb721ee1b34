"""The amortised oracle as a policy: its state, its networks, its file, and how it is found."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from glimpse_env.datasets import make_source
from glimpse_env.datasets.digits import Digits
from glimpse_env.errors import ArtifactError, ConfigurationError, OracleNotFoundError
from glimpse_env.judge.judge import Judge, find_judge
from glimpse_env.sensing.observations import Histories, HistoryObserver
from oracles.amortised.oracle import AmortisedOracle, find_oracle, oracle_path
from oracles.base import Observations
from oracles.boed.criteria import Horizon
from oracles.demonstrations import manifest_of
from oracles.presets import PRESETS, Preset
from oracles.registry import ensure_policy, policy_settings
from oracles.training.plans import ScorerPlan
from oracles.training.scorer import ScorerTrainer, ensure_oracle
from oracles.training.scorer import _checkpoints as checkpoints_of
from tests.support import toy

T = toy.GEOMETRY.num_glimpses
PLAN = ScorerPlan(images=64, histories=2, batch_size=16, locations=6, ahead=4, chunk=32)
RELATIVE = pytest.mark.parametrize("relative", [0, 5])


def observe(judge: Judge, rows: np.ndarray, locations: np.ndarray) -> Observations:
    """History observations of toy images ``rows`` (B,) after looking at ``locations`` (B, t)."""
    images, histories = toy.toy_dataset().images, Histories.empty(len(rows), T, 12, 1)
    for b, row in enumerate(rows):
        for t, (r, c) in enumerate(judge.grid.corners[locations[b]]):
            histories.corners[b, t] = r, c
            histories.glimpses[b, t] = images[row, r : r + 12, c : c + 12]
        histories.counts[b] = locations.shape[1]
    return HistoryObserver(judge.geometry, 1)(histories)


@RELATIVE
def test_scores_are_those_of_the_summed_embeddings_of_the_dense_pass(relative: int) -> None:
    judge, rows, locations = toy.toy_judge(), np.arange(4), np.array([[3, 20], [9, 1], [30, 63], [0, 5]])
    oracle = toy.toy_oracle(judge, relative=relative)
    oracle.predict(observe(judge, rows, locations))
    expected = []
    for scorer in oracle.networks:
        features = scorer.encode_dense(torch.from_numpy(toy.toy_dataset().images[rows]))
        encoded = scorer.glimpse_features(features, torch.from_numpy(judge.grid.normalised))
        index = torch.from_numpy(locations)
        summands = scorer.state_contribution(encoded[torch.arange(4)[:, None], index], index)
        expected.append(scorer.scores(summands.sum(1), 2))
    np.testing.assert_allclose(oracle.last_maps, torch.stack(expected).mean(0).detach(), atol=1e-5)
    alone = oracle.for_fold(1)
    alone.predict(observe(judge, rows, locations))
    np.testing.assert_allclose(alone.last_maps, expected[1].detach(), atol=1e-5)


@RELATIVE
def test_state_carried_along_equals_starting_afresh_at_every_step(relative: int) -> None:
    judge, rows = toy.toy_judge(), np.arange(5)
    oracle, locations, state = toy.toy_oracle(judge, relative=relative), np.empty((5, 0), dtype=np.int64), None
    for _ in range(T):
        observation = observe(judge, rows, locations)
        action, state = oracle.predict(observation, state, np.zeros(5, dtype=bool))
        carried = oracle.last_maps
        again, _ = oracle.predict(observation)
        np.testing.assert_allclose(carried, oracle.last_maps, atol=1e-5)
        np.testing.assert_array_equal(action, again)
        locations = np.c_[locations, action]
    assert all(len(set(row)) == T for row in locations), "no location twice"


def test_a_new_episode_forgets_the_last_one() -> None:
    judge = toy.toy_judge()
    oracle = toy.toy_oracle(judge)
    _, state = oracle.predict(observe(judge, np.array([0, 1]), np.array([[3, 9], [3, 9]])))
    later = observe(judge, np.array([0, 1]), np.array([[3, 9, 20], [3, 9, 20]]))
    begun = observe(judge, np.array([5, 5]), np.empty((2, 0), dtype=np.int64))
    mixed = {key: np.stack([begun[key][0], later[key][1]]) for key in later}
    oracle.predict(mixed, state, np.array([True, False]))
    maps = oracle.last_maps
    oracle.predict(begun)
    np.testing.assert_allclose(maps[0], oracle.last_maps[0], atol=1e-5)
    oracle.predict(later)
    np.testing.assert_allclose(maps[1], oracle.last_maps[1], atol=1e-5)
    with pytest.raises(ConfigurationError, match="other episodes"):
        oracle.predict(begun, state)


@RELATIVE
def test_saved_and_loaded_in_half_precision_it_scores_alike(tmp_path: Path, relative: int) -> None:
    judge = toy.toy_judge()
    oracle = toy.toy_oracle(judge, relative=relative)
    oracle.save(tmp_path / "o.safetensors")
    loaded = AmortisedOracle.load(tmp_path / "o.safetensors")
    assert asdict(loaded.card) == asdict(oracle.card)
    observation = observe(judge, np.arange(6), np.tile([[4, 40]], (6, 1)))
    for policy in (oracle, loaded):
        policy.predict(observation)
    np.testing.assert_allclose(loaded.last_maps, oracle.last_maps, atol=5e-3)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "o.safetensors").read_bytes()
    (tmp_path / "o.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="cannot be read"):
        AmortisedOracle.load(tmp_path / "o.safetensors")
    with pytest.raises(OracleNotFoundError, match=r"scripts/train_oracle\.py"):
        AmortisedOracle.load(tmp_path / "absent.safetensors")
    (tmp_path / "o.json").write_text('{"format": 99}')
    with pytest.raises(ArtifactError, match="format 99"):
        AmortisedOracle.load(tmp_path / "o.safetensors")


def test_a_card_that_names_a_module_as_criterion_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle acts without its criterion, which names its maps only."""
    (tmp_path / "received.py").write_text("raise SystemExit('code of a stranger')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "o.safetensors"
    toy.toy_oracle(toy.toy_judge()).save(path)
    card = path.with_suffix(".json")
    for named, title in (("received:gini", "gini"), ("log_loss", "log-loss, nats"), ("a/file.py", "a/file.py")):
        card.write_text(json.dumps({**json.loads(card.read_text()), "criterion": named}))
        assert AmortisedOracle.load(path).map_title == f"Expected {title}"


def test_ensure_oracle_trains_once_and_another_judge_needs_another_oracle(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "digits", Preset(greedy=PLAN))
    source = Digits()
    judges = [
        toy.toy_judge(source.geometry, num_classes=10, fingerprint=source.fingerprint, seed=seed) for seed in (0, 1)
    ]
    with pytest.raises(OracleNotFoundError, match=r"train_oracle\.py --env GlimpseDigits-v0 .* --horizon last"):
        find_oracle(source, judges[0], "last")
    first = ensure_oracle(source, judges[0], "last")
    assert (first.card.horizon, first.card.num_networks) == ("last", 2)
    assert oracle_path(source, judges[0], "last").is_file()
    assert not list((fresh_cache / "oracle-training").glob("*")), "the finished run's checkpoints are gone"
    monkeypatch.setattr("oracles.training.scorer.train_oracle", lambda *a, **k: pytest.fail("trained again"))
    card = first.card
    left = checkpoints_of(judges[0], "last", card.criterion, card.seed, card.plan)
    left.mkdir()
    for fold, network in enumerate(first.networks):
        torch.save({"network": network.state_dict()}, left / f"{fold}.pt")
    assert ensure_oracle(source, judges[0], "last").identity == first.identity
    assert not left.exists(), "nor are those of a process that died before it removed them"
    with pytest.raises(OracleNotFoundError):
        find_oracle(source, judges[1], "last")


def test_convolutions_are_of_a_judge_network_that_was_not_trained_on_the_images() -> None:
    source = Digits()
    judge = toy.toy_judge(source.geometry, num_classes=10, fingerprint=source.fingerprint)
    rng = np.random.default_rng(0)
    for fold in (0, 1):
        trainer = ScorerTrainer(source, judge, fold, PLAN, criterion="log_loss", seed=0)
        data = source.unseen_images(fold, rng)
        assert set(data.folds) == {1 - fold} == {trainer.trunk}, "network k was trained on all folds but k"
        weight = judge.networks[1 - fold].encoder[0].weight
        torch.testing.assert_close(trainer.network.encoder[0].weight, weight, rtol=0, atol=0)
        trainer._step(data, np.arange(16), rng)
        torch.testing.assert_close(trainer.network.encoder[0].weight, weight, rtol=0, atol=0)


@pytest.mark.parametrize("horizon", ["next", "last"])
@pytest.mark.parametrize("name", ["birds", "digits"])
def test_shipped_oracles_fit_the_shipped_judges(name: str, horizon: Horizon, fresh_cache: Path) -> None:
    source = make_source(name)
    judge = find_judge(source)
    oracle = find_oracle(source, judge, horizon)
    assert (oracle.card.horizon, oracle.card.fingerprint) == (horizon, source.fingerprint)
    assert oracle.card.command.startswith("python scripts/train_oracle.py --env Glimpse")
    assert not fresh_cache.exists(), "from the package"


def test_settings_are_told_without_training(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "digits", Preset(oracle="amortised", greedy=PLAN))
    source = Digits()
    judge = toy.toy_judge(source.geometry, num_classes=10, fingerprint=source.fingerprint)
    with monkeypatch.context() as patch:
        patch.setattr(ScorerTrainer, "run", lambda *_, **__: pytest.fail("trained"))
        for name in ("amortised", "oracle"):
            with pytest.raises(OracleNotFoundError, match="train_oracle"):
                policy_settings(name, source, judge)
            with pytest.raises(OracleNotFoundError, match="train_oracle"):
                manifest_of(name, source, judge, 3)
    ensure_policy("oracle", source, judge)
    settings = policy_settings("oracle", source, judge)
    assert settings == {"policy": "amortised", "weights": find_oracle(source, judge, "next").identity}
