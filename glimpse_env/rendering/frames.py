"""Pictures of episodes, and the window that shows them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

from glimpse_env.episodes import EpisodeBatch
from glimpse_env.rendering.canvas import (
    BACKGROUND,
    BEST,
    FAINT,
    INK,
    RIGHT,
    WRONG,
    Canvas,
    blend,
    draw_bars,
    draw_ramp,
    heat,
    heat_cell,
    map_bounds,
)
from glimpse_env.sensing.geometry import Geometry

WIDTH, HEIGHT = 640, 384
"""Size of a frame in pixels; a map of expected entropies makes it wider by ``MAP_WIDTH``."""
MAP_WIDTH = 344
TOP_CLASSES = 6
"""Number of classes that have a bar."""

_ORDER = np.array([(255, 209, 92), (255, 122, 92), (236, 72, 153), (150, 110, 255)], dtype=np.float64)
"""Colours of the first to the last glimpse."""
_MARGIN, _TOP, _SIDE = 24, 44, 320
"""Place and side of the image in a frame."""
_GAP = 8
"""Pixels between the maps of several zooms."""
_BAR_WIDTH = 248
"""Width of a bar of probability 1."""


def draw_episode(
    image: np.ndarray,
    corners: np.ndarray,
    geometry: Geometry,
    probabilities: np.ndarray | None,
    class_names: Sequence[str],
    label: int | None = None,
    epe_map: np.ndarray | None = None,
    *,
    title: str | None = None,
    map_title: str = "Expected entropy, nats",
    named: int | None = None,
) -> np.ndarray:
    """Draws an episode: what was seen of the image, and the judge's probabilities or the agent's answer.

    Args:
        image: (H, W, C) uint8, square, C 1 or 3.
        corners: (t, 2) int pixels, (t, 3) with zooms: top-left corners of the glimpses so far, in order.
        geometry: of the glimpses.
        probabilities: (classes,): the judge's at present; None where the agent names the class itself.
        class_names: of all classes.
        label: the true class, marked; leave it out before the episode has ended.
        epe_map: (L,) expected posterior entropy in nats at each location; drawn beside the image, with zooms a small
            map for each, all in the same colours.
        title: the heading, in place of the one that counts the glimpses.
        map_title: the heading of the map.
        named: the class that the agent named last, in place of ``probabilities``; None where it named none yet.

    Returns:
        (384, 640, 3) uint8, 344 pixels wider with a map.
    """
    width = WIDTH + (MAP_WIDTH if epe_map is not None else 0)
    canvas = Canvas(width, HEIGHT)
    if title is None:
        title = f"Glimpse {len(corners)} of {geometry.num_glimpses}" if len(corners) else "Nothing seen yet"
    canvas.text((_MARGIN, 13), title, 18, INK)

    scale = _SIDE / image.shape[0]
    canvas.image((_MARGIN, _TOP), _lit(image, corners, geometry), _SIDE)
    _draw_glimpses(canvas, corners, geometry, scale)
    if epe_map is not None:
        _draw_map(canvas, _MARGIN + MAP_WIDTH, image, geometry, epe_map, map_title)
    left = width - _MARGIN - _BAR_WIDTH
    if probabilities is None:
        _draw_answer(canvas, left, named, class_names, label)
    else:
        _draw_posterior(canvas, left, probabilities, class_names, label)
    return canvas.finished()


def draw_batch(batch: EpisodeBatch) -> list[np.ndarray]:
    """Draws each episode at present, (384, 640, 3) uint8; the true class is marked once an episode has ended."""
    probabilities = None if batch.judge is None else batch.assess().probabilities
    return [
        draw_episode(
            np.asarray(batch.dataset.images[index]),
            batch.corners[i, : batch.counts[i]],
            batch.geometry,
            None if probabilities is None else probabilities[i],
            batch.dataset.class_names,
            label=int(batch.dataset.labels[index]) if batch.ended[i] else None,
            named=None if batch.named is None or batch.named[i] < 0 else int(batch.named[i]),
        )
        for i, index in enumerate(batch.indices)
    ]


class Window:
    """A window on the screen, opened by its first picture; pygame shows only the window that was opened last.

    Gymnasium's ``HumanRendering`` wraps environments that draw arrays; this serves ``render_mode="human"`` itself.
    """

    def __init__(self, title: str, fps: int):
        self.title = title
        self.fps = fps
        self._screen: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies as a window that has not been opened."""
        return type(self), (self.title, self.fps)

    def show(self, frame: np.ndarray) -> None:
        """Shows a picture (height, width, 3) uint8 and waits for its time to pass.

        Raises:
            DependencyNotInstalled: if pygame is missing.
        """
        try:
            import pygame
        except ImportError as error:
            raise DependencyNotInstalled("render_mode='human' needs pygame: pip install pygame.") from error
        size = frame.shape[1::-1]
        if self._screen is None or pygame.display.get_surface() is not self._screen:  # pygame has one for all
            pygame.display.init()
            self._screen = pygame.display.set_mode(size)
            pygame.display.set_caption(self.title)
        pygame.event.pump()
        self._screen.blit(pygame.image.frombuffer(frame.tobytes(), size, "RGB"), (0, 0))
        pygame.display.flip()
        pygame.time.wait(1000 // self.fps)

    def close(self) -> None:
        """Closes the window, if it is open."""
        if self._screen is not None:
            import pygame

            pygame.display.quit()
            self._screen = None


def _lit(image: np.ndarray, corners: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Brightens an image where it was seen, less where only a wider window saw it, else dim grey: (H, W, 3) uint8."""
    size = len(image)
    pixels = np.broadcast_to(image, (size, size, 3)).astype(np.float64)
    dim = 0.36 * _grey(image) + 0.28 * np.array(FAINT)
    light = np.zeros((size, size, 1))
    if len(geometry.zooms) > 1:
        paint_zoomed(pixels, image, corners, geometry)
    for s in reversed(range(geometry.scales)):
        for left, top, right, bottom in _windows(corners, geometry.glimpse_size, s).clip(0, size):
            light[top:bottom, left:right] = 1.0 if s == 0 else 0.4
    return np.rint(light * pixels + (1 - light) * dim).astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    """Returns the brightness of an image (H, W, 1 or 3) as (H, W, 1) float64."""
    return (np.broadcast_to(image, (*image.shape[:2], 3)) @ np.array([0.299, 0.587, 0.114]))[..., None]


def paint_zoomed(pixels: np.ndarray, image: np.ndarray, corners: np.ndarray, geometry: Geometry) -> None:
    """Paints what glimpses at (row, col, zoom), (t, 3), saw of an image (H, W, C) into ``pixels`` (H, W, C or 3), in
    place: each as coarse as it is, closer ones on top."""
    glimpses = geometry.sensor(image[None], np.zeros(len(corners), dtype=np.int64), corners)
    for t in np.argsort(-corners[:, 2], kind="stable"):
        row, col, zoom = corners[t]
        block = glimpses[t].repeat(zoom, axis=0).repeat(zoom, axis=1)
        pixels[row : row + len(block), col : col + len(block)] = block


def _windows(corners: np.ndarray, glimpse_size: float, scale: int) -> np.ndarray:
    """Returns left, top, right and bottom of the glimpses' windows of one scale, or of their zooms, (t, 4)."""
    if corners.shape[1] == 3:
        side, top_left = glimpse_size * corners[:, 2:], corners[:, 1::-1]
    else:
        side = glimpse_size * 2**scale
        top_left = corners[:, ::-1] - (side - glimpse_size) // 2
    return np.concatenate([top_left, top_left + side], axis=1)


def _draw_glimpses(canvas: Canvas, corners: np.ndarray, geometry: Geometry, scale: float) -> None:
    """Draws numbered outlines, coloured by their order, over an image at its place, with ``scale`` pixels of the frame
    for one of its own."""
    corners = np.concatenate([corners[:, :2] * scale, corners[:, 2:]], axis=1)
    place = np.array([_MARGIN, _TOP] * 2)
    colours = [blend(_ORDER, t / max(geometry.num_glimpses - 1, 1)) for t in range(geometry.num_glimpses)]
    for s in reversed(range(geometry.scales)):
        for t, box in enumerate(_windows(corners, geometry.glimpse_size * scale, s).clip(0, _SIDE) + place):
            newest = t == len(corners) - 1
            canvas.box(box, outline=colours[t], width=(3 if newest else 2) if s == 0 else 0.5)
    taken: dict[tuple[float, float], int] = {}
    for t, (row, col) in enumerate(corners[:, :2]):
        shift = 17 * taken.setdefault((row, col), 0)
        taken[row, col] += 1
        left, top = _MARGIN + col + shift, _TOP + row
        canvas.box((left, top, left + 17, top + 17), fill=colours[t], radius=2)
        canvas.text((left + 8.5, top + 9), str(t + 1), 12, BACKGROUND, "mm")


def _draw_map(
    canvas: Canvas, left: int, image: np.ndarray, geometry: Geometry, epe_map: np.ndarray, title: str
) -> None:
    """Draws the map as a heat over the grey image, a cell around each glimpse's centre, its lowest cell outlined; with
    zooms an image for each."""
    size, grid, bounds = len(image), geometry.grid, map_bounds(epe_map)
    across = math.ceil(math.sqrt(len(grid.levels)))
    side, best = (_SIDE + _GAP) / across - _GAP, int(np.nanargmin(epe_map))
    for k, (part, level) in enumerate(zip(grid.level_slices, grid.levels, strict=True)):
        where = np.array([left + (side + _GAP) * (k % across), _TOP + (side + _GAP) * (k // across)])
        shape = level.glimpse_size, level.stride
        colours, inside = heat(epe_map[part], size, *shape, offset=level.offset, bounds=bounds)
        opacity = 0.68 * inside
        mixed = opacity * colours + (1 - opacity) * 0.36 * _grey(image)
        canvas.image((where[0], where[1]), np.rint(mixed).astype(np.uint8), side)
        if len(grid.levels) > 1:
            canvas.text((where[0] + 5, where[1] + 4), f"{level.zoom} x", 13, INK)
        if part.start <= best < part.stop:
            cell = heat_cell(best - part.start, level.side, *shape, level.offset) * side / size
            canvas.box(cell + np.tile(where, 2) + np.array([-2, -2, 2, 2]), outline=BEST, width=2.5)
    canvas.text((left, 17), title, 14, FAINT)
    ramp_left, ramp_right = left + 204, left + 276
    draw_ramp(canvas, ramp_left, 20, ramp_right, 30)
    canvas.text((ramp_left - 5, 25), f"{bounds[0]:.2f}", 12, FAINT, "rm")
    canvas.text((ramp_right + 5, 25), f"{bounds[1]:.2f}", 12, FAINT, "lm")


def _draw_posterior(
    canvas: Canvas, left: int, probabilities: np.ndarray, class_names: Sequence[str], label: int | None
) -> None:
    """Draws bars of the most probable classes, and once the true class may be told whether the judge is right."""
    p = np.asarray(probabilities, dtype=np.float64)
    entropy = -float((p * np.log(np.maximum(p, 1e-30))).sum())
    right = left + _BAR_WIDTH
    canvas.text((left, 17), "Judge", 14, FAINT)
    canvas.text((right, 17), f"entropy {entropy:.2f} nats", 14, FAINT, "ra")
    draw_bars(canvas, (left, _TOP), _BAR_WIDTH, probabilities, class_names, label, TOP_CLASSES)
    if label is not None:
        _draw_verdict(canvas, left, int(p.argmax()) == label, class_names[label])


def _draw_answer(canvas: Canvas, left: int, named: int | None, class_names: Sequence[str], label: int | None) -> None:
    """Draws what the agent names, and once the true class may be told whether it is right."""
    canvas.text((left, 17), "Agent", 14, FAINT)
    said = "nothing named yet" if named is None else class_names[named]
    canvas.text((left, _TOP), canvas.fitted(said, 18, _BAR_WIDTH), 18, FAINT if named is None else INK)
    if label is not None:
        _draw_verdict(canvas, left, named == label, class_names[label])


def _draw_verdict(canvas: Canvas, left: int, correct: bool, label: str) -> None:
    """Draws whether the class named is the true one, ``label``, under the answer."""
    said = "Right" if correct else f"Wrong. True: {label}"
    y = _TOP + _SIDE - 20
    canvas.box((left, y, left + _BAR_WIDTH, y + 20), fill=RIGHT if correct else WRONG, radius=4)
    canvas.text((left + _BAR_WIDTH / 2, y + 10), canvas.fitted(said, 13, _BAR_WIDTH - 16), 13, BACKGROUND, "mm")
