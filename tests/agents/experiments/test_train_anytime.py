"""The main job where agents zoom and stop, at toy size: from the stopping oracle's demonstrations to the table."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.evaluation.evaluate import Evaluation, format_table
from agents.evaluation.recordings import load_recordings
from agents.experiments.benchmark import Benchmark
from agents.experiments.benchmark_grid import BenchmarkGrid
from agents.experiments.train import run
from agents.presets import Args
from agents.recording import record_agent
from agents.reports.episodes import draw_run
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import find_judge
from glimpse_env.presets import PRESETS as DATASETS
from glimpse_env.registration import source_of
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import OracleConfig
from oracles.presets import PRESETS
from oracles.registry import ANYTIME_REFERENCES
from tests.support.toy import write_toy_judge

ENV = "GlimpseDigitsAnytime-v0"
COST = 0.1
ARGS = Args(
    env=ENV,
    num_demos=24,
    timesteps=3072,
    rollout=1536,
    eval_images=12,
    val_images=10,
    validations=1,
    clone_passes=2,
    warm_up=500,
)


@pytest.fixture(scope="module", autouse=True)
def _toy_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache with an untrained judge of the digits with zooms, BOED with few completions, and a price."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        few = CompletionConfig(samples=4, short_list=20, effective_samples=2.0, bank_size=100)
        config = OracleConfig(completion=few, first_samples=20)
        patch.setitem(PRESETS, "digits", replace(PRESETS["digits"], boed=config))
        patch.setitem(DATASETS, "digits", replace(DATASETS["digits"], glimpse_cost=COST))
        write_toy_judge(source_of(ENV))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(replace(ARGS, out=tmp_path_factory.mktemp("runs") / "whole"))


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def test_metrics_tell_glimpses_and_returns(finished: Path) -> None:
    metrics, config = read(finished, "metrics.json"), read(finished, "config.json")
    assert config["args"]["reward"] == "classification"
    assert metrics["glimpse_cost"] == COST
    assert list(metrics["policies"]) == [*ANYTIME_REFERENCES, "agent_cloned", "agent"]
    assert metrics["policies"]["oracle"]["policy"] == metrics["demonstrations"]["policy"] == "boed-gain"
    for name, entry in metrics["policies"].items():
        taken = np.array(entry.get("glimpses", [6] * 12))
        success = np.array([int(character) for character in entry["outcomes"]])
        figures = metrics["anytime"][name]
        assert figures["glimpses"] == pytest.approx(taken.mean())
        assert figures["return"]["value"] == pytest.approx((success - COST * taken).mean())
    assert metrics["anytime"]["boed"]["glimpses"] == 6
    assert metrics["anytime"]["fixed-length"]["glimpses"] == 3
    returns = [metrics["anytime"][name]["return"]["value"] for name in ("agent", "random", "oracle")]
    assert metrics["gap_closed"]["value"] == pytest.approx((returns[0] - returns[1]) / (returns[2] - returns[1]))


def test_weights_are_selected_by_the_return(finished: Path) -> None:
    metrics = read(finished, "metrics.json")
    curve = metrics["curve"]
    for point in curve:
        assert point["returned"] == pytest.approx(point["success"] - COST * point["glimpses"])
    best = max(range(len(curve)), key=lambda i: (curve[i]["returned"], i))
    assert metrics["selection"]["env_steps"] == curve[best]["env_steps"]
    assert "highest validation return" in metrics["selection"]["rule"]


def test_pictures_of_episodes_that_stop(finished: Path) -> None:
    assert len(draw_run(finished)) == 2
    recordings = load_recordings(finished / "recordings.npz")
    assert recordings["agent"].lengths is not None
    assert recordings["random"].lengths is None


def test_the_table_shows_them(finished: Path) -> None:
    metrics = read(finished, "metrics.json")
    evaluations = {name: Evaluation.from_json(entry) for name, entry in metrics["policies"].items()}
    head, _, first, *_ = format_table(evaluations, COST).splitlines()
    assert head.split()[-2:] == ["glimpses", "return"]
    assert first.split()[-2] == "6.0"
    assert "glimpses" not in format_table(evaluations)


def test_an_agent_that_stops_demonstrates(finished: Path) -> None:
    source = source_of(ENV)
    recorded = record_agent(finished / "model.zip", source, find_judge(source), 12)
    assert recorded.stops
    assert recorded.manifest["glimpse_cost"] == COST
    second = finished.parent / "second"
    out = run(replace(ARGS, demos=str(finished), timesteps=0, algo="dqn", rollout=None, out=second))
    assert read(out, "metrics.json")["demonstrations"]["policy"] == "agent"


def test_settings_that_do_not_fit_a_price_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="in nats"):
        Args(env=ENV, reward="information")
    with pytest.raises(ConfigurationError, match="one length"):
        Args(env=ENV, group=2)


def test_the_benchmark_compares_returns(tmp_path: Path) -> None:
    grid = BenchmarkGrid(
        envs=(ENV,),
        algos=("ppo",),
        demos=("oracle",),
        seeds=1,
        num_demos=(12,),
        timesteps=0,
        val_images=10,
        eval_images=12,
        observation="history",
        options='{"clone_passes": 1}',
    )
    benchmark = Benchmark(grid, tmp_path)
    references = benchmark.prepare()[ENV]
    (cell,) = benchmark.cells()
    benchmark(cell)
    for row in benchmark.results().to_dict("records"):
        assert row["success"] == pytest.approx(row["judged_right"] - COST * row["glimpses"])
        assert row["random"] == references.random[row["split"]]
        assert row["normalised"] == pytest.approx(
            (row["success"] - row["random"]) / (row["oracle"] - row["random"]), nan_ok=True
        )
    assert benchmark.against("boed-entropy")[ENV]["reference"] == "boed-entropy"
