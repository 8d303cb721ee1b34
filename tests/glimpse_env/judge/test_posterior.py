import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glimpse_env.datasets import make_source
from glimpse_env.errors import ArtifactError, ConfigurationError, JudgeNotFoundError
from glimpse_env.judge.judge import Judge, find_judge, grid_features
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig, encoder_plan
from glimpse_env.sensing.geometry import Geometry, LocationGrid
from glimpse_env.sensing.sensor import Sensor
from oracles.training.posterior import prefix_sums
from tests.support.toy import GEOMETRY, NUM_CLASSES, SIZE, toy_judge

BATCH = 5


@pytest.fixture(scope="module")
def judge() -> Judge:
    return toy_judge(num_networks=3)


@pytest.fixture
def history() -> tuple[np.ndarray, np.ndarray]:
    """(B, T, g, g, C) glimpses and (B, T, 2) corners at any pixel."""
    rng = np.random.default_rng(0)
    side, steps = GEOMETRY.glimpse_size, GEOMETRY.num_glimpses
    glimpses = rng.integers(0, 256, (BATCH, steps, side, side, 1), dtype=np.uint8)
    return glimpses, rng.integers(0, SIZE - side + 1, (BATCH, steps, 2))


def full(value: int) -> np.ndarray:
    return np.full(BATCH, value)


@pytest.mark.parametrize(
    ("glimpse", "stride", "size"),
    [
        *((32, 8, 72), (16, 4, 40), (12, 4, 40)),  # chosen by hand
        *((24, 6, 61), (20, 5, 37), (7, 3, 20), (9, 1, 14), (64, 16, 97), (40, 10, 71), (48, 12, 73), (28, 7, 50)),
        *((16, 16, 50), (12, 12, 41), (32, 16, 66), (17, 17, 52), (34, 17, 70), (10, 6, 30)),  # few pixels in common
        *((8, 12, 45), (5, 7, 30), (1, 1, 4), (1, 5, 12), (2, 1, 5), (3, 2, 9), (2, 3, 13)),  # pixels left out
        *((30, 1, 34), (13, 4, 13)),
    ],
)
@pytest.mark.parametrize("scales", [1, 2])
def test_dense_features_are_those_of_each_glimpse(glimpse: int, stride: int, size: int, scales: int) -> None:
    grid = LocationGrid(size, glimpse, stride)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3 * scales), dtype=np.uint8)
    network = toy_judge(Geometry(size, glimpse, stride, 3, scales), channels=3).networks[0]
    indices, corners = np.repeat([0, 1], len(grid)), np.tile(grid.corners, (2, 1))
    alone = Sensor(glimpse)(images, indices, corners).reshape(2, len(grid), glimpse, glimpse, -1)
    dense = network.encode_dense(torch.from_numpy(images))
    each = network.encode_glimpses(torch.from_numpy(alone))
    assert dense.shape == (2, len(grid), network.feature_width)
    assert each.std() > 0.01  # the comparison is not of zeros
    torch.testing.assert_close(dense, each, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scales", [1, 2])
def test_on_an_uneven_grid_each_glimpse_is_encoded_alone(scales: int) -> None:
    size, stride = 61, 45 / 10  # the convolutions are those of stride 4
    grid = LocationGrid(size, 16, stride)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    judge = toy_judge(Geometry(size, 16, stride, 3, scales), channels=3)
    network = judge.networks[0]
    alone = Sensor(16, scales)(images, np.repeat([0, 1], 121), np.tile(grid.corners, (2, 1)))
    expected = network.encode_glimpses(torch.from_numpy(alone)).unflatten(0, (2, 121))
    torch.testing.assert_close(grid_features(network, images, grid, scales), expected, atol=1e-5, rtol=1e-5)
    locations = np.array([[[0, 60, 120]], [[7, 8, 99]]])  # (N, h, T)
    embedded = judge.embed_grid(0, images)[torch.tensor([[0], [1]]), torch.from_numpy(locations[:, 0])]
    sums = prefix_sums(network, images, locations, grid, scales)[:, 0]
    torch.testing.assert_close(sums[:, 1:], embedded.cumsum(1), atol=1e-5, rtol=1e-5)
    with pytest.raises(ConfigurationError, match=r"stride=4\.5 .*no dense pass"):
        network.encode_dense(torch.from_numpy(images))


def test_order_of_the_glimpses_does_not_matter(judge: Judge, history: tuple[np.ndarray, np.ndarray]) -> None:
    glimpses, corners = history
    p = judge.probabilities(glimpses, corners, full(4), full(-1))
    order = [2, 0, 3, 1]
    again = judge.probabilities(glimpses[:, order], corners[:, order], full(4), full(-1))
    assert np.allclose(p, again, atol=1e-6)
    moved = judge.probabilities(glimpses, corners[:, order], full(4), full(-1))
    assert not np.allclose(p, moved, atol=1e-3)  # but which glimpse was where does


def test_glimpses_behind_the_count_are_not_looked_at(judge: Judge, history: tuple[np.ndarray, np.ndarray]) -> None:
    glimpses, corners = history
    counts = np.array([0, 1, 2, 3, 4])
    p = judge.probabilities(glimpses, corners, counts, full(-1))
    for row, count in enumerate(counts):
        blanked, moved = glimpses.copy(), corners.copy()
        blanked[row, count:], moved[row, count:] = 0, 0
        assert np.allclose(judge.probabilities(blanked, moved, counts, full(-1)), p, atol=1e-6)
        if count:
            changed = glimpses.copy()
            changed[row, count - 1] = 0
            assert not np.allclose(judge.probabilities(changed, corners, counts, full(-1))[row], p[row], atol=1e-4)


def test_nothing_seen_gives_the_prior(judge: Judge, history: tuple[np.ndarray, np.ndarray]) -> None:
    p = judge.probabilities(*history, full(0), full(1))
    prior = judge.class_log_probabilities(1, torch.zeros(judge.card.config.embedding), 0).exp()
    assert np.allclose(p, prior.numpy(), atol=1e-6)


def test_probabilities_are_the_calibrated_softmax_of_the_summed_embeddings(
    judge: Judge, history: tuple[np.ndarray, np.ndarray]
) -> None:
    glimpses, corners = history
    network, temperature = judge.networks[2], judge.card.temperatures[2][3]
    places = torch.from_numpy(judge.grid.normalise(corners))
    with torch.inference_mode():
        summands = network.embed(network.encode_glimpses(torch.from_numpy(glimpses)), places)  # (B, T, D)
        expected = torch.softmax(network.logits(summands[:, :3].sum(dim=1)) / temperature, dim=-1)
    p = judge.probabilities(glimpses, corners, full(3), full(2))
    assert p.dtype == np.float32
    assert np.allclose(p, expected.numpy(), atol=1e-6)
    assert np.allclose(p.sum(axis=1), 1, atol=1e-6)


def test_each_fold_asks_its_own_network_and_minus_one_asks_all(
    judge: Judge, history: tuple[np.ndarray, np.ndarray]
) -> None:
    each = np.stack([judge.probabilities(*history, full(4), full(k)) for k in range(3)])  # (K, B, classes)
    assert not np.allclose(each[0], each[1], atol=1e-3)
    assert not np.allclose(each[1], each[2], atol=1e-3)
    folds = np.array([2, 0, 1, -1, 1])
    mixed = judge.probabilities(*history, full(4), folds)
    for row, fold in enumerate(folds):
        expected = each[:, row].mean(axis=0) if fold == -1 else each[fold, row]
        assert np.allclose(mixed[row], expected, atol=1e-6)


def test_an_image_without_a_network_is_not_judged(judge: Judge, history: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ArtifactError, match="fold 3"):
        judge.probabilities(*history, full(4), np.array([0, 1, 3, 1, 2]))


def test_a_saved_judge_is_the_same_judge(judge: Judge, history: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    judge.save(tmp_path / "judge.safetensors")
    loaded = Judge.load(tmp_path / "judge.safetensors")
    assert loaded.card == judge.card
    assert loaded.identity == judge.identity != toy_judge(num_networks=3, seed=1).identity
    expected = judge.probabilities(*history, full(4), full(-1))
    assert np.array_equal(loaded.probabilities(*history, full(4), full(-1)), expected)


def test_a_path_that_the_system_refuses_is_an_error_of_ours() -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        Judge.load("x" * 5000)


def test_a_missing_judge_is_said_to_be_missing(judge: Judge, tmp_path: Path) -> None:
    with pytest.raises(JudgeNotFoundError, match="nowhere"):
        Judge.load(tmp_path / "nowhere.safetensors")
    judge.save(tmp_path / "judge.safetensors")
    (tmp_path / "judge.safetensors").unlink()
    with pytest.raises(JudgeNotFoundError, match=r"judge\.safetensors"):
        Judge.load(tmp_path / "judge.safetensors")


@pytest.mark.parametrize("damage", ["cut", "weights", "card", "format", "shape"])
def test_a_damaged_judge_is_refused(judge: Judge, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "judge.safetensors"
    card_path = path.with_suffix(".json")
    judge.save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "weights":
        path.write_bytes(b"not a tensor")
    elif damage == "card":
        card_path.write_text('{"format": 1, "dataset":', encoding="utf-8")
    else:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        if damage == "format":
            card["format"] = 99
        else:
            card["config"]["embedding"] += 1
        card_path.write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ArtifactError, match="judge at"):
        Judge.load(path)


def test_parts_need_a_part_head() -> None:
    summed = torch.zeros(6, 32)
    assert toy_judge(num_parts=4).networks[0].part_places(summed).shape == (6, 4, 2)
    with pytest.raises(ConfigurationError, match="num_parts=0"):
        toy_judge().networks[0].part_places(summed)


def test_every_plan_reads_the_glimpse_and_steps_as_the_grid_does() -> None:
    for glimpse, stride in itertools.product(range(1, 70), range(1, 40)):
        field, jump = 1, 1
        plan = encoder_plan(glimpse, stride)
        for kernel, step, _ in plan:
            field += (kernel - 1) * jump
            jump *= step
        assert (field, jump) == (glimpse, stride), plan
        assert all(kernel >= step for kernel, step, _ in plan[:-1]), f"{plan} skips pixels"
        assert len(plan) <= 8
        shares = [share for *_, share in plan]
        assert shares == sorted(shares)
        assert shares[-1] == 1


def test_plans_of_the_shipped_judges_stay() -> None:
    layers = {gs: [(kernel, step) for kernel, step, _ in encoder_plan(*gs)] for gs in ((32, 8), (12, 4))}
    assert layers == {(32, 8): [(4, 2), (3, 2), (3, 2), (3, 1)], (12, 4): [(3, 1), (4, 2), (2, 2), (2, 1)]}
    for name in ("birds", "digits"):
        assert find_judge(make_source(name)).card.dataset == name


@pytest.mark.parametrize("wrong", [{"glimpse_size": 0}, {"stride": 0}, {"stride": -8}, {"glimpse_size": 12.5}])
def test_impossible_glimpses_are_refused(wrong: dict[str, Any]) -> None:
    config = PosteriorConfig(glimpse_size=12, stride=4, channels=1, num_classes=NUM_CLASSES)
    (name, value), *_ = wrong.items()
    with pytest.raises(ConfigurationError, match=f"{name}={value}"):
        GlimpsePosterior(replace(config, **wrong))
