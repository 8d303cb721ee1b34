"""Who may import whom: read off the sources, so that no import has to be run."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("glimpse_env", "oracles", "agents", "scripts", "tests")
"""Each may import those before it."""
LAYERS = (
    ("errors", "ids"),
    ("array_pool", "arguments", "drawing", "files", "locations"),
    ("sensor", "datasets"),
    ("posterior", "observations", "pyramid", "copies"),
    ("judge",),
    ("embeddings",),
    ("episodes",),
    ("judge_training", "rendering", "replay", "rollout"),
    ("env", "vector_env"),
    ("registration",),
)
"""Modules of glimpse_env from the bottom up: each may import those in the layers below it."""
MODULES = sorted(path for package in PACKAGES[:-1] for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(module: str) -> int | None:
    """The layer of a dotted name in glimpse_env; None for the package itself and for names of things."""
    name = module.split(".")[1] if module.startswith("glimpse_env.") else ""
    return next((level for level, names in enumerate(LAYERS) if name in names), None)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_import_only_those_below_them(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    above = PACKAGES[PACKAGES.index(own) + 1 :]
    wrong = {name for name in imports(path) if name.split(".")[0] in above}
    assert not wrong


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.relative_to(ROOT).parts[0] == "glimpse_env" and path.name != "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_environment_is_built_in_layers(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    own = layer_of(module)
    assert own is not None, f"{module} has no layer: add it to LAYERS"
    inside = module.split(".")[1]
    for name in imports(path):
        if name == "glimpse_env":
            pytest.fail(f"{module} imports the package itself, which imports everything")
        level = layer_of(name)
        if level is not None and name.split(".")[1] != inside:
            assert level < own, f"{module} imports {name}, which is not below it"
