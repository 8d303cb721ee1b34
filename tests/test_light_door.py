"""What importing a package, or asking a script for help, brings with it: nothing heavy that it does not need."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "stable_baselines3", "sb3_contrib", "matplotlib", "scipy", "sklearn", "pandas", "PIL")
PROGRAM = """
import runpy, sys
from pathlib import Path

heavy, faces, *scripts = (argument.split() for argument in sys.argv[1:])
for face in faces:
    __import__(face)
sys.path.insert(0, "")
for script in (path for line in scripts for path in line):
    sys.argv, sys.path[0] = [script, "--help"], str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    for name in heavy:
        if name in sys.modules:
            sys.exit(f"{script} imports {name}")
for name in heavy:
    if name in sys.modules:
        sys.exit(f"{' '.join(faces)} imports {name}")
"""


def brings(heavy: tuple[str, ...], faces: str, *scripts: str) -> str:
    """What a fresh interpreter says of the first of ``faces`` and ``scripts`` that imports a package of ``heavy``."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, " ".join(heavy), faces, *scripts], cwd=ROOT, capture_output=True, text=True
    )
    return "" if done.returncode == 0 else done.stderr.strip()


@pytest.mark.parametrize("package", ["glimpse_env", "oracles", "agents"])
def test_importing_a_package_is_cheap(package: str) -> None:
    assert brings(HEAVY, package) == ""


def test_help_needs_no_training_library() -> None:
    scripts = sorted((ROOT / "scripts").rglob("*.py"))
    assert brings(("stable_baselines3", "sb3_contrib"), "", *map(str, scripts)) == ""


def test_what_is_handed_on_is_there() -> None:
    """Every name of a face's ``__all__`` is found, and a wrong one is an AttributeError."""
    import glimpse_env
    import oracles

    for face in (glimpse_env, oracles):
        for name in face.__all__:
            assert getattr(face, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            face.nothing  # noqa: B018
