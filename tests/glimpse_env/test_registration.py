import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

from glimpse_env import ANYTIME_IDS, ENV_IDS, GlimpseEnv
from glimpse_env.datasets import make_source
from glimpse_env.datasets.birds.source import Birds
from glimpse_env.errors import (
    ArtifactError,
    ConfigurationError,
    DatasetFallbackWarning,
    DatasetNotFoundError,
    JudgeNotFoundError,
)
from glimpse_env.presets import PRESETS, anytime_options
from glimpse_env.registration import make_vector_env, source_of
from tests.support.tiny_data import write_tiny_cub, write_tiny_folder
from tests.support.toy import SMALL_BIRDS, SMALL_FOLDER, write_toy_judge

BIRDS = {"dataset_options": SMALL_BIRDS}


@pytest.fixture(autouse=True)
def _empty_cache(fresh_cache: Path) -> None:
    pass


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_importing_the_package_registers_the_ids(env_id: str) -> None:
    spec = gym.spec(env_id)
    assert spec.entry_point == "glimpse_env.registration:make_env"
    assert spec.vector_entry_point == "glimpse_env.registration:make_vector_env"
    scales = {"scales": 2} if env_id == "GlimpseCUBFull-v0" else {}
    assert spec.kwargs == {"dataset": ENV_IDS[env_id], **scales}
    assert spec.max_episode_steps is None  # the environment itself ends an episode


@pytest.mark.parametrize("env_id", ANYTIME_IDS)
def test_in_anytime_environments_agents_zoom_and_stop(env_id: str) -> None:
    kwargs = gym.spec(env_id).kwargs
    preset = PRESETS[ANYTIME_IDS[env_id]]
    assert kwargs == {
        "dataset": ANYTIME_IDS[env_id],
        "zooms": list(preset.zooms),
        "stop": True,
        "glimpse_cost": preset.glimpse_cost,
    }
    assert anytime_options(env_id) == {key: value for key, value in kwargs.items() if key != "dataset"}
    assert anytime_options(env_id.replace("Anytime", "")) == {}


def test_the_flags_of_a_script_have_the_zooms_of_the_id() -> None:
    options = json.dumps(SMALL_BIRDS)
    assert source_of("GlimpseBirdsAnytime-v0", dataset_options=options).geometry.zooms == (1, 2, 4)
    assert source_of("GlimpseBirdsAnytime-v0", dataset_options=options, zooms=(1, 2)).geometry.zooms == (1, 2)
    assert source_of("GlimpseBirds-v0", dataset_options=options).geometry.zooms == (1,)
    assert source_of("GlimpseBirds-v0", dataset_options=options, scales=2).geometry.scales == 2
    with pytest.raises(ConfigurationError, match=r"scales=2 does not combine with zooms=\[1, 2, 4\]"):
        source_of("GlimpseBirdsAnytime-v0", dataset_options=options, scales=2)


def test_zooms_are_an_argument_of_every_environment() -> None:
    write_toy_judge(make_source("birds", **SMALL_BIRDS).with_zooms((1, 3)))
    env = gym.make("GlimpseBirds-v0", zooms=[1, 3], **BIRDS)
    assert env.action_space.n == 169 + 4  # type: ignore[attr-defined]
    assert gym.make("GlimpseBirds-v0", zooms=[1, 3], action="continuous", **BIRDS).action_space.shape == (3,)
    vector = gym.make_vec("GlimpseBirds-v0", num_envs=2, zooms=(1, 3), **BIRDS)
    assert vector.single_observation_space["locations"].shape == (15,)  # type: ignore[index]
    with pytest.raises(ConfigurationError, match=r"zooms=\(1, 5\)"):
        gym.make("GlimpseBirds-v0", zooms=[1, 5], **BIRDS)


def test_a_spec_that_version_0_1_stored_makes_the_environment(tmp_path: Path) -> None:
    photos = str(write_tiny_folder(tmp_path / "photos"))
    write_toy_judge(make_source("folder", root=photos, **SMALL_FOLDER))
    stored = json.loads(gym.spec("GlimpseFolder-v0").to_json())
    stored["entry_point"] = "glimpse_env.registration:make_flat_env"
    env = gym.make(EnvSpec.from_json(json.dumps(stored)), root=photos, **SMALL_FOLDER)
    assert env.unwrapped.dataset.name == "folder"  # type: ignore[attr-defined]


def test_without_cub_the_birds_take_its_place_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = tuple(SMALL_BIRDS.values())
    monkeypatch.setattr(Birds.__init__, "__defaults__", (0, *defaults, *Birds.__init__.__defaults__[-2:]))
    write_toy_judge(make_source("birds"))
    with pytest.warns(DatasetFallbackWarning, match=r"(?s)download_data\.py cub.*'birds'.*dataset='cub'"):
        fallback = gym.make("GlimpseCUB-v0")
    assert fallback.unwrapped.dataset.name == "birds"  # type: ignore[attr-defined]

    folder = write_tiny_cub(tmp_path)
    write_toy_judge(make_source("cub", root=str(folder)))
    env = gym.make("GlimpseCUB-v0", root=str(folder))
    assert env.unwrapped.dataset.name == "cub"  # type: ignore[attr-defined]
    assert env.observation_space == fallback.observation_space
    assert env.action_space == fallback.action_space


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_a_root_without_cub_is_an_error(make: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"download_data\.py cub.*leave root out, and 'birds'") as caught:
        make("GlimpseCUB-v0", root=str(tmp_path))
    assert str(caught.value).startswith(f"root={str(tmp_path)!r} holds no data set 'cub'")
    with pytest.raises(ConfigurationError, match="root=''"):
        make("GlimpseCUB-v0", root="")


def test_asking_for_cub_makes_its_absence_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError):
        gym.make("GlimpseCUB-v0", dataset="cub")
    with pytest.raises(DatasetNotFoundError):
        gym.make("GlimpseCUB-v0", dataset_options={"species": [1]})  # which the birds would not obey


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_without_a_judge_the_command_that_makes_one_is_told(make: object) -> None:
    with pytest.raises(JudgeNotFoundError, match=r"scripts/train_judge\.py"):
        make("GlimpseBirds-v0", split="val", **BIRDS, scales=2)  # type: ignore[operator]


def test_a_judge_may_be_given_if_it_fits(tmp_path: Path) -> None:
    path = write_toy_judge(make_source("birds"))
    moved = path.rename(tmp_path / path.name)
    path.with_suffix(".json").rename(moved.with_suffix(".json"))
    env = gym.make("GlimpseBirds-v0", split="val", judge=str(moved), **BIRDS)
    assert isinstance(env.unwrapped, GlimpseEnv)
    with pytest.raises(ArtifactError, match="birds"):
        gym.make("GlimpseDigits-v0", judge=str(moved))
    with pytest.raises(ArtifactError, match="scales=2"):
        gym.make("GlimpseBirds-v0", split="val", judge=str(moved), scales=2, **BIRDS)


def test_splits_are_what_they_say() -> None:
    write_toy_judge(make_source("birds"))
    for split in ("val", "test"):
        env = gym.make("glimpse_env:GlimpseBirds-v0", split=split, **BIRDS)
        assert env.unwrapped.dataset.split == split  # type: ignore[attr-defined]
        assert len(env.unwrapped.dataset) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "judge"}, "judge"),
        ({"split": "all"}, "all"),
        ({"dataset": "cifar"}, "cifar"),
        ({"dataset_options": {"wings": 2}}, "wings"),
        ({"root": "/somewhere"}, "root"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        gym.make("GlimpseBirds-v0", **arguments)


def test_a_limit_above_the_glimpses_changes_nothing_and_one_below_is_refused() -> None:
    write_toy_judge(make_source("birds"))
    settings = {"dataset": "birds", "split": "val", **BIRDS}
    assert make_vector_env(2, max_episode_steps=5, **settings).num_envs == 2
    with pytest.raises(ConfigurationError, match="max_episode_steps=4"):
        make_vector_env(2, max_episode_steps=4, **settings)
