"""The picture of a game, of any size, and the places of things in it."""

import math

import numpy as np

from agents.play.game import Attempt, Game, Score
from glimpse_env.rendering.canvas import (
    BACKGROUND,
    BEST,
    FAINT,
    INK,
    RIGHT,
    TRACK,
    WRONG,
    Canvas,
    Colour,
    draw_bars,
    draw_ramp,
    heat,
    heat_cell,
    map_bounds,
)

WIDTH, HEIGHT = 1040, 704
"""Size of the picture in units; it is drawn as large as the window allows."""
PERSON: Colour = (70, 205, 255)
ORACLE: Colour = BEST

_LEFT, _TOP, _SIDE = 32, 64, 576
"""Place and side of the image, in units."""
_PANEL, _PANEL_RIGHT = 644, 1008
"""Left and right edge of the panel beside the image, in units."""
_BUTTON = (_PANEL, 596, _PANEL_RIGHT, 640)
_MIN_ZOOM = 0.4

_HELP = (
    ("Click", "take the glimpse at the pointer"),
    ("M", "the oracle's map; the image then"),
    ("", "counts as assisted"),
    ("Space", "next image, after the last glimpse"),
    ("H", "hide or show this"),
    ("Esc", "stop; prints the score"),
)
_WHEEL = ("Wheel", "look closer or wider")
_STOP = ("Enter", "stop: be judged by what you saw")


class Board:
    """The picture of a game in a window, the same shape at every size.

    Args:
        width, height: size of the window in pixels.
    """

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.zoom = max(_MIN_ZOOM, min(width / WIDTH, height / HEIGHT))
        self.left = max(0, round(width - WIDTH * self.zoom) // 2)
        self.top = max(0, round(height - HEIGHT * self.zoom) // 2)

    def pixel_at(self, pointer: tuple[int, int], game: Game) -> tuple[float, float] | None:
        """Returns (row, col) in the image's pixels for a pixel (x, y) of the window; None beside the image."""
        x, y = self._units(pointer)
        scale = game.grid.image_size / _SIDE
        row, col = (y - _TOP) * scale, (x - _LEFT) * scale
        inside = 0 <= row < game.grid.image_size and 0 <= col < game.grid.image_size
        return (row, col) if inside and not game.finished else None

    def on_button(self, pointer: tuple[int, int], game: Game) -> bool:
        """Returns whether a pixel (x, y) of the window lies on the button for the next image, if there is one now."""
        x, y = self._units(pointer)
        left, top, right, bottom = _BUTTON
        return game.over and left <= x < right and top <= y < bottom

    def draw(self, game: Game, pointer: tuple[int, int] | None = None, *, help_shown: bool = True) -> np.ndarray:
        """Draws the game's present state.

        Args:
            game: the game; the picture does not depend on its hidden image until the episode is over.
            pointer: pixel (x, y) of the window; the glimpse that a click there would take is outlined.
            help_shown: whether to explain the keys.

        Returns:
            (height, width, 3) uint8.
        """
        canvas = Canvas(WIDTH, HEIGHT, self.zoom)
        if game.finished:
            _draw_end(canvas, game)
        elif game.over:
            _draw_verdict(canvas, game)
        else:
            aimed = None if pointer is None else self.pixel_at(pointer, game)
            _draw_play(canvas, game, None if aimed is None else game.locate(*aimed), help_shown)
        if game.over:
            last = game.number + 1 == len(game.indices)
            label = "Close" if game.finished else "See the score" if last else "Next image"
            lit, (left, top, right, bottom) = pointer is not None and self.on_button(pointer, game), _BUTTON
            canvas.box(_BUTTON, fill=INK if lit else TRACK, radius=8)
            canvas.text(((left + right) / 2, (top + bottom) / 2), label, 17, BACKGROUND if lit else INK, "mm")
            canvas.text((right - 16, (top + bottom) / 2), "Space", 13, FAINT, "rm")
        _draw_status(canvas, game)
        picture = canvas.finished()[: self.height, : self.width]
        frame = np.full((self.height, self.width, 3), BACKGROUND, dtype=np.uint8)
        frame[self.top : self.top + len(picture), self.left : self.left + picture.shape[1]] = picture
        return frame

    def _units(self, pointer: tuple[int, int]) -> tuple[float, float]:
        return (pointer[0] - self.left) / self.zoom, (pointer[1] - self.top) / self.zoom


def _draw_play(canvas: Canvas, game: Game, aimed: int | None, help_shown: bool) -> None:
    """Draws an unfinished episode: the glimpses, and the map if it is visible; ``aimed`` is a grid location."""
    steps, count = game.geometry.num_glimpses, len(game.corners)
    _draw_heading(canvas, game)
    canvas.text((_LEFT + _SIDE - 25 * steps - 6, 37), f"{count} of {steps} glimpses", 15, FAINT, "rm")
    for t in range(steps):
        x = _LEFT + _SIDE - 25 * (steps - t) + 6
        canvas.box((x, 27, x + 19, 46), fill=PERSON if t < count else TRACK, radius=5)
    epe_map, choice, grid = game.epe_map, game.choice, game.grid
    painted = game.canvas
    seen = painted[..., -1:] > 0
    picture = np.where(seen, painted[..., :-1], np.array(TRACK))  # (H, W, 3)
    if epe_map is not None:
        part, level = grid.level_slices[game.level], grid.levels[game.level]
        shape, bounds = (grid.image_size, level.glimpse_size, level.stride), map_bounds(epe_map)
        colours, inside = heat(epe_map[part], *shape, offset=level.offset, bounds=bounds)
        opacity = inside * np.where(seen, 0.3, 0.8)
        picture = opacity * colours + (1 - opacity) * picture
    canvas.image((_LEFT, _TOP), np.rint(picture).astype(np.uint8), _SIDE)
    _draw_glimpses(canvas, game, game.corners, PERSON)
    if choice is not None and _level_of(game, choice) == game.level:
        _outline(canvas, _cell(game, choice) + np.array([-3, -3, 3, 3]), ORACLE, 3)
    if aimed is not None:
        box, colour = _window(game, grid.corners[aimed]), FAINT if game.taken(aimed) else INK
        _outline(canvas, box, colour, 2)
        if epe_map is not None:
            _outline(canvas, _cell(game, aimed), colour, 2)
            middle, bottom = (box[0] + box[2]) / 2, box[3] - 4
            canvas.box((middle - 24, bottom - 22, middle + 24, bottom), fill=BACKGROUND, radius=4)
            canvas.text((middle, bottom - 11), f"{epe_map[aimed]:.2f}", 14, INK, "mm")
    y = _TOP
    if epe_map is not None and choice is not None:
        _draw_legend(canvas, game, epe_map, choice, aimed)
        y += 150
    if help_shown:
        _draw_help(canvas, y, game)


def _draw_legend(canvas: Canvas, game: Game, epe_map: np.ndarray, choice: int, aimed: int | None) -> None:
    """Draws the meaning of the map's colours."""
    low, high = map_bounds(epe_map)
    canvas.text((_PANEL, _TOP), "The oracle's map", 18, INK)
    canvas.text((_PANEL_RIGHT, _TOP + 3), game.oracle.map_title, 14, FAINT, "ra")
    draw_ramp(canvas, _PANEL, _TOP + 36, _PANEL_RIGHT, _TOP + 52)
    canvas.text((_PANEL, _TOP + 58), f"{low:.2f}", 14, FAINT)
    canvas.text((_PANEL_RIGHT, _TOP + 58), f"{high:.2f}", 14, FAINT, "ra")
    if aimed is not None:
        x = _PANEL + (_PANEL_RIGHT - _PANEL) * (float(epe_map[aimed]) - low) / max(high - low, 1e-12)
        _outline(canvas, np.array([x - 3, _TOP + 32, x + 3, _TOP + 56]), INK, 2)
    canvas.box((_PANEL, _TOP + 92, _PANEL + 18, _TOP + 110), outline=ORACLE, width=3)
    level = _level_of(game, choice)
    if level is None:
        text = "the oracle would stop now"
    elif level == game.level:
        text = f"the oracle would look here: {epe_map[choice]:.2f}"
    else:
        text = f"the oracle would look {game.grid.zooms[level]} x as wide: {epe_map[choice]:.2f}"
    canvas.text((_PANEL + 28, _TOP + 101), text, 15, INK, "lm")


def _draw_help(canvas: Canvas, y: float, game: Game) -> None:
    """Draws the player's task and the keys."""
    canvas.text((_PANEL, y), "Look where the class can be told", 18, INK)
    for line in ("A judge names it from your glimpses alone.", "The oracle has played the same image."):
        y += 25
        canvas.text((_PANEL, y + 6), line, 15, FAINT)
    y += 50
    own = ([_WHEEL] if len(game.grid.levels) > 1 else []) + ([_STOP] if game.stops else [])
    for key, what in (*_HELP[:1], *own, *_HELP[1:]):
        if key:
            canvas.box((_PANEL, y, _PANEL + 58, y + 24), fill=TRACK, radius=5)
            canvas.text((_PANEL + 29, y + 12), key, 14, INK, "mm")
        else:
            y -= 10
        canvas.text((_PANEL + 74, y + 12), what, 15, FAINT, "lm")
        y += 34


def _draw_verdict(canvas: Canvas, game: Game) -> None:
    """Draws a finished episode: the image, both players' glimpses, and the judge's verdicts."""
    played = game.rounds[-1]
    _draw_heading(canvas, game)
    x = float(_LEFT + _SIDE)
    for name, colour in (("the oracle's", ORACLE), ("your glimpses", PERSON)):
        canvas.text((x, 37), name, 15, FAINT, "rm")
        x -= canvas.text_width(name, 15) + 26
        canvas.box((x, 28, x + 18, 46), outline=colour, width=3)
        x -= 20
    canvas.image((_LEFT, _TOP), _rgb(game.dataset.images[played.index]), _SIDE)
    _draw_glimpses(canvas, game, played.oracle.corners, ORACLE, last_corner=True)
    _draw_glimpses(canvas, game, played.person.corners, PERSON)
    canvas.text((_PANEL, _TOP), "True class", 14, FAINT)
    name = canvas.fitted(game.dataset.class_names[played.label], 22, _PANEL_RIGHT - _PANEL)
    canvas.text((_PANEL, _TOP + 20), name, 22, INK)
    _draw_judgement(canvas, game, "You", PERSON, played.person, played.label, _TOP + 74)
    _draw_judgement(canvas, game, "The oracle", ORACLE, played.oracle, played.label, _TOP + 300)


def _draw_judgement(
    canvas: Canvas, game: Game, who: str, colour: Colour, attempt: Attempt, label: int, y: float
) -> None:
    """Draws the judge's three most probable classes after one player's glimpses."""
    canvas.box((_PANEL, y, _PANEL + 5, y + 28), fill=colour, radius=2)
    canvas.text((_PANEL + 15, y + 14), who, 18, INK, "lm")
    canvas.box((_PANEL_RIGHT - 66, y + 1, _PANEL_RIGHT, y + 27), fill=RIGHT if attempt.success else WRONG, radius=5)
    canvas.text((_PANEL_RIGHT - 33, y + 14), "right" if attempt.success else "wrong", 15, BACKGROUND, "mm")
    canvas.text((_PANEL_RIGHT - 80, y + 14), f"log-loss {attempt.log_loss:.2f}", 14, FAINT, "rm")
    names = game.dataset.class_names
    draw_bars(canvas, (_PANEL, y + 46), _PANEL_RIGHT - _PANEL, attempt.probabilities, names, label, 3)


def _draw_end(canvas: Canvas, game: Game) -> None:
    """Draws the finished game: every image with who was right, and the score."""
    count = len(game.rounds)
    canvas.text((_LEFT, 37), f"{count} image{'s' if count > 1 else ''} played", 22, INK, "lm")
    across = math.ceil(math.sqrt(count))
    cell = (_SIDE + 12) / across
    for place, played in enumerate(game.rounds):
        left, top = _LEFT + place % across * cell, _TOP + place // across * cell
        side = cell - 12
        canvas.image((left, top), _rgb(game.dataset.images[played.index]), side)
        for attempt, colour, x in ((played.person, PERSON, left), (played.oracle, ORACLE, left + side / 2)):
            canvas.box((x, top + side - 8, x + side / 2, top + side), fill=colour if attempt.success else TRACK)
    score = game.score()
    for y, who, colour, successes, loss in (
        (_TOP, "You", PERSON, score.person_successes, score.person_log_loss),
        (_TOP + 150, "The oracle", ORACLE, score.oracle_successes, score.oracle_log_loss),
    ):
        canvas.box((_PANEL, y, _PANEL + 5, y + 100), fill=colour, radius=2)
        canvas.text((_PANEL + 24, y - 2), who, 18, INK)
        canvas.text((_PANEL + 24, y + 24), f"{successes} of {score.images}", 40, colour)
        canvas.text((_PANEL + 24, y + 78), f"mean log-loss {loss:.2f} nats", 15, FAINT)
    canvas.text((_PANEL, _TOP + 300), "Below an image: who was right on it.", 15, FAINT)
    for line, text in enumerate(_assistance(game)):
        canvas.text((_PANEL, _TOP + 330 + 24 * line), text, 15, FAINT)


def _assistance(game: Game) -> list[str]:
    """Returns lines of text on how often the map was shown, and the score without it."""
    unassisted, assisted = game.score(assisted=False), game.score(assisted=True)
    if not assisted.images:
        return ["You played without the oracle's map."]
    return [
        f"The oracle's map was shown on {assisted.images}.",
        f"Without it: {_ratio(unassisted)} on {unassisted.images}; with it: {_ratio(assisted)}.",
    ]


def _draw_heading(canvas: Canvas, game: Game) -> None:
    title = f"Image {game.number + 1} of {len(game.indices)}"
    canvas.text((_LEFT, 37), title, 22, INK, "lm")
    if game.assisted:
        canvas.text((_LEFT + canvas.text_width(title, 22) + 16, 38), "assisted", 15, FAINT, "lm")


def _draw_status(canvas: Canvas, game: Game) -> None:
    """Draws the score so far, and the keys."""
    score, y = game.score(), HEIGHT - 32
    helped = game.score(assisted=True).images
    parts = [("You ", PERSON), (_ratio(score), INK), (" Oracle", ORACLE)]
    if score.images:
        losses = f"log-loss {score.person_log_loss:.2f} : {score.oracle_log_loss:.2f}"
        assisted = f", {helped} assisted" if helped else ""
        if score.person_return is not None:  # by which those are compared who may stop
            losses = f"less the glimpses' price {score.person_return:.2f} : {score.oracle_return:.2f}"
        parts.append((f"     {losses}     {score.images} played{assisted}", FAINT))
    x = float(_LEFT)
    for text, colour in parts:
        canvas.text((x, y), text, 17, colour, "lm")
        x += canvas.text_width(text, 17)
    keys = "Esc  close" if game.finished else "Esc  stop" if game.over else "M  map     H  help     Esc  stop"
    canvas.text((_PANEL_RIGHT, y), keys, 14, FAINT, "rm")


def _ratio(score: Score) -> str:
    return f"{score.person_successes} : {score.oracle_successes}"


def _draw_glimpses(
    canvas: Canvas, game: Game, corners: np.ndarray, colour: Colour, *, last_corner: bool = False
) -> None:
    """Draws numbered outlines over the image, the numbers bottom right with ``last_corner``, else top left."""
    for number, corner in enumerate(corners, start=1):
        box = _window(game, corner)
        if last_corner:  # inside another's glimpse at the same place
            box = box + np.array([4, 4, -4, -4])
        _outline(canvas, box, colour, 2)
        left, top = (box[2] - 21, box[3] - 21) if last_corner else (box[0], box[1])
        canvas.box((left, top, left + 21, top + 21), fill=colour, radius=2)
        canvas.text((left + 10.5, top + 11), str(number), 14, INK if last_corner else BACKGROUND, "mm")


def _cell(game: Game, location: int) -> np.ndarray:
    """Returns (4,) left, top, right, bottom of a location's cell in the map, in units."""
    number = _level_of(game, location)
    assert number is not None
    grid, level, first = game.grid, game.grid.levels[number], game.grid.level_slices[number].start
    cell = heat_cell(location - first, level.side, level.glimpse_size, level.stride, level.offset)
    return cell * (_SIDE / grid.image_size) + np.array([_LEFT, _TOP] * 2)


def _level_of(game: Game, location: int) -> int | None:
    """Returns the number of the zoom of a location; None for L, which stops."""
    return next((k for k, part in enumerate(game.grid.level_slices) if location < part.stop), None)


def _window(game: Game, corner: np.ndarray) -> np.ndarray:
    """Returns (4,) left, top, right, bottom of a glimpse, in units."""
    scale, (row, col, *zoom) = _SIDE / game.grid.image_size, corner
    side = game.grid.glimpse_size * (zoom[0] if zoom else 1)
    return np.array([col, row, col + side, row + side]) * scale + np.array([_LEFT, _TOP] * 2)


def _outline(canvas: Canvas, box: np.ndarray, colour: Colour, width: float) -> None:
    """Draws a frame with a dark rim, which is visible on any image."""
    canvas.box((box + np.array([-1, -1, 1, 1])).tolist(), outline=BACKGROUND, width=width + 2)
    canvas.box(box.tolist(), outline=colour, width=width)


def _rgb(image: np.ndarray) -> np.ndarray:
    """Returns an image (H, W, 1 or 3) as (H, W, 3) uint8."""
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
