"""Games kept as demonstrations: a file to which each image that was played is added."""

import contextlib
import glob
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from agents.play.game import Game, Round
from glimpse_env.datasets.base import DataSource, Split
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import only_process, read_json, read_npz
from glimpse_env.judge.judge import Judge
from glimpse_env.processes import uninterrupted
from oracles.demonstrations import Demonstrations, manifest_of
from oracles.manifests import check_manifest

POLICY = "player"
"""Policy of the demonstrations."""
MAX_NAME = 40
"""Most characters in a player's name."""


def checked_player(name: str) -> str:
    """Returns a player's name without space around it.

    Raises:
        ConfigurationError: if it is empty, too long, or has characters that cannot be printed.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise ConfigurationError(f"the player's name {name!r} must have 1 to {MAX_NAME} printable characters.")
    return name


class KeptGames:
    """The file of the games on one split, of one player or several: demonstrations beside their manifest.

    The manifest's ``games`` has, for each sequence, the ``player`` and whether the oracle's map was shown
    (``assisted``); its ``split`` tells where the images are from. Agents learn from those of ``train`` only.

    Args:
        path: the npz.
        source: the data set.
        judge: of the data set.
        split: of the images.
        glimpse_cost: price of a glimpse where episodes may stop; None where they may not.

    Raises:
        ConfigurationError: if the path does not end in .npz.
        ArtifactError: if the file holds other demonstrations, or cannot be read.
    """

    def __init__(self, path: Path, source: DataSource, judge: Judge, split: Split, glimpse_cost: float | None = None):
        if path.suffix != ".npz":
            raise ConfigurationError(f"--keep {path} must end in .npz.")
        self.path, self.source, self.judge, self.split = path, source, judge, split
        self._own: dict[str, Any] = {"policy": POLICY, "split": split}
        if glimpse_cost is not None:
            self._own |= {"stops": True, "glimpse_cost": glimpse_cost}
        self._load()

    def next_images(self, player: str, seed: int, count: int) -> np.ndarray:
        """Returns the images (n,) int64 of a player's next game, n <= ``count``: those of the split in a random order,
        without what the player has played; all over again where that is everything."""
        order = np.random.default_rng(seed).permutation(self.source.size(self.split))
        kept = self._load()
        if kept is not None:
            played = [index for index, game in zip(kept.indices, _games(kept), strict=True) if game["player"] == player]
            left = order[~np.isin(order, played)]
            order = left if len(left) else order
        return order[:count]

    def keep(self, game: Game, player: str) -> None:
        """Adds the rounds of a game that are not in the file yet. A Ctrl-C meanwhile does not keep them out of it."""
        new = game.rounds[game.kept :]
        if not new:
            return
        with uninterrupted(), only_process([self.path]):
            self._joined(self._load(), new, player).save(self.path)
            game.kept += len(new)

    def _joined(self, before: Demonstrations | None, new: list[Round], player: str) -> Demonstrations:
        arrays: dict[str, Any] = {
            "indices": np.array([played.index for played in new], dtype=np.int64),
            "locations": np.stack([played.locations for played in new]),
            "entropies": np.stack([played.entropies for played in new]),
        }
        games = [{"player": player, "assisted": played.assisted} for played in new]
        if before is not None:
            arrays = {name: np.concatenate([getattr(before, name), array]) for name, array in arrays.items()}
            games = [*_games(before), *games]
        manifest = self._manifest(len(games)) | {"games": games}
        return Demonstrations(epe=None, manifest=manifest, **arrays)

    def _manifest(self, num: int) -> dict[str, Any]:
        return manifest_of("random", self.source, self.judge, num) | self._own

    def _load(self) -> Demonstrations | None:
        """Returns what is in the file; None where there is none."""
        card = self.path.with_suffix(".json")
        if not self.path.exists() and not card.exists():
            return None
        if not card.exists():
            self._take_up(card)
        try:
            kept = Demonstrations.load(self.path)
        except ArtifactError as error:
            raise ArtifactError(
                f"{self.path} holds no games ({error}) It is left as it is; name another file with --keep."
            ) from error
        wanted = json.loads(json.dumps(self._manifest(len(kept))))
        differing = [name for name in wanted if kept.manifest.get(name) != wanted[name]]
        if differing or len(_games(kept)) != len(kept):
            raise ArtifactError(
                f"{self.path} holds demonstrations of other {', '.join(differing) or 'games'}; name another file with "
                "--keep."
            )
        return kept

    def _take_up(self, card: Path) -> None:
        """Gives the arrays their manifest, which a process that died between two renames left with a temporary name."""
        with only_process([self.path]):  # else the process lives
            for left in sorted(card.parent.glob(f".{glob.escape(card.stem[:40])}.tmp-*.json")):
                with contextlib.suppress(OSError, ArtifactError, KeyError, TypeError):
                    check_manifest(read_json(left), len(read_npz(self.path)["indices"]))
                    left.replace(card)
                    return


def _games(kept: Demonstrations) -> list[dict[str, Any]]:
    return list(kept.manifest.get("games", []))
