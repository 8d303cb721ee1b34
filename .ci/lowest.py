"""Prints constraints for pip: the lowest version that pyproject.toml declares of each package, extras' too.

python .ci/lowest.py > constraints.txt, where this project is installed
"""

import re
from collections.abc import Iterable
from importlib.metadata import requires


def lowest(requirements: Iterable[str]) -> dict[str, str]:
    """Returns the lowest version of each package that all of ``requirements`` allow.

    Raises:
        ValueError: if one has no lower bound.
    """
    versions: dict[str, str] = {}
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        bound = re.search(r">=\s*([\d.]+)", requirement.partition(";")[0])
        if name is None or bound is None:
            raise ValueError(f"{requirement!r} has no lower bound; give it one in pyproject.toml.")
        versions[name[0]] = max(versions.get(name[0], "0"), bound[1], key=_numbers)
    return versions


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in lowest(requires("glimpse-env") or []).items()))
