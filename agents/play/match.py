"""What the games of several players share: images, judge, oracle, and the file that they are kept in."""

from functools import cache
from pathlib import Path
from typing import Any

from agents.play.game import Game
from agents.play.keeping import KeptGames
from glimpse_env.datasets.base import DataSource, Split
from glimpse_env.errors import ConfigurationError
from glimpse_env.presets import anytime_options
from oracles.base import GlimpsePolicy
from oracles.registry import depends_on_network, make_policy, policy_settings, priced
from oracles.training.judge import ensure_judge


class Match:
    """Makes games on images of one split against the oracle.

    Args:
        source: the data set.
        env: id of the environment; in one in which agents zoom and stop, players do.
        split: of the images.
        episodes: images of a game.
        seed: of their order.
        keep: file of the games, see :class:`KeptGames`.
        device: of judge and oracle.

    Raises:
        ConfigurationError: if there are fewer images than ``episodes``.
        ArtifactError: if the file holds other demonstrations.
    """

    def __init__(
        self, source: DataSource, env: str, *, split: Split, episodes: int, seed: int, keep: Path, device: Any = "cpu"
    ):
        if not 1 <= episodes <= source.size(split):
            raise ConfigurationError(f"--episodes {episodes} must lie in 1..{source.size(split)} for {split}.")
        self.env, self.episodes, self.seed = env, episodes, seed
        self.dataset = source.load(split)
        self.judge = judge = ensure_judge(source, device=device)
        self.glimpse_cost: float | None = anytime_options(env).get("glimpse_cost")
        self.kept = KeptGames(keep, source, judge, split, self.glimpse_cost)
        self.played: list[tuple[str, Game]] = []
        """All games so far, with their players."""
        name, config = priced("oracle", source, self.glimpse_cost)
        self._by_network = depends_on_network(name, source, config)

        @cache
        def opponent(network: int | None) -> GlimpsePolicy:
            return make_policy(name, source, judge, network=network, config=config)

        self._opponent = opponent
        self._settings = policy_settings(name, source, judge, config)

    def new_game(self, player: str) -> Game:
        """Returns a player's next game."""
        images = self.kept.next_images(player, self.seed, self.episodes)
        game = Game(self.dataset, self.judge, self._of_fold, images, glimpse_cost=self.glimpse_cost)
        self.played.append((player, game))
        return game

    def prepare(self) -> None:
        """Makes the oracles, which can take minutes where their tables are not in the cache."""
        for fold in {int(fold) for fold in self.dataset.folds}:
            self._of_fold(fold)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values: the environment, the oracle's settings, and all games."""
        games = [{"player": player, **game.to_json()} for player, game in self.played]
        return {"env": self.env, "oracle": self._settings, "games": games}

    def _of_fold(self, fold: int) -> GlimpsePolicy:
        return self._opponent(fold if self._by_network and fold >= 0 else None)
