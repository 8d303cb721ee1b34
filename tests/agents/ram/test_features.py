"""RAM on the features of a frozen encoder in place of pixels: what it reads, how often it encodes, and dropout."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.ram.algorithm import RAM
from agents.ram.sequences import Sequences
from agents.vec_env import GlimpseVecEnv
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.encoding.base import FrozenEncoder
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.env import GlimpseEnv
from glimpse_env.errors import ConfigurationError
from glimpse_env.vector_env import GlimpseVectorEnv
from tests.agents.ram.test_algorithm import CORNER, STEPS, marked, played, train
from tests.agents.ram.test_algorithm import vec_env as pixel_env

READING: dict[str, Any] = {"encoder": "features", "posterior": {"features": 16}, "tokens": 24, "hidden": 24}
DROPPING: dict[str, Any] = {**READING, "posterior": {"features": 16, "dropout": 0.3, "input_dropout": 0.3}}


@pytest.fixture(autouse=True)
def _cache(fresh_cache: Path) -> None:
    pass


def images(count: int = 120, seed: int = 0) -> GlimpseDataset:
    return replace(marked(count, seed), fingerprint=f"marked-{count}-{seed}")


def features() -> GlimpseFeatures:
    """Means of 2 x 2 pixels, 108 numbers a glimpse."""
    return GlimpseFeatures(FrozenEncoder("thumbnail", torch.nn.Flatten(), side=6), 1, 1)


def vec_env(**settings: Any) -> GlimpseVecEnv:
    options = {"observation": "features", "task": "classify", "features": features()} | settings
    return GlimpseVecEnv(GlimpseVectorEnv(images(), None, num_envs=12, **options))


def ram(**settings: Any) -> RAM:
    return RAM("RAMPolicy", vec_env(), **{"seed": 0, "policy_kwargs": dict(READING), **settings})


def test_the_network_reads_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ram()
    table = FeatureTable(images(), features())
    monkeypatch.setattr(FrozenEncoder, "__call__", lambda *_: pytest.fail("what is in the table was encoded again"))
    drawn, episodes, _ = played(model)
    np.testing.assert_array_equal(episodes.glimpses, table(drawn.indices[:, None], episodes.locations))
    np.testing.assert_allclose(episodes.places, model._episodes.grid.normalised[episodes.locations])
    train(model, 1)


def test_it_learns_to_look_where_the_class_is_told() -> None:
    model = ram(sequences=Sequences(np.arange(60), np.tile([12, CORNER], (60, 1))), learning_rate=3e-3)
    train(model, 80)
    looked = model.look(images(60, seed=9), np.arange(60))
    assert looked.success.mean() > 0.95
    assert (looked.locations == [12, CORNER]).all()


def test_batched_predictions_are_those_of_single_environments(tmp_path: Path) -> None:
    model = train(ram(policy_kwargs=DROPPING), 2)
    model.save(tmp_path / "model")
    again, dataset = RAM.load(tmp_path / "model"), images()
    together = model.look(dataset, np.arange(4))
    env = GlimpseEnv(dataset, None, task="classify", observation="features", features=features())
    for index in range(4):
        observation, _ = env.reset(options={"index": index})
        state, ended, looked = None, False, []
        while not ended:
            action, state = again.predict(observation, state, deterministic=True)
            looked.append(action[0])
            observation, reward, ended, _, _ = env.step(action)
        assert looked[:-1] == together.locations[index].tolist()
        assert bool(reward) == together.success[index]


def test_what_is_dropped_depends_on_seed_and_iteration_only(tmp_path: Path) -> None:
    whole = train(ram(policy_kwargs=DROPPING), 6)
    train(ram(policy_kwargs=DROPPING), 3).save(tmp_path / "model")
    torch.manual_seed(99)
    resumed = RAM.load(tmp_path / "model", env=vec_env())
    before = torch.get_rng_state()
    train(resumed, 3)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in whole.policy.state_dict().items():
        assert value.equal(resumed.policy.state_dict()[name]), name
    assert resumed.num_timesteps == 6 * STEPS * 12


def test_dropout_is_for_training_only() -> None:
    model = ram(policy_kwargs=DROPPING)
    network, shown = model.policy.network, {"glimpse": torch.rand(8, 108), "location": torch.rand(8, 2)}
    model.policy.set_training_mode(True)
    assert not network.read(shown).equal(network.read(shown))
    assert not network.classifier(torch.ones(8, 24)).equal(network.classifier(torch.ones(8, 24)))
    assert network.locator(torch.ones(8, 24)).equal(network.locator(torch.ones(8, 24)))
    model.policy.set_training_mode(False)
    assert network.read(shown).equal(network.read(shown))
    assert not ram().policy.drops


def test_weights_decay_by_the_learning_rate() -> None:
    decayed, free = (ram(policy_kwargs={**READING, "weight_decay": decay}) for decay in (0.5, 0.0))
    name = "network.classifier.2.weight"
    first = free.policy.state_dict()[name].clone()
    for model in (decayed, free):
        train(model, 1)
    expected = free.policy.state_dict()[name] - 1e-3 * 0.5 * first
    torch.testing.assert_close(decayed.policy.state_dict()[name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ram(policy_kwargs={**READING, "encoder": "conv"}), "encoder='conv' cannot read frozen features"),
        (lambda: RAM("RAMPolicy", pixel_env(), policy_kwargs=READING), "encoder='features' cannot read pixels"),
        (lambda: RAM("RAMPolicy", pixel_env(observation="history")), "observation='glimpse' or 'features'"),
    ],
)
def test_encoders_read_what_is_shown(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()
