"""Further images: no class in common, features moved between reductions, posteriors and losses of the judge."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.reduction import Reduction, fit_reduction
from glimpse_env.errors import ConfigurationError
from oracles.boed.further import FurtherImages, moved, other_classes
from oracles.boed.kernel import KernelConfig, KernelOracle
from oracles.boed.unseen import PredictedMaps
from tests.glimpse_env.judge.test_frozen import frozen_judge
from tests.oracles.boed.test_oracle import observe
from tests.support import toy


@pytest.fixture(autouse=True)
def _cache(fresh_cache: Path) -> None:
    pass


def other_data(seed: int = 7) -> GlimpseDataset:
    """Images of noise of another data set; those of its first class are of a class of the toy data set."""
    names = ("Class-0", "puffin", "heron")
    return toy.toy_dataset(18, seed=seed, fingerprint=f"other {seed}", name="other", class_names=names)


def test_images_of_the_same_classes_are_left_out_however_these_are_written() -> None:
    data = other_data()
    np.testing.assert_array_equal(other_classes(data, ("class 0", "class 1")), np.flatnonzero(data.labels != 0))
    np.testing.assert_array_equal(other_classes(data, ("heron_", "crow")), np.flatnonzero(data.labels != 2))


def test_features_are_moved_exactly_where_the_components_span_the_same() -> None:
    rng = np.random.default_rng(0)
    raw = torch.from_numpy(rng.normal(size=(40, 5)).astype(np.float32))
    ours, theirs = fit_reduction(rng.normal(2.0, 1.0, (80, 5)), 5), fit_reduction(rng.normal(-1.0, 3.0, (80, 5)), 5)
    torch.testing.assert_close(moved(theirs(raw), theirs, ours), ours(raw), atol=1e-4, rtol=1e-4)
    narrow = Reduction(ours.mean, ours.components[:, :2])
    torch.testing.assert_close(moved(theirs(raw), theirs, narrow), ours(raw)[:, :2], atol=1e-4, rtol=1e-4)


def test_losses_are_cross_entropies_of_the_judges_posteriors_and_labels_do_not_matter() -> None:
    judge, data = frozen_judge(), other_data()
    assert judge.frozen is not None
    further = FurtherImages(data, judge.frozen, judge, ("class 0",), most=8)
    assert len(further) == 8
    assert set(further.rows) <= set(np.flatnonzero(data.labels != 0))
    torch.testing.assert_close(further.posteriors.sum(1), torch.ones(8))
    row, locations = int(further.rows[3]), [5, 11]
    losses = further.losses(locations, 6.0)
    places = np.array([*locations, 20])
    expected = []
    for k in range(len(judge.networks)):
        embedded = judge.embed_split(k, data, np.array([row]))[0]
        answers = judge.class_log_probabilities(k, embedded[places].sum(0), 3).clamp_min(-6.0)
        expected.append(-(answers * further.posteriors[3]).sum())
    torch.testing.assert_close(losses[3, 20], torch.stack(expected).mean(), atol=5e-3, rtol=5e-3)
    swapped = np.where(data.labels == 0, 0, 3 - data.labels)
    again = toy.toy_dataset(
        18, seed=7, fingerprint="other 7", name="other", class_names=data.class_names, labels=swapped
    )
    torch.testing.assert_close(
        FurtherImages(again, judge.frozen, judge, ("class 0",), 8).losses(locations, 6.0), losses
    )


def test_what_cannot_be_regressed_over_is_named() -> None:
    judge = frozen_judge()
    assert judge.frozen is not None
    with pytest.raises(ConfigurationError, match="further='other' has no image of another class"):
        FurtherImages(other_data(), judge.frozen, judge, ("class 0", "puffin", "heron"), 8)
    with pytest.raises(ConfigurationError, match="needs a judge on frozen features that are reduced"):
        FurtherImages(other_data(), GlimpseFeatures(judge.frozen.encoder, 1, 1), judge, (), 8)
    with pytest.raises(ConfigurationError, match=r"predicted=0.5 needs a judge on frozen features"):
        KernelOracle(toy.toy_dataset(), toy.toy_judge(), KernelConfig(predicted=0.5))


def maps(config: KernelConfig, further: FurtherImages | None = None, split: str = "train") -> np.ndarray:
    """What an oracle expects after a glimpse at two training images, or at test images that look the same."""
    judge, dataset = frozen_judge(), toy.toy_dataset()
    oracle = KernelOracle(dataset, judge, config, further)
    rows, looked = np.array([3, 4]), np.array([[int(oracle.sequence[0])]] * 2)
    images = toy.toy_dataset(split=split)
    oracle.predict(observe(images, judge, rows, looked), oracle.start(images, rows))
    assert oracle.last_maps is not None
    return oracle.last_maps


def test_the_oracle_follows_further_images_and_predicted_features_unless_their_settings_rule_them_out() -> None:
    judge = frozen_judge()
    assert judge.frozen is not None
    further = FurtherImages(other_data(), judge.frozen, judge, ("class 0",), most=12)
    plain = maps(KernelConfig(ridge=0.1))
    followed = maps(KernelConfig(ridge=0.1, further_ridge=0.1), further)
    assert not np.allclose(followed, plain, atol=1e-3)
    np.testing.assert_allclose(maps(KernelConfig(ridge=0.1, further_ridge=1e8), further), plain, atol=1e-4)
    predicted = maps(KernelConfig(ridge=0.1, predicted=1.0))
    assert not np.allclose(predicted, plain, atol=1e-2)
    np.testing.assert_allclose(maps(KernelConfig(ridge=0.1, predicted=1e-9)), plain, atol=5e-3)
    strangers = maps(KernelConfig(ridge=0.1, predicted=1.0), split="test")
    assert not np.allclose(strangers, predicted, atol=1e-3), "a training image is left out"


def test_a_training_image_is_predicted_by_the_model_that_never_saw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, dataset = frozen_judge(), toy.toy_dataset()
    oracle = KernelOracle(dataset, judge, KernelConfig(predicted=1.0, side_images=2))
    asked: list[list[int]] = []
    original = PredictedMaps.__call__

    def call(self: PredictedMaps, features: torch.Tensor, locations: Sequence[int], folds: np.ndarray) -> torch.Tensor:
        asked.append(folds.tolist())
        return original(self, features, locations, folds)

    monkeypatch.setattr(PredictedMaps, "__call__", call)
    rows, off_tree = np.array([1, 4]), np.array([[63, 0], [63, 0]])
    for split, expected in (("train", dataset.folds[rows].tolist()), ("test", [-1, -1])):
        images = toy.toy_dataset(split=split)
        oracle.predict(observe(images, judge, rows, off_tree), oracle.start(images, rows))
        assert asked[-1] == expected
    assert sorted(dataset.folds[rows]) == [0, 1]
