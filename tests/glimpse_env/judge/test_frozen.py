"""Judges that read the features of a frozen encoder: what they store, what they refuse, and how often they encode."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import DependencyNotInstalled

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.copies import ImageCopy
from glimpse_env.encoding.base import FrozenEncoder
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.reduction import fit_reduction
from glimpse_env.encoding.registry import load_encoder
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ArtifactError, ConfigurationError, JudgeNotFoundError
from glimpse_env.judge import artifacts
from glimpse_env.judge.judge import Judge, JudgeCard, find_judge, judge_path
from glimpse_env.judge.posterior import GlimpsePosterior
from glimpse_env.judge.tables import EmbeddingTable, TabulatedJudge
from glimpse_env.presets import PRESETS, DatasetPreset
from glimpse_env.rollout import play
from glimpse_env.sensing.geometry import Geometry
from oracles.amortised.oracle import AmortisedOracle
from oracles.baselines import ClairvoyantPolicy, best_fixed
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from tests.support.toy import GEOMETRY, toy_dataset, toy_judge, toy_oracle
from tests.support.toy_encoder import TOY

WIDTH = 6


@pytest.fixture(autouse=True)
def _cache(fresh_cache: Path) -> None:
    pass


def frozen_judge(
    width: int | None = WIDTH, channels: int = 1, scales: int = 1, geometry: Geometry = GEOMETRY, **options: Any
) -> Judge:
    """Random small networks on the toy encoder's features; ``options`` of :func:`toy_judge`."""
    encoder = load_encoder(TOY)
    sample = np.random.default_rng(0).normal(0.1, 0.02, size=(200, scales * encoder.width)).astype(np.float32)
    reduction = None if width is None else fit_reduction(sample, width)
    features = GlimpseFeatures(encoder, channels, scales, reduction)
    card = toy_judge(replace(geometry, scales=scales), channels=channels, **options).card
    config = replace(card.config, features=features.width, encoder=TOY, encoder_identity=features.identity, dropout=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = [GlimpsePosterior(config, features) for _ in range(card.num_networks)]
    return Judge(networks, replace(card, config=config))


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of windows that were encoded, one call after another."""
    counts: list[int] = []

    def call(self: FrozenEncoder, pixels: torch.Tensor) -> torch.Tensor:
        counts.append(len(pixels))
        return original(self, pixels)

    original = FrozenEncoder.__call__
    monkeypatch.setattr(FrozenEncoder, "__call__", call)
    return counts


def seen(dataset: GlimpseDataset, count: int = 5, steps: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random glimpses of the first images: (B, T, g, g, C), their corners and locations."""
    locations = np.random.default_rng(1).integers(len(dataset.geometry.grid), size=(count, steps))
    corners = dataset.geometry.grid.corners[locations]
    glimpses = dataset.geometry.sensor(dataset.images, np.repeat(np.arange(count), steps), corners.reshape(-1, 2))
    return glimpses.reshape(count, steps, *glimpses.shape[1:]), corners, locations


@pytest.mark.parametrize(("width", "channels", "scales"), [(WIDTH, 1, 1), (None, 1, 1), (WIDTH, 3, 2)])
def test_a_judge_travels_with_its_reduction_and_without_its_encoder(
    width: int | None, channels: int, scales: int, tmp_path: Path, windows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = frozen_judge(width, channels, scales)
    dataset = toy_dataset(geometry=replace(GEOMETRY, scales=scales), channels=channels)
    glimpses, corners, _ = seen(dataset)
    asked = glimpses, corners, np.array([0, 1, 2, 3, 3]), np.array([0, 1, -1, 0, -1])
    expected = judge.probabilities(*asked)
    path = tmp_path / "judge.safetensors"
    judge.save(path)
    assert path.stat().st_size < 60_000, "the encoder is not in there, nor the reduction twice"
    with monkeypatch.context() as patch:
        patch.setattr("glimpse_env.encoding.features.load_encoder", lambda name: pytest.fail("loaded at once"))
        loaded = Judge.load(path)
        assert loaded.identity == judge.identity
        assert np.isfinite(loaded.probabilities(*asked[:2], np.zeros(5, dtype=np.int64), asked[3])).all()
        again = pickle.loads(pickle.dumps(loaded))
    windows.clear()
    for one in (loaded, again):
        np.testing.assert_array_equal(one.probabilities(*asked), expected)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert frozen_judge(width, channels, scales).identity == judge.identity
    embedded = loaded.embed_split(0, dataset, np.arange(2))
    torch.testing.assert_close(embedded, judge.embed_grid(0, dataset.images[:2]), atol=2e-3, rtol=2e-3)
    assert frozen_judge(3).identity != judge.identity


def test_another_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, (glimpses, corners, _) = frozen_judge(), seen(toy_dataset())
    judge.save(tmp_path / "judge.safetensors")
    counts, folds = np.full(5, 3), np.full(5, -1)
    with monkeypatch.context() as patch:
        patch.setattr(load_encoder(TOY), "digest", "0" * 16)
        with pytest.raises(ArtifactError, match=r"gives the features .*toy-0{16}-1x-6-\w+ here, where .* are needed"):
            Judge.load(tmp_path / "judge.safetensors").probabilities(glimpses, corners, counts, folds)

    def missing(name: str) -> FrozenEncoder:
        raise DependencyNotInstalled("a package")

    with monkeypatch.context() as patch:
        patch.setattr("glimpse_env.encoding.features.load_encoder", missing)
        with pytest.raises(DependencyNotInstalled, match="a package"):
            Judge.load(tmp_path / "judge.safetensors").probabilities(glimpses, corners, counts, folds)
    config = judge.card.config
    for shape, features in (
        (config, None),
        (replace(config, encoder_identity="other"), judge.frozen),
        (replace(config, features=7), judge.frozen),
        (toy_judge().card.config, judge.frozen),
    ):
        with pytest.raises(ConfigurationError, match="was given the frozen features"):
            GlimpsePosterior(shape, features)


def test_cards_of_convolutional_judges_are_as_they_were(tmp_path: Path) -> None:
    toy_judge().save(tmp_path / "judge.safetensors")
    card = artifacts.json.loads((tmp_path / "judge.json").read_text(encoding="utf-8"))
    shape = {"glimpse_size", "stride", "channels", "num_classes", "num_parts", "features", "embedding", "hidden"}
    assert set(card["config"]) == shape
    frozen_judge().save(tmp_path / "judge.safetensors")
    card = artifacts.json.loads((tmp_path / "judge.json").read_text(encoding="utf-8"))
    assert set(card["config"]) == shape | {"encoder", "encoder_identity", "dropout"}
    assert Judge.load(tmp_path / "judge.safetensors").card == frozen_judge().card


@pytest.mark.parametrize("copy", [ImageCopy(), ImageCopy(mirrored=True)])
def test_embeddings_of_a_split_are_read_from_its_table(copy: ImageCopy, windows: list[int]) -> None:
    judge, dataset = frozen_judge(), toy_dataset()
    rows = np.array([3, 0, 17])
    expected = judge.embed_grid(1, np.ascontiguousarray(copy(dataset.images[rows])))
    assert expected.std() > 0.01
    embedded = judge.embed_split(1, dataset, rows, copy)
    torch.testing.assert_close(embedded, expected, atol=2e-3, rtol=2e-3)
    windows.clear()
    judge.embed_split(0, dataset, np.arange(24), copy)
    best_fixed(dataset, judge, 2)
    table = EmbeddingTable(dataset, judge, 1, rows[[1, 0, 2]], (copy,))
    torch.testing.assert_close(torch.from_numpy(table.array[1]).float(), expected[0], atol=4e-3, rtol=4e-3)
    ClairvoyantPolicy(judge, 2).start(dataset, rows)
    assert not windows or copy.mirrored, "the table serves all networks, tables of embeddings and baselines"


def test_a_judge_from_tables_agrees_with_one_that_encodes() -> None:
    judge, dataset = frozen_judge(), toy_dataset()
    glimpses, corners, locations = seen(dataset)
    indices = np.arange(5)
    on_the_fly = judge.probabilities(glimpses, corners, np.full(5, 3), dataset.folds[indices])
    sums = judge.embed_sum(glimpses, corners, dataset.folds[indices])
    np.testing.assert_allclose(judge.predict_from_sum(sums, 3, dataset.folds[indices]), on_the_fly, atol=1e-5)
    tabulated = TabulatedJudge(dataset, judge).probabilities(indices, locations)
    np.testing.assert_allclose(tabulated, on_the_fly, atol=5e-3)


def test_a_glimpse_is_encoded_once_for_all_networks(windows: list[int]) -> None:
    judge, dataset = frozen_judge(), toy_dataset()
    glimpses, corners, _ = seen(dataset)
    folds = np.full(5, -1)
    for ask in (
        lambda: judge.probabilities(glimpses, corners, np.array([0, 1, 2, 3, 3]), folds),
        lambda: judge.embed_sum(glimpses[:, :1], corners[:, :1], folds),
    ):
        windows.clear()
        ask()
        assert len(windows) == 1
    test = replace(dataset, split="test", folds=np.full(24, -1), fingerprint="other")
    completion = CompletionConfig(match="embedding", samples=2, short_list=4)
    for policy in (BOEDOracle(dataset, judge, OracleConfig(completion=completion)), toy_oracle(judge)):
        batch = EpisodeBatch(test, judge, 4)
        observation, _ = batch.begin(np.arange(4))
        actions, state = policy.predict(observation, None, np.ones(4, dtype=bool))
        observation = batch.step(actions).observations
        windows.clear()
        policy.predict(observation, state, np.zeros(4, dtype=bool))
        assert windows == [4]


def test_an_amortised_oracle_travels_too(tmp_path: Path) -> None:
    judge, dataset = frozen_judge(), toy_dataset()
    oracle = toy_oracle(judge, relative=2)
    oracle.save(tmp_path / "oracle.safetensors")
    loaded = AmortisedOracle.load(tmp_path / "oracle.safetensors")
    assert loaded.frozen is not None
    assert loaded.frozen.reduction is not None
    assert judge.frozen is not None
    assert judge.frozen.reduction is not None
    assert loaded.frozen.reduction.digest == judge.frozen.reduction.digest, "not in half precision"
    played = [play(one, dataset, judge, np.arange(6), progress=False).locations for one in (oracle, loaded)]
    np.testing.assert_array_equal(*played)


def test_a_data_set_s_own_encoder_comes_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = type(
        "Source",
        (),
        {
            "name": "elsewhere",
            "fingerprint": "toy",
            "geometry": GEOMETRY,
            "image_shape": (40, 40, 1),
            "class_names": ("a", "b", "c"),
            "chosen_options": {},
        },
    )()
    monkeypatch.setitem(PRESETS, "elsewhere", DatasetPreset(encoder=TOY))
    with pytest.raises(JudgeNotFoundError, match="no judge fits"):
        find_judge(source)
    toy_judge().save(judge_path(source))
    assert find_judge(source).frozen is None
    assert f"has the encoder convolutional, as there is none with {TOY}" in caplog.text
    frozen_judge().save(judge_path(source, TOY))
    assert find_judge(source).frozen is not None
    assert f"The judge of elsewhere has the encoder {TOY}." in caplog.text
    assert find_judge(source, "convolutional").frozen is None
    with pytest.raises(JudgeNotFoundError, match=r"encoder='timm:x'.*--encoder timm:x"):
        find_judge(source, "timm:x")
    monkeypatch.setitem(PRESETS, "elsewhere", DatasetPreset(encoder="tests.support.toy_encoder:absent"))
    assert find_judge(source).frozen is None
    assert "where a frozen encoder is better: encoder='tests.support.toy_encoder:absent'" in caplog.text
    assert isinstance(find_judge(source, TOY).card, JudgeCard)
