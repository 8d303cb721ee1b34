"""Settings of policies and of training with wrong values: an oracle that acts, or one error that names the setting."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.observations import Histories
from oracles.boed.anytime import AnytimeConfig, AnytimeOracle
from oracles.boed.completion import CompletionConfig
from oracles.boed.kernel import KernelConfig, KernelOracle
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.stopping import StopConfig
from oracles.training.plans import JudgePlan, ScorerPlan
from tests.support.fuzz import JSON_JUNK, outcome
from tests.support.toy_problem import GEOMETRY, IMAGES, ToyJudge, toy_dataset

KINDS: tuple[Any, ...] = (
    CompletionConfig,
    OracleConfig,
    KernelConfig,
    AnytimeConfig,
    StopConfig,
    JudgePlan,
    ScorerPlan,
)
SMALL: dict[Any, dict[str, Any]] = {
    CompletionConfig: {"samples": 4, "short_list": 8, "effective_samples": 2.0},
    KernelConfig: {"branches": 1, "images": 8, "side_images": 8},
    AnytimeConfig: {"places": 2},
}
LARGE = {"branches", "places", "samples", "short_list"}
"""Settings whose cost grows with them."""


def maps_of(kind: Any, made: Any) -> np.ndarray:
    """What an oracle with such settings expects where one glimpse has been taken."""
    dataset, judge = toy_dataset(np.arange(24) % len(IMAGES)), ToyJudge()
    corners = np.zeros((1, GEOMETRY.num_glimpses, 2), dtype=np.int64)
    glimpses = np.zeros((1, GEOMETRY.num_glimpses, 1, 1, 1), dtype=np.uint8)
    if kind is KernelConfig:
        policy: Any = KernelOracle(dataset, judge, made)
    elif kind is AnytimeConfig:
        policy = AnytimeOracle(dataset, judge, made)
    else:
        policy = BOEDOracle(dataset, judge, OracleConfig(completion=made) if kind is CompletionConfig else made)
    state = policy.fresh_state(1)
    histories = Histories(glimpses, corners, np.array([1]))
    policy.add_new(histories, state)
    return policy.expected_maps(state)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_any_setting_is_taken_or_named(kind: Any, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([field.name for field in fields(kind)]))
    value = data.draw(st.one_of(JSON_JUNK, st.sampled_from([np.int64(3), np.float32("nan"), object()])))
    small = SMALL.get(kind, {"completion": CompletionConfig(**SMALL[CompletionConfig])} if kind is OracleConfig else {})
    made, refusal = outcome(lambda: kind(**{**small, name: value}), ConfigurationError)
    assert made is not None or name in refusal or "short_list" in refusal
    if (
        made is not None
        and kind in (CompletionConfig, OracleConfig, KernelConfig)
        and not (name in LARGE and value > 99)
    ):
        maps, refusal = outcome(lambda: maps_of(kind, made), ConfigurationError)  # shifts depend on the images
        assert name in refusal if maps is None else np.isfinite(maps).any()
