"""Human gaze as a policy: fixations become locations by hand, and it serves wherever a policy is named."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from glimpse_env.datasets.cub import CUB200, CUBFull
from glimpse_env.datasets.gaze import CUBGaze
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from oracles.baselines import centre_out
from oracles.demonstrations import Demonstrations
from oracles.human import HumanPolicy
from oracles.registry import make_policy, peeks, policy_settings, unavailable_reason
from tests.scripts.test_scripts import call
from tests.support.tiny_data import write_tiny_cub, write_tiny_gaze
from tests.support.toy import toy_judge, write_toy_judge
from tests.support.toy_problem import ToyJudge, ToySource


@pytest.fixture
def root(tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of data sets and the tiny CUB in it, no gaze; the working folder is another."""
    write_tiny_cub(tmp_path / "data")
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def planned(source: CUB200, run: int | None = None, num_glimpses: int = 5) -> np.ndarray:
    """Row and column on the grid, (T, 2), of the plan for the first training image."""
    policy = HumanPolicy(CUBGaze(source), source.geometry.grid, num_glimpses, run)
    sequences, maps = policy.start(source.load("train"), np.array([0]))
    assert maps is None
    assert sequences.dtype == np.int64
    return np.stack(np.divmod(sequences[0], source.geometry.grid.side), axis=-1)


def fixation(row: float, col: float, duration: int) -> str:
    """x, y and ms of a fixation whose window has its corner at the grid's ``row`` and ``col``, in a photograph of
    160 x 120 whose crop is the 60 x 60 of 80 x 60 from (10, 0)."""
    y, x = ((8 * step + 16) * 60 / 128 for step in (row, col))
    return f"{2 * (x + 10)},{2 * y},{duration}"


def test_fixations_become_the_nearest_distinct_locations_in_order(root: Path) -> None:
    first = ",".join([fixation(3, 4, 100), fixation(3.4, 3.6, 110), fixation(9, 2, 120)])  # twice (3, 4)
    second = ",".join([fixation(9, 2, 130), fixation(12.4, 12.4, 140), fixation(0, 5, 150), fixation(7, 7, 160)])
    write_tiny_gaze(root, {2: [f"11,160,120,{second}"], 1: [f"11,160,120,{first}"]})
    np.testing.assert_array_equal(planned(CUB200()), [[3, 4], [9, 2], [12, 12], [0, 5], [7, 7]])
    np.testing.assert_array_equal(planned(CUB200(), num_glimpses=3), [[3, 4], [9, 2], [12, 12]])
    np.testing.assert_array_equal(planned(CUB200(), run=2, num_glimpses=3), [[9, 2], [12, 12], [0, 5]])


def test_too_few_locations_are_filled_up_around_the_longest_fixation(root: Path) -> None:
    write_tiny_gaze(root, {4: ["11,160,120," + ",".join([fixation(3.2, 4, 900), fixation(9, 2, 120)])]})
    np.testing.assert_array_equal(planned(CUB200()), [[3, 4], [9, 2], [4, 4], [3, 3], [3, 5]])


def test_images_without_gaze_are_seen_from_the_centre_outwards(root: Path) -> None:
    write_tiny_gaze(root, {1: [f"13,160,120,{fixation(3, 4, 100)}"]})
    source = CUB200()
    policy = HumanPolicy(CUBGaze(source), source.geometry.grid, 5)
    (without, looked_at), _ = policy.start(source.load("train"), np.arange(2))
    np.testing.assert_array_equal(without, centre_out(source.geometry.grid, 5))
    assert looked_at[0] == 3 * 13 + 4
    (other_run,), _ = HumanPolicy(CUBGaze(source), source.geometry.grid, 5, run=2).start(
        source.load("train"), np.array([1])
    )
    np.testing.assert_array_equal(other_run, without)


@pytest.mark.parametrize("run", [0, 6, 1.5])
def test_runs_that_are_none_are_refused(root: Path, run: int) -> None:
    write_tiny_gaze(root)
    with pytest.raises(ConfigurationError, match="run="):
        planned(CUB200(), run=run)


def test_by_name_where_there_is_gaze_only(root: Path) -> None:
    source = CUBFull()
    judge = toy_judge(source.geometry, channels=3, fingerprint=source.fingerprint)
    with pytest.raises(ConfigurationError, match=r"human gaze on CUB-200-2011 was not found: .*cub_gha\*"):
        make_policy("human", source, judge)
    with pytest.raises(ConfigurationError, match="not of data set 'toy'"):
        make_policy("human", ToySource(), ToyJudge())
    write_tiny_gaze(root)
    assert unavailable_reason("human", source) is None
    assert peeks("human")
    (sequence,), _ = make_policy("human", source, judge).start(source.load("test"), np.array([2]))
    assert len(set(sequence.tolist())) == 6
    settings = policy_settings("human", source, judge)
    (root / "cub_gha_tiny" / "Fixation_run1.txt").write_text("11,160,120,80,60,100\n")
    assert policy_settings("human", source, judge) != settings, "results in the cache are of the gaze that was read"


def test_demonstrations_tables_and_pictures(
    root: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_toy_judge(CUB200())
    with pytest.raises(SystemExit, match=r"cub_gha\*"):
        call("generate_demos", "--env", "GlimpseCUB-v0", "--policy", "human", "--num", "3", "--out", "demos.npz")
    call("compare_policies", "--env", "GlimpseCUB-v0", "--images", "2")
    assert "human gaze (sees all) is left out" in caplog.text

    write_tiny_gaze(root)
    call("generate_demos", "--env", "GlimpseCUB-v0", "--policy", "human", "--num", "12", "--out", "demos.npz")
    made, source = Demonstrations.load("demos.npz"), CUB200()
    plans, _ = HumanPolicy(CUBGaze(source), source.geometry.grid, 5).start(source.load("train"), made.indices)
    np.testing.assert_array_equal(made.locations, plans)
    assert made.manifest["policy"] == "human"
    assert made.epe is None
    call("compare_policies", "--env", "GlimpseCUB-v0", "--images", "2")
    assert "| human gaze (sees all) † |" in capsys.readouterr().out
    assert json.loads(Path("runs/policies.json").read_text())["cub"]["policies"]["human"]["peeks"]
    call("render_episode", "--env", "GlimpseCUB-v0", "--policy", "human", "centre", "--out", "episode.png")
    assert Path("episode.png").is_file()


def test_an_agent_clones_it(root: Path) -> None:
    write_tiny_gaze(root)
    Judge.load(write_toy_judge(CUB200()))
    words = ["--env", "GlimpseCUB-v0", "--demos", "human", "--timesteps", "0", "--num-demos", "12", "--out", "run"]
    call("train_agent", *words)
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert "human" in json.dumps(metrics)
