"""People who played the game, as rows of a table: their glimpses beside policies on the same images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluation.comparison import Comparison, difference, kept_evaluation
from agents.evaluation.evaluate import Evaluation, evaluate
from glimpse_env.datasets.base import DataSource, GlimpseDataset, Split
from glimpse_env.errors import ArtifactError
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.geometry import LocationGrid
from oracles.base import PlannedPolicy
from oracles.demonstrations import Demonstrations
from oracles.registry import priced

MIN_IMAGES = 2
"""Images of which differences have an interval."""


class PlayedPolicy(PlannedPolicy):
    """Looks at each image where a person did who played the game.

    Args:
        grid: the locations.
        images: (N,) int64, images of a split, none twice.
        locations: (N, T) int64, -1 from a stop on.
        stops: whether the person could stop.
    """

    def __init__(self, grid: LocationGrid, images: np.ndarray, locations: np.ndarray, stops: bool):
        self.grid, self.stops = grid, stops
        sequences = np.where(locations < 0, len(grid), locations)
        self._sequences = dict(zip(images.tolist(), sequences, strict=True))

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> tuple[np.ndarray, None]:
        """Returns the sequences (B, T), L from a stop on, and no maps."""
        return np.stack([self._sequences[int(index)] for index in indices]), None


@dataclass(frozen=True)
class PlayerResult:
    """A person beside policies on the images that the person played."""

    person: Evaluation
    policies: dict[str, Evaluation]
    """By name, on the same images."""
    less: dict[str, Comparison]
    """The person less each policy."""


def evaluate_players(
    games: Demonstrations, source: DataSource, judge: Judge, policies: tuple[str, ...], *, assisted: bool = False
) -> dict[str, PlayerResult]:
    """Evaluates the players of a file of :class:`agents.play.keeping.KeptGames` who played at least :data:`MIN_IMAGES`
    images; of an image that was played twice the first time counts.

    Args:
        games: the file.
        source: the data set.
        judge: of the data set.
        policies: names of policies to compare with.
        assisted: whether images count on which the player saw the oracle's map.

    Raises:
        ArtifactError: if these are no games, of other data or for another judge, or nothing is left of them.
    """
    manifest = games.manifest
    if manifest.get("policy") != "player" or len(manifest.get("games", ())) != len(games):
        raise ArtifactError("these demonstrations are no games; give a file of `glimpse play`.")
    for field, ours in (("fingerprint", source.fingerprint), ("judge", judge.identity)):
        if manifest[field] != ours:
            raise ArtifactError(f"the games' {field} is {manifest[field]}, this data set's is {ours}; play again.")
    split: Split = manifest["split"]
    dataset, cost = source.load(split), manifest.get("glimpse_cost")
    results = {}
    for player in sorted({game["player"] for game in manifest["games"]}):
        rows = [
            row
            for row, game in enumerate(manifest["games"])
            if game["player"] == player and (assisted or not game["assisted"])
        ]
        images, first = np.unique(games.indices[rows], return_index=True)
        if len(images) < MIN_IMAGES:
            continue
        played = PlayedPolicy(judge.grid, images, games.locations[rows][first], games.stops)
        person = evaluate(played, dataset, judge, images, name=player, progress=False)
        others: dict[str, Any] = {}
        for name in policies:
            own, config = priced(name, source, cost)
            others[name] = kept_evaluation(own, source, judge, dataset, images, config=config, progress=False)
        results[player] = PlayerResult(
            person, others, {name: difference(person, other) for name, other in others.items()}
        )
    if not results:
        raise ArtifactError(
            f"nobody played {MIN_IMAGES} images without the oracle's map; count those with it too, with --assisted."
        )
    return results
