"""What a player may know of a game, as JSON values: of the hidden image only what was seen, until its end."""

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from agents.play.game import Attempt, Game
from glimpse_env.rendering.canvas import heat, map_bounds, most_probable

CLASSES = 3
"""Classes of the judge's answer that are named."""
THUMBNAIL = 160
"""Side in pixels of the images at the end of a game, at most."""


def view(game: Game) -> dict[str, Any]:
    """Returns the state of a game for its player: no pixel that no glimpse saw, no class and no number of the image in
    its data set before the image is over."""
    grid, shown = game.grid, not game.over
    return {
        "image": game.number + 1,
        "images": len(game.indices),
        "size": grid.image_size,
        "steps": game.geometry.num_glimpses,
        "levels": [
            {"first": part.start, "window": level.glimpse_size, "corners": level.steps.tolist()}
            for level, part in zip(grid.levels, grid.level_slices, strict=True)
        ],
        "stops": game.stops,
        "cost": game.glimpse_cost,
        "glimpses": _boxes(game, game.corners),
        "taken": grid.nearest(game.corners).tolist(),
        "seen": _seen(game) if shown else None,
        "map": _map(game) if shown else None,
        "assisted": game.assisted,
        "over": game.over,
        "finished": game.finished,
        "score": _score(game),
        "verdict": _verdict(game) if game.over else None,
        "rounds": _rounds(game) if game.finished else None,
    }


def _seen(game: Game) -> str:
    """Returns the glimpses in their places; elsewhere the picture is transparent, and black below that."""
    canvas = game.canvas
    seen = canvas[..., -1:] > 0
    colours = np.where(seen, np.broadcast_to(canvas[..., :-1], (*seen.shape[:2], 3)), 0)
    return _png(np.concatenate([colours, np.where(seen, 255, 0)], axis=-1))


def _map(game: Game) -> dict[str, Any] | None:
    """Returns the oracle's map, values and a picture for each zoom; None while it is hidden."""
    epe_map, choice, grid = game.epe_map, game.choice, game.grid
    if epe_map is None or choice is None:
        return None
    bounds, seen, pictures = map_bounds(epe_map), game.canvas[..., -1:] > 0, []
    for level, part in zip(grid.levels, grid.level_slices, strict=True):
        shape = (grid.image_size, level.glimpse_size, level.stride)
        colours, inside = heat(epe_map[part], *shape, offset=level.offset, bounds=bounds)
        opacity = 255 * inside * np.where(seen, 0.3, 0.8)
        pictures.append(_png(np.concatenate([colours, opacity], axis=-1)))
    return {
        "title": game.oracle.map_title,
        "low": bounds[0],
        "high": bounds[1],
        "values": [None if math.isnan(value) else round(value, 4) for value in epe_map.tolist()],
        "pictures": pictures,
        "choice": choice if choice < len(grid) else None,
    }


def _verdict(game: Game) -> dict[str, Any]:
    """Returns the image that is over, and the judge's answers to both players."""
    played = game.rounds[game.number]
    return {
        "class": game.dataset.class_names[played.label],
        "picture": _png(_rgb(game.dataset.images[played.index])),
        "person": _answer(game, played.person, played.label),
        "oracle": _answer(game, played.oracle, played.label),
    }


def _answer(game: Game, attempt: Attempt, label: int) -> dict[str, Any]:
    return {
        "success": attempt.success,
        "log_loss": attempt.log_loss,
        "glimpses": _boxes(game, attempt.corners),
        "classes": [
            {"name": game.dataset.class_names[k], "probability": float(attempt.probabilities[k]), "true": k == label}
            for k in most_probable(attempt.probabilities, label, CLASSES).tolist()
        ],
    }


def _rounds(game: Game) -> list[dict[str, Any]]:
    """Returns all images with who was right."""
    pictures = []
    for played in game.rounds:
        small = Image.fromarray(_rgb(game.dataset.images[played.index]))
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        pictures.append(_png(np.asarray(small)))
    return [
        {
            "class": game.dataset.class_names[played.label],
            "picture": picture,
            "person": played.person.success,
            "oracle": played.oracle.success,
            "assisted": played.assisted,
        }
        for played, picture in zip(game.rounds, pictures, strict=True)
    ]


def _score(game: Game) -> dict[str, Any]:
    score = game.score()
    return {
        "images": score.images,
        "assisted": game.score(assisted=True).images,
        "person": {
            "successes": score.person_successes,
            "log_loss": score.person_log_loss,
            "return": score.person_return,
        },
        "oracle": {
            "successes": score.oracle_successes,
            "log_loss": score.oracle_log_loss,
            "return": score.oracle_return,
        },
    }


def _boxes(game: Game, corners: np.ndarray) -> list[list[int]]:
    """Returns row, column and side of glimpses, in pixels."""
    side = game.grid.glimpse_size
    return [[row, col, side * (zoom[0] if zoom else 1)] for row, col, *zoom in corners.tolist()]


def _rgb(image: np.ndarray) -> np.ndarray:
    """Returns an image (H, W, 1 or 3) as (H, W, 3) uint8."""
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _png(pixels: np.ndarray) -> str:
    """Returns pixels (H, W, 3 or 4) in 0..255 as a ``data:`` address."""
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
