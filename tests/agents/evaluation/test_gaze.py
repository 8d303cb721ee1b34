"""Agreement with human gaze: measures against closed forms, brute force and scikit-learn, and what meets what."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from agents.evaluation.gaze import (
    CENTRE,
    PEOPLE,
    Agreement,
    AttentionMap,
    People,
    View,
    blurred,
    compare,
    dtw,
    preference,
    spread_about_centre,
    upsampled,
)
from agents.evaluation.statistics import mean_difference, mean_of
from glimpse_env.datasets.cub import CUB200
from glimpse_env.datasets.gaze import CUBGaze
from glimpse_env.sensing.geometry import LocationGrid
from tests.support.tiny_data import write_tiny_cub, write_tiny_gaze


def test_nss_of_a_spike_is_that_of_its_closed_form():
    """A map of n pixels that is 1 at one of them: mean 1/n, variance (n - 1)/n^2, so NSS is sqrt(n - 1) there."""
    values = np.zeros((5, 8))
    values[2, 3] = 7.0
    attention = AttentionMap(values - 2.0)
    assert attention.nss(np.array([[2.0, 3.99]])) == pytest.approx(np.sqrt(39))
    assert attention.nss(np.array([[2.5, 3.5], [0.0, 0.0]])) == pytest.approx((np.sqrt(39) - 1 / np.sqrt(39)) / 2)
    assert AttentionMap(np.full((5, 8), 3.0)).nss(np.array([[2.0, 3.0]])) == 0.0


@pytest.mark.parametrize("levels", [4, 1000], ids=["ties", "few ties"])
def test_auc_is_scikit_learns(levels: int) -> None:
    rng = np.random.default_rng(levels)
    values = rng.integers(levels, size=(12, 12)).astype(float)
    points = rng.uniform(0, 12, size=(9, 2))
    counts = rng.integers(0, 4, size=(12, 12)).astype(float)
    positive = values[tuple(points.astype(int).T)]
    negative = np.repeat(values.ravel(), counts.ravel().astype(int))
    truth = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    expected = roc_auc_score(truth, np.concatenate([positive, negative]))
    assert AttentionMap(values).auc(points, counts) == pytest.approx(expected)


def test_auc_of_a_map_that_knows_nothing_or_all():
    points, others = np.array([[1.0, 1.0], [3.0, 2.0]]), np.ones((4, 4))
    others[1, 1] = others[3, 2] = 0
    assert AttentionMap(np.zeros((4, 4))).auc(points, others) == 0.5
    assert AttentionMap(-others).auc(points, others) == 1.0
    assert AttentionMap(others).auc(points, others) == 0.0


def brute_force(first: np.ndarray, second: np.ndarray, i: int = 0, j: int = 0) -> float:
    """The lowest weighted sum over all alignments of what is left, one by one, without the first pair's weight."""
    if (i, j) == (len(first) - 1, len(second) - 1):
        return 0.0
    steps = [(i + 1, j, 1), (i, j + 1, 1), (i + 1, j + 1, 2)]
    return min(
        weight * float(np.linalg.norm(first[a] - second[b])) + brute_force(first, second, a, b)
        for a, b, weight in steps
        if a < len(first) and b < len(second)
    )


def test_dtw_is_the_best_of_all_alignments():
    rng = np.random.default_rng(0)
    for n, m in [(1, 1), (1, 4), (3, 2), (4, 4), (5, 3)]:
        first, second = rng.uniform(0, 9, size=(n, 2)), rng.uniform(0, 9, size=(m, 2))
        best = 2 * np.linalg.norm(first[0] - second[0]) + brute_force(first, second)
        assert dtw(first, second) == pytest.approx(best / (n + m))
        assert dtw(first, second) == pytest.approx(dtw(second, first))


def test_dtw_by_hand():
    path = np.array([[0.0, 0.0], [0.0, 4.0], [3.0, 4.0]])
    assert dtw(path, path) == 0.0
    assert dtw(path, np.repeat(path, 3, axis=0)) == 0.0, "who stays at a place is where the glimpse is"
    assert dtw(path[:1], path[2:]) == pytest.approx(5.0), "of two points it is their distance"
    assert dtw(path, path[::-1]) > 0.0, "order counts"


def test_blurred_points_are_gaussians_at_pixel_centres():
    values = blurred(np.array([[2.5, 4.5], [7.0, 1.0]]), 10, 1.5)
    rows, cols = np.mgrid[:10, :10] + 0.5
    expected = sum(
        np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * 1.5**2)) for row, col in [(2.5, 4.5), (7.0, 1.0)]
    )
    np.testing.assert_allclose(values, expected)


def test_maps_are_as_they_are_at_centres_and_linear_between():
    """Values that are linear in row and column come out so, and go on unchanged beyond the outermost centres."""
    grid = LocationGrid(image_size=32, glimpse_size=8, stride=4)
    rows, cols = (grid.corners + 4.0).T
    wide = upsampled(2 * rows - 3 * cols, grid)
    pixels = np.clip(np.arange(32) + 0.5, 4, 28)
    np.testing.assert_allclose(wide, 2 * pixels[:, None] - 3 * pixels, atol=1e-9)


def test_what_a_policy_prefers_is_where_its_maps_are_low():
    maps = np.array([[0.0, 1.0, 2.0], [300.0, 100.0, 200.0], [5.0, 5.0, 5.0]], dtype=np.float16)
    z = np.sqrt(1.5)
    np.testing.assert_allclose(preference(maps), [0.0, 1 * z / 3, -1 * z / 3], atol=1e-6)


@pytest.fixture
def gaze(tmp_path: Path, fresh_cache: Path) -> CUBGaze:
    """Images 11 (row 0 of ``train``) and 13 have three runs, 15 has one, and 17 none.

    The crop is (10, 0) to (70, 60) of a photograph of 80 x 60, enlarged to 128.
    """
    write_tiny_cub(tmp_path)
    lines = {
        1: ["11,80,60,40,30,101,41,30,102", "13,80,60,50,20,103,15,50,104", "15,80,60,20,20,105"],
        2: ["11,80,60,40,31,106,20,10,107,30,10,108", "13,80,60,30,20,109"],
        5: ["11,80,60,60,50,110", "13,80,60,51,21,111,52,21,112"],
    }
    write_tiny_gaze(tmp_path, lines)
    return CUBGaze(CUB200(tmp_path))


def test_images_that_fewer_than_two_runs_looked_at_are_left_out(gaze: CUBGaze) -> None:
    people = People(gaze, "train", np.arange(4))
    assert people.indices.tolist() == [0, 1]
    assert len(people) == 2


def test_the_ceiling_sees_nothing_of_the_run_that_it_is_compared_with(gaze: CUBGaze) -> None:
    people = People(gaze, "train", np.arange(4))
    ceiling = people.ceiling(sigma=8.0)
    looks, others = ({look.run: look.points for look in gaze.at("train", row)} for row in (0, 1))
    elsewhere = np.zeros((128, 128))
    for points in others.values():
        np.add.at(elsewhere, tuple(points.astype(int).T), 1)
    nss, auc, shuffled, distances = [], [], [], []
    for run, points in looks.items():
        rest = [other for other_run, other in looks.items() if other_run != run]
        attention = AttentionMap(blurred(np.concatenate(rest), 128, 8.0))
        unseen = np.ones((128, 128))
        unseen[tuple(points.astype(int).T)] = 0
        nss.append(attention.nss(points))
        auc.append(attention.auc(points, unseen))
        shuffled.append(attention.auc(points, elsewhere))
        distances.append(np.mean([dtw(points, other) for other in rest]) / 128)
    assert ceiling.nss[0] == pytest.approx(np.mean(nss))
    assert ceiling.auc[0] == pytest.approx(np.mean(auc))
    assert ceiling.shuffled_auc[0] == pytest.approx(np.mean(shuffled))
    assert ceiling.dtw[0] == pytest.approx(np.mean(distances))


def test_glimpses_where_people_looked_agree_more_than_elsewhere(gaze: CUBGaze) -> None:
    people = People(gaze, "train", np.arange(4))
    there = np.array([[[64.0, 64.0], [21.0, 32.0]], [[43.0, 85.0], [43.0, 43.0]]])
    hit, miss = people.of_glimpses(there, 8.0), people.of_glimpses(128 - there[::-1], 8.0)
    assert (hit.nss > miss.nss).all()
    assert (hit.auc > miss.auc).all()
    assert hit.shuffled_auc.mean() > miss.shuffled_auc.mean()
    assert (hit.dtw < miss.dtw).all()


def test_maps_count_by_their_lows_and_have_no_scanpath(gaze: CUBGaze) -> None:
    people, grid = People(gaze, "train", np.arange(4)), gaze.source.geometry.grid
    points = [np.concatenate([look.points for look in looks]) for looks in people.looks]
    far = [np.linalg.norm(grid.corners[:, None] + 16 - some, axis=-1).min(axis=1) for some in points]
    maps = np.stack([np.stack([some, some]) for some in far])  # (N, T, L), low where people looked
    agreement, opposite = people.of_maps(maps, grid), people.of_maps(-maps, grid)
    assert (agreement.nss > 0.5).all()
    np.testing.assert_allclose(agreement.nss, -opposite.nss)
    np.testing.assert_allclose(agreement.auc, 1 - opposite.auc)
    assert np.isnan(agreement.dtw).all()


def test_the_centre_is_worth_nothing_to_the_shuffled_auc_where_others_look_there_too(gaze: CUBGaze) -> None:
    people = People(gaze, "train", np.arange(4))
    centre = people.of_centre(20.0, np.array([[64.0, 64.0]]))
    flat = people.agreement(lambda n: {look.run: View(AttentionMap(np.ones((128, 128)))) for look in people.looks[n]})
    assert centre.auc.mean() > 0.6
    assert centre.shuffled_auc.mean() < centre.auc.mean()
    np.testing.assert_allclose([flat.auc, flat.shuffled_auc], 0.5)
    np.testing.assert_array_equal(flat.nss, 0)


def test_the_spread_is_about_the_centre_of_the_image(gaze: CUBGaze) -> None:
    points = np.concatenate([look.points for row in range(12) for look in gaze.at("train", row)])
    assert spread_about_centre(gaze, "train") == pytest.approx(np.sqrt(np.mean((points - 64) ** 2)))


def test_figures_are_means_and_paired_differences():
    rng = np.random.default_rng(0)
    names = ("nss", "auc", "shuffled_auc", "dtw")
    rows = {row: Agreement(*rng.uniform(size=(4, 50))) for row in (PEOPLE, CENTRE, "oracle")}
    rows["oracle, maps"] = replace(rows["oracle"], dtw=np.full(50, np.nan))
    figures = compare(rows)
    for name in names:
        own, centre, people = (getattr(rows[row], name) for row in ("oracle", CENTRE, PEOPLE))
        found = figures["oracle"][name]
        assert found.value == mean_of(own)
        assert found.less_centre == mean_difference(own, centre)
        assert found.less_people == mean_difference(own, people)
    assert figures["oracle, maps"]["dtw"].value.value is None
    assert figures["oracle, maps"]["nss"] == figures["oracle"]["nss"]
    assert figures[CENTRE]["auc"].less_centre.value == 0
