"""Who may import whom: read off the sources, so that no import has to be run."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = (
    ("glimpse_env.errors",),
    (
        "glimpse_env.checks",
        "glimpse_env.console.names",
        "glimpse_env.console.own_packages",
        "glimpse_env.files",
        "glimpse_env.processes",
        "glimpse_env.registry",
        "glimpse_env.threads",
        "glimpse_env.versions",
    ),
    ("glimpse_env.devices", "glimpse_env.parallel", "glimpse_env.presets"),
    ("glimpse_env.sensing",),
    ("glimpse_env.datasets",),
    ("glimpse_env.encoding",),
    ("glimpse_env.judge",),
    ("glimpse_env.actions", "glimpse_env.answers", "glimpse_env.running_judge"),
    ("glimpse_env.episodes",),
    ("glimpse_env.rendering", "glimpse_env.rollout"),
    ("glimpse_env.env", "glimpse_env.vector_env"),
    ("glimpse_env.ids", "glimpse_env.registration"),
    ("glimpse_env.cli", "glimpse_env.console.cache", "glimpse_env.console.main"),
    ("glimpse_env.console.doctor",),
    ("glimpse_env",),
    ("oracles.base", "oracles.manifests"),
    ("oracles.baselines", "oracles.saliency"),
    ("oracles.boed", "oracles.human"),
    ("oracles.amortised", "oracles.stopping", "oracles.training.plans"),
    ("oracles.induction", "oracles.presets"),
    ("oracles.training.entries", "oracles.training.loop"),
    ("oracles.training.posterior", "oracles.training.scorer"),
    ("oracles.rivals",),
    ("oracles.entries",),
    ("oracles.registry",),
    ("oracles.training.judge",),
    ("oracles.demonstrations",),
    ("oracles.exchange", "oracles.validation"),
    ("oracles",),
    ("agents.cloning_data", "agents.vec_env", "agents.evaluation.memory", "agents.evaluation.statistics"),
    ("agents.reports.tables",),
    ("agents.networks", "agents.shipped"),
    ("agents.registry",),
    ("agents.as_json", "agents.cloning", "agents.dagger", "agents.presets"),
    ("agents.saving",),
    ("agents.algorithms",),
    ("agents.recording",),
    ("agents.evaluation",),
    ("agents.ram",),
    ("agents.experiments",),
    ("agents.reports",),
    ("agents.sharing",),
    ("agents.play", "agents.soak"),
    ("agents",),
    ("scripts",),
)
"""Modules and packages from the bottom up: each may import those in the layers below it, and its own package; the
longest name that fits a module is its layer."""
MODULES = sorted(
    path for package in ("glimpse_env", "oracles", "agents", "scripts") for path in (ROOT / package).rglob("*.py")
)


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, anywhere in it; ``from a import b`` gives ``a.b``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(name: str) -> tuple[int, str] | None:
    """The layer of a dotted name, and the entry of LAYERS that it falls under; None for other people's packages."""
    matches = [
        (level, entry)
        for level, entries in enumerate(LAYERS)
        for entry in entries
        if name == entry or name.startswith(f"{entry}.")
    ]
    return max(matches, key=lambda match: len(match[1]), default=None)


def module_name(path: Path) -> str:
    """The dotted name of a file; a package's face has the package's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_import_only_what_is_below_them(path: Path) -> None:
    name = module_name(path)
    found = layer_of(name)
    assert found is not None, f"{name} has no layer: add it to LAYERS"
    level, own = found
    for imported in imports(path):
        assert imported.split(".")[0] != "tests", f"{name} imports {imported}"
        other = layer_of(imported)
        if other is None or other[1] == own:
            continue
        assert other[0] < level, f"{name} imports {imported}, which is not below it"


def test_each_module_has_a_layer_of_its_own() -> None:
    """The entry for a whole package serves its face only, so that a new module must be placed."""
    for path in MODULES:
        name = module_name(path)
        found = layer_of(name)
        if path.name != "__init__.py" and not name.startswith("scripts"):
            assert found is not None
            assert found[1] not in ("glimpse_env", "oracles", "agents"), f"{name} has no layer: add it to LAYERS"
