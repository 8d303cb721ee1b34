"""Demonstrations recorded from a trained agent: what it does when it is played, under its name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from agents.cloning_data import CloningData
from agents.experiments.train import Experiment
from agents.presets import Args
from agents.recording import is_agent, load_run_agent, record_agent
from glimpse_env.datasets import make_source
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.judge.judge import find_judge
from glimpse_env.rollout import play
from oracles.demonstrations import Demonstrations
from tests.scripts.test_scripts import call
from tests.support.toy import write_toy_judge

SOURCE = make_source("digits")
NUM = 9
AGENTS: dict[str, tuple[str, Literal["history", "embedding"]]] = {
    "ppo": ("mlp", "history"),
    "maskable_ppo": ("gru", "embedding"),
    "recurrent_ppo": ("lstm", "embedding"),
    "dqn": ("gru", "history"),
}
"""Architecture and observation by algorithm."""


@pytest.fixture(scope="module", autouse=True)
def _toy_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache with an untrained judge of the digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        write_toy_judge(SOURCE)
        yield


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of an untrained agent of each of :data:`AGENTS`, as a run of scripts/train_agent.py keeps it."""
    found = {}
    for algo, (architecture, observation) in AGENTS.items():
        given: dict[str, Any] = {"algo": algo, "architecture": architecture, "observation": observation}
        out = tmp_path_factory.mktemp("runs") / algo
        args = Args(env="GlimpseDigits-v0", demos="none", timesteps=0, val_images=4, seed=5, **given, out=out)
        run = Experiment.started(args)
        run.examples = False
        run.train()
        found[algo] = out / "model.zip"
    return found


@pytest.mark.parametrize("algo", AGENTS)
def test_what_is_recorded_is_what_the_agent_plays(algo: str, agents: dict[str, Path]) -> None:
    judge, train = find_judge(SOURCE), SOURCE.load("train")
    recorded = record_agent(agents[algo], SOURCE, judge, NUM, seed=2)
    assert recorded.locations.shape == (NUM, 6)
    assert len(set(recorded.indices)) == NUM
    assert recorded.epe is None
    assert all(len(set(row)) == 6 for row in recorded.locations), "no location twice"
    model, settings = load_run_agent(agents[algo])
    played = play(model, train, judge, recorded.indices, observation=settings["observation"], progress=False)
    np.testing.assert_array_equal(recorded.locations, played.locations)
    np.testing.assert_array_equal(recorded.entropies, played.entropy)
    recorded.check_fits(SOURCE, judge)
    data = CloningData.from_demonstrations(recorded, train, targets="argmax")
    np.testing.assert_array_equal(data.taken, recorded.locations)


def test_seeds_choose_images(agents: dict[str, Path]) -> None:
    first, again, other = (
        record_agent(agents["ppo"], SOURCE, find_judge(SOURCE), NUM, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.indices, again.indices)
    assert first.manifest == again.manifest != other.manifest
    assert set(first.indices) != set(other.indices)


def test_the_manifest_names_the_agent(agents: dict[str, Path], tmp_path: Path) -> None:
    recorded = {algo: record_agent(path, SOURCE, find_judge(SOURCE), NUM) for algo, path in agents.items()}
    for algo, (architecture, observation) in AGENTS.items():
        manifest = recorded[algo].manifest
        assert manifest["policy"] == "agent"
        assert manifest["agent"] == {
            "algo": algo,
            "architecture": architecture,
            "observation": observation,
            "demos": "none",
            "timesteps": 0,
            "seed": 5,
        }
        assert manifest["fingerprint"] == SOURCE.fingerprint
        assert manifest["judge"] == find_judge(SOURCE).identity
    assert len({one.manifest["weights"] for one in recorded.values()}) == len(AGENTS)
    recorded["ppo"].save(tmp_path / "demos.npz")
    loaded = Demonstrations.load(tmp_path / "demos.npz")
    np.testing.assert_array_equal(loaded.locations, recorded["ppo"].locations)
    assert loaded.manifest == recorded["ppo"].manifest


def test_the_script_records_the_same(agents: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    out, agent = tmp_path / "demos.npz", agents["dqn"]
    call("generate_demos", "--env", "GlimpseDigits-v0", "--policy", str(agent), "--num", str(NUM), "--out", str(out))
    assert f"{NUM} sequences of {agent} on digits" in capsys.readouterr().out
    here = record_agent(agent, SOURCE, find_judge(SOURCE), NUM)
    np.testing.assert_array_equal(Demonstrations.load(out).locations, here.locations)


def test_agents_are_told_from_files_of_demonstrations(agents: dict[str, Path]) -> None:
    assert is_agent("runs/mine/model.zip")
    assert is_agent("runs/mine/model.json")
    assert is_agent(str(agents["ppo"].parent))
    assert not is_agent("demos.npz")
    assert not is_agent("oracle")


def test_what_is_no_agent_is_named(agents: dict[str, Path], tmp_path: Path) -> None:
    def copy(name: str, config: str | None, content: bytes | None = None) -> Path:
        (tmp_path / name).mkdir()
        if config is not None:
            (tmp_path / name / "config.json").write_text(config)
        for file in agents["ppo"].parent.glob("model.*"):
            torn = content is not None and file.suffix == ".safetensors"
            (tmp_path / name / file.name).write_bytes(content if torn else file.read_bytes())
        return tmp_path / name / "model.zip"

    config = agents["ppo"].with_name("config.json").read_text()
    absent = agents["ppo"].with_name("absent.zip")
    for path, match in (
        (absent, "absent.zip"),
        (copy("alone", None), "config.json"),
        (copy("broken", "{"), "Expecting property name"),
        (copy("empty", "{}"), "KeyError"),
        (copy("list", "[1]"), "holds no JSON object but list"),
        (copy("torn", config, b"torn"), "model.safetensors is not the file"),
    ):
        with pytest.raises(ArtifactError, match="is no agent of a run") as raised:
            load_run_agent(path)
        assert str(path) in str(raised.value)
        assert match in str(raised.value)


def test_more_images_than_there_are_is_refused(agents: dict[str, Path]) -> None:
    size = SOURCE.size("train")
    for num in (0, size + 1):
        with pytest.raises(ConfigurationError, match=rf"num={num} must lie in 1\.\.{size}"):
            record_agent(agents["ppo"], SOURCE, find_judge(SOURCE), num)
