"""Calibration against judges whose calibration is known."""

import numpy as np
import pytest

from agents.evaluation.calibration import BINS, calibrate
from agents.reports.oracle.tables import calibration_table
from glimpse_env.errors import ConfigurationError
from oracles.training.posterior import calibration_error


def opinions(count: int, seed: int = 0, excess: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, 3) of a judge and labels: it is right as often as it says, or rarer by ``excess``."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 0.9, count)
    labels = rng.integers(3, size=count)
    right = rng.random(count) < confidence - excess
    said = np.where(right, labels, (labels + 1) % 3)
    probabilities = np.repeat((1 - confidence[:, None]) / 2, 3, axis=1)
    probabilities[np.arange(count), said] = confidence
    return probabilities.astype(np.float32), labels


def test_error_is_that_of_judge_training() -> None:
    probabilities, labels = opinions(500, excess=0.1)
    assert calibrate(probabilities, labels).error.value == pytest.approx(calibration_error(probabilities, labels, BINS))


def test_a_judge_that_is_right_as_often_as_it_says() -> None:
    found = [calibrate(*opinions(300, seed)) for seed in range(20)]
    assert np.mean([one.over_confidence for one in found]) == pytest.approx(0, abs=0.02)
    assert np.mean([one.perfect.value for one in found]) > 0.05, "chance alone makes some error"
    assert sum(one.perfect.low <= one.error.value <= one.perfect.high for one in found) >= 17


def test_an_over_confident_judge() -> None:
    found = calibrate(*opinions(2000, excess=0.2))
    assert found.over_confidence == pytest.approx(0.2, abs=0.04)
    assert found.mean_confidence - found.accuracy == found.over_confidence
    assert found.error.low < 0.2 < found.error.high < 0.26
    assert found.error.low > 3 * found.perfect.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """The true error is 0.2 in every bin, so that the plug-in estimate is unbiased."""
    held = 0
    for seed in range(40):
        error = calibrate(*opinions(300, seed, excess=0.2)).error
        held += error.low <= 0.2 <= error.high
    assert held >= 34


def test_bins_hold_equally_many_images_in_order_of_confidence() -> None:
    found = calibrate(*opinions(307))
    bins = np.array(found.bins())
    assert bins.shape == (BINS, 5)
    assert (np.diff(bins[:, 0]) > 0).all()
    assert set(bins[:, 4]) == {20, 21}
    assert ((bins[:, 2] <= bins[:, 1]) & (bins[:, 1] <= bins[:, 3])).all()
    assert (bins[:, 4] * np.abs(bins[:, 0] - bins[:, 1])).sum() / 307 == pytest.approx(found.error.value)


def test_the_same_seed_gives_the_same_figures() -> None:
    assert calibrate(*opinions(60), seed=3).to_json() == calibrate(*opinions(60), seed=3).to_json()


def test_table_has_a_row_for_every_policy_and_glimpse() -> None:
    step = calibrate(*opinions(60))
    lines = calibration_table({"oracle": [step, step], "random": [step]}).splitlines()
    assert len(lines) == 5
    assert lines[3].startswith("| oracle | 2 | ")
    assert f"{100 * step.over_confidence:+.1f} %" in lines[4]


def test_a_single_image_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="calibration of 1 images"):
        calibrate(*opinions(1))
