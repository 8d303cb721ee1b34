"""The saliency baseline, against brute force and against pictures in which it is plain what stands out."""

import sys
import types

import numpy as np
import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from glimpse_env.sensing.geometry import LocationGrid
from oracles.registry import make_policy, unavailable_reason
from oracles.saliency import SaliencyPolicy, saliency_map
from tests.support import toy
from tests.support.toy_problem import ToyJudge, ToySource

GRID = LocationGrid(40, 12, 4)
T = 4


def test_the_plan_is_greedy_by_brute_force() -> None:
    salient = np.random.default_rng(0).random((40, 40))
    sequence, maps = SaliencyPolicy(GRID, T).plan(salient)
    left, taken = salient.copy(), []
    for t in range(T):
        after = []
        for row, col in GRID.corners:
            looked_at = left.copy()
            looked_at[row : row + 12, col : col + 12] = 0
            after.append(looked_at.sum() / salient.sum())
        np.testing.assert_allclose(maps[t], after, rtol=1e-5)
        unseen = [location for location in range(len(GRID)) if location not in taken]
        taken.append(min(unseen, key=lambda location: after[location]))
        row, col = GRID.corners[taken[-1]]
        left[row : row + 12, col : col + 12] = 0
    assert sequence.tolist() == taken


def test_what_was_looked_at_is_inhibited_and_nowhere_is_looked_at_twice() -> None:
    salient = np.zeros((40, 40))
    salient[2:6, 2:6] = 1.0  # the heavier of two spots
    salient[30:34, 30:34] = 0.4
    sequence, maps = SaliencyPolicy(GRID, T).plan(salient)
    first, second = GRID.corners[sequence[:2]]
    assert (first <= 2).all()
    assert ((second <= 30) & (second + 12 >= 34)).all()
    assert maps[2].max() == 0.0
    assert len(set(sequence)) == T, "though nothing salient is left"
    blank, _ = SaliencyPolicy(GRID, T).plan(np.zeros((40, 40)))
    assert len(set(blank)) == T


@pytest.mark.parametrize("channels", [1, 3])
def test_it_looks_at_what_stands_out(channels: int) -> None:
    images = np.full((2, 128, 128, channels), 90, dtype=np.uint8)
    odd = np.random.default_rng(0).integers(0, 256, (12, 12, channels))
    for image, (row, col) in enumerate(((16, 80), (90, 10))):
        images[image, row : row + 12, col : col + 12] = odd
        salient = saliency_map(images[image])
        assert salient.shape == (128, 128)
        assert salient.min() >= 0
        sequence, _ = SaliencyPolicy(LocationGrid(128, 32, 8), 1).plan(salient)
        corner = LocationGrid(128, 32, 8).corners[sequence[0]]
        assert (corner <= (row, col)).all()
        assert (corner + 32 >= (row + 12, col + 12)).all()


def test_it_plays_its_plan_and_shows_its_maps() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    policy, rows, shown = SaliencyPolicy(judge.grid, T), np.array([3, 8, 1]), []
    rollouts = play(
        policy,
        dataset,
        judge,
        rows,
        progress=False,
        start=lambda chosen: policy.start(dataset, chosen),
        on_step=lambda _rows, _t, _policy: shown.append(policy.last_maps),
    )
    for place, row in enumerate(rows):
        sequence, maps = policy.plan(saliency_map(dataset.images[row]))
        np.testing.assert_array_equal(rollouts.locations[place], sequence)
        np.testing.assert_allclose([step[place] for step in shown], maps)
    with pytest.raises(ConfigurationError, match="needs a state"):
        policy.predict({"mask": np.zeros((1, 4)), "glimpses": np.zeros((1, 576)), "locations": np.zeros((1, 8))})


@pytest.mark.parametrize("found", [None, types.ModuleType("cv2")], ids=["no OpenCV", "one without saliency"])
def test_without_opencv_the_remedy_is_told(found: types.ModuleType | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", found)
    with pytest.raises(ConfigurationError, match="pip install opencv-contrib-python-headless"):
        make_policy("saliency", ToySource(), ToyJudge())
    with pytest.raises(ConfigurationError, match="pip install opencv-contrib-python-headless"):
        SaliencyPolicy(GRID, T)
    with pytest.raises(ConfigurationError, match="pip install opencv-contrib-python-headless"):
        saliency_map(np.zeros((8, 8, 1), dtype=np.uint8))
    assert "OpenCV" in (unavailable_reason("saliency", ToySource()) or "")
