"""Demonstrations whose files were edited or damaged: states and targets to learn from, or one named error."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.cloning_data import CloningData
from glimpse_env.errors import ArtifactError, ConfigurationError
from oracles.demonstrations import Demonstrations
from tests.support.fuzz import damaged, json_files, outcome
from tests.support.toy import toy_dataset
from tests.support.toy_agents import GRID, STEPS

MANIFEST = {
    "format": 1,
    "policy": "boed",
    "oracle": {"criterion": "entropy", "samples": 40},
    "dataset": "toy",
    "options": {"folds": 3},
    "fingerprint": "toy",
    "judge": "0" * 16,
    "scales": 1,
    "num": 12,
    "stops": True,
}


def written(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Twelve sequences, some of which stop."""
    rng = np.random.default_rng(0)
    locations = rng.permuted(np.tile(np.arange(len(GRID)), (12, 1)), axis=1)[:, :STEPS]
    ended = np.arange(STEPS) >= np.arange(12)[:, None] % (STEPS + 1)
    epe = rng.random((12, STEPS, len(GRID) + 1)).astype(np.float16)
    epe[np.arange(STEPS) > (~ended).sum(1)[:, None]] = np.nan
    entropies = rng.random((12, STEPS)).astype(np.float32)
    return {"indices": np.arange(12), "locations": np.where(ended, -1, locations), "entropies": entropies, "epe": epe}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demonstrations") / "demos.npz"


def learn(path: Path, content: bytes, manifest: bytes | None = None) -> CloningData | None:
    """What an agent learns from demonstrations with these files; None where they are refused by their path, or as no
    demonstrations of the data set."""
    path.write_bytes(content)
    path.with_suffix(".json").write_bytes(json.dumps(MANIFEST).encode() if manifest is None else manifest)
    loaded, refusal = outcome(lambda: Demonstrations.load(path), ArtifactError)
    if loaded is None:
        assert f"demonstrations at {path} cannot be read" in refusal
        return None
    assert loaded.lengths.shape == (len(loaded),)
    data, refusal = outcome(
        lambda: CloningData.from_demonstrations(loaded, toy_dataset(), temperature=0.1),
        ArtifactError,
        ConfigurationError,
    )
    if data is None:
        assert "demonstration" in refusal
        return None
    rows = np.arange(len(data))
    states = data.batch(rows, rows % STEPS)[0]
    assert np.isfinite(data.targets).all()
    assert all(value.isfinite().all() for value in states.values())
    total = data.targets.sum(axis=-1)
    assert (np.isclose(total, 0) | np.isclose(total, 1, atol=1e-3)).all()
    return data


@given(data=st.data())
def test_edited_manifests_are_read_or_one_error(arrays: Any, path: Path, data: st.DataObject) -> None:
    learn(path, written(arrays), data.draw(json_files(MANIFEST)))


@given(data=st.data())
def test_damaged_archives_are_read_or_one_error(arrays: Any, path: Path, data: st.DataObject) -> None:
    learn(path, data.draw(damaged(written(arrays))))


DTYPES = ("int8", "uint8", "int32", "uint64", "float16", "float64", "complex64", "bool", "U3", "S2", "M8[s]", "V4")


@st.composite
def changed(draw: st.DrawFn, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of which one or two have other shapes, dtypes, values or names, or are missing."""
    changed = {name: array.copy() for name, array in arrays.items()}
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(arrays)))
        array = changed.get(name, arrays[name].copy())
        kind = draw(st.sampled_from(["value", "value", "dtype", "shape", "missing", "name", "other", "rows"]))
        if kind == "value" and array.size and array.dtype.kind in "if":
            place = np.unravel_index(draw(st.integers(0, array.size - 1)), array.shape)
            values = st.floats(width=16) if array.dtype.kind == "f" else st.sampled_from([-2, -1, 0, 63, 64, 99, 2**30])
            array[place] = draw(values) if array.dtype.itemsize > 1 else 0
        elif kind == "dtype":
            try:
                with np.errstate(all="ignore"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # numbers that become real
                    changed[name] = array.astype(draw(st.sampled_from(DTYPES)))
            except (TypeError, ValueError):
                del changed[name]
        elif kind == "shape":
            shapes = [array.reshape(-1), array[None], array[..., None], array.T, array[:0], array[..., :0], array[:1]]
            changed[name] = draw(st.sampled_from(shapes)) if array.ndim else array.reshape(1)
        elif kind == "missing":
            changed.pop(name, None)
        elif kind == "name":
            changed[draw(st.sampled_from(["x", "epe", "manifest", "self", "indices", "é", "a/b"]))] = array
        elif kind == "other":
            changed[name] = changed.get(draw(st.sampled_from(sorted(arrays))), array).copy()
        elif array.ndim:
            changed = {name: array[:5] if array.ndim else array for name, array in changed.items()}
    return changed


@given(data=st.data(), stops=st.booleans())
def test_other_arrays_are_read_or_one_error(arrays: Any, path: Path, data: st.DataObject, stops: bool) -> None:
    manifest = json.dumps({**MANIFEST, "stops": stops}).encode()
    learn(path, written(data.draw(changed(arrays))), manifest)


MANIFESTS: dict[str, Any] = {
    "num": [11, -1, "12", None, 12.0],
    "games": [[1] * 12, None, [{"player": "me"}] * 12, [{"player": "me", "assisted": True}] * 3],
    "glimpse_cost": [float("nan"), -1, "0.1"],
    "dataset": ["received:data", 3],
    "options": [[], None],
    "scales": [True, "2"],
    "stops": [1],
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_that_are_of_something_else_are_one_error(arrays: Any, path: Path, name: str) -> None:
    for value in MANIFESTS[name]:
        manifest = json.dumps({**MANIFEST, name: value}).encode()
        path.write_bytes(written(arrays))
        path.with_suffix(".json").write_bytes(manifest)
        with pytest.raises(ArtifactError, match=rf"cannot be read .*({name}|manifest says)"):
            Demonstrations.load(path)


def test_numbers_of_other_processors_are_read(arrays: Any, path: Path) -> None:
    turned = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    learned, same = learn(path, written(turned)), learn(path, written(arrays))
    assert learned is not None
    assert same is not None
    np.testing.assert_array_equal(learned.targets, same.targets)


def test_the_manifest_never_takes_the_place_of_the_arrays(arrays: Any, path: Path) -> None:
    made = Demonstrations(manifest=MANIFEST, **arrays)
    with pytest.raises(ConfigurationError, match=r"demos\.json cannot end in \.json"):
        made.save(path.with_suffix(".json"))


def test_sound_files_are_learned_from(arrays: Any, path: Path) -> None:
    learned = learn(path, written(arrays))
    assert learned is not None
    assert learned.targets.shape == (12, STEPS, len(GRID) + 1)
