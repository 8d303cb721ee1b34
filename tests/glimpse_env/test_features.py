"""Observations of frozen features."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from glimpse_env.encoding.base import FrozenEncoder
from glimpse_env.encoding.features import GlimpseFeatures, glimpse_features
from glimpse_env.encoding.registry import load_encoder
from glimpse_env.env import GlimpseEnv
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ConfigurationError
from glimpse_env.registration import source_of
from tests.glimpse_env.judge.test_frozen import frozen_judge
from tests.support.tiny_data import write_tiny_folder
from tests.support.toy import SMALL_FOLDER, toy_dataset, toy_judge
from tests.support.toy_encoder import TOY

TINY = {"size": 20, "glimpse_size": 12, "stride": 4, "num_glimpses": 3}
"""Options of a folder of images with nine locations."""


@pytest.fixture(autouse=True)
def _cache(fresh_cache: Path) -> None:
    pass


@pytest.mark.parametrize("action", ["discrete", "continuous"])
def test_features_are_those_of_the_glimpses_seen(action: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, features = toy_dataset(), GlimpseFeatures(load_encoder(TOY), 1, 1)
    batch = EpisodeBatch(dataset, None, 2, task="classify", observation="features", action=action, features=features)
    encoded = FrozenEncoder.__call__
    if action == "discrete":  # from here on its table is read
        monkeypatch.setattr(FrozenEncoder, "__call__", lambda *_: pytest.fail("encoded"))
    shown, _ = batch.begin(np.array([4, 7]))
    width = features.width
    assert shown["features"].shape == (2, 4 * width)
    assert not shown["features"].any()
    rng = np.random.default_rng(0)
    for t in range(4):
        actions = rng.integers(0, 3, (2, 2)) if action == "discrete" else rng.uniform(-1, 1, (2, 2 + 3))
        shown = batch.step(actions).observations
        monkeypatch.setattr(FrozenEncoder, "__call__", encoded)
        expected = features.encode(batch.histories.glimpses[:, : t + 1]).numpy()
        found = shown["features"].reshape(2, 4, width)
        np.testing.assert_allclose(found[:, : t + 1], expected, atol=2e-3, rtol=2e-3)
        assert expected.std() > 0.01
        assert not found[:, t + 1 :].any()
        np.testing.assert_array_equal(shown["mask"], np.tile(np.arange(4) <= t, (2, 1)))
        assert batch.observer.space.contains({key: value[0] for key, value in shown.items()})


def test_a_judge_s_own_features_are_shown_else_those_asked_for() -> None:
    dataset, judge = toy_dataset(), frozen_judge()
    assert EpisodeBatch(dataset, judge, 1, observation="features").features is judge.frozen
    with pytest.raises(ConfigurationError, match="needs frozen features"):
        EpisodeBatch(dataset, toy_judge(), 1, observation="features")
    with pytest.raises(ConfigurationError, match="do not fit"):
        EpisodeBatch(replace(dataset, images=dataset.images.repeat(3, 3)), judge, 1, observation="features")


def test_an_environment_names_its_encoder(tmp_path: Path) -> None:
    root = str(write_tiny_folder(tmp_path / "photos"))
    made = gym.make(
        "GlimpseFolderClassify-v0", root=root, observation="features", encoder=TOY, disable_env_checker=True, **TINY
    )
    env = made.unwrapped
    assert isinstance(env, GlimpseEnv)
    check_env(env, skip_render_check=True)
    features = glimpse_features(source_of("folder", root, '{"size": 20, "glimpse_size": 12, "stride": 4}'), TOY)
    assert env.batch.features is not None
    assert env.batch.features.encoder is features.encoder
    again = pickle.loads(pickle.dumps(env))
    for one in (env, again):
        one.reset(seed=3)
    np.testing.assert_array_equal(env.step([2, 0])[0]["features"], again.step([2, 0])[0]["features"])
    with pytest.raises(ConfigurationError, match="is of observation='features' only"):
        gym.make("GlimpseFolderClassify-v0", root=root, encoder=TOY, **SMALL_FOLDER)
    with pytest.raises(ConfigurationError, match="encoder='convolutional' is trained with its judge"):
        gym.make("GlimpseDigitsClassify-v0", observation="features")
