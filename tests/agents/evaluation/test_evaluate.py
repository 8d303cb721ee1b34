"""Evaluations: what they measure, that they survive JSON, and that anything with ``predict`` can be evaluated."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from agents.evaluation import evaluate as evaluation
from agents.evaluation.evaluate import FORMAT, Evaluation, cached, choose_images, evaluate, format_table
from agents.evaluation.recordings import record
from agents.evaluation.statistics import wilson_interval
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.sensing.sensor import Sensor
from oracles.baselines import FixedPolicy
from tests.support.toy import GEOMETRY, SIZE, CountingJudge, toy_dataset, toy_judge
from tests.support.toy_agents import toy_model

GRID = GEOMETRY.grid
SEQUENCE = np.array([3, 40, 17, 22])


def made(outcomes: list[int] | None = None, policy: str = "fixed") -> Evaluation:
    successes = np.array([1, 0, 1, 1] if outcomes is None else outcomes, dtype=bool)
    count = len(successes)
    return Evaluation(
        policy=policy,
        dataset="toy",
        fingerprint="abc",
        split="test",
        judge="def",
        images="012",
        outcomes=successes,
        log_loss=np.array([1.5, 0.25]),
        entropy=np.array([1.0, 0.5]),
        final_log_loss=np.linspace(0.1, 0.4, count, dtype=np.float32),
        final_entropy=np.full(count, 1 / 3, dtype=np.float32),
        seconds=2.0,
        policy_seconds=0.5,
    )


def test_evaluation_of_a_fixed_sequence_is_what_the_judge_says_of_its_glimpses():
    dataset, judge = toy_dataset(), toy_judge()
    indices = np.array([1, 5, 6, 20])
    evaluation = evaluate(FixedPolicy(GRID, SEQUENCE), dataset, judge, indices, name="fixed", progress=False)
    corners = np.broadcast_to(GRID.corners[SEQUENCE], (4, 4, 2))
    glimpses = Sensor(12)(dataset.images, np.repeat(indices, 4), corners.reshape(-1, 2)).reshape(4, 4, 12, 12, 1)
    for t in range(4):
        p = judge.probabilities(glimpses, corners, np.full(4, t + 1), dataset.folds[indices]).astype(np.float64)
        losses = -np.log(p[np.arange(4), dataset.labels[indices]])
        assert evaluation.log_loss[t] == pytest.approx(losses.mean(), rel=1e-4)
        assert evaluation.entropy[t] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-4)
    np.testing.assert_array_equal(evaluation.outcomes, p.argmax(axis=1) == dataset.labels[indices])
    np.testing.assert_allclose(evaluation.final_log_loss, losses, rtol=1e-4)
    np.testing.assert_allclose(evaluation.final_entropy, -(p * np.log(p)).sum(axis=1), rtol=1e-4)
    assert (evaluation.dataset, evaluation.fingerprint, evaluation.split) == ("toy", "toy", "train")
    assert evaluation.judge == judge.identity


def test_any_sb3_model_can_be_evaluated():
    evaluation = evaluate(toy_model(), toy_dataset(), toy_judge(), np.arange(6), name="mine", progress=False)
    assert evaluation.outcomes.shape == (6,)
    assert evaluation.policy == "mine"


def test_policies_of_other_observations_and_actions_are_evaluated():
    class Painter:
        """The fixed sequence as continuous actions, by how much of the canvas was seen."""

        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            assert observation.shape == (6, SIZE, SIZE, 2)
            step = 0 if state is None else state
            assert observation[..., 1].any() == (step > 0)
            return np.tile(GRID.normalise(GRID.corners[SEQUENCE[step]]), (6, 1)), step + 1

    dataset, judge, images = toy_dataset(), toy_judge(), np.arange(6)
    expected = evaluate(FixedPolicy(GRID, SEQUENCE), dataset, judge, images, name="fixed", progress=False)
    settings = {"action": "continuous", "observation": "canvas", "progress": False}
    painted = evaluate(Painter(), dataset, judge, images, name="painter", **settings)
    np.testing.assert_array_equal(painted.outcomes, expected.outcomes)
    np.testing.assert_allclose(painted.log_loss, expected.log_loss)


def test_a_policy_that_starts_on_images_is_told_them():
    class Peeking(FixedPolicy):
        def start(self, dataset, indices):
            told.append((dataset.name, list(indices)))

    told: list[tuple[str, list[int]]] = []
    evaluate(Peeking(GRID, SEQUENCE), toy_dataset(), toy_judge(), np.array([4, 2]), name="p", progress=False)
    assert told == [("toy", [4, 2])]


def test_the_policys_own_time_is_told_apart_from_the_environments():
    class Slow(FixedPolicy):
        def start(self, dataset, indices):
            time.sleep(0.02)

        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            time.sleep(0.005)
            return super().predict(observation, state, episode_start, deterministic)

    class SlowJudge(CountingJudge):
        identity = "slow"

        def probabilities(self, glimpses, corners, counts, folds):
            time.sleep(0.1)
            return super().probabilities(glimpses, corners, counts, folds)

    images = np.arange(4)
    slow = evaluate(Slow(GRID, SEQUENCE), toy_dataset(), SlowJudge(), images, name="slow", progress=False)
    assert slow.policy_seconds >= 0.04
    assert slow.seconds > slow.policy_seconds + 0.4
    assert slow.milliseconds == pytest.approx(250 * slow.policy_seconds)


def test_policies_that_take_masks_are_given_them():
    class Masked:
        def predict(self, observation, state=None, episode_start=None, deterministic=True, action_masks=None):
            given.append(action_masks.copy())
            return action_masks.argmax(axis=1), state

    given: list[np.ndarray] = []
    evaluate(Masked(), toy_dataset(), toy_judge(), np.arange(3), name="masked", progress=False)
    assert [masks.argmax(axis=1).tolist() for masks in given] == [[t] * 3 for t in range(4)]


def test_recording_agrees_with_the_evaluation_and_keeps_the_maps():
    class Mapped(FixedPolicy):
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            actions, state = super().predict(observation, state, episode_start, deterministic)
            self.last_maps = 1.0 - np.eye(len(GRID), dtype=np.float32)[actions]
            return actions, state

    dataset, judge, indices = toy_dataset(), toy_judge(), np.array([7, 0, 9])
    recording = record(Mapped(GRID, SEQUENCE), dataset, judge, indices)
    evaluation = evaluate(FixedPolicy(GRID, SEQUENCE), dataset, judge, indices, name="fixed", progress=False)
    p = recording.probabilities.astype(np.float64)
    assert p.shape == (3, 4, 3)
    np.testing.assert_allclose(-(p * np.log(p)).sum(-1).mean(0), evaluation.entropy, rtol=1e-4)
    np.testing.assert_array_equal(recording.success, evaluation.outcomes)
    np.testing.assert_array_equal(recording.corners, np.broadcast_to(GRID.corners[SEQUENCE], (3, 4, 2)))
    assert recording.maps is not None
    np.testing.assert_array_equal(recording.maps.argmin(-1), np.broadcast_to(SEQUENCE, (3, 4)))
    assert record(FixedPolicy(GRID, SEQUENCE), dataset, judge, indices).maps is None


def test_evaluation_survives_json():
    evaluation = made()
    content = json.loads(json.dumps(evaluation.to_json()))
    assert content["success_rate"] == 0.75
    assert content["interval"] == list(wilson_interval(3, 4))
    assert content["outcomes"] == "1011"
    again = Evaluation.from_json(content)
    assert again.to_json() == content
    np.testing.assert_array_equal(again.final_log_loss, evaluation.final_log_loss)
    np.testing.assert_array_equal(again.final_entropy, evaluation.final_entropy)


@pytest.mark.parametrize("change", [{"format": 99}, {"outcomes": None}, {"final_entropy": None}])
def test_a_damaged_evaluation_is_refused(change):
    with pytest.raises(ArtifactError, match="evaluate again"):
        Evaluation.from_json(made().to_json() | change)


def test_an_evaluation_without_images_is_refused():
    with pytest.raises(ConfigurationError, match="outcomes"):
        made(outcomes=[])
    with pytest.raises(ConfigurationError, match=r"final_log_loss and final_entropy, not \(4,\) and \(3,\)"):
        replace(made(), final_entropy=np.zeros(3, dtype=np.float32))


def test_cached_evaluates_once(tmp_path, caplog):
    calls = []

    def make() -> Evaluation:
        calls.append(1)
        return made()

    path = tmp_path / "cache" / "fixed.json"
    first, second = cached(path, make), cached(path, make)
    assert len(calls) == 1
    assert first.to_json() == second.to_json()
    kept = path.with_name(f"fixed-v{FORMAT}.json")
    kept.write_text("{")
    assert cached(path, make).to_json() == first.to_json()
    assert len(calls) == 2
    assert f"{kept} is made again: " in caplog.text
    assert cached(path, make).to_json() == first.to_json()
    assert len(calls) == 2


def test_cached_does_not_meet_files_of_another_format(tmp_path, monkeypatch):
    path = tmp_path / "fixed.json"
    monkeypatch.setattr(evaluation, "FORMAT", FORMAT - 1)
    cached(path, made)
    monkeypatch.undo()
    assert cached(path, lambda: made(policy="anew")).policy == "anew"


def test_chosen_images_are_the_same_each_time_and_spread_over_the_split():
    dataset = toy_dataset(600)
    indices = choose_images(dataset, 100)
    np.testing.assert_array_equal(indices, choose_images(dataset, 100))
    assert len(np.unique(indices)) == 100
    assert (np.diff(indices) > 0).all()
    assert indices.min() < 60
    assert indices.max() > 540
    np.testing.assert_array_equal(choose_images(dataset, 1000), np.arange(600))
    with pytest.raises(ConfigurationError, match="at least 1"):
        choose_images(dataset, 0)


def test_table_is_aligned():
    lines = format_table({"random": made([0, 0, 0, 1]), "mine": made()}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["random", "25.0", "%", "4.6", "to", "69.9", "0.250", "0.500"]
    assert lines[3].startswith("mine ")
