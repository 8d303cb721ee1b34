"""Locations spaced unevenly in every part: environment, oracle, other policies, demonstrations and agents."""

import json
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents.cloning import clone
from agents.cloning_data import CloningData
from agents.registry import make_model
from glimpse_env.datasets.base import Geometry
from glimpse_env.datasets.birds.source import Birds
from glimpse_env.env import GlimpseEnv
from glimpse_env.judge.judge import judge_path
from glimpse_env.rendering.canvas import heat, heat_cell
from glimpse_env.rollout import play
from glimpse_env.sensing.geometry import LocationGrid
from oracles.baselines import ClairvoyantPolicy, best_fixed, centre_out
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.presets import FINE_BANK_SIZE, PAPER_CONFIG, PRESETS, preset_of
from tests.scripts.test_scripts import call
from tests.support.toy import SMALL_BIRDS, toy_dataset, toy_judge
from tests.support.toy_agents import demonstrations

SIZE = 45
GEOMETRY = Geometry(SIZE, glimpse_size=12, stride=33 / 7, num_glimpses=4)
GRID = GEOMETRY.grid
"""8 x 8 locations, 4 or 5 pixels apart."""
FINE = Birds(size=224, attribute="feet black", **SMALL_BIRDS)


def test_environments_and_agents_take_it() -> None:
    env = GlimpseEnv(toy_dataset(geometry=GEOMETRY), toy_judge(GEOMETRY))
    check_env(env, skip_render_check=True, skip_close_check=True)
    for algo, architecture in (("ppo", "gru"), ("maskable_ppo", "canvas")):
        judge = toy_judge(GEOMETRY)
        model = make_model(algo, env, judge=judge, n_steps=8, seed=0, architecture=architecture)
        model.learn(8)
        assert model.num_timesteps == 8


@pytest.mark.parametrize("match", ["pixels", "embedding"])
def test_the_oracle_looks_where_its_map_is_lowest(match: str) -> None:
    judge, dataset, rows = toy_judge(GEOMETRY), toy_dataset(geometry=GEOMETRY), np.arange(4)
    completion = CompletionConfig(match, effective_samples=4, samples=8, short_list=12)
    oracle = BOEDOracle(dataset, judge, OracleConfig(completion=completion))
    maps: list[np.ndarray] = []
    found = play(
        *(oracle, dataset, judge, rows),
        progress=False,
        start=lambda indices: oracle.start(dataset, indices),
        on_step=lambda _rows, _t, _policy: maps.append(oracle.last_maps),
    )
    shown = np.stack(maps, axis=1)  # (N, T, L)
    for t in range(GEOMETRY.num_glimpses):
        np.put_along_axis(shown[:, t], found.locations[:, :t], np.inf, axis=1)
        assert np.array_equal(shown[:, t].argmin(1), found.locations[:, t])
    assert np.array_equal(found.corners, GRID.corners[found.locations])


def test_other_policies_play_on_it() -> None:
    judge, dataset = toy_judge(GEOMETRY), toy_dataset(geometry=GEOMETRY)
    assert len(set(best_fixed(dataset, judge, 4).tolist())) == 4
    sequences, _ = ClairvoyantPolicy(judge, 4).start(dataset, np.arange(3))
    assert sequences.shape == (3, 4)
    offsets = GRID.corners[centre_out(GRID, 5)] - GRID.corners[GRID.centre]
    assert (np.abs(offsets).sum(1) <= 6).all()


def test_demonstrations_are_mirrored_and_cloned() -> None:
    dataset, rng = toy_dataset(geometry=GEOMETRY), np.random.default_rng(0)
    taken = rng.permuted(np.tile(np.arange(len(GRID)), (24, 1)), axis=1)[:, :4]
    made = demonstrations(taken, rng.random((24, 4, len(GRID))))
    data = CloningData.from_demonstrations(made, dataset).with_mirror_images()
    ours, theirs = GRID.corners[data.taken[:24]], GRID.corners[data.taken[24:]]
    assert np.array_equal(ours[..., 0], theirs[..., 0])
    assert np.array_equal(ours[..., 1] + theirs[..., 1], np.full((24, 4), 33))
    judge = toy_judge(GEOMETRY)
    model = make_model("ppo", GlimpseEnv(dataset, judge), judge=judge, n_steps=8, seed=0)
    result = clone(model, data, passes=2, progress=False)
    assert np.isfinite(result.train_loss + result.held_out_loss).all()


@pytest.mark.parametrize("stride", [33 / 7, 4, 5, 3])
def test_each_cell_of_a_map_lies_around_its_glimpses_centre(stride: float) -> None:
    grid = LocationGrid(SIZE, 12, stride)
    shown, inside = heat(np.arange(len(grid), dtype=float), SIZE, 12, stride)
    for location, corner in enumerate(grid.corners):
        left, top, right, bottom = heat_cell(location, grid.side, 12, stride)
        assert abs((left + right) / 2 - corner[1] - 6) <= 1
        assert abs((top + bottom) / 2 - corner[0] - 6) <= 1
        assert inside[top:bottom, left:right].all()
        assert len(np.unique(shown[top:bottom, left:right].reshape(-1, 3), axis=0)) == 1


def test_judges_are_narrow_and_banks_small_on_a_fine_grid_only() -> None:
    plan = preset_of(FINE).judge
    assert (plan.features, plan.embedding, plan.start) == (96, 64, None)
    assert plan.passes == PRESETS["birds"].judge.passes
    assert preset_of(Birds()) == PRESETS["birds"]
    assert preset_of(FINE).oracle == "boed"
    assert preset_of(FINE).boed.completion.bank_size == preset_of(FINE).paper.completion.bank_size == FINE_BANK_SIZE
    assert preset_of(Birds()).boed.completion.bank_size == CompletionConfig().bank_size
    assert preset_of(Birds()).paper is PAPER_CONFIG


def test_the_benchmark_trains_a_judge_and_tells_what_it_costs(tmp_path: Path, fresh_cache: Path) -> None:
    out, page = tmp_path / "figures.json", tmp_path / "page.md"
    sizes = [
        "--attribute",
        "feet black",
        "--num-train",
        "16",
        "--num-judge",
        "8",
        "--images",
        "2",
        "--passes",
        "1",
        "--rounds",
        "0",
    ]
    call("measure/fine_grid", *sizes, "--out", str(out), "--into", str(page))
    figures = json.loads(out.read_text())
    assert figures["policies"]["boed"]["tables_mb"] == 16 * 2500 * 64 * 2 / 1e6
    assert figures["policies"]["boed"]["ms"] > 0
    assert "| BOED |" in page.read_text()
    assert judge_path(FINE).is_file()
