from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from glimpse_env import GlimpseEnv
from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.observations import ALL_ROWS, OBSERVATIONS, Histories, Observer, take, unpack_history
from tests.support.toy import GEOMETRY, SIZE, toy_dataset, toy_judge

GRID = GEOMETRY.grid
STEPS = GEOMETRY.num_glimpses


def observer_of(name: str, channels: int, scales: int = 1) -> Observer:
    """The observer of toy episodes."""
    return OBSERVATIONS[name](replace(GEOMETRY, scales=scales), channels)


def random_histories(scales: int = 1, channels: int = 3) -> Histories:
    """One episode for each count 0..T, at any pixels."""
    rng = np.random.default_rng(0)
    histories = Histories.empty(STEPS + 1, STEPS, GRID.glimpse_size, channels * scales)
    for episode in range(STEPS + 1):
        for t in range(episode):
            histories.glimpses[episode, t] = rng.integers(0, 256, histories.glimpses.shape[2:])
            histories.corners[episode, t] = rng.integers(0, GRID.span + 1, 2)
        histories.counts[episode] = episode
    return histories


def same(first: Histories, second: Histories) -> bool:
    return all(
        np.array_equal(getattr(first, field), getattr(second, field))
        and getattr(first, field).dtype == getattr(second, field).dtype
        for field in ("glimpses", "corners", "counts")
    )


@pytest.mark.parametrize("scales", [1, 2])
def test_history_holds_every_glimpse_in_its_place(scales: int) -> None:
    histories = random_histories(scales)
    observations = observer_of("history", 3, scales)(histories)
    for episode in range(STEPS + 1):
        one = take(observations, episode)
        assert one["step"] == episode
        assert one["mask"].tolist() == [1] * episode + [0] * (STEPS - episode)
        pixels = one["glimpses"].reshape(histories.glimpses.shape[1:])
        places = one["locations"].reshape(STEPS, 2)
        for t in range(episode):
            assert np.allclose(pixels[t] * 255, histories.glimpses[episode, t], atol=1e-4)
            assert np.allclose((places[t] + 1) / 2 * GRID.span, histories.corners[episode, t], atol=1e-4)
        assert not pixels[episode:].any()
        assert not places[episode:].any()


def test_glimpse_holds_the_newest_one_only() -> None:
    histories = random_histories()
    observations = observer_of("glimpse", 3, 1)(histories)
    assert not observations["glimpse"][0].any()
    assert not observations["location"][0].any()
    for episode in range(1, STEPS + 1):
        one = take(observations, episode)
        newest = histories.glimpses[episode, episode - 1]
        assert np.allclose(one["glimpse"].reshape(newest.shape) * 255, newest, atol=1e-4)
        place = (one["location"] + 1) / 2 * GRID.span
        assert np.allclose(place, histories.corners[episode, episode - 1], atol=1e-4)
        assert one["step"] == episode


@pytest.mark.parametrize("scales", [1, 2])
def test_canvas_is_the_seen_part_of_the_image(scales: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (STEPS + 1, SIZE, SIZE, 3), dtype=np.uint8)
    histories = random_histories(scales)
    side = GRID.glimpse_size
    expected = np.zeros((STEPS + 1, SIZE, SIZE, 4), np.uint8)
    for episode in range(STEPS + 1):
        for t in range(episode):
            row, col = histories.corners[episode, t]
            window = images[episode, row : row + side, col : col + side]
            histories.glimpses[episode, t, ..., :3] = window
            expected[episode, row : row + side, col : col + side, :3] = window
            expected[episode, row : row + side, col : col + side, 3] = 255
    canvas = observer_of("canvas", 3, scales)(histories)
    assert canvas.dtype == np.uint8
    assert np.array_equal(canvas, expected)


@pytest.mark.parametrize("mode", ["history", "glimpse", "canvas"])
def test_before_the_first_glimpse_observations_are_blank(mode: Any) -> None:
    observer = observer_of(mode, 3, 1)
    blank, observed = observer.blank(2), observer(Histories.empty(2, STEPS, GRID.glimpse_size, 3))
    for key in blank if isinstance(blank, dict) else [...]:
        assert np.array_equal(blank[key], observed[key])
        assert blank[key].dtype == observed[key].dtype


@pytest.mark.parametrize("scales", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_unpacking_inverts_packing(scales: int, channels: int) -> None:
    histories = random_histories(scales, channels)
    observations = observer_of("history", channels, scales)(histories)
    assert same(unpack_history(observations, GRID), histories)
    for episode in range(STEPS + 1):
        assert same(unpack_history(take(observations, episode), GRID), histories[episode : episode + 1])


def test_every_brightness_survives_packing() -> None:
    histories = Histories.empty(1, STEPS, GRID.glimpse_size, 2)
    histories.glimpses.reshape(-1)[:256] = np.arange(256)
    histories.counts[:] = STEPS
    observations = observer_of("history", 2, 1)(histories)
    assert same(unpack_history(observations, GRID), histories)


@pytest.mark.parametrize("mode", ["history", "glimpse", "canvas"])
def test_large_batches_show_what_small_ones_do(mode: Any) -> None:
    """From a megabyte on PyTorch converts pixels in place of NumPy."""
    batch, rng = 800, np.random.default_rng(0)
    glimpses = rng.integers(0, 256, (STEPS, batch, 12, 12, 3), dtype=np.uint8)
    corners = rng.integers(0, GRID.span + 1, (STEPS, batch, 2))
    observer = observer_of(mode, 3, 1)
    shown, few = observer.blank(batch), observer.blank(2)
    for t in range(STEPS):
        large = observer.advance(shown, t, glimpses[t], corners[t])
        small = observer.advance(few, t, glimpses[t, :2], corners[t, :2])
        for key in large if isinstance(large, dict) else [...]:
            assert np.array_equal(large[key][:2], small[key])
    assert max(array.nbytes for array in (large.values() if isinstance(large, dict) else [large])) > 2**20
    observer.begin(shown)
    again = observer.advance(shown, 0, glimpses[0], corners[0])
    first = observer(Histories(glimpses.swapaxes(0, 1), corners.swapaxes(0, 1), np.ones(batch, np.int64)))
    for key in again if isinstance(again, dict) else [...]:
        assert np.array_equal(again[key], first[key])


def test_stable_baselines_batches_unpack() -> None:
    env = DummyVecEnv([lambda: GlimpseEnv(toy_dataset(), toy_judge()) for _ in range(2)])
    env.seed(0)
    env.reset()
    observations: Any = env.step(np.array([3, 60]))[0]
    expected = [single.unwrapped.batch.histories for single in env.envs]  # type: ignore[attr-defined]
    for step in (observations["step"], observations["step"][:, None]):
        histories = unpack_history({**observations, "step": step}, GRID)
        assert same(histories[:1], expected[0])
        assert same(histories[1:], expected[1])


def test_histories_must_fit_together() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        Histories(np.zeros((2, 4, 12, 12, 1), np.uint8), np.zeros((2, 3, 2), np.int64), np.zeros(2, np.int64))


def test_unknown_modes_are_named() -> None:
    with pytest.raises(ConfigurationError, match="video"):
        observer_of("video", 3, 1)


class _Two(Observer):
    """An observer of somebody's own whose observations are dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.space = spaces.Dict({"where": spaces.Box(0, 99, (STEPS, 2)), "bright": spaces.Box(0, 255, (STEPS,))})

    def write(self, observations: Any, t: int, glimpses: Any, corners: Any, rows: Any = ALL_ROWS) -> None:
        observations["where"][rows, t] = corners
        observations["bright"][rows, t] = glimpses.mean(axis=(1, 2, 3, 4)) if glimpses.ndim == 5 else glimpses.mean()


def test_an_observer_of_ones_own_may_show_a_dict() -> None:
    observer, corners = _Two(), np.array([[1, 2], [3, 4]])
    before = observer.blank(2)
    after = observer.advance(before, 0, np.zeros((2, 12, 12, 1), dtype=np.uint8), corners)
    assert (after["where"][:, 0] == corners).all()
    before["where"][:] = 7
    assert (after["where"][:, 1:] == 0).all()  # a copy
