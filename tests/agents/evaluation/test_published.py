"""Published sequences beside ours: ranks and shares by hand, the rest at toy size."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.evaluation.published import (
    Judged,
    chosen_by,
    differences,
    maps_along,
    mean_estimate,
    official_training_images,
    ranks,
    reach,
    shuffled,
    success_interval,
    transposed,
)
from glimpse_env.datasets.cub import CUB200
from glimpse_env.judge.judge import Judge
from glimpse_env.rollout import play
from oracles.baselines import RandomPolicy
from oracles.registry import make_policy
from tests.scripts.test_scripts import call
from tests.support.tiny_data import write_tiny_cub, write_tiny_gaze
from tests.support.toy import GEOMETRY, toy_dataset, toy_judge, write_toy_judge


@pytest.fixture
def source(tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> CUB200:
    write_tiny_cub(tmp_path)
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path))
    return CUB200()


@pytest.fixture
def judge(source: CUB200) -> Judge:
    return Judge.load(write_toy_judge(source))


def test_ranks_by_hand() -> None:
    maps = np.array([[[0.3, 0.1, 0.2, 0.4, 0.2], [0.3, 0.1, 0.2, 0.4, 0.2]]])
    rank, percentile = ranks(maps, np.array([[1, 2]]), np.array([[1, 2]]))
    np.testing.assert_array_equal(rank, [[1, 1]])  # the lowest, and once that is seen the lowest of the others
    np.testing.assert_allclose(percentile, [[100, 100 * 2.5 / 3]])  # an equal counts half
    rank, percentile = ranks(maps, np.array([[1, 2]]), np.array([[3, 1]]))
    np.testing.assert_array_equal(rank, [[5, 1]])
    np.testing.assert_allclose(percentile, [[0, 100]])  # a place seen before is ranked among those that were not


def test_random_choices_stand_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    maps, choices = rng.random((4000, 2, 9)), rng.random((4000, 9)).argsort(axis=1)[:, :2]
    np.testing.assert_allclose(ranks(maps, choices, choices)[1].mean(axis=0), 50, atol=2)


def test_shuffling_gives_every_image_the_sequence_of_another() -> None:
    sequences = np.arange(14).reshape(7, 2)
    for mixed in shuffled(sequences, 10, np.random.default_rng(0)):
        assert (mixed[:, 0] != sequences[:, 0]).all()
        np.testing.assert_array_equal(np.sort(mixed[:, 0]), sequences[:, 0])
        np.testing.assert_array_equal(mixed[:, 1], mixed[:, 0] + 1)


def test_reach_by_hand() -> None:
    grid = GEOMETRY.grid  # 8 x 8 locations, windows of 12 x 12
    parts = np.zeros((24, 3, 3), dtype=np.float32)
    parts[0] = [[0, 0, 1], [39, 39, 1], [1, 1, 0]]
    parts[1] = [[13, 2, 1], [5, 5, 1], [11, 11, 1]]
    dataset = toy_dataset(parts=parts, part_names=("a", "b", "c"))
    found = reach(
        dataset, grid, np.array([0, 1, 2]), np.array([[[0, 0], [0, 8], [0, 63]], [[63, 0], [63, 63], [0, 63]]])
    )
    window = 144 / 1600
    np.testing.assert_allclose(found["pixels"], [(1 + 2) / 2 * window, (4 / 3 + 1) / 2 * window, 2 * window])
    np.testing.assert_allclose(found["parts"], [(0.5 + 1) / 2, (1 + 0) / 2, np.nan])
    assert mean_estimate(found["parts"]).value == pytest.approx(0.625)


def test_row_and_column_exchanged() -> None:
    grid = GEOMETRY.grid
    locations = np.array([[0, 8, 63], [5, 10, 62]])
    np.testing.assert_array_equal(grid.corners[transposed(locations, grid)], grid.corners[locations][..., ::-1])


def test_ids_are_held_against_the_official_split(source: CUB200) -> None:
    # 11 to 19 are for training, 21 is for testing, 23 to 31 for training again; even ids are none
    found = official_training_images(source, np.array([11, 19, 23]))
    assert found == {-2: 1, -1: 0, 0: 3, 1: 0, 2: 2}


def test_judged_is_what_the_rollout_found() -> None:
    dataset, judge, indices = toy_dataset(), toy_judge(), np.arange(12)
    played = [play(RandomPolicy(judge.grid, seed), dataset, judge, indices, progress=False) for seed in range(3)]
    found = Judged.of(dataset, judge, indices, np.stack([rollouts.locations for rollouts in played]))
    np.testing.assert_allclose(found.log_loss, np.mean([one.log_loss for one in played], axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.entropy, np.mean([one.entropy for one in played], axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.success[:, -1], np.mean([one.success for one in played], axis=0))
    assert found.draws == 3
    one = Judged.of(dataset, judge, indices, played[0].locations[None])
    interval = success_interval(one)
    assert interval.value == played[0].success.mean()
    assert interval.low < interval.value < interval.high
    less = differences(found, one)["log_loss"][-1]
    assert less.value == pytest.approx((found.log_loss - one.log_loss)[:, -1].mean())
    assert differences(one, one)["entropy"][0].high == 0


def test_every_image_is_looked_at_with_the_network_that_never_saw_it(source: CUB200, judge: Judge) -> None:
    train = source.load("train")
    indices = np.array([7, 2, 0, 11])
    found = chosen_by("oracle", source, judge, indices)
    for n, index in enumerate(indices):
        oracle = make_policy("oracle", source, judge, network=int(train.folds[index]))
        alone = play(
            oracle,
            train,
            judge,
            indices[n : n + 1],
            progress=False,
            start=lambda chosen, oracle=oracle: oracle.start(train, chosen),  # type: ignore[misc]
        )
        np.testing.assert_array_equal(found[n], alone.locations[0])


def test_maps_along_the_oracles_own_sequences_are_those_it_chose_by(source: CUB200, judge: Judge) -> None:
    indices = np.array([7, 2, 0, 11])
    own = chosen_by("oracle", source, judge, indices)
    maps = maps_along(source, judge, indices, own)
    rank, _ = ranks(maps, own, own)
    assert (rank == 1).all()
    other = np.roll(own, 1, axis=0)
    along = maps_along(source, judge, indices, other)
    np.testing.assert_allclose(along[:, 0], maps[:, 0], atol=1e-6)  # nothing was seen yet
    assert (np.abs(along[:, 2] - maps[:, 2]).max(axis=1) > 1e-6).any(), "what was seen since differs"


def write_sequences(source: CUB200, folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, identity in enumerate(source.image_ids("train")):
        lines = "".join(f"{row}, {col}\n" for row, col in rng.integers(13, size=(5, 2)) * 8)
        (folder / f"{number}.txt").write_text(f"{lines}data/birds/train/images/{identity - 1}.png")


@pytest.mark.parametrize("photographs", ["--photographs", "--no-photographs"])
def test_script_writes_tables_pictures_and_figures(
    source: CUB200, judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str], photographs: str
) -> None:
    write_sequences(source, tmp_path / "sequences")
    words = [str(tmp_path / "sequences"), "--pictures", str(tmp_path), "--out", str(tmp_path / "figures.json")]
    call("measure/published", *words, "--draws", "2", "--shown", "2", "--policies", "centre", "random", photographs)
    told = capsys.readouterr().out
    assert "| published, shuffled |" in told
    assert "| difference |" in told
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["images"] == 12
    assert list(figures["sequences"]) == ["published", "shuffled", "oracle", "centre", "random"]
    assert figures["sequences"]["oracle"]["less_ours"]["log_loss"][4]["value"] == 0
    assert len(figures["percentiles"]["difference"]) == 5
    for name in ("steps", "coverage", "maps"):
        with Image.open(tmp_path / f"published_{name}.png") as picture:
            assert min(picture.size) > 300


@pytest.mark.parametrize("gaze", [False, True])
def test_script_compares_with_human_gaze_where_there_is_some(
    source: CUB200, judge: Judge, tmp_path: Path, gaze: bool
) -> None:
    write_sequences(source, tmp_path / "sequences")
    if gaze:
        write_tiny_gaze(tmp_path)
    words = [str(tmp_path / "sequences"), "--pictures", str(tmp_path), "--out", str(tmp_path / "figures.json")]
    call("measure/published", *words, "--draws", "1")
    human = ["human"] if gaze else []
    beside = ["published", "shuffled", "oracle", "hgs", *human, "centre", "fixed", "random"]
    assert list(json.loads((tmp_path / "figures.json").read_text())["sequences"]) == beside
    words = ["--env", "GlimpseCUB-v0", "--picture", str(tmp_path / "one.png"), "--out", str(tmp_path / "one.json")]
    call("measure/calibration", *words, "--images", "2")
    judged = ["random", "centre", "fixed", "hgs", *human, "boed", "lookahead"]
    assert list(json.loads((tmp_path / "one.json").read_text())["policies"]) == judged


def test_script_names_mistakes(
    source: CUB200, judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"ArtifactError: .*nowhere cannot be read"):
        call("measure/published", str(tmp_path / "nowhere"))
    write_sequences(source, tmp_path / "sequences")
    with pytest.raises(SystemExit, match="1 sequence of a training image"):
        call("measure/published", str(tmp_path / "sequences" / "0.txt"))
    with pytest.raises(SystemExit, match="2"):
        call("measure/published", str(tmp_path / "sequences"), "--draws", "0")
    assert "--draws 0 must be at least 1" in capsys.readouterr().err


def test_calibration_script_writes_table_picture_and_figures(
    source: CUB200, judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--env", "GlimpseCUB-v0", "--picture", str(tmp_path / "one.png"), "--out", str(tmp_path / "one.json")]
    call("measure/calibration", *words, "--policies", "centre", "hgs")
    assert "| centre-out | 5 | " in capsys.readouterr().out
    figures = json.loads((tmp_path / "one.json").read_text())
    assert [len(steps) for steps in figures["policies"].values()] == [5, 5]
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width > 500
    call("measure/calibration", *words, "--policies", "centre", "--network", "1")
    alone = json.loads((tmp_path / "one.json").read_text())["policies"]["centre"]
    assert alone[4]["mean_confidence"] != figures["policies"]["centre"][4]["mean_confidence"]
    with pytest.raises(SystemExit, match=r"--network 3 must lie in 0\.\.2"):
        call("measure/calibration", *words, "--network", "3")


def test_convergence_script_writes_picture_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--picture", str(tmp_path / "one.png"), "--out", str(tmp_path / "one.json")]
    call("measure/epe_convergence", *words, "--sizes", "16", "64", "--repetitions", "4", "--worlds", "1")
    assert "entropy, pixels" in capsys.readouterr().out
    figures = json.loads((tmp_path / "one.json").read_text())
    assert len(figures["error, labels"]["rmse"]) == 2
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width > 500
    with pytest.raises(SystemExit, match="two or more numbers"):
        call("measure/epe_convergence", "--sizes", "16")
