"""What another package registers works like the package's own: in this process and in a new one."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import glimpse_env
from glimpse_env import CLASSIFY_IDS, ENV_IDS, GlimpseEnv
from glimpse_env.datasets import DATASETS, make_source
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import judge_command
from glimpse_env.presets import dataset_of
from glimpse_env.registration import source_of
from tests.support.registries import registries_restored
from tests.support.toy import write_toy_judge

MODULE = '''
from functools import cached_property

import numpy as np
from gymnasium import spaces

import glimpse_env
from glimpse_env.datasets.base import DataSource, LabelledImages
from glimpse_env.sensing.geometry import Geometry
from glimpse_env.sensing.observations import Observer


class Shades(DataSource):
    """Images of one grey each: dark or bright."""

    name = "shades"
    geometry = Geometry(image_size=24, glimpse_size=12, stride=4, num_glimpses=3)
    image_shape = (24, 24, 1)
    class_names = ("dark", "bright")
    num_folds = 2

    def __init__(self, contrast=100):
        self.contrast = contrast

    @cached_property
    def fingerprint(self):
        return f"shades-{self.contrast}"

    @property
    def options(self):
        return {"contrast": self.contrast}

    def size(self, split):
        return 8

    def fill(self, split, arrays, progress):
        arrays.labels[:] = np.arange(8) % 2
        arrays.folds[:] = np.arange(8) // 2 % 2
        arrays.images[:] = (self.contrast * (1 + arrays.labels))[:, None, None, None]
        progress(8)

    def judge_images(self, fold, rng):
        train = self.load("train")
        return train.take(np.arange(len(train)))


class WhereOnly(Observer):
    """The place of the newest glimpse alone."""

    def __init__(self, geometry, channels):
        super().__init__()
        self.grid = geometry.grid
        self.space = spaces.Box(-1, 1, (2,), np.float32)

    def write(self, shown, t, glimpses, corners, rows=slice(None)):
        shown[rows] = self.grid.normalise(corners)


glimpse_env.register_dataset(Shades, env_id="Shades-v0", scales=2, flat=True)
glimpse_env.register_observation("where", WhereOnly)
'''


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path of imports with the module ``shades_outside``, which registers a data set."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "shades_outside.py").write_text(MODULE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, registries_restored():
        patch.syspath_prepend(str(folder))
        patch.setenv("GLIMPSE_CACHE", str(folder / "cache"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        source = source_of("shades_outside:Shades-v0")
        for scales in (1, 2):
            write_toy_judge(source.with_scales(scales))
        yield folder
    sys.modules.pop("shades_outside")


@pytest.mark.parametrize("env", ["shades_outside:Shades-v0", "Shades-v0", "shades", "ShadesClassify-v0"])
def test_flags_name_the_data_set(outside: Path, env: str) -> None:
    assert dataset_of(env) == "shades"
    with pytest.raises(ConfigurationError, match="has its module before it, like your_package:Hues-v0"):
        dataset_of("Hues-v0")
    source = source_of(env, dataset_options='{"contrast": 90}')
    assert source.geometry.scales == 2
    assert source_of(env, scales=1).geometry.scales == 1
    assert source.chosen_options == {"contrast": 90}
    assert make_source("shades_outside:shades", contrast=90).fingerprint == source.fingerprint


def test_its_ids_appear_among_ours(outside: Path) -> None:
    assert ENV_IDS["Shades-v0"] == CLASSIFY_IDS["ShadesClassify-v0"] == "shades"
    assert "--env shades_outside:Shades-v0" in judge_command(make_source("shades"))


@pytest.mark.parametrize("env_id", ["Shades-v0", "shades_outside:Shades-v0", "ShadesClassify-v0"])
def test_gymnasium_makes_its_environments(outside: Path, env_id: str) -> None:
    env = gym.make(env_id, contrast=100)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    assert isinstance(env.unwrapped, GlimpseEnv)
    assert env.unwrapped.batch.sensor.scales == 2
    env.step(env.action_space.sample())
    vector = gym.make_vec(env_id, num_envs=3, vectorization_mode="vector_entry_point", scales=1)
    vector.reset(seed=0)
    vector.step(vector.action_space.sample())


def test_a_new_process_needs_only_the_specification(outside: Path) -> None:
    """As a worker that another library spawns: the module that registers the data set is imported by name."""
    program = """
        import gymnasium as gym
        from gymnasium.envs.registration import EnvSpec
        env = gym.make(EnvSpec.from_json(input()))
        print(env.reset(seed=0)[1]["index"])
    """
    spec = gym.make("Shades-v0", split="test").spec
    assert spec is not None
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], input=spec.to_json(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    _, info = gym.make("Shades-v0", split="test").reset(seed=0)
    assert int(done.stdout) == info["index"]


@pytest.mark.parametrize(
    ("source", "env_id", "named"),
    [
        ("glimpse_env.datasets.digits:Digits", "Other-v0", "dataset='digits'"),
        ("shades_outside:Shades", "CartPole-v1", "env_id='CartPole-v1'"),
        ("shades_outside:Shades", "Shades", "env_id='Shades'"),
        ("shades_outside", "Shades-v1", "source='shades_outside'"),
    ],
)
def test_what_cannot_be_registered_is_named(outside: Path, source: str, env_id: str, named: str) -> None:
    before = len(gym.registry), list(ENV_IDS)
    with pytest.raises(ConfigurationError, match=named):
        glimpse_env.register_dataset(source, env_id=env_id)
    assert (len(gym.registry), list(ENV_IDS)) == before


def test_registering_again_changes_nothing(outside: Path) -> None:
    before = list(gym.registry)
    glimpse_env.register_dataset(DATASETS["shades"], env_id="Shades-v0", scales=2, flat=True)
    assert list(gym.registry) == before


@pytest.mark.parametrize("observation", ["where", "shades_outside:where"])
def test_its_observations_are_shown(outside: Path, observation: str) -> None:
    env = gym.make("Shades-v0", observation=observation)
    env.reset(seed=0)
    shown, *_ = env.step(3)
    assert isinstance(env.unwrapped, GlimpseEnv)
    np.testing.assert_array_equal(shown, env.unwrapped.batch.grid.normalised[3])
    vector = gym.make_vec("Shades-v0", num_envs=2, observation=observation, vectorization_mode="vector_entry_point")
    vector.reset(seed=0)
    np.testing.assert_array_equal(vector.step(np.array([3, 3]))[0], np.stack([shown, shown]))


def test_taken_names_of_observations_are_refused(outside: Path) -> None:
    with pytest.raises(ConfigurationError, match="observation='canvas' is taken"):
        glimpse_env.register_observation("canvas", "shades_outside:WhereOnly")


def test_an_absent_module_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'nowhere_at_all' cannot be imported"):
        source_of("nowhere_at_all:Shades-v0")
