"""The cache of data sets, and what a split must hold."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse_env.datasets import (
    DataSource,
    Geometry,
    GlimpseDataset,
    LabelledImages,
    Split,
    data_root,
    make_source,
)
from glimpse_env.datasets.base import folds_by_class
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError

pytestmark = pytest.mark.usefixtures("fresh_cache")


class Counted(DataSource):
    """Four images whose pixels are their index; counts how often they are made."""

    name = "counted"
    geometry = Geometry(4, 2, 1, 2)
    image_shape = (4, 4, 1)
    class_names = ("even", "odd")
    part_names = ("corner",)

    def __init__(self, tag: str = "a", num_folds: int = 2, fails_after: int = 4) -> None:
        self.tag, self.num_folds, self.fails_after = tag, num_folds, fails_after
        self.fills = 0

    @cached_property
    def fingerprint(self) -> str:
        return f"fingerprint-{self.tag}"

    @property
    def options(self) -> dict[str, Any]:
        return {"tag": self.tag}

    def size(self, split: Split) -> int:
        return 4

    def fill(self, split: Split, arrays: LabelledImages, progress: Callable[[int], object]) -> None:
        self.fills += 1
        for index in range(4):
            if index == self.fails_after:
                raise RuntimeError("the disk is on fire")
            arrays.images[index] = index
            arrays.labels[index] = index % 2
            progress(1)

    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        raise NotImplementedError


def test_a_split_is_built_once_and_mapped_from_then_on() -> None:
    source = Counted()
    first = source.load("train")
    again = Counted()
    second = again.load("train")
    assert (source.fills, again.fills) == (1, 0)
    for data in (first, second):
        assert isinstance(data.images, np.memmap)
        assert not data.images.flags.writeable
        np.testing.assert_array_equal(data.images[:, 0, 0, 0], [0, 1, 2, 3])
        np.testing.assert_array_equal(data.labels, [0, 1, 0, 1])
        np.testing.assert_array_equal(data.folds, [-1, -1, -1, -1])
        np.testing.assert_array_equal(data.parts, np.zeros((4, 1, 3)))


def test_splits_and_fingerprints_have_caches_of_their_own() -> None:
    source = Counted()
    source.load("train")
    source.load("val")
    assert source.fills == 2
    other = Counted(tag="b")
    other.load("train")
    assert other.fills == 1


def test_a_failed_build_leaves_nothing_behind(fresh_cache: Path) -> None:
    with pytest.raises(RuntimeError, match="on fire"):
        Counted(fails_after=2).load("train")
    left = [path for path in fresh_cache.rglob("*") if path.is_file()]
    assert [path for path in left if path.parent != fresh_cache / "locks" or path.stat().st_size] == []
    np.testing.assert_array_equal(Counted().load("train").images[:, 0, 0, 0], [0, 1, 2, 3])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_build_leaves_no_half_cache() -> None:
    script = """
import os, signal
from glimpse_env.datasets.digits import Digits

class Killed(Digits):
    def fill(self, split, arrays, progress):
        arrays.images[:10] = 1
        arrays.images.flush()
        os.kill(os.getpid(), signal.SIGKILL)

Killed().load("val")
"""
    root = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=os.environ, stderr=subprocess.PIPE, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    source = make_source("digits")
    data = source.load("val")
    assert len(np.unique(data.images[:10])) > 2
    assert (np.bincount(data.labels) > 0).all()


@pytest.mark.parametrize("split", ["training", "judge", ""])
def test_unknown_splits_are_refused(split: Split) -> None:
    with pytest.raises(ConfigurationError, match="train, val, test"):
        Counted().load(split)


def test_a_source_with_one_network_has_a_judge_split() -> None:
    assert len(Counted(num_folds=1).load("judge")) == 4


def valid_dataset() -> GlimpseDataset:
    return GlimpseDataset(
        name="toy",
        split="train",
        images=np.zeros((2, 4, 4, 1), np.uint8),
        labels=np.array([0, 1]),
        folds=np.array([0, 1]),
        class_names=("a", "b"),
        part_names=(),
        parts=np.zeros((2, 0, 3), np.float32),
        fingerprint="0",
        geometry=Counted.geometry,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 1), np.float32)}, "images is float32"),
        ({"labels": np.array([0, 1, 1])}, r"labels is int64 \(3,\)"),
        ({"folds": np.array([0.0, 1.0])}, "folds is float64"),
        ({"parts": np.zeros((2, 1, 3), np.float32)}, "parts is float32"),
        ({"labels": np.array([0, 0])}, "class 'b' has no training image"),
        (
            {
                "images": np.zeros((0, 4, 4, 1), np.uint8),
                "labels": np.zeros(0, np.int64),
                "folds": np.zeros(0, np.int64),
                "parts": np.zeros((0, 0, 3), np.float32),
            },
            "holds no image",
        ),
    ],
)
def test_what_a_split_must_not_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetFormatError, match=message):
        dataclasses.replace(valid_dataset(), **change)


def test_only_training_needs_every_class() -> None:
    assert len(dataclasses.replace(valid_dataset(), split="test", labels=np.array([0, 0]))) == 2


def test_the_data_root_is_the_argument_or_the_variable_or_the_cache(
    fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_root() == fresh_cache / "data"
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path / "variable"))
    assert data_root() == tmp_path / "variable"
    assert data_root(tmp_path / "argument") == tmp_path / "argument"


def test_folds_alternate_within_each_class() -> None:
    folds = folds_by_class(np.array([0, 1, 0, 0, 1, 0]), 3)
    np.testing.assert_array_equal(folds, [0, 0, 1, 2, 1, 0])


def test_make_source_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="cub, cub-full, celeba-hq, birds, mnist, digits, signpost, needle, memory, folder"
    ):
        make_source("imagenet")
    with pytest.raises(
        ConfigurationError, match=r"^data set 'digits' has no option 'colour'; it has seed, num_glimpses\.$"
    ):
        make_source("digits", colour=True)
    with pytest.raises(DatasetNotFoundError, match=r"download_data\.py mnist"):
        make_source("mnist", root=tmp_path)


def test_other_scales_are_of_the_same_data() -> None:
    source = Counted()
    source.load("train")
    wide = source.with_scales(3)
    assert (wide.geometry, source.geometry.scales) == (replace(source.geometry, scales=3), 1)
    assert (wide.fingerprint, wide.options) == (source.fingerprint, source.options)
    assert "fingerprint" in vars(wide), "it is not computed again"
    dataset = wide.load("train")
    assert wide.fills == 1, "the arrays are the same"  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(dataset)).geometry == dataset.geometry == wide.geometry
    assert wide.with_scales(1).load("train").geometry == source.geometry
    for scales in (0, 7, 1.5, True):
        with pytest.raises(ConfigurationError, match=f"scales={scales}"):
            source.with_scales(scales)
