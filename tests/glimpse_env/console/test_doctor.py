"""``glimpse doctor`` tells what is here and how to get what is not."""

import json
import re
import sys
from pathlib import Path

import pytest

from glimpse_env.console.doctor import EXTRAS, as_text, examine
from glimpse_env.presets import PRESETS
from tests.scripts.test_scripts import call
from tests.support.commands import ROOT
from tests.support.tiny_data import write_tiny_cub, write_tiny_gaze, write_tiny_mnist


def test_every_extra_is_explained() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    assert EXTRAS.keys() == set(re.findall(r"^(\w+) = \[", declared.split("\n[")[0], re.MULTILINE))


@pytest.mark.usefixtures("fresh_cache")
def test_data_sets_are_found_or_told_how_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = examine()["datasets"]
    assert before.keys() == {name for name, preset in PRESETS.items() if preset.source} | {"cub-gha"}
    assert [name for name, entry in before.items() if entry["found"]] == [
        "birds",
        "digits",
        "signpost",
        "needle",
        "memory",
    ]
    for name, words in (("cub", "download_data.py cub"), ("mnist", "download_data.py mnist"), ("celeba-hq", "github")):
        assert words in before[name]["how"]
    assert "CUB-GHA" in before["cub-gha"]["how"]
    for write in (write_tiny_cub, write_tiny_mnist):
        write(tmp_path)
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path))
    after = examine()["datasets"]
    there = {"birds", "digits", "signpost", "needle", "memory", "cub", "cub-full", "mnist"}
    assert {name for name, entry in after.items() if entry["found"]} == there
    write_tiny_gaze(tmp_path)
    assert examine()["datasets"]["cub-gha"]["found"]


@pytest.mark.usefixtures("fresh_cache")
def test_the_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("doctor", "--out", str(tmp_path / "doctor.json"))
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "doctor.json").read_text(encoding="utf-8"))
    assert printed.strip() == as_text(report).strip()
    assert report["packages"] == {"oracles": None, "agents": None}
    assert report["torch"]["devices"][-1] == "cpu"
    assert report["environment"]["GLIMPSE_CACHE"] == report["cache"]["folder"]
    for word in ("torch", "gymnasium", "threads", "Cache in", "download_data.py cub"):
        assert word in printed


def test_a_pytorch_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    report = examine()
    assert "ModuleNotFoundError" in report["torch"]["error"] or "ImportError" in report["torch"]["error"]
    assert "PyTorch cannot be imported" in as_text(report)
