"""Examples in docstrings give what they print; a module is found by its first ``>>>``."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("glimpse_env", "oracles", "agents")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_there_are_examples() -> None:
    assert "glimpse_env.registry" in MODULES
    assert "glimpse_env.sensing.geometry" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_print(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0
