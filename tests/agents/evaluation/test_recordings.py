"""Recordings of episodes as data."""

from pathlib import Path

import numpy as np
import pytest

from agents.evaluation.recordings import Recording, load_recordings, save_recordings
from glimpse_env.errors import ArtifactError


def recording(maps: np.ndarray | None) -> Recording:
    return Recording(
        indices=np.arange(2),
        corners=np.ones((2, 3, 2), dtype=np.int64),
        probabilities=np.full((2, 3, 4), 0.25, dtype=np.float32),
        maps=maps,
        map_title="" if maps is None else "Expected entropy, nats",
        success=np.array([True, False]),
    )


def test_recordings_survive_a_file(tmp_path: Path) -> None:
    recordings = {"agent": recording(None), "oracle": recording(np.zeros((2, 3, 5), dtype=np.float32))}
    save_recordings(tmp_path / "recordings.npz", recordings)
    again = load_recordings(tmp_path / "recordings.npz")
    assert list(again) == ["agent", "oracle"]
    assert again["agent"].maps is None
    assert again["oracle"].map_title == "Expected entropy, nats"
    for name, one in recordings.items():
        for field in ("indices", "corners", "probabilities", "success"):
            array = getattr(one, field)
            assert getattr(again[name], field).dtype == array.dtype
            np.testing.assert_array_equal(getattr(again[name], field), array)


def test_damaged_recordings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "recordings.npz"
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_recordings(path)
    for content in (b"torn", b"PK\x03\x04 torn"):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="cannot be read"):
            load_recordings(path)
