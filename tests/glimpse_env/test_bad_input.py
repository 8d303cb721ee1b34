"""Whatever comes in, what goes wrong is one named exception, and the environment can be used afterwards."""

import copy
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glimpse_env import GlimpseEnv, GlimpseVectorEnv
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ConfigurationError, InvalidActionError
from tests.support.toy import GEOMETRY, CountingJudge, toy_dataset, toy_judge

LOCATIONS = 64
JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        st.text(max_size=3),
        st.binary(max_size=3),
        st.sampled_from([object(), int, np.int64(5), np.float32("nan"), np.datetime64("2020-01-01"), range(3), {1}]),
        hnp.arrays(
            dtype=st.one_of(hnp.scalar_dtypes()), shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
        ),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=5,
)
"""Anything at all, valid things among them."""
QUICK = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def make(**arguments: Any) -> GlimpseEnv:
    return GlimpseEnv(toy_dataset(), CountingJudge(), **arguments)


def means_a_location(action: Any) -> bool:
    """Whether an action is a whole number on the grid."""
    array = np.asarray(action)
    return array.shape == () and array.dtype.kind in "iu" and 0 <= int(array) < LOCATIONS


def means_coordinates(action: Any) -> bool:
    """Whether an action is a pair of numbers in [-1, 1]."""
    array = np.asarray(action)
    return array.shape == (2,) and array.dtype.kind in "fiu" and bool((np.abs(array.astype(float)) <= 1).all())


@pytest.mark.parametrize(("mode", "means", "valid"), [("discrete", means_a_location, 7), ("continuous", None, [0, 1])])
def test_single_environments_refuse_what_is_no_action(mode: Any, means: Any, valid: Any) -> None:
    means = means or means_coordinates
    env = make(action=mode)

    @QUICK
    @given(action=JUNK)
    @example(action=63)
    @example(action=64)
    @example(action=np.float64(3))
    @example(action=np.array([0.5, -1.0]))
    @example(action=[0.5, np.nextafter(1, 2)])
    def refuses(action: Any) -> None:
        env.reset(seed=0)
        twin = copy.deepcopy(env)
        try:
            acts = means(action)
        except (ValueError, TypeError, OverflowError):
            acts = False  # no array
        if acts:
            assert env.step(action)[0]["step"] == 1
        else:
            with pytest.raises(InvalidActionError):
                env.step(action)
            assert data_equivalence(env.step(valid), twin.step(valid), exact=True)

    refuses()


@QUICK
@given(actions=st.one_of(JUNK, st.lists(st.integers(-2, 66), max_size=4)))
def test_vector_environments_refuse_what_are_no_actions(actions: Any) -> None:
    env = GlimpseVectorEnv(toy_dataset(), CountingJudge(), num_envs=2)
    env.reset(seed=0)
    try:
        array = np.asarray(actions)
        acts = array.shape == (2,) and array.dtype.kind in "iu" and all(0 <= int(a) < LOCATIONS for a in array)
    except (ValueError, TypeError, OverflowError):
        acts = False
    if acts:
        env.step(actions)
        return
    with pytest.raises(InvalidActionError):
        env.step(actions)
    assert env.step([3, 4])[0]["step"].tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["single", "vector"])
def test_resets_refuse_wrong_options_and_seeds(kind: str) -> None:
    env: Any = make() if kind == "single" else GlimpseVectorEnv(toy_dataset(), CountingJudge(), num_envs=2)
    action = 3 if kind == "single" else [3, 4]

    @QUICK
    @given(
        options=st.one_of(st.none(), JUNK, st.fixed_dictionaries({"index": st.one_of(st.integers(-3, 30), JUNK)})),
        seed=st.one_of(st.none(), st.integers(-3, 3), JUNK),
    )
    @example(options={"index": 23}, seed=None)
    @example(options={"index": 24}, seed=None)
    @example(options=None, seed=-1)
    @example(options=None, seed=np.arange(2))
    @example(options=5, seed=None)
    def refuses(options: Any, seed: Any) -> None:
        env.reset(seed=1, options={"index": 4})
        env.step(action)
        twin = copy.deepcopy(env)
        try:
            env.reset(seed=seed, options=options)
        except ConfigurationError:
            assert data_equivalence(env.step(action), twin.step(action), exact=True)  # the episode goes on
        else:
            assert np.all(env.step(action)[0]["step"] == 1)

    refuses()


@QUICK
@given(
    name=st.sampled_from(["observation", "action", "reward", "posterior_info", "tabulated", "render_mode"]),
    value=JUNK,
)
@example(name="posterior_info", value="yes")
@example(name="tabulated", value=1)
def test_constructors_refuse_wrong_arguments(name: str, value: Any) -> None:
    for build in (make, lambda **given: EpisodeBatch(toy_dataset(), CountingJudge(), 2, **given)):
        if build is not make and name == "render_mode":
            continue
        try:
            build(**{name: value})
        except ConfigurationError as error:
            refusal = str(error)
        else:
            assert value in (None, "history", "canvas", "discrete", "rgb_array", True, False)
            continue
        assert repr(value) in refusal or "tabulate" in refusal


@QUICK
@given(scales=JUNK)
@example(scales=2.0)
@example(scales=7)
@example(scales=True)
def test_geometries_refuse_wrong_scales(scales: Any) -> None:
    try:
        replace(GEOMETRY, scales=scales)
    except ConfigurationError as error:
        refusal = str(error)
    else:
        assert scales in range(1, 7)
        return
    assert f"scales={scales!r}" in refusal


@QUICK
@given(num_envs=JUNK)
@example(num_envs=0)
@example(num_envs=2.0)
@example(num_envs=2**70)
def test_vector_environments_refuse_wrong_numbers(num_envs: Any) -> None:
    try:
        env = GlimpseVectorEnv(toy_dataset(), CountingJudge(), num_envs=num_envs)
    except ConfigurationError as error:
        refusal = str(error)
    else:
        assert env.num_envs == int(num_envs) >= 1
        return
    assert f"num_envs={num_envs!r}" in refusal


def test_after_a_refusal_an_agent_can_still_learn() -> None:
    env = gym.wrappers.TimeLimit(GlimpseEnv(toy_dataset(), toy_judge()), 10)
    env.reset(seed=0)
    for bad in (None, 64, "here", [1]):
        with pytest.raises(InvalidActionError):
            env.step(bad)
    ended = False
    while not ended:
        _, reward, ended, _, info = env.step(env.action_space.sample())
    assert info["is_success"] == bool(reward)
