"""The page of a run: its figures are those of the run, names are text, and it needs no other file."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.evaluation.evaluate import Evaluation, choose_images, evaluate
from agents.evaluation.recordings import record, save_recordings
from agents.experiments.run_folder import begin_run
from agents.presets import Args
from agents.reports import run_page
from agents.reports.run_page import write_run_page
from glimpse_env.console.names import subcommand
from glimpse_env.datasets import make_source
from glimpse_env.datasets.digits import Digits
from glimpse_env.errors import ArtifactError
from glimpse_env.files import write_json
from glimpse_env.judge.judge import find_judge
from glimpse_env.versions import versions
from oracles.baselines import FixedPolicy
from tests.agents.reports.test_browser import BROWSER, shown
from tests.scripts.test_scripts import call
from tests.support.toy import write_toy_judge

IMAGES = 40
HOSTILE = "<script>alert(1)</script> & 'seven'"
"""Name of the class of which the agent gets none."""


class Page(HTMLParser):
    """The elements of a page, and the cells of its tables."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[list[str]] = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.cells[-1][-1] += data.strip()

    def row(self, *begins: str) -> list[str]:
        """The row that begins so."""
        return next(row for row in self.cells if row[: len(begins)] == list(begins))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a finished run on the digits leaves, but for an agent; fixed sequences have played in its place."""
    monkeypatch.setenv("GLIMPSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Digits, "class_names", (*map(str, range(7)), HOSTILE, "8", "9"))
    source = make_source("digits")
    write_toy_judge(source)
    judge, test = find_judge(source), source.load("test")
    folder, images = tmp_path / "run", choose_images(test, IMAGES)
    begin_run(Args(env="GlimpseDigits-v0", out=folder, timesteps=0))
    policies = {name: FixedPolicy(judge.grid, np.arange(6) + k) for k, name in enumerate(("random", "oracle", "agent"))}
    played = {name: evaluate(one, test, judge, images, name=name, progress=False) for name, one in policies.items()}
    labels = test.labels[images]
    outcomes = {"random": labels < 2, "oracle": labels != 2, "agent": (labels != 7) & (labels != 3) | (images % 2 == 0)}
    outcomes["agent"] &= labels != 7
    log_loss = {
        "random": np.full(6, 2.0),
        "oracle": np.array([2, 1, 1, 1, 1, 1]),
        "agent": np.array([2, 1, 1, 1.75, 1.75, 1.5]),
    }
    evaluations: dict[str, Evaluation] = {
        name: replace(one, outcomes=outcomes[name], log_loss=log_loss[name].astype(float))
        for name, one in played.items()
    }
    metrics: dict[str, Any] = {
        "env": "GlimpseDigits-v0",
        "dataset": {"name": "digits", "fingerprint": source.fingerprint, "classes": 10},
        "judge": {"identity": judge.identity},
        "demonstrations": None,
        "algorithm": "ppo",
        "architecture": None,
        "seed": 0,
        "policies": {name: one.to_json() for name, one in evaluations.items()},
        "gap_closed": {"value": 0.5, "interval": [0.25, 0.75]},
        "curve": [{"env_steps": 0, "success": 0.5}, {"env_steps": 600, "success": 0.75}],
        "selection": {"rule": "the best", "env_steps": 600, "validation_images": 10},
        "wall_time_s": {"cloning": 1.5},
        "versions": versions(),
    }
    write_json(folder / "metrics.json", metrics)
    recordings = {name: record(one, test, judge, images[[0, 20]]) for name, one in policies.items()}
    save_recordings(folder / "recordings.npz", recordings)
    return folder


def test_the_page_tells_where_success_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source("digits")
    test = source.load("test")
    images = choose_images(test, IMAGES)
    labels = test.labels[images]

    def agent_of(path: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
        return FixedPolicy(source.geometry.grid, np.arange(6)), {"observation": None}

    monkeypatch.setattr(run_page, "load_run_agent", agent_of)
    call("share/inspect_", str(folder), "--lost", "2")
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    sevens = np.count_nonzero(labels == 7)
    odd_threes = np.count_nonzero((labels == 3) & (images % 2 == 1))
    assert sevens > odd_threes > 0
    row = page.row(HOSTILE)
    assert row[1:] == [str(sevens), "0", str(sevens), f"-{sevens}", str(sevens)]
    threes = np.count_nonzero(labels == 3)
    expected = ["3", *map(str, (threes, threes - odd_threes, threes)), f"-{odd_threes}", str(odd_threes)]
    assert page.cells[page.cells.index(row) + 1] == expected
    assert odd_threes < threes
    twos = np.count_nonzero(labels == 2)
    assert page.row("agent right")[1:] == [str(IMAGES - sevens - odd_threes - twos), str(twos)]
    assert page.row("agent wrong")[1:] == [str(sevens + odd_threes), "0"]
    assert page.row("4")[-2:] == ["+0.750", "+0.750"]
    assert page.row("6")[-2:] == ["+0.500", "-0.250"]
    assert "falls behind the oracle most at glimpse 4, by 0.750 nats" in text
    assert "50 % (25 to 75)" in text
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 1 + 2 + 2, "the curve, episodes, and images that were lost"
    assert all(attributes["alt"] and (attributes["src"] or "").startswith("data:") for attributes in pictures)
    assert "<script" not in text
    if BROWSER is not None:
        assert shown([text], folder) == ("quiet", [0])
    assert not re.search(r'(?:src|href)="(?!data:|#)', text), "nothing else is needed"
    assert (folder / "report.html").stat().st_size < 3_000_000


def test_an_agent_that_cannot_be_read_is_told_on_the_page(folder: Path, tmp_path: Path) -> None:
    write_run_page(folder, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No image that was lost is played again: " in text
    assert "model" in text.split("No image that was lost is played again: ")[1][:200]


def test_what_is_no_finished_run_is_named(folder: Path, tmp_path: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    for change, message in (
        ({"policies": {"agent": metrics["policies"]["agent"]}}, "has no oracle"),
        ({"policies": {name: one | {"images": "0"} for name, one in metrics["policies"].items()}}, "test images that"),
        ({"policies": []}, "holds no finished run"),
    ):
        write_json(folder / "metrics.json", metrics | change)
        with pytest.raises(ArtifactError, match=message):
            write_run_page(folder, tmp_path / "page.html")
    write_json(folder / "metrics.json", metrics | {"wall_time_s": {"cloning": "long"}})
    with pytest.raises(ArtifactError, match="holds figures or episodes that are damaged"):
        write_run_page(folder, tmp_path / "page.html")
    write_json(folder / "metrics.json", metrics)
    with np.load(folder / "recordings.npz") as arrays:
        elsewhere = {key: array + 10**6 if key.endswith("indices") else array for key, array in arrays.items()}
    np.savez(folder / "recordings.npz", **elsewhere)
    with pytest.raises(ArtifactError, match="damaged or of other images"):
        write_run_page(folder, tmp_path / "page.html")
    (folder / "metrics.json").unlink()
    with pytest.raises(ArtifactError, match="holds no finished run"):
        write_run_page(folder, tmp_path / "page.html")
    with pytest.raises(SystemExit, match="ConfigurationError: nowhere holds no run"):
        call("share/inspect_", "nowhere")
    assert not (tmp_path / "page.html").exists()


def test_the_command_hides_no_module_of_python() -> None:
    assert subcommand("share/inspect_") == "inspect"
