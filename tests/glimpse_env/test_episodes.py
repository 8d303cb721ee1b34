import copy

import numpy as np
import pytest

from glimpse_env.episodes import Assessment, EpisodeBatch
from glimpse_env.errors import ConfigurationError, InvalidActionError
from tests.support.toy import GEOMETRY, CountingJudge, toy_dataset, toy_judge

STEPS = GEOMETRY.num_glimpses


def test_assessment_in_closed_form() -> None:
    p = np.array([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32)
    assessment = Assessment.of(p, np.array([0, 2, 0, 0]))
    assert np.allclose(assessment.entropy, [1.5 * np.log(2), np.log(3), 0, 0])
    assert np.allclose(assessment.log_loss[:3], [np.log(2), np.log(3), 0])
    assert np.isfinite(assessment.log_loss).all()
    assert assessment.log_loss[3] > 80
    assert assessment.success.tolist() == [True, False, True, False]


def test_the_judge_is_asked_where_its_answer_is_needed() -> None:
    def asked(**settings: object) -> list[int]:
        """How many histories the judge was asked about at the start and at each step."""
        judge, told = CountingJudge(), []
        batch = EpisodeBatch(toy_dataset(), judge, 5, **settings)
        batch.begin(np.arange(5))
        told.append(judge.asked)
        for t in range(STEPS):
            batch.step(np.full(5, t))
            told.append(judge.asked - sum(told))
        return told

    folds = 2  # before the first glimpse one answer for each fold serves all
    assert asked() == [folds, 5, 5, 5, 5]
    assert asked(posterior_info=False) == [0, 0, 0, 0, 5]
    assert asked(posterior_info=False, reward="information") == [folds, 5, 5, 5, 5]


def test_each_image_is_judged_by_its_fold() -> None:
    dataset = toy_dataset(num_folds=2)
    batch = EpisodeBatch(dataset, toy_judge(), len(dataset))
    _, info = batch.begin(np.arange(len(dataset)))
    first, second = (info["probabilities"][dataset.folds == fold] for fold in (0, 1))
    assert np.ptp(first, axis=0).max() == np.ptp(second, axis=0).max() == 0
    assert not np.allclose(first[0], second[0], atol=1e-3)


def test_a_batch_plays_what_its_episodes_play_alone() -> None:
    dataset, judge = toy_dataset(), toy_judge()
    together = EpisodeBatch(dataset, judge, 6, reward="information")
    alone = [EpisodeBatch(dataset, judge, 1, reward="information") for _ in range(6)]
    indices = np.array([3, 3, 20, 0, 11, 7])
    together.begin(indices)
    for row, one in enumerate(alone):
        one.begin(indices[[row]])
    for actions in np.random.default_rng(0).integers(0, 64, (STEPS, 6)):
        transition = together.step(actions)
        for row, one in enumerate(alone):
            expected = one.step(actions[[row]])
            assert transition.ended[row] == expected.ended[0]
            assert transition.rewards[row] == pytest.approx(expected.rewards[0], abs=1e-5)
            for key, value in expected.observations.items():
                assert np.array_equal(transition.observations[key][row], value[0])
            for key, value in expected.info.items():
                assert np.allclose(transition.info[key][row], value[0], atol=1e-5)


def test_an_invalid_action_in_a_batch_changes_nothing() -> None:
    batch = EpisodeBatch(toy_dataset(), toy_judge(), 3)
    batch.begin(np.arange(3))
    with pytest.raises(InvalidActionError, match="77"):
        batch.step(np.array([1, 77, 2]))
    assert not batch.counts.any()
    assert not batch.histories.glimpses.any()
    with pytest.raises(InvalidActionError, match=r"shape \(2,\)"):
        batch.step(np.array([1, 2]))


def test_copies_share_what_never_changes() -> None:
    batch = EpisodeBatch(toy_dataset(), toy_judge(), 2)
    batch.begin(np.arange(2))
    copied = copy.deepcopy(batch)
    assert copied.dataset is batch.dataset
    assert copied.judge is batch.judge
    copied.step(np.array([1, 2]))
    assert not batch.counts.any()
    assert not batch.histories.glimpses.any()


def test_a_batch_needs_an_episode() -> None:
    with pytest.raises(ConfigurationError, match="num_envs=0"):
        EpisodeBatch(toy_dataset(), toy_judge(), 0)
