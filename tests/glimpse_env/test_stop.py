"""Episodes that may stop, and the price of a glimpse."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from glimpse_env import GlimpseEnv, GlimpseVectorEnv
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ConfigurationError, InvalidActionError
from glimpse_env.rollout import play
from tests.support.toy import GEOMETRY, NUM_CLASSES, CountingJudge, toy_dataset, toy_judge

STEPS, LOCATIONS = GEOMETRY.num_glimpses, 64
STOP = LOCATIONS


def make(**settings: Any) -> GlimpseEnv:
    return GlimpseEnv(toy_dataset(), toy_judge(), stop=True, **settings)


def test_stopping_is_judged_by_what_was_seen() -> None:
    env, twin = make(glimpse_cost=0.25), GlimpseEnv(toy_dataset(), toy_judge())
    for count in range(STEPS + 1):
        first, told = env.reset(options={"index": 7})
        _, expected = twin.reset(options={"index": 7})
        seen, rewards, ended = first, [], False
        for t in range(count):
            seen, reward, ended, _, told = env.step(5 * t)
            _, _, _, _, expected = twin.step(5 * t)
            rewards.append(reward)
            assert ended == (t == STEPS - 1)
            assert told["glimpses"] == t + 1
        if count < STEPS:
            last, reward, ended, truncated, told = env.step(STOP)
            rewards.append(reward)
            assert (ended, truncated) == (True, False)
            assert all(np.array_equal(last[key], seen[key]) for key in last)  # nothing new is shown
        assert ended
        assert told["glimpses"] == count
        assert told["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
        label = env.dataset.labels[7]
        assert told["is_success"] == (expected["probabilities"].argmax() == label)
        assert told["log_loss"] == pytest.approx(-np.log(expected["probabilities"][label]), abs=1e-5)
        assert sum(rewards) == pytest.approx(told["is_success"] - 0.25 * count)
        assert rewards[:-1] == [-0.25] * (len(rewards) - 1)


def test_information_is_paid_for_glimpses_only() -> None:
    env = make(reward="information", glimpse_cost=3.0, posterior_info=False)
    env.reset(options={"index": 2})
    before = env.batch.assess().log_loss[0]
    paid = [env.step(action)[1] for action in (9, 20)]
    _, reward, _, _, told = env.step(STOP)
    assert reward == 0
    assert sum(paid) == pytest.approx(before - told["log_loss"] - 6.0, abs=1e-5)


def test_spaces_have_one_more_action() -> None:
    classify: dict[str, Any] = {"task": "classify", "stop": True}
    assert make().action_space == spaces.Discrete(LOCATIONS + 1)
    assert make(action="continuous").action_space == spaces.Box(-1, 1, (3,), np.float32)
    pairs = spaces.MultiDiscrete([LOCATIONS + 1, NUM_CLASSES])
    assert GlimpseEnv(toy_dataset(), None, **classify).action_space == pairs
    numbers = GlimpseEnv(toy_dataset(), None, action="continuous", **classify)
    assert numbers.action_space == spaces.Box(-1, 1, (3 + NUM_CLASSES,), np.float32)


def test_masks_always_leave_the_stop() -> None:
    env = GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=3, stop=True)
    env.reset(seed=0)
    env.step([4, STOP, 9])
    env.step([5, 6, STOP])
    masks = env.action_masks()
    assert masks.shape == (3, LOCATIONS + 1)
    assert [np.flatnonzero(~mask).tolist() for mask in masks] == [[4, 5], [6], []]
    classify = GlimpseEnv(toy_dataset(), None, task="classify", stop=True)
    classify.reset(seed=0)
    classify.step([3, 1])
    assert np.flatnonzero(~classify.action_masks()).tolist() == [3]
    assert len(classify.action_masks()) == LOCATIONS + 1 + NUM_CLASSES


@pytest.mark.parametrize("observation", ["history", "glimpse", "canvas", "embedding"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"glimpse_cost": 0.1, "posterior_info": False}, {"reward": "information"}, {"action": "continuous"}],
    ids=str,
)
def test_both_checkers_pass(observation: str, settings: dict[str, Any]) -> None:
    if (observation, settings.get("action")) == ("embedding", "continuous"):
        pytest.skip("tables hold grid locations")
    env = make(observation=observation, **settings)
    check_env(env, skip_render_check=True, skip_close_check=True)
    sb3_check_env(env)


@pytest.mark.parametrize("action", ["discrete", "continuous"])
def test_both_checkers_pass_to_classify(action: Any) -> None:
    env = GlimpseEnv(toy_dataset(), None, task="classify", stop=True, action=action)
    check_env(env, skip_render_check=True, skip_close_check=True)
    sb3_check_env(env)


@pytest.mark.parametrize("bad", [STOP + 1, -1, [STOP], 0.5, None])
def test_invalid_actions_change_nothing(bad: Any) -> None:
    env = make()
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match=rf"integers in 0\.\.{STOP} \({STOP} to stop\)"):
        env.step(bad)
    assert env.step(3)[0]["step"] == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"stop": 1}, "stop=1"),
        ({"glimpse_cost": -0.1}, "glimpse_cost=-0.1"),
        ({"glimpse_cost": 1.5}, "glimpse_cost=1.5"),
        ({"glimpse_cost": "dear"}, "glimpse_cost='dear'"),
        ({"glimpse_cost": True}, "glimpse_cost=True"),
        ({"glimpse_cost": float("nan")}, "glimpse_cost=nan"),
        ({"glimpse_cost": float("inf"), "reward": "information"}, "glimpse_cost=inf"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        GlimpseEnv(toy_dataset(), toy_judge(), **settings)


def test_a_cost_needs_no_stop() -> None:
    env = GlimpseEnv(toy_dataset(), toy_judge(), glimpse_cost=0.125)
    env.reset(seed=0)
    steps = [env.step(t) for t in range(STEPS)]
    assert sum(step[1] for step in steps) == steps[-1][4]["is_success"] - 0.125 * STEPS


def test_lockstep_begins_together() -> None:
    batch = EpisodeBatch(toy_dataset(), toy_judge(), 3)
    batch.begin(np.arange(3))
    with pytest.raises(ConfigurationError, match="stop=True"):
        batch.begin(np.arange(1), np.array([1]))


def test_the_judge_is_asked_only_where_its_answer_is_needed() -> None:
    judge = CountingJudge()
    env = GlimpseVectorEnv(toy_dataset(num_folds=1), judge, num_envs=3, stop=True, posterior_info=False)
    env.reset(seed=0)
    asked: list[int] = []
    for actions in ([1, 2, 3], [4, STOP, 5], [STOP, 2, STOP], [STOP, STOP, 9]):
        env.step(actions)
        asked.append(judge.asked - sum(asked))
    assert asked == [0, 1, 2, 1 + 1]  # the last two: about nothing seen, once for the only fold, and about one glimpse


class Impatient:
    """Looks at places by its state and stops after as many glimpses as the first pixel of the image says."""

    stops = True

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        state = np.zeros(len(observation["step"]), int) if state is None else state
        seen = observation["glimpses"].reshape(len(state), -1).sum(axis=1)
        places = (seen * 7 + 13 * state).astype(int) % LOCATIONS
        patience = (observation["glimpses"][:, 0] * 255).astype(int) % (STEPS + 1)
        return np.where((observation["step"] > 0) & (observation["step"] >= patience), STOP, places), state + 1


@pytest.mark.parametrize("batch_size", [1, 5, 128])
def test_rollouts_are_the_episodes_of_the_environment(batch_size: int) -> None:
    dataset, judge = toy_dataset(), toy_judge()
    indices = np.arange(len(dataset))
    rollouts = play(Impatient(), dataset, judge, indices, stop=True, batch_size=batch_size, progress=False)
    env, policy = make(), Impatient()
    assert set(rollouts.lengths.tolist()) >= {1, 2, 3}
    for row, index in enumerate(indices):
        observation, _ = env.reset(options={"index": index})
        state, ended, t = None, False, 0
        while not ended:
            batched = {key: np.asarray(value)[None] for key, value in observation.items()}
            actions, state = policy.predict(batched, state)
            observation, _, ended, _, told = env.step(actions[0])
            if actions[0] != STOP:
                assert rollouts.locations[row, t] == actions[0]
                assert np.array_equal(rollouts.corners[row, t], env.batch.grid.corners[actions[0]])
                assert rollouts.entropy[row, t] == pytest.approx(told["entropy"], abs=1e-5)
                t += 1
        assert rollouts.lengths[row] == t == told["glimpses"]
        assert (rollouts.locations[row, t:] == -1).all()
        assert not rollouts.corners[row, t:].any()
        assert rollouts.success[row] == told["is_success"]
        assert rollouts.log_loss[row, t - 1 :] == pytest.approx(told["log_loss"], abs=1e-5)
        assert rollouts.final_entropy[row] == pytest.approx(told["entropy"], abs=1e-5)
    assert rollouts.returns(0.1) == pytest.approx(rollouts.success - 0.1 * rollouts.lengths)


def test_nobody_needs_to_look() -> None:
    class Never:
        def predict(self, observation: Any, *_: Any) -> tuple[np.ndarray, None]:
            return np.full(len(observation["step"]), STOP), None

    dataset, judge = toy_dataset(), toy_judge()
    rollouts = play(Never(), dataset, judge, np.arange(6), stop=True, progress=False)
    _, told = EpisodeBatch(dataset, judge, 6).begin(np.arange(6))
    assert not rollouts.lengths.any()
    assert (rollouts.locations == -1).all()
    assert rollouts.final_entropy == pytest.approx(told["entropy"], abs=1e-5)
    assert rollouts.success.tolist() == (told["probabilities"].argmax(axis=1) == dataset.labels[:6]).tolist()


def test_an_agent_that_classifies_may_answer_at_any_step() -> None:
    class Sure:
        """Answers class 2 after as many looks as there are episodes before it in the batch."""

        def predict(self, observation: Any, *_: Any) -> tuple[np.ndarray, None]:
            steps = observation["step"]
            sure = (1 + steps) / (2 + steps)
            self.last_probabilities = np.stack([(1 - sure) / 2, (1 - sure) / 2, sure], axis=1).astype(np.float32)
            places = np.where(steps >= np.arange(len(steps)), STOP, steps)
            return np.stack([places, np.full(len(steps), 2)], axis=1), None

    dataset = toy_dataset()
    rollouts = play(Sure(), dataset, None, np.arange(STEPS + 2), stop=True, progress=False)
    assert rollouts.lengths.tolist() == [0, 1, 2, 3, 4, 4]
    assert rollouts.success.tolist() == (dataset.labels[: STEPS + 2] == 2).tolist()
    sure = (1 + rollouts.lengths) / (2 + rollouts.lengths)
    of_label = np.where(rollouts.success, sure, (1 - sure) / 2)
    assert rollouts.final_log_loss == pytest.approx(-np.log(of_label), rel=1e-5)
    assert np.isfinite(rollouts.entropy).all()
