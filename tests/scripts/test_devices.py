"""The script that measures devices, on the CPU alone, at toy size."""

import json
from pathlib import Path

import pytest

from glimpse_env.datasets.cub import CUB200
from tests.scripts.test_scripts import call
from tests.support.tiny_data import write_tiny_cub
from tests.support.toy import write_toy_judge
from tests.support.toy_encoder import TOY

WORDS = ["--env", "GlimpseCUB-v0", "--encoder", TOY, "--images", "2", "--rounds", "1", "--out", "a.json"]


@pytest.fixture
def _tiny(tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_cub(tmp_path / "data")
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    write_toy_judge(CUB200())


@pytest.mark.usefixtures("_tiny")
def test_a_cpu_alone_has_a_row_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    call("measure/devices", *WORDS)
    assert "No other device than the CPU" in capsys.readouterr().out
    figures = json.loads(Path("a.json").read_text())["devices"]
    assert list(figures) == ["cpu"]
    assert list(figures["cpu"]) == ["encoding", "boed", "kernel", "judge training", "PPO"]
    for name, one in figures["cpu"].items():
        assert (one["ratio"], one.get("largest_difference", 0), one.get("same_locations", 1)) == (1, 0, 1), name
        assert one["per_second"] > 0
