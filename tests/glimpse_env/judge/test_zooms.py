"""Judges of windows of several widths: one dense pass a zoom, tables of all places, cards and names of files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glimpse_env.encoding.features import glimpse_features
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.env import GlimpseEnv
from glimpse_env.errors import ArtifactError
from glimpse_env.judge.judge import Judge, find_judge, judge_path
from glimpse_env.judge.tables import EmbeddingTable, TabulatedJudge
from glimpse_env.registration import source_of
from glimpse_env.sensing.sensor import Sensor
from tests.oracles.training.test_judge import Stripes
from tests.support.toy import GEOMETRY, toy_dataset, toy_judge
from tests.support.toy_encoder import TOY

ZOOMED = replace(GEOMETRY, zooms=(1, 2, 3))


def cut_everywhere(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All glimpses of images, one by one, and their corners."""
    corners = np.tile(ZOOMED.grid.corners, (len(images), 1))
    owners = np.repeat(np.arange(len(images)), len(ZOOMED.grid))
    return Sensor(ZOOMED.glimpse_size)(images, owners, corners), corners


def test_dense_passes_give_the_embeddings_of_glimpses_cut_out() -> None:
    dataset, judge = toy_dataset(3, geometry=ZOOMED), toy_judge(ZOOMED)
    images = np.asarray(dataset.images)
    glimpses, corners = cut_everywhere(images)
    alone = judge.embed_glimpses(0, glimpses, corners).unflatten(0, (3, -1))
    together = judge.embed_grid(0, images)
    assert together.shape == (3, len(ZOOMED.grid), 32)
    assert torch.allclose(together, alone, atol=1e-5)
    at_zero = alone[:, ZOOMED.grid.centre]
    assert not torch.allclose(at_zero, judge.embed_grid(0, images)[:, -1], atol=1e-2)


def test_the_zoom_is_embedded_with_the_place() -> None:
    judge = toy_judge(ZOOMED)
    glimpse = np.random.default_rng(0).integers(0, 256, (1, 12, 12, 1), dtype=np.uint8)
    near, far = (judge.embed_glimpses(0, glimpse, np.array([[8, 8, zoom]])) for zoom in (1, 2))
    assert not torch.allclose(near, far, atol=1e-3)


def test_tables_hold_all_places_and_judge_as_the_judge_does(fresh_cache: Path) -> None:
    dataset, judge = toy_dataset(6, geometry=ZOOMED), toy_judge(ZOOMED)
    table = EmbeddingTable(dataset, judge, 0)
    assert table.array.shape == (6, len(ZOOMED.grid), 32)
    rng = np.random.default_rng(0)
    locations = rng.integers(len(ZOOMED.grid), size=(6, 3))
    indices = np.arange(6)
    corners = ZOOMED.grid.corners[locations]
    glimpses = ZOOMED.sensor(dataset.images, np.repeat(indices, 3), corners.reshape(-1, 3)).reshape(6, 3, 12, 12, 1)
    ours = TabulatedJudge(dataset, judge).probabilities(indices, locations)
    theirs = judge.probabilities(glimpses, corners, np.full(6, 3), dataset.folds)
    assert np.allclose(ours, theirs, atol=2e-3)


def test_features_of_all_places_come_from_windows_of_their_zoom(fresh_cache: Path) -> None:
    source = Stripes().with_zooms((1, 2))
    features = glimpse_features(source, TOY, 8)
    dataset = source.load("val")
    table = FeatureTable(dataset, features, rows=np.arange(4))
    grid, geometry = source.geometry.grid, source.geometry
    assert table.arrays[0].shape == (4, len(grid), 8)
    for place in (0, len(grid) - 1):
        corners = np.tile(grid.corners[place], (4, 1))
        expected = features.encode(geometry.sensor(dataset.images, np.arange(4), corners))
        assert np.allclose(table(np.arange(4), np.full(4, place)), expected, atol=1e-2)
    assert FeatureTable(Stripes().load("val"), features, rows=np.arange(4)).arrays[0].shape[1] == len(grid.levels[0])


@pytest.mark.parametrize("action", ["discrete", "continuous"])
def test_an_environment_shows_and_judges_zoomed_glimpses(action: str) -> None:
    dataset, judge = toy_dataset(geometry=ZOOMED), toy_judge(ZOOMED)
    env = GlimpseEnv(dataset, judge, action=action, render_mode="rgb_array")
    env.reset(seed=0, options={"index": 3})
    actions = [len(ZOOMED.grid) - 1, 0, 70, 71] if action == "discrete" else ZOOMED.grid.normalised[[-1, 0, 70, 71]]
    for t, chosen in enumerate(actions):
        observation, _, ended, _, info = env.step(chosen)
        assert env.observation_space.contains(observation)
        corner = ZOOMED.grid.corners[[-1, 0, 70, 71][t]]
        glimpse = ZOOMED.sensor(dataset.images, np.array([3]), corner[None])[0] / np.float32(255)
        shown = observation["glimpses"].reshape(4, -1)[t]
        assert np.allclose(shown, glimpse.reshape(-1))
        assert np.allclose(observation["locations"].reshape(4, 3)[t], ZOOMED.grid.normalise(corner))
    assert ended
    histories = env.batch.histories
    expected = judge.probabilities(histories.glimpses, histories.corners, histories.counts, dataset.folds[[3]])
    assert np.allclose(info["probabilities"], expected[0], atol=1e-6)


def test_cards_know_zooms_and_those_without_stay_as_they_were(tmp_path: Path, fresh_cache: Path) -> None:
    plain, zoomed = toy_judge(), toy_judge(ZOOMED)
    assert "zooms" not in plain.card.to_json
    assert "coordinates" not in plain.card.config.to_json
    assert zoomed.card.to_json["zooms"] == [1, 2, 3]
    zoomed.save(tmp_path / "judge.safetensors")
    loaded = Judge.load(tmp_path / "judge.safetensors")
    assert loaded.geometry == ZOOMED
    assert loaded.identity == zoomed.identity
    with pytest.raises(ArtifactError, match="coordinates=2"):
        replace(zoomed.card, config=plain.card.config).check()


def test_a_judge_of_zooms_is_found_under_its_name(fresh_cache: Path) -> None:
    source = Stripes().with_zooms((1, 2))
    assert judge_path(source).name.endswith("-x1-z1.2.safetensors")
    assert judge_path(Stripes()).name.endswith("-x1.safetensors")
    with pytest.raises(Exception, match=r"zooms=\[1, 2\].*--zooms 1 2"):
        find_judge(source)
    judge = toy_judge(
        source.geometry, num_classes=2, fingerprint=source.fingerprint, dataset=source.name, num_networks=2
    )
    judge.save(judge_path(source))
    assert find_judge(source).identity == judge.identity
    with pytest.raises(ArtifactError, match=r"with scales=1 and zooms=\[1, 2\], not on stripes"):
        judge.card.check_fits(Stripes())


def test_the_judge_of_digits_comes_with_the_package(fresh_cache: Path) -> None:
    judge = find_judge(source_of("GlimpseDigitsAnytime-v0"))
    assert judge.geometry.zooms == (1, 2, 4)
    assert judge.card.scores["visited_accuracy"][-1] > 0.8
