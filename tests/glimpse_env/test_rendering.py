import copy
import pickle

import numpy as np
import pytest

from glimpse_env import GlimpseEnv
from glimpse_env.rendering.frames import HEIGHT, MAP_WIDTH, WIDTH, Window, draw_episode
from glimpse_env.sensing.geometry import Geometry
from tests.support.toy import SIZE, toy_dataset, toy_judge

NAMES = tuple(f"species {k}" for k in range(10))
SIDE = 320
SCALE = SIDE // SIZE
CORNERS = np.array([(0, 0), (20, 24), (4, 20)])


def picture(frame: np.ndarray, left: int = 24) -> np.ndarray:
    """(320, 320, 3): the part of a frame that shows the image, or the map."""
    return frame[44 : 44 + SIDE, left : left + SIDE]


def bars(frame: np.ndarray) -> np.ndarray:
    """(384, 272, 3): the part with the posterior."""
    return frame[:, -272:]


def draw(corners: np.ndarray = CORNERS, **changes: object) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), (180, 40, 40), np.uint8)
    p = np.arange(10, 0, -1) / 55
    stride, scales = changes.pop("stride", 4), changes.pop("scales", 1)
    geometry = Geometry(SIZE, 12, stride=stride, num_glimpses=4, scales=scales)
    arguments = {"image": image, "geometry": geometry, "probabilities": p, "class_names": NAMES}
    return draw_episode(corners=corners, **(arguments | changes))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [40, 60, 128])
def test_frames_have_one_size(channels: int, size: int) -> None:
    image = np.zeros((size, size, channels), np.uint8)
    assert draw(image=image).shape == (HEIGHT, WIDTH, 3)
    frame = draw(image=image, epe_map=np.random.default_rng(0).random(64))
    assert frame.shape == (HEIGHT, WIDTH + MAP_WIDTH, 3)
    assert frame.dtype == np.uint8


def test_seen_parts_are_bright_and_the_rest_is_dim_and_grey() -> None:
    shown = picture(draw()).astype(int)
    row, col = (CORNERS[1] + 6) * SCALE  # the middle of a glimpse
    assert np.abs(shown[row, col] - (180, 40, 40)).max() <= 1
    row, col = 30 * SCALE, 6 * SCALE  # never looked at
    assert np.ptp(shown[row, col]) < 15
    assert shown[row, col].max() < 100


def test_wider_scales_are_lit_less() -> None:
    row, col = (CORNERS[1] + (6, -3)) * SCALE  # beside the second glimpse, within its wider window
    narrow, wide = (picture(draw(CORNERS[1:2], scales=scales)).astype(int)[row, col] for scales in (1, 2))
    assert np.ptp(narrow) < np.ptp(wide) < 140


def test_each_glimpse_has_an_outline_of_its_own_colour() -> None:
    shown = picture(draw()).astype(int)
    colours = [shown[(row + 12) * SCALE - 1, (col + 6) * SCALE] for row, col in CORNERS]  # of the lower edges
    assert all(np.ptp(colour) > 90 for colour in colours)
    assert len({tuple(colour) for colour in colours}) == 3
    before = picture(draw(CORNERS[:2])).astype(int)
    assert np.array_equal(before[12 * SCALE - 1, 6 * SCALE], colours[0])  # it stays when more are taken


def test_bars_are_as_long_as_the_probabilities() -> None:
    p = np.array([0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125])
    frame = bars(draw(probabilities=p, class_names=NAMES[:6])).astype(int)
    for place, value in enumerate(p[:3]):
        row = frame[44 + 47 * place + 27]  # through the middle of a bar
        length = (row[:, 2] > 150).sum()
        assert length == pytest.approx(248 * value, abs=3)


def test_the_true_class_is_marked_only_where_it_is_told() -> None:
    green = np.array([92, 200, 130])

    def has_green(frame: np.ndarray) -> bool:
        return bool((np.abs(bars(frame).astype(int) - green).max(axis=-1) < 3).sum() > 20)

    assert not has_green(draw())
    assert has_green(draw(label=0))
    assert has_green(draw(label=9))  # improbable, and yet among the bars


def test_the_lowest_place_of_a_map_is_bright_and_outlined() -> None:
    values = np.full((8, 8), 2.0)
    values[2, 5] = 1.0
    left = 24 + MAP_WIDTH
    shown = picture(draw(epe_map=values.ravel()), left).astype(int)
    row, col = ((np.array([2, 5]) * 4 + 6) * SCALE).tolist()  # the middle of the glimpse at that place
    assert shown[row, col].sum() > 2 * shown[row + 5 * SCALE, col].sum()
    flat = picture(draw(epe_map=np.full(64, 2.0)), left)
    assert np.isfinite(flat).all()


def test_a_map_lies_where_its_grid_does() -> None:
    """Glimpses of 12 on 40 pixels, 10 apart: 3 x 3 places, and the last 8 pixels are never looked at."""
    values = np.full((3, 3), 2.0)
    values[2, 2] = 1.0
    shown = picture(draw(epe_map=values.ravel(), stride=10), 24 + MAP_WIDTH).astype(int)
    middle, beyond = (np.array([2 * 10 + 6, 2 * 10 + 6 + 8]) * SCALE).tolist()
    assert shown[middle, middle].sum() > 2 * shown[beyond, beyond].sum()


@pytest.mark.parametrize("steps", [0, 2, 4])
def test_environments_draw_their_episode(steps: int) -> None:
    dataset, judge = toy_dataset(), toy_judge()
    env = GlimpseEnv(dataset, judge, render_mode="rgb_array")
    _, info = env.reset(options={"index": 4})
    for location in range(steps):
        info = env.step(location)[-1]
    expected = draw_episode(
        dataset.images[4],
        env.batch.grid.corners[:steps],
        dataset.geometry,
        info["probabilities"],
        dataset.class_names,
        label=1 if steps == 4 else None,
    )
    frame = env.render()
    assert frame is not None
    assert np.array_equal(frame, expected)


def test_without_a_mode_nothing_is_drawn() -> None:
    env = GlimpseEnv(toy_dataset(), toy_judge())
    env.reset()
    assert env.render() is None


def test_the_window_shows_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(GlimpseEnv, "metadata", {**GlimpseEnv.metadata, "render_fps": 1000})
    env, drawn = (GlimpseEnv(toy_dataset(), toy_judge(), render_mode=mode) for mode in ("human", "rgb_array"))
    for one in (env, drawn):
        one.reset(seed=0)
    for location in (5, 9):
        for one in (env, drawn):
            one.step(location)
        on_screen = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
        assert np.array_equal(on_screen, drawn.render())
    assert env.render() is None
    env.close()
    env.close()
    assert pygame.display.get_surface() is None


def test_windows_may_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    first, second = Window("first", 1000), Window("second", 1000)
    frame = np.zeros((10, 20, 3), np.uint8)
    first.show(frame)
    second.show(frame)
    second.close()
    first.show(frame)  # opens again
    assert pygame.display.get_surface().get_size() == (20, 10)
    for copied in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert (copied.title, copied.fps) == ("first", 1000)
    first.close()
