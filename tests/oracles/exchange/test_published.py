"""Published sequences: read by hand-written files, placed on the right images, refused where they are damaged."""

import logging
from pathlib import Path

import numpy as np
import pytest

from agents.experiments.train import Experiment
from agents.presets import Args
from glimpse_env.datasets.cub import CUB200, CUBFull
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.rollout import play
from oracles.exchange.published import is_published, read_published, read_sequences
from tests.support.tiny_data import write_tiny_cub
from tests.support.toy import toy_judge, write_toy_judge

CORNERS = [(40, 48), (72, 48), (40, 80), (16, 64), (96, 0)]
"""Five glimpses, and where they are on a grid of 13 x 13."""
LOCATIONS = [5 * 13 + 6, 9 * 13 + 6, 5 * 13 + 10, 2 * 13 + 8, 12 * 13]


@pytest.fixture
def source(tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> CUB200:
    """Ids 11, 13, ..., 45; those of ``train`` are 11 to 17, 23 to 29 and 35 to 41."""
    write_tiny_cub(tmp_path)
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path))
    return CUB200()


@pytest.fixture
def judge(source: CUB200) -> Judge:
    return Judge.load(write_toy_judge(source))


def text_of(identity: int, corners: list[tuple[int, int]] = CORNERS, line_break: str = "\n") -> str:
    """A sequence as it was released: the number in the path is the id less one."""
    lines = "\n".join(f"{row}, {col}" for row, col in corners)
    return f"{lines}{line_break}data/birds/train/images/{identity - 1}.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sequences of three training images, the last one with its glimpses in the opposite order."""
    folder = tmp_path / "sequences"
    folder.mkdir()
    for number, identity in enumerate((35, 13, 11)):
        corners = CORNERS[::-1] if identity == 35 else CORNERS
        (folder / f"{number}.txt").write_text(text_of(identity, corners))
    return folder


def test_sequences_come_to_their_images(folder, source, judge):
    found = read_published(folder, source, judge)
    train = source.load("train")
    np.testing.assert_array_equal(source.image_ids("train")[found.indices], [11, 13, 35])
    np.testing.assert_array_equal(train.labels[found.indices], [0, 0, 2])
    np.testing.assert_array_equal(found.locations, [LOCATIONS, LOCATIONS, LOCATIONS[::-1]])
    np.testing.assert_array_equal(judge.grid.corners[found.locations[0]], CORNERS)
    assert found.epe is None
    assert found.manifest["policy"] == "published"
    found.check_fits(source, judge)


def test_entropies_are_the_judges_by_the_network_of_the_images_fold(folder, source, judge):
    found = read_published(folder, source, judge)

    class Replays:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            t = int(observation["mask"].sum(axis=1)[0])
            return found.locations[:, t], None

    train = source.load("train")
    rollouts = play(Replays(), train, judge, found.indices, progress=False)
    np.testing.assert_allclose(found.entropies, rollouts.entropy, rtol=1e-5)
    assert len(set(train.folds[found.indices].tolist())) > 1


@pytest.mark.parametrize("line_break", ["\n", "", "\r\n"])
def test_a_file_with_or_without_a_line_break_before_the_path(tmp_path, source, judge, line_break):
    file = tmp_path / "some.txt"
    file.write_text(text_of(11, line_break=line_break) + "\n" + text_of(13, line_break=line_break))
    found = read_published(file, source, judge)
    np.testing.assert_array_equal(found.locations, [LOCATIONS, LOCATIONS])


def test_images_that_are_not_there_are_left_out_and_counted(folder, source, judge, caplog):
    for name, identity in (("val", 19), ("test", 21), ("beyond", 999)):
        (folder / f"{name}.txt").write_text(text_of(identity))
    with caplog.at_level(logging.WARNING):
        found = read_published(folder, source, judge)
    assert len(found) == 3
    assert [record.getMessage().split(" are left")[0] for record in caplog.records] == [
        f"3 of the 6 sequences in {folder}"
    ]
    with pytest.raises(ArtifactError, match="none of the 1 sequences"):
        read_published(folder / "beyond.txt", source, judge)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"9\.txt:1: no sequence"),
        ("hello", r"9\.txt:1: no sequence from here: 'hello'"),
        (text_of(15)[:-4], r"9\.txt:1: no sequence"),
        (text_of(15) + "\n\nand more", r"9\.txt:8: no sequence from here: 'and more'"),
        (text_of(15).replace("72, 48", "72 48"), "no sequence"),
        (text_of(15).replace("72, 48", "-8, 48"), "no sequence"),
        (text_of(15).replace("72, 48", "9999999999999999999999, 48"), "no sequence"),
        (text_of(15, CORNERS[:4]), r"9\.txt: the sequence of image 15 has 4 glimpses, not 5"),
        (text_of(15).replace("72, 48", "73, 48"), r"\(73, 48\) is not on the grid of rows and columns 0, 8, .., 96"),
        (text_of(15).replace("72, 48", "104, 48"), r"\(104, 48\) is not on the grid"),
        (text_of(13), r"9\.txt: image 13 has a sequence in .*1\.txt already"),
    ],
)
def test_damaged_files_are_named(folder, source, judge, text, message):
    (folder / "9.txt").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        read_published(folder, source, judge)


def test_files_that_are_no_text_or_not_there_are_named(tmp_path, folder, source, judge):
    (folder / "9.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match=r"9\.txt cannot be read"):
        read_published(folder, source, judge)
    with pytest.raises(ArtifactError, match="nowhere cannot be read"):
        read_published(tmp_path / "nowhere", source, judge)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArtifactError, match="holds no sequence"):
        read_sequences(empty, judge.grid, 5)


def test_other_data_sets_are_refused(folder, judge):
    with pytest.raises(ConfigurationError, match="not of data set 'cub-full'"):
        read_published(folder, CUBFull(), toy_judge())


def test_train_agent_takes_a_folder_or_a_text_file(folder, source, judge, tmp_path, caplog):
    assert is_published(folder)
    assert is_published(folder / "0.txt")
    assert not is_published(tmp_path / "demos.npz")
    for number, identity in enumerate((15, 17, 23, 25, 27, 29, 37, 39, 41, 45), start=3):
        (folder / f"{number}.txt").write_text(text_of(identity))
    run = Experiment.started(Args(env="GlimpseCUB-v0", demos=str(folder), out=tmp_path / "run"))
    with caplog.at_level(logging.WARNING):
        data = run.cloning_data
    assert "1 of the 13 sequences" in caplog.text
    assert run.demonstrations is not None
    assert len(run.demonstrations) == 12
    assert data is not None
    assert len(data) == 2 * 12, "every sequence and its mirror image"
    one = Experiment.started(Args(env="GlimpseCUB-v0", demos=str(folder / "0.txt"), out=tmp_path / "one"))
    assert one.demonstrations is not None
    assert len(one.demonstrations) == 1
    assert one.args.folder.name == "one"
    with pytest.raises(ConfigurationError, match="not of data set 'digits'"):  # at once, before any work
        Experiment.started(Args(env="GlimpseDigits-v0", demos=str(folder), out=tmp_path / "digits"))
    assert not (tmp_path / "digits").exists()
