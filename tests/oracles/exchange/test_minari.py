"""Demonstrations to Minari and back: bit for bit, and episodes that the environment would show."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from glimpse_env.datasets import make_source
from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.judge.judge import Judge, find_judge
from glimpse_env.sensing.observations import OBSERVATIONS
from oracles.demonstrations import Demonstrations, generate
from oracles.exchange import minari as module
from oracles.exchange.minari import export_demonstrations, import_demonstrations
from tests.scripts.test_scripts import call
from tests.support.toy import SMALL_BIRDS, toy_judge, write_toy_judge

minari = pytest.importorskip("minari", reason="pip install -c constraints.txt -e '.[minari]'")
NUM = 7


@dataclass(frozen=True)
class World:
    source: DataSource
    judge: Judge
    file: Path
    """Demonstrations of the oracle."""

    @property
    def demonstrations(self) -> Demonstrations:
        return Demonstrations.load(self.file)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        source = make_source("birds", **SMALL_BIRDS)
        write_toy_judge(source)
        judge = find_judge(source)
        file = tmp_path_factory.mktemp("demos") / "demos.npz"
        generate("oracle", source, judge, NUM, out=file)
        yield World(source, judge, file)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Minari keeps its data sets; episodes are written three at a time."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setattr(module, "EPISODES_PER_CHUNK", 3)
    return tmp_path / "minari"


def assert_equal(shown, expected) -> None:  # type: ignore[no-untyped-def]
    """Equal bits in equal dtypes."""
    if isinstance(expected, dict):
        assert set(shown) == set(expected)
        for key, value in expected.items():
            assert_equal(shown[key], value)
    else:
        assert np.asarray(shown).dtype == np.asarray(expected).dtype
        np.testing.assert_array_equal(shown, expected)


def at(observations, t: int):  # type: ignore[no-untyped-def]
    return {key: value[t] for key, value in observations.items()} if isinstance(observations, dict) else observations[t]


@pytest.mark.parametrize("observation", [name for name in OBSERVATIONS if name != "features"])
def test_episodes_are_those_of_the_recovered_environment(world: World, observation: str) -> None:
    demonstrations = world.demonstrations
    export_demonstrations(demonstrations, world.source, world.judge, "birds/test-v0", observation=observation)
    dataset = minari.load_dataset("birds/test-v0")
    env = dataset.recover_environment()
    assert env.observation_space == dataset.observation_space
    assert env.action_space == dataset.action_space
    episodes, options = list(dataset), list(dataset.storage.get_episode_metadata(range(NUM)))
    assert len(episodes) == NUM
    accuracy = 1e-3 if observation == "embedding" else 1e-5  # there the judge reads a table in half precision
    for n, episode in enumerate(episodes):
        np.testing.assert_array_equal(episode.actions, demonstrations.locations[n])
        shown, info = env.reset(options={"index": int(options[n]["options"]["index"])})
        for t, action in enumerate(episode.actions):
            assert_equal(at(episode.observations, t), shown)
            assert episode.infos["index"][t] == info["index"] == demonstrations.indices[n]
            assert episode.infos["entropy"][t] == pytest.approx(info["entropy"], abs=accuracy)
            np.testing.assert_array_equal(episode.infos["epe"][t], demonstrations.epe[n, t])
            shown, reward, terminated, truncated, info = env.step(action)
            assert (episode.rewards[t], episode.terminations[t], episode.truncations[t]) == (
                reward,
                terminated,
                truncated,
            )
        assert_equal(at(episode.observations, len(episode)), shown)
        assert np.isnan(episode.infos["epe"][-1]).all()


def assert_same_files(one: Path, other: Path) -> None:
    for suffix in (".npz", ".json"):
        assert one.with_suffix(suffix).read_bytes() == other.with_suffix(suffix).read_bytes()


def test_the_script_brings_files_there_and_back(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    call("exchange_demos", "--export-from", str(world.file))
    assert "minari.load_dataset('glimpse/birds/oracle-v0')" in capsys.readouterr().out
    call("exchange_demos", "--id", "glimpse/birds/oracle-v0", "--import-to", str(tmp_path / "back.npz"))
    assert "7 sequences of oracle" in capsys.readouterr().out
    assert_same_files(tmp_path / "back.npz", world.file)


def test_policies_without_maps_come_back_too(world: World, tmp_path: Path) -> None:
    made = generate("random", world.source, world.judge, 5, out=tmp_path / "random.npz")
    export_demonstrations(made, world.source, world.judge, "random-v3", observation="glimpse")
    assert "epe" not in minari.load_dataset("random-v3")[0].infos
    import_demonstrations("random-v3").save(tmp_path / "back.npz")
    assert_same_files(tmp_path / "back.npz", tmp_path / "random.npz")


def test_an_export_that_fails_leaves_no_data_set(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[object] = []
    play = module._played

    def fails_at_the_second(*arguments):
        if played:
            raise KeyboardInterrupt
        played.append(1)
        return play(*arguments)

    monkeypatch.setattr(module, "_played", fails_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        export_demonstrations(world.demonstrations, world.source, world.judge, "glimpse/test-v0")
    assert not [path for path in (folder / "glimpse").iterdir() if path.is_dir()]
    assert minari.list_local_datasets() == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name one file"),
        (["--export-from", "a.npz", "--import-to", "b.npz"], "name one file"),
        (["--import-to", "b.npz"], "needs --id"),
        (["--import-to", "b.npz", "--id", "nobody/there-v0"], "nobody/there-v0 gives no demonstrations"),
        (["--export-from", "absent.npz"], "cannot be read"),
    ],
)
def test_the_script_names_mistakes(words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        call("exchange_demos", *words)


def test_bad_input_is_named(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demonstrations = world.demonstrations
    for name in ("../up", "no-version", "glimpse/a b-v0"):
        with pytest.raises(ConfigurationError, match="must be a name of Minari's"):
            export_demonstrations(demonstrations, world.source, world.judge, name)
    other = toy_judge(world.source.geometry, channels=3, num_classes=48, num_networks=1, seed=1, dataset="birds")
    with pytest.raises(ArtifactError, match="judge"):
        export_demonstrations(demonstrations, world.source, other, "glimpse/test-v0")
    export_demonstrations(demonstrations, world.source, world.judge, "glimpse/test-v0", observation="glimpse")
    with pytest.raises(ConfigurationError, match="is there already"):
        export_demonstrations(demonstrations, world.source, world.judge, "glimpse/test-v0")
    metadata = folder / "glimpse" / "test-v0" / "data" / "metadata.json"
    content = json.loads(metadata.read_text())
    manifest = content.pop(module.KEY)
    metadata.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=f"{module.KEY}.*exported"):
        import_demonstrations("glimpse/test-v0")
    metadata.write_text(json.dumps(content | {module.KEY: manifest | {"num": 8}}))
    with pytest.raises(ArtifactError, match="7 episodes where the manifest of format 1 says 8"):
        import_demonstrations("glimpse/test-v0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install .*\.\[minari\]"):
        import_demonstrations("glimpse/test-v0")


def test_episodes_that_stop(world: World) -> None:
    """The n-th after n glimpses."""
    made = world.demonstrations
    locations = np.where(np.arange(made.locations.shape[1]) < np.arange(NUM)[:, None], made.locations, -1)
    assert made.epe is not None
    epe = np.pad(made.epe, ((0, 0), (0, 0), (0, 1)))
    epe[np.arange(locations.shape[1]) > np.arange(NUM)[:, None]] = np.nan
    rows, last = np.arange(NUM), np.clip(np.arange(NUM) - 1, 0, locations.shape[1] - 1)
    entropies = np.where(locations >= 0, made.entropies, made.entropies[rows, last][:, None])
    stopping = {"stops": True, "glimpse_cost": 0.1}
    demonstrations = Demonstrations(made.indices, locations, entropies, epe, made.manifest | stopping)
    export_demonstrations(demonstrations, world.source, world.judge, "birds/stops-v0")
    dataset = minari.load_dataset("birds/stops-v0")
    env = dataset.recover_environment()
    assert env.action_space == dataset.action_space
    for n, episode in enumerate(dataset):
        assert len(episode.actions) == min(n + 1, locations.shape[1])
        env.reset(options={"index": int(episode.infos["index"][0])})
        for t, action in enumerate(episode.actions):
            shown, reward, ended, *_ = env.step(action)
            assert_equal(at(episode.observations, t + 1), shown)
            assert reward == pytest.approx(episode.rewards[t])
            assert ended == episode.terminations[t]
    again = import_demonstrations("birds/stops-v0")
    for name in ("indices", "locations", "entropies", "epe"):
        assert_equal(getattr(again, name), getattr(demonstrations, name))
    assert again.stops
