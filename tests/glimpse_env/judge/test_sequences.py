"""Replayed sequences are judged as they were when they were played."""

import numpy as np

from glimpse_env.episodes import Assessment
from glimpse_env.judge import sequences as replay
from glimpse_env.judge.sequences import judge_sequences
from glimpse_env.rollout import play
from oracles.baselines import RandomPolicy
from tests.support.toy import GEOMETRY, toy_dataset, toy_judge


def test_replaying_an_episode_gives_its_own_figures(monkeypatch):
    monkeypatch.setattr(replay, "IMAGES_PER_CHUNK", 5)
    folds = np.arange(24) % 3 - 1  # two networks, and images for both together
    dataset, judge = toy_dataset(folds=folds), toy_judge()
    indices = np.array([3, 20, 4, 11, 0, 3, 17])
    rollouts = play(RandomPolicy(judge.grid), dataset, judge, indices, progress=False)
    probabilities = judge_sequences(dataset, judge, indices, rollouts.corners)
    for t in range(GEOMETRY.num_glimpses):
        found = Assessment.of(probabilities[:, t], rollouts.labels)
        np.testing.assert_allclose(found.log_loss, rollouts.log_loss[:, t], rtol=1e-5)
        np.testing.assert_allclose(found.entropy, rollouts.entropy[:, t], rtol=1e-5)
    np.testing.assert_array_equal(found.success, rollouts.success)
    assert len(np.unique(probabilities.round(4))) > 20, "the toy judge tells glimpses apart"
