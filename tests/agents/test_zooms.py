"""Agents, recordings and the game where glimpses can be of several widths."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.cloning import clone
from agents.cloning_data import CloningData
from agents.evaluation.recordings import episode_frames, record
from agents.networks.torch_grid import TorchGrid
from agents.play.board import HEIGHT, WIDTH, Board
from agents.play.game import Game
from agents.ram.algorithm import RAM
from agents.registry import ALGORITHMS, ARCHITECTURES
from agents.reports.style import covered
from agents.vec_env import GlimpseVecEnv
from glimpse_env.rendering.frames import draw_episode
from glimpse_env.sensing.geometry import ZoomGrid
from glimpse_env.vector_env import GlimpseVectorEnv
from oracles.boed.oracle import BOEDOracle
from oracles.demonstrations import Demonstrations
from tests.support import toy
from tests.support.toy_agents import toy_model, toy_vec_env

ZOOMED = replace(toy.GEOMETRY, zooms=(1, 2, 3))
GRID = ZOOMED.grid


def vec_env(**options: object):  # type: ignore[no-untyped-def]
    return toy_vec_env(8, toy.toy_dataset(geometry=ZOOMED), toy.toy_judge(ZOOMED), **options)


@pytest.mark.parametrize(
    "grid", [GRID, ZoomGrid(60, 12, 4, (1, 2, 4)), ZoomGrid(61, 9, 5, (1, 3)), ZoomGrid(224, 16, 208 / 49, (1, 2, 4))]
)
def test_places_are_found_on_the_device(grid: ZoomGrid) -> None:
    located = TorchGrid(grid)
    assert torch.equal(located.nearest(torch.from_numpy(grid.normalised)), torch.arange(len(grid)))
    visited = located.visited(torch.from_numpy(grid.normalised)[:, None], torch.ones(len(grid), 1, dtype=torch.bool))
    assert torch.equal(visited, torch.eye(len(grid), dtype=torch.bool))
    if float(grid.stride).is_integer():
        rng = np.random.default_rng(0)
        corners = grid.denormalise(rng.uniform(-1, 1, (300, 3)))
        found = located.nearest(torch.from_numpy(grid.normalise(corners))).numpy()
        # what lies half-way may go either way
        theirs = grid.corners[grid.nearest(corners)]
        assert np.array_equal(grid.corners[found][:, 2], theirs[:, 2])
        off = [np.abs(some[:, :2] - corners[:, :2]) for some in (grid.corners[found], theirs)]
        assert np.array_equal(*off)


@pytest.mark.parametrize(
    ("algo", "architecture"),
    [("ppo", name) for name in ARCHITECTURES] + [(name, None) for name in ALGORITHMS if name not in ("ppo",)],
)
def test_every_algorithm_and_architecture_learns_with_zooms(algo: str, architecture: str | None) -> None:
    options: dict[str, Any] = {} if architecture is None else {"architecture": architecture}
    if ALGORITHMS[algo].off_policy:
        options |= {"learning_starts": 8}
    model = toy_model(algo, env=vec_env(), **options)
    model.learn(64)
    env = vec_env()
    observation, state, chosen = env.reset(), None, []
    for t in range(ZOOMED.num_glimpses):
        start = np.full(8, t == 0)
        actions, state = model.predict(observation, state, start, deterministic=True)
        chosen.append(actions)
        observation, *_ = env.step(actions)
    locations = np.stack(chosen, axis=1)
    assert ((locations >= 0) & (locations < len(GRID))).all()
    assert (np.diff(np.sort(locations, axis=1), axis=1) > 0).all(), "no place twice"


@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_every_algorithm_learns_to_zoom_and_stop(algo: str) -> None:
    options: dict[str, Any] = {"learning_starts": 8} if ALGORITHMS[algo].off_policy else {}
    model = toy_model(algo, env=vec_env(stop=True, glimpse_cost=0.05), **options)
    assert model.action_space.n == len(GRID) + 1  # type: ignore[attr-defined]
    model.learn(64)


def demonstrations(count: int = 24) -> Demonstrations:
    rng = np.random.default_rng(0)
    locations = np.stack([rng.permutation(len(GRID))[:4] for _ in range(count)])
    epe = rng.random((count, 4, len(GRID))).astype(np.float16)
    return Demonstrations(np.arange(count), locations, np.zeros((count, 4), np.float32), epe, {})


def test_demonstrations_are_cloned_and_mirrored() -> None:
    dataset = toy.toy_dataset(geometry=ZOOMED)
    data = CloningData.from_demonstrations(demonstrations(), dataset)
    both = data.with_mirror_images()
    mirrored = np.array(dataset.images)[:, :, ::-1]
    glimpses = ZOOMED.sensor(
        np.ascontiguousarray(mirrored), np.repeat(np.arange(24), 3), GRID.corners[both.taken[24:, :3].reshape(-1)]
    )
    assert np.array_equal(both.glimpses[24:].reshape(glimpses.shape), glimpses)
    assert np.array_equal(both.targets[24:][..., GRID.mirrored], data.targets)
    observations, targets = data.batch(np.arange(5), np.array([0, 1, 2, 3, 3]))
    assert observations["locations"].shape == (5, 12)
    assert targets.shape == (5, len(GRID))
    model = toy_model("ppo", env=vec_env())
    clone(model, data, passes=1, seed=0)


@pytest.mark.parametrize("observation", ["glimpse"])
def test_ram_looks_through_windows_of_every_width(observation: str) -> None:
    env = GlimpseVecEnv(
        GlimpseVectorEnv(
            toy.toy_dataset(48, geometry=ZOOMED), None, num_envs=12, observation=observation, task="classify"
        )
    )
    small = {"posterior": {"features": 16}, "tokens": 24, "hidden": 24}
    model = RAM("RAMPolicy", env, seed=0, policy_kwargs=small)
    model.learn(12 * 5 * 2)
    assert model.policy.network.glimpse_network.location_embedding[0].in_features == 3


def test_frames_show_wide_windows_as_coarse_as_they_are() -> None:
    dataset, judge = toy.toy_dataset(geometry=ZOOMED), toy.toy_judge(ZOOMED)
    oracle = BOEDOracle(dataset, judge)
    recording = record(oracle, dataset, judge, np.array([2]))
    assert recording.maps is not None
    frames = episode_frames(recording, 0, dataset, name="boed")
    assert len(frames) == 4
    image = np.asarray(dataset.images[2])
    whole = draw_episode(image, GRID.corners[-1:], ZOOMED, None, dataset.class_names)
    inner = whole[44 + 48 : 44 + 280, 24 + 48 : 24 + 280].astype(float)  # well inside the widest window
    block = 3 * 320 / 40
    # blocks of 3 x 3 pixels are of one colour: neighbours differ only at their edges
    step = np.abs(np.diff(inner.mean(axis=2), axis=1)).mean(axis=0)
    narrow = draw_episode(image, GRID.corners[[0, 7, 56, 63]], ZOOMED, None, dataset.class_names)
    sharp = narrow[44 + 8 : 44 + 88, 24 + 26 : 24 + 88].astype(float)
    assert step.mean() < 0.7 * np.abs(np.diff(sharp.mean(axis=2), axis=1)).mean()
    assert block == 24
    unseen = episode_frames(recording, 0, dataset, name="boed", whole=False)
    assert unseen[0].shape == frames[0].shape


def test_maps_of_all_zooms_share_their_colours() -> None:
    image = np.zeros((40, 40, 1), dtype=np.uint8)
    for best in (3, len(GRID) - 1):
        epe = np.linspace(1, 2, len(GRID)).astype(np.float32)
        epe[best] = 0
        epe[10] = np.nan  # as saliency's
        frame = draw_episode(image, np.empty((0, 3), np.int64), ZOOMED, None, ("a", "b", "c"), epe_map=epe)
        pink = np.argwhere((np.abs(frame.astype(int) - (236, 40, 130)) < 12).all(axis=-1))
        assert len(pink) > 8
        in_first = (pink[:, 1] < 24 + 344 + 158).all() and (pink[:, 0] < 44 + 158).all()
        assert in_first == (best == 3)


def test_the_wheel_changes_how_closely_a_person_looks(tmp_path: Path) -> None:
    dataset, judge = toy.toy_dataset(split="test", geometry=ZOOMED), toy.toy_judge(ZOOMED)
    game = Game(dataset, judge, BOEDOracle(toy.toy_dataset(geometry=ZOOMED), judge), np.arange(2))
    board = Board(WIDTH, HEIGHT)
    game.toggle_map()
    shown = [board.draw(game, (320, 350))]
    for level in (1, 2, 2):
        game.widen(1)
        assert game.level == level
        shown.append(board.draw(game, (320, 350)))
    assert not np.array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[1], shown[2])
    assert game.click(20, 20)
    assert game.corners.tolist() == [[2, 2, 3]]
    seen = game.canvas[..., -1] > 0
    assert seen.sum() == 36**2
    game.widen(-5)
    assert game.level == 0
    assert game.click(20, 20)
    assert game.corners[1].tolist() in ([12, 12, 1], [16, 16, 1])
    game.widen(1)
    game.click(3, 3)
    game.click(30, 30)
    assert game.over
    board.draw(game)
    assert all(0 <= place < len(GRID) for place in game.to_json()["rounds"][0]["person"]["locations"])


def test_pixels_are_covered_by_the_whole_of_a_wide_window() -> None:
    shares = covered([0, len(GRID) - 1], GRID)
    assert np.isclose(shares[:12, :12].max(), 1.0)
    assert (shares > 0).sum() == 36**2 + 12**2 - 10**2
