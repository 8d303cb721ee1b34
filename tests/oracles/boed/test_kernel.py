"""Kernel regression of losses against refits without a row, and the oracle's limits: the fixed sequence, and its own
image left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glimpse_env.datasets import make_source
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.rollout import play
from oracles.baselines import best_fixed, embedded_images
from oracles.boed.kernel import KernelConfig, KernelOracle, covering
from oracles.boed.oracle import OracleConfig
from oracles.boed.regression import KernelRegression, squared_distances
from oracles.registry import make_policy
from tests.oracles.boed.test_oracle import observe
from tests.support import toy


def test_the_prediction_without_a_row_is_that_of_a_regression_without_it() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(12, 5, generator=generator), torch.rand(12, 7, generator=generator)
    fitted = KernelRegression(inputs, targets, ridge=0.5, sharpness=2.0)
    kernel = (-fitted.precision * squared_distances(inputs, inputs)).exp()
    for out in (0, 7):
        kept = torch.tensor([n for n in range(12) if n != out])
        weights = torch.linalg.solve(kernel[kept][:, kept] + 0.5 * torch.eye(11), targets[kept] - targets.mean(0))
        expected = targets.mean(0) + kernel[out, kept] @ weights
        own, foreign = fitted(inputs[[out, out]], np.array([out, -1]))
        torch.testing.assert_close(own, expected, atol=1e-4, rtol=1e-4)
        assert (foreign - targets[out]).abs().mean() < (own - targets[out]).abs().mean(), "it was seen in training"


def test_an_image_is_left_out_with_all_its_copies() -> None:
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(12, 5, generator=generator), torch.rand(12, 7, generator=generator)
    fitted = KernelRegression(inputs, targets, ridge=0.5, sharpness=2.0, copies=2)
    kernel = (-fitted.precision * squared_distances(inputs, inputs)).exp()
    for image in (0, 5):
        kept = torch.tensor([n for n in range(12) if n % 6 != image])
        weights = torch.linalg.solve(kernel[kept][:, kept] + 0.5 * torch.eye(10), targets[kept] - targets.mean(0))
        expected = targets.mean(0) + kernel[image, kept] @ weights
        torch.testing.assert_close(fitted(inputs[[image]], np.array([image]))[0], expected, atol=1e-4, rtol=1e-4)


def test_further_rows_have_a_mean_and_a_ridge_of_their_own_and_are_never_left_out() -> None:
    generator = torch.Generator().manual_seed(2)
    inputs, targets = torch.randn(12, 5, generator=generator), torch.rand(12, 7, generator=generator)
    others = torch.randn(4, 5, generator=generator), 3.0 + torch.rand(4, 7, generator=generator)
    fitted = KernelRegression(inputs, targets, ridge=0.5, sharpness=2.0, further=(*others, 0.2))
    assert fitted.precision == KernelRegression(inputs, targets, ridge=0.5, sharpness=2.0).precision
    everything = torch.cat([inputs, others[0]])
    kernel = (-fitted.precision * squared_distances(everything, everything)).exp()
    ridges = torch.tensor([0.5] * 12 + [0.2] * 4).diag()
    residuals = torch.cat([targets - targets.mean(0), others[1] - others[1].mean(0)])
    for out in (0, 7):
        kept = torch.tensor([n for n in range(16) if n != out])
        weights = torch.linalg.solve((kernel + ridges)[kept][:, kept], residuals[kept])
        expected = targets.mean(0) + kernel[out, kept] @ weights
        torch.testing.assert_close(fitted(inputs[[out]], np.array([out]))[0], expected, atol=1e-4, rtol=1e-4)


def test_a_mirrored_regression_is_that_over_images_and_their_mirror_images() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    both = np.concatenate([dataset.images, dataset.images[:, :, ::-1]])
    doubled = toy.toy_dataset(48, images=both, labels=np.tile(dataset.labels, 2), folds=np.tile(dataset.folds, 2))
    strangers = toy.toy_dataset(6, seed=5, split="test")
    rows = np.arange(6)
    maps = []
    for bank, mirrored in ((dataset, True), (doubled, False)):
        oracle = KernelOracle(bank, judge, KernelConfig(ridge=0.1, mirrored=mirrored))
        oracle.sequence = np.array([9, 30, 12, 41])
        observation = observe(strangers, judge, rows, np.tile([[9, 30]], (6, 1)))
        oracle.predict(observation, oracle.start(strangers, rows))
        maps.append(oracle.last_maps)
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-4)
    assert len(KernelOracle(dataset, judge, KernelConfig(images=30, mirrored=True)).copies) == 1, "no room for both"


def test_branches_cover_what_images_need() -> None:
    losses = torch.tensor([[0.0, 1.0, 0.4], [0.0, 1.0, 0.4], [0.0, 1.0, 0.4], [1.0, 0.0, 0.4]])
    assert covering(losses, 1) == [0]
    assert covering(losses, 2) == [0, 1], "0.4 in all is worse than the best of two"
    losses[:, :2] = torch.inf
    assert covering(losses, 3) == [2], "what is ruled out is no branch"


def chosen(oracle: KernelOracle, images: np.ndarray) -> np.ndarray:
    """Sequences (B, T) of training images."""
    dataset = oracle.dataset
    return play(
        oracle, dataset, oracle.judge, images, progress=False, start=lambda rows: oracle.start(dataset, rows)
    ).locations


def last_loss(judge: Judge, sequence: np.ndarray) -> float:
    """Mean log-loss of the toy data set's labels after one sequence for all images, each by its own network."""
    dataset = toy.toy_dataset()
    embeddings, labels, networks = embedded_images(dataset, judge, np.arange(len(dataset)))
    losses = [
        -judge.class_log_probabilities(int(k), e[sequence.tolist()].sum(0), len(sequence))[label]
        for e, label, k in zip(embeddings, labels, networks, strict=True)
    ]
    return float(torch.stack(losses).clamp_max(6.0).mean())


def test_with_much_ridge_every_image_gets_a_sequence_no_worse_than_the_best_fixed() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    oracle = KernelOracle(dataset, judge, KernelConfig(ridge=1e9, branches=1))
    # of the mean over the others only its own loss is missing, which is little but may decide
    unknown = play(oracle, replace(dataset, split="test"), judge, np.arange(24), progress=False).locations
    assert (unknown == unknown[0]).all()
    fixed = best_fixed(dataset, judge, toy.GEOMETRY.num_glimpses)
    np.testing.assert_array_equal(oracle.sequence, fixed)
    assert last_loss(judge, unknown[0]) <= last_loss(judge, fixed) + 1e-4


def test_a_training_image_is_left_out_and_others_are_not() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    oracle = KernelOracle(dataset, judge, KernelConfig(ridge=0.1))
    rows, locations = np.array([3, 4]), np.array([[int(oracle.sequence[0])]] * 2)
    observation = observe(dataset, judge, rows, locations)
    maps = []
    for others in (dataset, replace(dataset, split="test"), replace(dataset, fingerprint="another data set")):
        oracle.predict(observation, oracle.start(others, rows))
        assert oracle.last_maps is not None
        maps.append(oracle.last_maps)
    assert not np.allclose(maps[0], maps[1], atol=1e-3)
    np.testing.assert_array_equal(maps[1], maps[2])


def test_choices_do_not_depend_on_the_batch_nor_on_a_carried_state() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    oracle = KernelOracle(dataset, judge)
    together = chosen(oracle, np.arange(8))
    alone = np.concatenate([chosen(KernelOracle(dataset, judge), np.array([i])) for i in range(8)])
    np.testing.assert_array_equal(together, alone)
    assert (together[:, 0] == oracle.sequence[0]).all()
    assert all(len(set(sequence)) == len(sequence) for sequence in together.tolist())


def test_a_map_depends_on_the_history_and_not_on_what_was_asked_before() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    oracle, image = KernelOracle(dataset, judge), np.array([2])
    sequence = chosen(oracle, image)
    off_tree = np.array([[63, 0, 63]])  # one place twice, then once
    for looked in (sequence[:, :3], off_tree, off_tree[:, :2], sequence[:, :1]):
        observation = observe(dataset, judge, image, looked)
        maps = []
        for asked in (oracle, KernelOracle(dataset, judge)):
            asked.predict(observation, asked.start(dataset, image))
            assert asked.last_maps is not None
            maps.append(asked.last_maps)
        np.testing.assert_array_equal(*maps)


def test_histories_that_it_would_not_have_chosen_get_a_map_from_a_part_of_the_images() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    oracle = KernelOracle(dataset, judge, KernelConfig(side_images=6))
    looked = np.array([[63, 0, 63], [63, 0, 62]])  # one place twice
    oracle.predict(observe(dataset, judge, np.array([1, 2]), looked), oracle.start(dataset, np.array([1, 2])))
    assert oracle.last_maps is not None
    assert np.isfinite(oracle.last_maps).all()
    sizes = {len(node.regression.inputs) for node in oracle._nodes.values() if node.regression is not None}
    assert sizes == {6}


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigurationError, match="ridge=0 must be above 0"):
        KernelConfig(ridge=0)
    with pytest.raises(ConfigurationError, match="branches=0"):
        KernelConfig(branches=0)


def test_a_policy_is_told_when_the_configuration_is_another_ones() -> None:
    source = make_source("digits")
    with pytest.raises(ConfigurationError, match="policy='kernel' takes a KernelConfig, not OracleConfig"):
        make_policy("kernel", source, toy.toy_judge(), config=OracleConfig())
    with pytest.raises(ConfigurationError, match="policy='boed' takes an OracleConfig, not KernelConfig"):
        make_policy("boed", source, toy.toy_judge(), config=KernelConfig())
