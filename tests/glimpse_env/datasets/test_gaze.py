"""Human gaze: lines of the files, a fixation's way into the image by hand, and every way the files can be wrong."""

from pathlib import Path

import numpy as np
import pytest

from glimpse_env.datasets import make_source
from glimpse_env.datasets.cub import CUB200, CUBFull
from glimpse_env.datasets.gaze import CUBGaze, find_gaze, gaze_identity, read_gaze
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError
from tests.support.tiny_data import write_tiny_cub, write_tiny_gaze

pytestmark = pytest.mark.usefixtures("fresh_cache")


def test_lines_are_looks_in_the_order_of_the_runs(tmp_path: Path) -> None:
    lines = {1: ["7,500,400,10,20,110,30,40.5,120", "", "7,500,400,1,2,130"], 3: ["7,500,400,5,6,90", "9,50,40,1,2,3"]}
    looks = read_gaze(write_tiny_gaze(tmp_path, lines))
    assert sorted(looks) == [7, 9]
    assert [look.run for look in looks[7]] == [1, 1, 3]
    first = looks[7][0]
    assert first.size == (400, 500)
    np.testing.assert_array_equal(first.points, [[20, 10], [40.5, 30]])  # row, column
    np.testing.assert_array_equal(first.durations, [110, 120])


def test_a_fixation_that_lasts_from_the_photograph_before_is_left_out(tmp_path: Path) -> None:
    """A photograph fills the screen from top to bottom: the place is 0.25 heights below and left of its middle."""
    lasts = "8,300,200,100,150,120"  # as 100,300 of 400 x 400
    lines = {
        1: ["7,400,400,10,20,110,100,300,120", f"{lasts},60,70,130,61,70,130", "9,400,100,180,85,130,5,6,130"],
        2: ["9,400,400,100,300,120", "8,300,200,100,150,121", "7,400,400,100,300,120"],  # another fixation: 121 ms
        3: ["9,400,400,100,300,120", "7,300,200,100,155,120"],  # at another place
        4: ["9,400,400,100,300,120", lasts],
        5: [lasts],  # a run is a recording of its own
    }
    looks = read_gaze(write_tiny_gaze(tmp_path, lines))
    np.testing.assert_array_equal(looks[8][0].points, [[70, 60], [70, 61]])
    np.testing.assert_array_equal(looks[8][0].durations, [130, 130])
    assert [(look.run, len(look.points)) for look in looks[7]] == [(1, 2), (2, 1), (3, 1)]
    assert [(look.run, len(look.points)) for look in looks[8]] == [(1, 2), (2, 1), (5, 1)], "in 4 there was no other"
    assert len(looks[9][0].points) == 2


def test_fixations_move_with_the_crop(tmp_path: Path) -> None:
    """The tiny photograph of 80 x 60 stands for one of 160 x 120; its crop is the 60 x 60 from (10, 0)."""
    write_tiny_cub(tmp_path)
    write_tiny_gaze(tmp_path, {1: ["11,160,120,80,60,100,30,15,110,15,60,120"], 2: ["11,160,120,15,60,120"]})
    looks = CUBGaze(CUB200(root=str(tmp_path))).at("train", 0)
    assert len(looks) == 1, "a look that misses the image is none at it"
    np.testing.assert_allclose(looks[0].points, [[64, 64], [16, 128 * 5 / 60]])  # the third one is left of the crop
    np.testing.assert_array_equal(looks[0].durations, [100, 110])


def test_fixations_are_scaled_by_each_side_of_a_clipped_crop(tmp_path: Path) -> None:
    folder = write_tiny_cub(tmp_path)
    boxes = folder / "bounding_boxes.txt"  # a square of 60 around (20, 15), clipped to 50 x 45
    boxes.write_text(boxes.read_text().replace("11 20.0 15.0", "11 0.0 0.0"))
    write_tiny_gaze(tmp_path, {1: ["11,160,120,50,45,100,20,18,110,110,45,120"]})
    looks = CUBGaze(CUB200(root=str(tmp_path))).at("train", 0)
    np.testing.assert_allclose(looks[0].points, [[64, 64], [25.6, 25.6]])


def test_fixations_move_with_the_whole_photograph(tmp_path: Path) -> None:
    write_tiny_cub(tmp_path)  # 80 x 60 becomes 224 x 168 below 28 black rows
    write_tiny_gaze(tmp_path, {1: ["13,160,120,80,60,100,16,12,110"]})
    gaze = CUBGaze(CUBFull(root=str(tmp_path)))
    np.testing.assert_allclose(gaze.at("train", 1)[0].points, [[112, 112], [44.8, 22.4]])
    assert gaze.at("train", 0) == []


def test_points_that_are_parts_go_where_the_parts_go(tmp_path: Path) -> None:
    write_tiny_cub(tmp_path)
    for source in (CUB200(root=str(tmp_path)), CUBFull(root=str(tmp_path))):
        parts = source.load("test").parts[0]
        visible = np.flatnonzero(parts[:, 2])
        points = np.array([[20 + 4 * p, 30 + 5 * p] for p in visible])  # as the file has them
        np.testing.assert_allclose(source.to_image("test", 0, points, (60, 80)), parts[visible, :2], rtol=1e-5)
        np.testing.assert_allclose(source.to_image("test", 0, 3 * points, (180, 240)), parts[visible, :2], rtol=1e-5)


def test_the_folder_is_found_beside_cub_and_where_data_sets_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cub, gaze = write_tiny_cub(tmp_path), write_tiny_gaze(tmp_path)
    assert find_gaze(CUB200(root=str(tmp_path))) == gaze
    assert find_gaze(CUB200(root=str(cub))) == gaze
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path))
    assert find_gaze(CUBFull()) == gaze
    before = gaze_identity(CUB200())
    (gaze / "Fixation_run4.txt").write_text("11,160,120,80,60,100\n")
    assert gaze_identity(CUB200()) != before


def test_missing_files_are_named_with_the_remedy(tmp_path: Path) -> None:
    write_tiny_cub(tmp_path)
    source = CUB200(root=str(tmp_path))
    with pytest.raises(DatasetNotFoundError, match=r"no Fixation_run1.txt in .*cub_gha\*.*put it there"):
        CUBGaze(source)
    (write_tiny_gaze(tmp_path) / "Fixation_run3.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"Fixation_run3.txt is missing; get CUB-GHA"):
        CUBGaze(source)


def test_other_data_sets_have_no_gaze() -> None:
    with pytest.raises(ConfigurationError, match="not of data set 'digits'; take GlimpseCUB-v0"):
        find_gaze(make_source("digits"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("11,160,120,1,2", "4 numbers after the id"),
        ("11,160,120", "2 numbers after the id"),
        ("11", "0 numbers"),
        ("bird,160,120,1,2,3", "invalid literal"),
        ("11,160,120,1,two,3", "could not convert"),
        ("11,160,120,1,nan,3", "not finite"),
        ("11,160,0,1,2,3", "160 x 0 pixels is empty"),
        ("11,160,120,1,2,-3", "duration is negative"),
    ],
)
def test_lines_that_cannot_be_read_are_named(tmp_path: Path, line: str, reason: str) -> None:
    folder = write_tiny_gaze(tmp_path, {1: ["11,160,120,1,2,3"], 2: ["11,160,120,1,2,3", line]})
    with pytest.raises(DatasetFormatError, match=rf"Fixation_run2.txt:2: .*{reason}.*; get CUB-GHA"):
        read_gaze(folder)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    folder = write_tiny_gaze(tmp_path)
    (folder / "Fixation_run5.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetFormatError, match=r"Fixation_run5.txt: not a text file"):
        read_gaze(folder)


def test_photographs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    cub = write_tiny_cub(tmp_path)
    write_tiny_gaze(tmp_path)
    gaze = CUBGaze(CUB200(root=str(tmp_path)))
    photograph = next((cub / "images").rglob("*_1_0000.jpg"))
    photograph.write_bytes(b"no picture")
    with pytest.raises(DatasetFormatError, match=r"1_0000.jpg, named in .*images.txt:1, is not a readable image"):
        gaze.at("train", 0)
    photograph.unlink()
    with pytest.raises(DatasetNotFoundError, match="is missing"):
        gaze.at("train", 0)
