"""What builds, installs and describes the package: Makefile, pins, extras, workflows, version."""

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
NAMED_EXTRA = r"""(?:'\.\[|glimpse-env\[|pip_extra\(')(\w+(?:,\w+)*)(?:\]["']|')"""
PINS = dict(re.findall(r"^(\S+)==([^;\s]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))


def parsed(path: str) -> Any:
    """The content of a YAML file."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with rl_zoo3, which is not installed")
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """A function that returns the commands ``make`` would run in a checkout where the extra ``dev`` is installed."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed-dev").touch()

    def commands(*arguments: str) -> str:
        command = ["make", "--dry-run", "--no-print-directory", "--directory", str(tmp_path), *arguments]
        # without what a make that runs the tests hands on
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "EXTRAS"))}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=ours).stdout

    return commands


def test_make_installs_extras_that_are_missing(make: Any) -> None:
    assert "pip install" not in make("train")
    assert "pip install" not in make("check", "EXTRAS=dev")
    assert "'.[dev,recipes]'" in make("check", "EXTRAS=dev,recipes")


def test_make_installs_a_set_of_extras_once(make: Any, tmp_path: Path) -> None:
    (tmp_path / ".venv" / ".installed-dev+recipes").touch()
    assert "pip install" not in make("check", "EXTRAS=dev,recipes")
    assert "pip install" not in make("check", "EXTRAS=recipes,dev")


def test_extras_that_pages_and_messages_name_are_there() -> None:
    extras = set(re.findall(r"^(\w+) = \[", PYPROJECT.split("[project.optional-dependencies]")[1], re.MULTILINE))
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for folder in ("glimpse_env", "oracles", "agents", "scripts", "tests"):
        files += (ROOT / folder).rglob("*.py")
    for file in files:
        for named in re.findall(NAMED_EXTRA, file.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, f"{file} names the extra {named}"


def test_all_files_tell_the_same_version() -> None:
    version = re.search(r'^version = "(.*)"', PYPROJECT, re.MULTILINE)
    assert version is not None
    assert parsed("CITATION.cff")["version"] == version[1]
    released = re.search(r"^## \[?(\d[\d.]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released is not None
    assert released[1] == version[1]


def test_the_lowest_versions_are_those_that_are_declared() -> None:
    program = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))
    lowest = program["lowest"]
    assert lowest(["numpy>=1.26", 'minari[hdf5]>=0.5.4; extra == "dev"', "pandas<3,>=2.2"]) == {
        "numpy": "1.26",
        "minari": "0.5.4",
        "pandas": "2.2",
    }
    assert lowest(["optuna>=4", "optuna>=4.10", "optuna>=4.9"]) == {"optuna": "4.10"}
    declared = re.findall(r'^    "([\w.-]+)(?:\[\w+\])?>=([\d.]+)[^"]*",$', PYPROJECT, re.MULTILINE)
    assert len(declared) > 30
    assert lowest(f"{name}>={version}" for name, version in declared).keys() == {name for name, _ in declared}
    with pytest.raises(ValueError, match="torch"):
        lowest(["torch"])


def test_hooks_run_the_tools_of_make_check() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        tool = Path(hook["entry"].split()[0]).name
        assert f"$(BIN)/{tool}" in makefile
        assert tool in PINS


def test_workflow_checks_every_supported_python() -> None:
    jobs = parsed(".github/workflows/check.yml")["jobs"]
    pythons = jobs["check"]["strategy"]["matrix"]["python-version"]
    assert pythons == ["3.10", "3.11", "3.12", "3.13"]
    assert f'requires-python = ">={pythons[0]}"' in PYPROJECT
    assert {"run": "bash .ci/run"} in [{"run": step.get("run")} for step in jobs["check"]["steps"]]
    assert {"run": "make check-lowest"} in jobs["lowest"]["steps"]
    assert any("upload-artifact" in step.get("uses", "") for step in jobs["build"]["steps"])


def test_a_release_has_the_tag_of_its_version() -> None:
    program = runpy.run_path(str(ROOT / ".ci" / "release_check.py"))
    version, check_tag = program["declared_version"](PYPROJECT), program["check_tag"]
    assert version == re.search(r'^version = "(.*)"', PYPROJECT, re.MULTILINE)[1]
    assert "needs the tag v1.2.0" in check_tag("1.2.0", [], ["v1.1.0"])
    assert "is the tag's" in check_tag("1.2.0", ["v1.2.0", "nice"], ["v1.2.0"])
    assert "raise it" in check_tag("1.2.0", [], ["v1.2.0"])
    with pytest.raises(SystemExit, match=r"the tag v1\.3\.0, and pyproject\.toml the version 1\.2\.0"):
        check_tag("1.2.0", ["v1.3.0"], ["v1.3.0"])


def test_a_release_is_tried_on_the_lowest_and_the_newest_python_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = runpy.run_path(str(ROOT / ".ci" / "release_check.py"))
    jobs = parsed(".github/workflows/check.yml")["jobs"]
    assert list(program["PYTHONS"]) == jobs["check"]["strategy"]["matrix"]["python-version"]
    lowest_and_newest = program["lowest_and_newest"]
    assert lowest_and_newest(["3.10", "3.11", "3.13"]) == ["3.10", "3.13"]
    assert lowest_and_newest(["3.11"]) == ["3.11"]
    assert lowest_and_newest([]) == []
    for name, prints in (("python3.10", "echo 3.10"), ("python3.11", "exit 127")):  # the second as a shim
        (tmp_path / name).write_text(f"#!/bin/sh\n{prints}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = [program["find_python"](version) for version in ("3.10", "3.11")]
    assert found == [str(tmp_path / "python3.10"), None]
