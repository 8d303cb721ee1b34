from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glimpse_env import GlimpseEnv
from glimpse_env.errors import ConfigurationError, InvalidActionError
from glimpse_env.rollout import Rollouts, play
from tests.support.toy import GEOMETRY, CountingJudge, toy_dataset, toy_judge

STEPS = GEOMETRY.num_glimpses
INDICES = np.array([7, 3, 3, 20, 0, 11, 23])


class ByBrightness:
    """Looks at a place that depends on what it saw and on its state; notes how it was called."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        self.calls.append({"state": state, "start": episode_start, "deterministic": deterministic})
        state = np.zeros(len(episode_start), int) if state is None else state
        seen = observation["glimpses"].reshape(len(state), -1).sum(axis=1)
        return (seen * 7 + 13 * state).astype(int) % 64, state + 1


@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_rollouts_are_the_episodes_of_the_environment(batch_size: int) -> None:
    dataset, judge = toy_dataset(), toy_judge()
    rollouts = play(ByBrightness(), dataset, judge, INDICES, batch_size=batch_size, progress=False)
    env, policy = GlimpseEnv(dataset, judge), ByBrightness()
    assert len(rollouts) == len(INDICES)
    assert np.array_equal(rollouts.indices, INDICES)
    assert np.array_equal(rollouts.labels, dataset.labels[INDICES])
    for row, index in enumerate(INDICES):
        observation, info = env.reset(options={"index": index})
        state = None
        for t in range(STEPS):
            batched = {key: np.asarray(value)[None] for key, value in observation.items()}
            actions, state = policy.predict(batched, state, np.array([t == 0]))
            observation, *_, info = env.step(actions[0])
            assert rollouts.locations[row, t] == actions[0]
            assert np.array_equal(rollouts.corners[row, t], env.batch.grid.corners[actions[0]])
            loss = -np.log(info["probabilities"][info.get("label", dataset.labels[index])])
            assert rollouts.log_loss[row, t] == pytest.approx(loss, abs=1e-5)
            assert rollouts.entropy[row, t] == pytest.approx(info["entropy"], abs=1e-5)
        assert rollouts.success[row] == info["is_success"]


def test_policies_are_called_as_sb3_calls_them() -> None:
    policy = ByBrightness()
    started: list[list[int]] = []

    def start(indices: np.ndarray) -> np.ndarray:
        started.append(indices.tolist())
        return indices * 2

    play(
        policy,
        toy_dataset(),
        toy_judge(),
        INDICES,
        batch_size=4,
        deterministic=False,
        progress=False,
        start=start,
    )
    assert started == [INDICES[:4].tolist(), INDICES[4:].tolist()]
    assert [call["state"][0] for call in policy.calls] == [14, 15, 16, 17, 0, 1, 2, 3]
    assert [call["start"].all() for call in policy.calls] == [True, False, False, False] * 2
    assert not any(call["deterministic"] for call in policy.calls)


def test_each_step_is_reported() -> None:
    policy, reported = ByBrightness(), []

    def on_step(rows: np.ndarray, t: int, acting: Any) -> None:
        assert acting is policy
        reported.append((rows.tolist(), t, len(policy.calls)))

    play(policy, toy_dataset(), toy_judge(), INDICES, batch_size=4, progress=False, on_step=on_step)
    rows = [[0, 1, 2, 3]] * STEPS + [[4, 5, 6]] * STEPS
    assert reported == [(rows[k], k % STEPS, k + 1) for k in range(2 * STEPS)]


def test_the_judge_is_asked_once_a_step() -> None:
    judge = CountingJudge()
    play(ByBrightness(), toy_dataset(num_folds=1), judge, INDICES, progress=False)
    assert judge.asked == 1 + len(INDICES) * STEPS  # and once before the first glimpse


def test_continuous_rollouts_have_corners_only() -> None:
    class Corner:
        def predict(self, observation: Any, *_: Any) -> tuple[np.ndarray, None]:
            return np.full((len(observation["step"]), 2), (1.0, -0.5)), None

    rollouts = play(
        Corner(),
        toy_dataset(geometry=replace(GEOMETRY, scales=2)),
        toy_judge(replace(GEOMETRY, scales=2)),
        INDICES,
        action="continuous",
        observation="glimpse",
        progress=False,
    )
    assert (rollouts.locations == -1).all()
    assert (rollouts.corners == (28, 7)).all()


def test_policies_that_take_masks_are_given_them() -> None:
    class First:
        """Takes the first location that it did not look at."""

        def predict(
            self,
            observation: Any,
            state: Any = None,
            episode_start: Any = None,
            deterministic: bool = False,
            action_masks: np.ndarray | None = None,
        ) -> tuple[np.ndarray, None]:
            assert action_masks is not None
            return action_masks.argmax(axis=1), None

    rollouts = play(First(), toy_dataset(), toy_judge(), INDICES, progress=False)
    assert (rollouts.locations == np.arange(STEPS)).all()


def test_wrong_policies_and_images_are_named() -> None:
    class Outside:
        def predict(self, observation: Any, *_: Any) -> tuple[np.ndarray, None]:
            return np.full(len(observation["step"]), 64), None

    with pytest.raises(InvalidActionError, match="64"):
        play(Outside(), toy_dataset(), toy_judge(), INDICES, progress=False)
    for bad in (24, -1):
        with pytest.raises(ConfigurationError, match=str(bad)):
            play(ByBrightness(), toy_dataset(), toy_judge(), np.array([0, bad]), progress=False)


def test_rollouts_must_fit_together() -> None:
    rollouts = play(ByBrightness(), toy_dataset(), toy_judge(), INDICES, progress=False)
    assert isinstance(rollouts, Rollouts)
    with pytest.raises(ValueError, match="entropy"):
        replace(rollouts, entropy=rollouts.entropy[:, :2])
