"""What the manifests of demonstrations may hold: others make them, too."""

import math
from typing import Any

from glimpse_env.checks import conforms
from glimpse_env.errors import ArtifactError

FORMAT = 1
"""Format of the files that this version reads and writes."""
_NEEDED: dict[str, Any] = {
    "policy": str,
    "dataset": str,
    "options": dict[str, Any],
    "fingerprint": str,
    "judge": str,
    "scales": int,
    "num": int,
}
_OPTIONAL: dict[str, Any] = {
    "zooms": list[int],
    "stops": bool,
    "glimpse_cost": float,
    "split": str,
    "games": list[dict[str, Any]],
}
_GAME: dict[str, Any] = {"player": str, "assisted": bool}


def check_manifest(manifest: dict[str, Any], count: int) -> None:
    """Checks the entries of a manifest that are read again, and that it is of ``count`` sequences.

    Raises:
        ArtifactError: naming what is missing or wrong.
    """
    if manifest.get("format") != FORMAT:
        raise ArtifactError(f"they have format {manifest.get('format')}, not {FORMAT}")
    if lacking := _NEEDED.keys() - manifest.keys():
        raise ArtifactError(f"their manifest lacks {', '.join(sorted(lacking))}")
    entries = {name: hint for name, hint in {**_NEEDED, **_OPTIONAL}.items() if name in manifest}
    wrong = [name for name, hint in entries.items() if not conforms(manifest[name], hint)]
    games, cost = ([], 0.0) if wrong else (manifest.get("games", []), manifest.get("glimpse_cost", 0.0))
    if any(not conforms(game.get(name), hint) for game in games for name, hint in _GAME.items()):
        wrong.append("games")
    if not 0 <= cost < math.inf:
        wrong.append("glimpse_cost")
    if wrong:
        raise ArtifactError(f"their manifest's {wrong[0]} is {repr(manifest[wrong[0]])[:80]}")
    if ":" in manifest["dataset"]:  # no name of one, and looking it up would import a module
        raise ArtifactError(f"their manifest's dataset {manifest['dataset'][:80]!r} names a module")
    if manifest["num"] != count or len(games) not in (0, count):
        raise ArtifactError(f"they are {count} sequences where their manifest says {manifest['num']}")
