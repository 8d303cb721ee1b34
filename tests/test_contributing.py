"""CONTRIBUTING.md does what it says: each recipe is followed with the modules that it prints, from outside."""

import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tyro

from agents.evaluation.evaluate import evaluate, format_table
from glimpse_env.datasets import make_source
from glimpse_env.judge.judge import Judge, find_judge, judge_path
from glimpse_env.registration import source_of
from oracles.demonstrations import Demonstrations
from oracles.presets import preset_of
from oracles.registry import make_policy
from oracles.training.judge import train_judge
from tests.scripts.test_scripts import call, load
from tests.support.registries import registries_restored

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
MODULES = {match[1]: block for block in PYTHON if (match := re.match(r"# (\w+)\.py\n", block))}
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
ID = "bars:Bars-v0"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path of imports with the page's modules, and a cache with a judge of the bars."""
    folder = tmp_path_factory.mktemp("outside")
    for name, block in MODULES.items():
        (folder / f"{name}.py").write_text(block, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, registries_restored():
        patch.syspath_prepend(str(folder))
        patch.setenv("GLIMPSE_CACHE", str(folder / "cache"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
        patch.chdir(folder)
        source = source_of(ID)
        plan = replace(preset_of(source).judge, rounds=1)
        train_judge(source, plan, seed=0).save(judge_path(source))
        call("generate_demos", "--env", ID, "--policy", "oracle", "--num", "12", "--out", "runs/bars.npz")
        yield folder


@pytest.fixture
def judge(outside: Path) -> Judge:
    return find_judge(source_of(ID))


def run_blocks(word: str, names: dict[str, Any]) -> dict[str, Any]:
    """Runs those of the page's blocks that are no modules and contain ``word``; returns the names they leave."""
    blocks = [block for block in PYTHON if word in block and block not in MODULES.values()]
    assert blocks
    for block in blocks:
        exec(block, names)
    return names


def test_all_recipes_are_there() -> None:
    titles = re.findall(r"^## (.*)", PAGE, flags=re.MULTILINE)
    assert titles[1:] == [
        "A data set",
        "An observation",
        "A glimpse encoder",
        "An oracle criterion",
        "An algorithm",
        "A change to judge training",
    ]
    assert len(MODULES) == 8


@pytest.mark.parametrize("command", [command.split("#")[0].strip() for command in COMMANDS])
def test_commands_exist_with_their_flags(outside: Path, command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    else:
        assert words[0] == "python"
        tyro.cli(load(words[1].removeprefix("scripts/").removesuffix(".py")).Args, args=words[2:])


def test_a_data_set(outside: Path, judge: Judge) -> None:
    names = run_blocks("Classify", {})
    for env in (names["env"], names["blind"]):
        observation, _ = env.reset(seed=0)
        assert observation in env.observation_space
    assert gym.make_vec(ID, num_envs=2, vectorization_mode="vector_entry_point").reset(seed=0)
    source = make_source("bars:bars")
    assert judge.card.scores["random_accuracy"][-1] > 0.55
    test = source.load("test")
    table = {
        name: evaluate(make_policy(name, source, judge), test, judge, np.arange(16), name=name)
        for name in ("random", "oracle")
    }
    assert "oracle" in format_table(table)
    assert Demonstrations.load(Path("runs/bars.npz")).manifest["dataset"] == "bars"


def test_an_observation(outside: Path, judge: Judge) -> None:
    model = run_blocks("brightness", {"gym": gym})["model"]
    assert model.num_timesteps == 60
    env = gym.make(ID, observation="brightness:brightness")
    env.reset(seed=0)
    shown = env.step(4)[0]
    assert (shown[0, 2] > 0) & (shown[1:] == 0).all()


def test_an_encoder(outside: Path) -> None:
    encoder = ("--env", ID, "--encoder", "thumbnail:thumbnail", "--width", "16")
    call("encode_features", *encoder, "--workers", "2")
    call("train_judge", *encoder, "--passes", "2", "--rounds", "0")
    assert find_judge(source_of(ID), "thumbnail:thumbnail").card.config.features == 16
    table = run_blocks("FeatureTable", {})["table"]
    assert table.array.shape == (192, 25, 16)
    means = table.array.astype(np.float32).std(axis=(0, 1))
    assert means.mean() == pytest.approx(1, abs=0.02)
    assert means[0] > means[-1]


def test_a_criterion(outside: Path, judge: Judge) -> None:
    names = run_blocks("gini", {})
    source, careful = names["source"], names["careful"]
    played = evaluate(careful, source.load("val"), judge, np.arange(8), name="gini")
    assert played.success_rate > 0
    assert careful.map_title == "Expected Gini impurity"
    assert 0 <= careful.last_maps.min() <= careful.last_maps.max() <= 0.5  # of two classes


def test_a_policy(outside: Path, judge: Judge) -> None:
    with registries_restored():  # each call is the first to import the module, as in a process of its own
        call("render_episode", "--env", ID, "--policies", "diagonal:diagonal", "--out", "runs/diagonal.png")
    assert Path("runs/diagonal.png").is_file()
    sys.modules.pop("diagonal")
    call("generate_demos", "--env", ID, "--policy", "diagonal:diagonal", "--num", "8", "--out", "runs/diagonal.npz")
    assert (Demonstrations.load(Path("runs/diagonal.npz")).locations == [0, 12, 24]).all()


@pytest.mark.parametrize("algo", ["sign_ppo", "squared_dqn"])
def test_an_algorithm(outside: Path, judge: Judge, algo: str) -> None:
    """It learns from demonstrations, and its run is reported."""
    out = Path("runs") / algo
    words = ["--demos", "runs/bars.npz", "--timesteps", "600", "--warm-up", "60", "--clone-passes", "2"]
    words += ["--val-images", "8", "--eval-images", "8", "--validations", "1", "--out", str(out)]
    call("train_agent", "--env", ID, "--algo", f"{algo}:{algo}", *words)
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["algorithm"] == f"{algo}:{algo}"
    assert {"oracle", "agent_cloned", "agent"} <= set(metrics["policies"])
    assert "| agent, fine-tuned |" in load("compare_runs").table([metrics])


def test_a_change_to_judge_training(outside: Path, judge: Judge) -> None:
    losses = importlib.import_module("better_judge").compare(passes=1)
    assert set(losses) == {"as it is", "a faster start", "mirrored"}
    assert all(0 < loss < 5 for kinds in losses.values() for loss in kinds.values())
    assert len({kinds["random"] for kinds in losses.values()}) == 3, "each change changes something"
    assert find_judge(source_of(ID)).identity == judge.identity, "nothing in the cache is overwritten"
