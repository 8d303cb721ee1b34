"""Whether ``import agents`` and ``import oracles`` give ours: other projects have packages of these names too."""

import importlib.util
import sys
from pathlib import Path

from glimpse_env.errors import ShadowedPackageError

NAMES = ("oracles", "agents")
ROOT = Path(__file__).parents[2]
"""Folder that has all packages of this project, ``glimpse_env`` among them."""


def check_own(*names: str) -> None:
    """Checks that importing ``names`` gives this project's packages; imports none of them.

    Raises:
        ShadowedPackageError: if another project's package of that name hides ours, or has overwritten it.
    """
    for name in names:
        place, ours = found_at(name), ROOT / name / "__init__.py"
        if place is None or place.resolve() != ours.resolve():
            raise ShadowedPackageError(
                f"{name!r} is another project's package, at {place or 'an unknown place'}, which hides glimpse-env's "
                f"at {ours.parent}: take {_folder(place)} off the path of imports (PYTHONPATH, the folder you start "
                "in), put ours before it, or install glimpse-env in an environment of its own (python -m venv)."
            )
        if "glimpse_env" not in ours.read_text(encoding="utf-8", errors="replace"):
            raise ShadowedPackageError(
                f"{ours.parent} was overwritten by another project's package {name!r}: install glimpse-env in an "
                "environment of its own (python -m venv), or uninstall the other one and install glimpse-env again."
            )


def put_first() -> str | None:
    """Puts our folder on the path of imports before those that hide our packages, for a process that is ours alone.

    Returns:
        A sentence that says so; None where nothing had to be done.

    Raises:
        ShadowedPackageError: if that does not help.
    """
    found = {name: found_at(name) for name in NAMES}
    hiding = [
        place for name, place in found.items() if place and place.resolve() != (ROOT / name / "__init__.py").resolve()
    ]
    if hiding:
        sys.path.insert(0, str(ROOT))
        importlib.invalidate_caches()
    check_own(*NAMES)
    places = " and ".join(str(place.parent) for place in hiding)
    return f"glimpse: {places} hides a package of glimpse-env, whose own one is used here." if hiding else None


def found_at(name: str) -> Path | None:
    """Returns the file that ``import name`` runs, or has run; None where there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module that something put there without a file
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _folder(place: Path | None) -> Path | str:
    """Returns the entry of the path of imports that a package, or a module of one file, was found in."""
    if place is None:
        return "its folder"
    return place.parents[1] if place.name == "__init__.py" else place.parent
