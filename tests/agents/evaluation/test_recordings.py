"""Recordings of episodes as data."""

from pathlib import Path

import numpy as np
import pytest

from agents.evaluation.recordings import Recording, episode_frames, load_recordings, save_recordings
from glimpse_env.errors import ArtifactError
from glimpse_env.sensing.geometry import Geometry
from tests.support.toy import toy_dataset


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


@pytest.mark.parametrize("scales", [1, 2])
def test_pictures_without_the_image_show_what_glimpses_saw_and_nothing_else(scales: int) -> None:
    geometry = Geometry(32, glimpse_size=8, stride=4, num_glimpses=2, scales=scales)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    corners = np.array([[[0, 4], [20, 8]]])  # at two scales, the first window leaves the image
    episode = Recording(np.arange(1), corners, np.full((1, 2, 3), 1 / 3, np.float32), None, "", np.array([True]))
    side, before = 8 * 2 ** (scales - 1), 4 * (scales - 1)
    seen = np.zeros((32, 32), dtype=bool)

    def picture(changed: np.ndarray, step: int) -> np.ndarray:
        pixels = images.copy()
        pixels[0, changed] = 255 - pixels[0, changed]
        dataset = toy_dataset(3, geometry=geometry, channels=3, images=pixels)
        return episode_frames(episode, 0, dataset, name="random", whole=False)[step]

    for step, (row, column) in enumerate(corners[0]):
        seen[max(row - before, 0) : row - before + side, max(column - before, 0) : column - before + side] = True
        before_all = picture(np.zeros_like(seen), step)
        np.testing.assert_array_equal(before_all, picture(~seen, step))
        assert (before_all != picture(seen, step)).any()
