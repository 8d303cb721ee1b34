"""CelebA-HQ in the released layout: what is read, how it is split, and what is told of damaged files."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from glimpse_env.datasets import make_source
from glimpse_env.datasets.celeba import CelebAHQ
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError
from glimpse_env.judge.judge import Judge
from glimpse_env.rollout import play
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from tests.support.tiny_data import write_tiny_celeba
from tests.support.toy import SMALL_CELEBA, write_toy_judge

ANNOTATIONS = "CelebAMask-HQ-attribute-anno.txt"


@pytest.fixture
def root(tmp_path: Path, fresh_cache: Path) -> Path:
    """A folder with a tiny CelebAMask-HQ in it."""
    write_tiny_celeba(tmp_path)
    return tmp_path


def changed(root: Path, line: int, content: str | None) -> None:
    """Sets a line of the attribute file, counted from 1, or takes it out."""
    path = root / "CelebAMask-HQ" / ANNOTATIONS
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if content is None else [content]
    path.write_text("\n".join(lines) + "\n")


def test_the_protocol_is_the_papers(root: Path) -> None:
    source = CelebAHQ(root, **SMALL_CELEBA)
    geometry = source.geometry
    grid = geometry.grid
    assert (source.image_shape, geometry.glimpse_size, geometry.num_glimpses) == ((224, 224, 3), 16, 5)
    assert (len(grid), int(grid.corners.max())) == (2500, 208)
    assert grid.mirror_symmetric
    assert source.mirror_symmetric


def test_splits_follow_the_ids_in_the_papers_proportion(root: Path) -> None:
    source = CelebAHQ(root, **SMALL_CELEBA)
    assert [source.size(split) for split in ("train", "val", "test")] == [54, 1, 5]
    source.num_images = 30_000
    assert [source.size(split) for split in ("train", "val", "test")] == [27_000, 500, 2500]
    assert [source._ids(split).start for split in ("train", "val", "test")] == [0, 27_000, 27_500]


def test_images_and_labels_are_those_of_the_files(root: Path) -> None:
    source = CelebAHQ(root, "Bald", **SMALL_CELEBA)
    train, val, test = (source.load(split) for split in ("train", "val", "test"))
    assert source.class_names == ("not Bald", "Bald")
    labels = np.concatenate([train.labels, val.labels, test.labels])
    assert np.array_equal(labels, np.arange(60) % 3 == 0)
    with Image.open(root / "CelebAMask-HQ/CelebA-HQ-img/55.jpg") as image:
        expected = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
    assert np.array_equal(test.images[0], expected)
    assert np.bincount(train.folds).tolist() == [18, 18, 18]
    assert (val.folds == -1).all()
    assert (test.folds == -1).all()


def test_no_network_is_trained_on_its_own_images(root: Path) -> None:
    source = CelebAHQ(root, **SMALL_CELEBA)
    folds = source.load("train").folds
    batch = source.judge_images(1, np.random.default_rng(0))
    assert batch.images.shape == (int((folds != 1).sum()), 224, 224, 3)
    unseen = source.unseen_images(1, np.random.default_rng(0))
    assert set(unseen.folds.tolist()) == {0, 2}


def test_the_fingerprint_is_of_content_and_attribute_not_of_the_place(root: Path, tmp_path: Path) -> None:
    source = CelebAHQ(root, **SMALL_CELEBA)
    assert source.fingerprint == CelebAHQ(root / "CelebAMask-HQ", **SMALL_CELEBA).fingerprint
    assert source.fingerprint != CelebAHQ(root, "Bald", **SMALL_CELEBA).fingerprint
    assert CelebAHQ(**source.options).options == source.options
    assert source.chosen_options == {"root": str(root), **SMALL_CELEBA}
    changed(root, 3, "0.jpg  1 1 -1")
    assert source.fingerprint != CelebAHQ(root, **SMALL_CELEBA).fingerprint


def test_the_environment_takes_the_attribute_as_its_own(root: Path) -> None:
    write_toy_judge(make_source("celeba-hq", root=str(root), attribute="Bald", **SMALL_CELEBA))
    env = gym.make("GlimpseCelebAHQ-v0", root=str(root), attribute="Bald", **SMALL_CELEBA)
    assert env.unwrapped.dataset.class_names == ("not Bald", "Bald")  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="attribute='Beard' must be one of Bald, Smiling, Young"):
        gym.make("GlimpseCelebAHQ-v0", root=str(root), attribute="Beard", **SMALL_CELEBA)


def test_its_absence_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=rf"(?s){tmp_path} or .*CelebAMask-HQ; get .*GLIMPSE_DATA"):
        CelebAHQ(tmp_path)


def test_without_the_folder_of_images_the_remedy_is_told(root: Path) -> None:
    (root / "CelebAMask-HQ/CelebA-HQ-img").rename(root / "elsewhere")
    with pytest.raises(DatasetNotFoundError, match=r"CelebA-HQ-img cannot be read .*GLIMPSE_DATA"):
        CelebAHQ(root, **SMALL_CELEBA)


def test_a_part_of_the_data_set_is_named_as_one(root: Path) -> None:
    with pytest.raises(DatasetFormatError, match=r"anno\.txt:1: .* part of CelebA-HQ, 60 images .*num_images=60"):
        CelebAHQ(root)


@pytest.mark.parametrize(
    ("line", "content", "told"),
    [
        (1, "sixty", "anno.txt:1: 'sixty'"),
        (1, "61", "anno.txt:1: 61 images are announced and 60 lines"),
        (9, None, "anno.txt:1: 60 images are announced and 59 lines"),
        (4, "1.jpg  1 1", "anno.txt:4: '1.jpg  1 1' is not 1.jpg and 3 values"),
        (4, "7.jpg  1 1 1", "anno.txt:4: "),
        (62, "59.jpg  1 0 1", "anno.txt:62: "),
    ],
)
def test_damaged_lines_are_named(root: Path, line: int, content: str | None, told: str) -> None:
    changed(root, line, content)
    with pytest.raises(DatasetFormatError) as caught:
        CelebAHQ(root, **SMALL_CELEBA)
    assert told in str(caught.value)


def test_missing_and_damaged_images_are_named(root: Path) -> None:
    images = root / "CelebAMask-HQ/CelebA-HQ-img"
    (images / "58.jpg").write_bytes(b"no image")
    source = CelebAHQ(root, **SMALL_CELEBA)
    with pytest.raises(DatasetFormatError, match=r"58\.jpg is not a readable image"):
        source.load("test")
    (images / "7.jpg").unlink()
    with pytest.raises(DatasetFormatError, match=r"7\.jpg is missing, as are 0 others of the 60"):
        CelebAHQ(root, **SMALL_CELEBA)


def test_each_network_completes_from_images_that_it_never_saw(root: Path) -> None:
    source = CelebAHQ(root, **SMALL_CELEBA)
    judge = Judge.load(write_toy_judge(source))
    train, completion = source.load("train"), CompletionConfig("embedding", 4, samples=6, short_list=12)
    oracle = BOEDOracle(train, judge, OracleConfig("log_loss", completion, first_samples=4, history="completion"))
    assert [set(train.folds[bank.rows]) for bank in oracle.banks] == [{0}, {1}, {2}]
    assert [bank.embeddings.shape[:2] for bank in oracle.banks] == [(18, 2500)] * 3
    found = play(oracle, source.load("val"), judge, np.array([0]), progress=False)
    assert len(set(found.locations[0].tolist())) == 5
