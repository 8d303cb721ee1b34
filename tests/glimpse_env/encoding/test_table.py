"""Tables of frozen features: what is in them, what they depend on, and how they are made."""

import os
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glimpse_env.datasets.copies import ORIGINAL, ImageCopy, copied_images
from glimpse_env.encoding import table as module
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.partial import PartialArray, record_path
from glimpse_env.encoding.reduction import fit_reduction
from glimpse_env.encoding.registry import load_encoder
from glimpse_env.encoding.table import FeatureTable, table_path
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import only_process
from glimpse_env.sensing.sensor import Sensor
from tests.support.toy import GEOMETRY, toy_dataset
from tests.support.toy_encoder import TOY

MIRRORED = ImageCopy(mirrored=True)
SHIFTED = ImageCopy(down=2, right=-3)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch, fresh_cache: Path) -> None:
    monkeypatch.setattr(module, "GLIMPSES_PER_CHUNK", 5 * 64)


def toy_features(channels: int = 1, scales: int = 1, width: int = 6) -> GlimpseFeatures:
    encoder = load_encoder(TOY)
    sample = np.random.default_rng(0).normal(0.1, 0.02, size=(200, scales * encoder.width)).astype(np.float32)
    return GlimpseFeatures(encoder, channels, scales, fit_reduction(sample, width))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of images that this process has encoded."""
    counts: list[int] = []

    def call(self: Any, chunk: Any) -> Any:
        counts.append(chunk.count)
        return original(self, chunk)

    original = module._Encode.__call__
    monkeypatch.setattr(module._Encode, "__call__", call)
    return counts


@pytest.mark.parametrize(("channels", "scales"), [(1, 1), (3, 2)])
def test_a_table_holds_what_is_encoded_on_the_fly(channels: int, scales: int) -> None:
    dataset = toy_dataset(13, geometry=replace(GEOMETRY, scales=scales), channels=channels)
    features = toy_features(channels, scales)
    copies = (ORIGINAL, MIRRORED, SHIFTED)
    table = FeatureTable(dataset, features, copies)
    assert table.array.shape == (39, 64, 6)
    assert table.array.dtype == np.float16
    assert table.width == 6
    entries, locations = np.repeat(np.arange(39), 3), np.tile([0, 37, 63], 39)
    images = copied_images(dataset, np.arange(13), copies)
    glimpses = Sensor(12, scales)(images, entries, dataset.geometry.grid.corners[locations])
    expected = features.encode(glimpses).numpy()
    assert np.allclose(table.array[entries, locations], expected, atol=2e-3, rtol=1e-3)
    assert np.ptp(expected, axis=0).min() > 0.1
    for c in range(3):
        assert np.array_equal(
            table(entries[:39], locations[:39], copy=c), table.arrays[c][entries[:39], locations[:39]]
        )
    whole = table(np.arange(13)[:, None], np.array([[5, 60]]))
    assert np.array_equal(whole, table.arrays[0][:, [5, 60]])


def test_nothing_outside_its_window_enters_a_glimpse() -> None:
    dataset, features = toy_dataset(6), toy_features()
    row, column = GEOMETRY.grid.corners[27]
    window = np.s_[:, row : row + 12, column : column + 12]
    changed = 255 - dataset.images
    changed[window] = dataset.images[window]
    other = replace(dataset, images=changed, fingerprint="changed")
    one, two = (FeatureTable(images, features).array for images in (dataset, other))
    assert np.allclose(one[:, 27], two[:, 27], atol=2e-3)
    assert (np.abs(one - two).max(axis=(0, 2)) > 0.05).sum() == 63


def test_some_rows_are_a_table_of_their_own() -> None:
    dataset, features, rows = toy_dataset(13), toy_features(), np.array([2, 3, 11])
    whole, some = FeatureTable(dataset, features), FeatureTable(dataset, features, rows=rows)
    assert some.array.shape == (3, 64, 6)
    assert np.allclose(
        some(np.array([11, 2]), np.array([4, 63])), whole(np.array([11, 2]), np.array([4, 63])), atol=2e-3
    )
    assert table_path(dataset, features) != table_path(dataset, features, rows=rows)
    with pytest.raises(ConfigurationError, match="image 4 is not among the 3 rows of this table"):
        some(np.array([[2], [4], [11]]), np.array([0, 1]))


def test_copies_that_are_there_are_not_encoded_again(encoded: list[int]) -> None:
    dataset, features = toy_dataset(13), toy_features()
    alone = FeatureTable(dataset, features)
    assert encoded == [5, 5, 3]
    both = FeatureTable(dataset, features, (MIRRORED, ORIGINAL))
    assert encoded == [5, 5, 3] * 2
    assert np.array_equal(both.arrays[1], alone.array)
    turned = FeatureTable(dataset, features, (ORIGINAL, MIRRORED))
    assert len(encoded) == 6
    entries, locations = np.array([[3], [13 + 3], [12], [25]]), np.array([[0, 9]])  # copies come behind 13 images
    for entry, row in zip(entries[:, 0], turned(entries, locations), strict=True):
        np.testing.assert_array_equal(row, turned.array[entry, locations[0]])


def test_what_a_process_that_died_behind_the_last_chunk_left_is_removed(fresh_cache: Path) -> None:
    dataset, features = toy_dataset(13), toy_features()
    FeatureTable(dataset, features)
    record = record_path(table_path(dataset, features))
    record.write_text("{}")
    FeatureTable(dataset, features)
    assert not record.exists()


def test_the_cache_tells_tables_apart(encoded: list[int]) -> None:
    dataset, features = toy_dataset(13), toy_features()
    datasets = [
        dataset,
        replace(dataset, split="val"),
        replace(dataset, fingerprint="other"),
        replace(dataset, geometry=replace(GEOMETRY, stride=7)),
        replace(dataset, geometry=replace(GEOMETRY, glimpse_size=8)),
    ]
    paths = {table_path(one, features) for one in datasets} | {table_path(dataset, toy_features(width=5))}
    assert len(paths) == 6
    with pytest.raises(ConfigurationError, match="features of 3 channels and scales=1 do not fit toy/train with 1"):
        FeatureTable(dataset, toy_features(channels=3))
    with pytest.raises(ConfigurationError, match=r"scales=2 do not fit .* scales=1"):
        FeatureTable(dataset, toy_features(scales=2))


def test_a_stopped_computation_goes_on(encoded: list[int], monkeypatch: pytest.MonkeyPatch, fresh_cache: Path) -> None:
    dataset, features, copies = toy_dataset(13), toy_features(), (ORIGINAL, MIRRORED)
    FeatureTable(dataset, features, copies)
    expected = [path.read_bytes() for path in files(fresh_cache)]
    for path in files(fresh_cache):
        path.unlink()
    encoded.clear()
    write = PartialArray.write

    def interrupted(self: PartialArray, start: int, rows: np.ndarray) -> None:
        if len(encoded) == 5:
            raise KeyboardInterrupt
        write(self, start, rows)

    monkeypatch.setattr(PartialArray, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        FeatureTable(dataset, features, copies)
    assert files(fresh_cache) == []
    monkeypatch.setattr(PartialArray, "write", write)
    encoded.clear()
    FeatureTable(dataset, features, copies)
    assert encoded == [5, 3]  # the fifth chunk, and the last one
    assert [path.read_bytes() for path in files(fresh_cache)] == expected
    left = {path.suffix for path in (fresh_cache / "features").iterdir() if path.name.startswith(".")}
    assert left <= {".lock"}


def test_what_another_version_began_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    begun = PartialArray(path, (4, 2), np.float16, 2)
    begun.write(2, np.ones((2, 2)))
    assert PartialArray(path, (4, 2), np.float16, 2).missing == [0]
    assert PartialArray(path, (4, 2), np.float16, 1).missing == [0, 1, 2, 3]
    (tmp_path / ".x.json").write_text("{")
    assert PartialArray(path, (4, 2), np.float16, 2).missing == [0, 2]


def test_the_bytes_do_not_depend_on_the_workers(fresh_cache: Path, encoded: list[int]) -> None:
    dataset, features = toy_dataset(13), toy_features()
    table = FeatureTable(dataset, features)
    expected = np.array(table.array)
    encoded.clear()
    table_path(dataset, features).unlink()
    again = FeatureTable(dataset, features, workers=2)
    assert encoded == []  # by this process
    assert np.array_equal(again.array, expected)
    with pytest.raises(ConfigurationError, match="workers=2 and ray='local' contradict"):
        FeatureTable(dataset, features, (MIRRORED,), workers=2, ray="local")


def test_two_computations_of_one_table_take_turns(encoded: list[int]) -> None:
    dataset, features = toy_dataset(13), toy_features()
    path = table_path(dataset, features)
    thread = threading.Thread(target=FeatureTable, args=(dataset, features))
    with only_process([path]):
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive()
        assert encoded == []
    thread.join()
    assert encoded == [5, 5, 3]
    FeatureTable(dataset, features)
    assert len(encoded) == 3


def test_a_table_pickles_by_its_arguments(tmp_path: Path, encoded: list[int]) -> None:
    np.save(tmp_path / "images.npy", toy_dataset(13).images)
    dataset = toy_dataset(13, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    table = FeatureTable(dataset, toy_features(), (ORIGINAL, MIRRORED))
    pickled = pickle.dumps(table)
    assert len(pickled) < 10_000
    encoded.clear()
    twin = pickle.loads(pickled)
    assert encoded == []
    assert twin.copies == table.copies
    assert np.array_equal(twin.array, table.array)
    assert torch.from_numpy(twin.arrays[0]).shape == (13, 64, 6)  # without a warning
    assert os.path.getsize(table_path(dataset, toy_features())) > 0


def files(cache: Path) -> list[Path]:
    """The whole tables in a cache."""
    return sorted(path for path in (cache / "features").glob("*.npy") if not path.name.startswith("."))
