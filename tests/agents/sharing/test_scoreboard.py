"""The scoreboard: rows say what follows from their results, and what was tampered with is refused."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.evaluation.evaluate import choose_images
from agents.evaluation.statistics import wilson_interval
from agents.sharing.rows import BOARDS, TEST_IMAGES, file_name, read_boards, read_row, read_rows
from agents.sharing.scoreboard import boards_of, to_markdown
from glimpse_env.datasets import make_source
from glimpse_env.errors import ArtifactError
from glimpse_env.files import digest, read_json, write_json
from glimpse_env.judge.judge import find_judge
from glimpse_env.presets import dataset_of
from tests.support.commands import glimpse

DOCS = Path(__file__).parents[3] / "docs"
ROWS = DOCS / "scoreboard"
SCORED = ("boed", "centre", "fixed", "oracle", "random")
Row = dict[str, Any]
AGENT = """
import numpy as np
from oracles import make_policy


class Centre:
    def __init__(self, policy):
        self.policy = policy

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return self.policy.predict(observation, state, episode_start, deterministic)


def make_agent(source, judge):
    return Centre(make_policy("centre", source, judge))
"""
STOPS = """
import numpy as np


class Twice:
    stops = True

    def __init__(self, source):
        self.stop = len(source.geometry.grid)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        taken = np.asarray(observation["mask"]).sum(axis=1)
        return np.where(taken < 2, 40 + taken, self.stop).astype(np.int64), None


def make_agent(source, judge):
    return Twice(source)
"""


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The rows of this repository, each of which is checked."""
    return read_rows(ROWS)


def row_of(rows: list[Row], policy: str, env: str = "GlimpseDigits-v0") -> Row:
    return next(row for row in rows if row["env"] == env and row["origin"].get("policy") == policy)


def test_birds_and_digits_have_rows_of_the_shipped_agent_and_of_policies(rows: list[Row]) -> None:
    for env in ("GlimpseBirds-v0", "GlimpseDigits-v0"):
        board = [row for row in rows if row["env"] == env]
        assert {row["origin"]["policy"] for row in board if row["origin"]["kind"] == "policy"} == set(SCORED)
        assert [row["seeds"] for row in board if row["origin"]["kind"] == "agent"] == [{"training": 0, "evaluation": 0}]
        assert all((ROWS / row["file"]).stat().st_size < 40_000 for row in board)


@pytest.mark.parametrize("env", ["GlimpseBirds-v0", "GlimpseDigits-v0"])
def test_boards_are_of_the_data_and_judges_that_are_here(env: str) -> None:
    source = make_source(dataset_of(env))
    count = source.size("test")
    board = read_boards(ROWS)[env]
    assert (board["fingerprint"], board["judge"]) == (source.fingerprint, find_judge(source).identity)
    images = np.sort(np.random.default_rng(0).permutation(count)[:TEST_IMAGES])
    assert (board["num_images"], board["images"]) == (min(count, TEST_IMAGES), digest(images.astype(np.int64)))


def test_the_page_has_what_follows_from_the_rows(rows: list[Row]) -> None:
    page = (DOCS / "scoreboard.md").read_text(encoding="utf-8")
    text = to_markdown(rows, "scoreboard", "images/scoreboard-{}.png")
    remedy = "run: python scripts/share/score.py --check docs/scoreboard --into docs/scoreboard.md"
    assert f"<!-- board -->\n{text}\n<!-- /board -->" in page, remedy


def test_the_table_has_marks_intervals_and_the_way_to_the_oracle(rows: list[Row]) -> None:
    board = boards_of(rows)["GlimpseDigits-v0"]
    values = [row["summary"]["success"]["value"] for row in board]
    assert values == sorted(values, reverse=True)
    text = to_markdown(rows, "scoreboard", "images/scoreboard-{}.png")
    random, oracle, boed = (row_of(rows, name) for name in ("random", "oracle", "boed"))
    for row, name in ((random, "*random*"), (oracle, "*oracle*"), (boed, "boed")):
        success = row["results"]["success"]
        low, high = wilson_interval(success.count("1"), len(success))
        share = success.count("1") / len(success)
        told = f"| [{name}](scoreboard/{row['file']}) | {100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f}) |"
        assert told in text
    ends = [row["summary"]["success"]["value"] for row in (random, oracle)]
    way = (boed["summary"]["success"]["value"] - ends[0]) / (ends[1] - ends[0])
    line = next(line for line in text.splitlines() if boed["file"] in line)
    assert f"| {100 * way:.0f} % (" in line
    hostile = {**random, "name": "<b>|[x](y)", "author": "`z`"}
    table = to_markdown([hostile], "scoreboard", "{}")
    assert "<b>" not in table
    assert r"\[x\](y)" in table


def refile(row: Row, folder: Path) -> Path:
    """Writes a row under the name that its content asks for."""
    write_json(folder / file_name(row), row)
    return folder / file_name(row)


def _flip(row: Row) -> None:
    success = row["results"]["success"]
    row["results"]["success"] = success[:-1] + ("0" if success[-1] == "1" else "1")


def _set(*keys: str, to: Any) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        for key in keys[:-1]:
            row = row[key]
        row[keys[-1]] = to

    return change


TAMPERED: dict[str, tuple[Callable[[Row], None], str]] = {
    "an outcome": (_flip, r"summary\.success\.value is"),
    "the success": (_set("summary", "success", "value", to=0.99), "follows from its results"),
    "the count": (_set("summary", "success", "successes", to=1000), "follows from its results"),
    "an interval": (_set("summary", "success", "interval", to=[0.4, 0.9]), "follows from its results"),
    "the log-loss": (_set("summary", "log_loss", "value", to=0.1), "follows from its results"),
    "its interval": (_set("summary", "log_loss", "interval", to=None), "follows from its results"),
    "no number": (_set("summary", "log_loss", "value", to=float("nan")), "follows from its results"),
    "a further claim": (_set("summary", "return", to={"value": 1, "interval": None}), "follows from its results"),
    "fewer images": (_set("results", "success", to="01"), "images"),
    "losses of fewer images": (_set("results", "log_loss", to="0.1 0.2"), "2 log_loss of 1062 images"),
    "losses below zero": (_set("results", "log_loss", to=" ".join(["-9"] * 1062)), "log_loss in numbers"),
    "losses that are words": (_set("results", "log_loss", to=" ".join(["1.1.1"] * 1062)), "no numbers"),
    "the fingerprint": (_set("fingerprint", to="0" * 16), "its fingerprint is 0000000000000000"),
    "the judge": (_set("judge", to="mine"), "its judge is mine"),
    "the images": (_set("images", to="0" * 16), "its images is"),
    "the split": (_set("split", to="train"), "its split is train"),
    "the id": (_set("env", to="GlimpseOther-v0"), "has no board for GlimpseOther-v0; score with --new-board"),
    "the format": (_set("format", to=2), "no row of format 1"),
    "an entry too many": (_set("more", to=1), "no row of format 1"),
    "the name": (_set("name", to="a\nb"), "must be one line"),
    "no name": (_set("name", to=None), "must be one line"),
    "no results": (_set("results", to=[]), "damaged"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampered_rows_are_refused(what: str, rows: list[Row], tmp_path: Path) -> None:
    row = copy.deepcopy(row_of(rows, "random"))
    original = row.pop("file")
    change, message = TAMPERED[what]
    change(row)
    (tmp_path / original).write_text(json.dumps(row))
    if row["format"] == 1 and len(row) == len(rows[0]) - 1 and row["name"] == "random":
        with pytest.raises(ArtifactError, match="its content is that of"):  # as the name is of the content
            read_row(tmp_path / original, read_boards(ROWS))
    (tmp_path / original).unlink()
    with pytest.raises(ArtifactError, match=message):
        read_row(refile(row, tmp_path), read_boards(ROWS))


def test_files_that_are_no_rows_are_refused(rows: list[Row], tmp_path: Path) -> None:
    shutil.copy(ROWS / BOARDS, tmp_path)
    row = copy.deepcopy(row_of(rows, "random"))
    del row["file"]
    refile(row, tmp_path)
    assert len(read_rows(tmp_path)) == 1
    refile({**row, "name": "Random"}, tmp_path)
    for name, content in (("x.json", "[]"), ("y.json", "{"), ("z.json", "{}")):
        (tmp_path / name).write_text(content)
    with pytest.raises(ArtifactError) as refused:
        read_rows(tmp_path)
    for told in ("x.json is refused", "y.json is refused", "z.json is refused", "have one name"):
        assert told in str(refused.value)


def test_a_file_is_scored_by_the_protocol(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An agent that looks where centre-out does has its results."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_agent.py").write_text(AGENT)
    words = ["--env", "GlimpseDigits-v0", "--name", "Mine", "--author", "me", "--out", "rows"]
    glimpse("score", str(tmp_path / "my_agent.py"), *words)
    path = Path(re.search(r"Row: (.*)", capsys.readouterr().out)[1])
    assert re.fullmatch(r"GlimpseDigits-v0-Mine-[0-9a-f]{16}\.json", path.name)
    shutil.copy(ROWS / BOARDS, "rows")
    row, centre = read_row(path, read_boards(ROWS)), row_of(rows, "centre")
    same = np.array(list(row["results"]["success"])) == np.array(list(centre["results"]["success"]))
    assert same.mean() > 0.99  # processors differ in last digits
    assert row["origin"] == {"kind": "file", "file": "my_agent.py", "digest": digest(AGENT.encode())}
    assert row["seeds"] == {"training": None, "evaluation": 0}
    assert row["command"].endswith("score my_agent.py --env GlimpseDigits-v0 --name Mine --author me")
    assert row["images"] == digest(choose_images(make_source("digits").load("test"), TEST_IMAGES))
    assert str(tmp_path) not in path.read_text()
    glimpse("score", str(DOCS / "howto" / "my_agent.py"), "--env", "GlimpseDigits-v0", "--out", "example")
    (example,) = (read_json(file) for file in Path("example").iterdir())
    assert example["summary"]["success"]["value"] > row_of(rows, "random")["summary"]["success"]["interval"][1]
    capsys.readouterr()
    glimpse("score", "--check", "rows", "--into", "page.md")
    assert capsys.readouterr().out == "1 rows of 1 ids follow from their results.\nPage: page.md\n"
    assert f"[**Mine**](rows/{path.name})" in Path("page.md").read_text()
    assert Path("images/scoreboard-GlimpseDigits-v0.png").is_file()
    path.write_text(path.read_text().replace('"Mine"', '"Ours"'))
    with pytest.raises(SystemExit, match=r"ArtifactError: the row .* is refused"):
        glimpse("score", "--check", "rows")


def test_an_agent_that_stops_has_glimpses_and_a_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stops.py").write_text(STOPS)
    glimpse("score", "stops.py", "--env", "GlimpseDigitsAnytime-v0", "--out", "rows", "--new-board")
    (row,) = read_rows(Path("rows"))
    glimpses = np.array(row["results"]["glimpses"].split(), float)
    success = np.array(list(row["results"]["success"])) == "1"
    assert set(glimpses) == {2.0}
    assert row["glimpse_cost"] == 0.05
    assert row["summary"]["return"]["value"] == pytest.approx((success - 0.05 * glimpses).mean())
    head = to_markdown([row], "rows", "{}").splitlines()
    assert "| glimpses | return |" in next(line for line in head if line.startswith("| row"))
    assert read_json(Path("rows") / BOARDS)["GlimpseDigitsAnytime-v0"]["glimpse_cost"] == 0.05


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name what to score"),
        (["random", "--check", "rows"], "name what to score"),
        (["random", "--into", "page.md"], "needs the folder of the rows"),
        (["nobody"], "nobody is no Python file, no agent"),
        (["none.py"], "there is no file none.py"),
        (["empty.py"], "empty.py has no function make_agent"),
        (["wrong.py"], "returns int, which has no method predict"),
        (["GlimpseBirds-v0", "--env", "GlimpseDigits-v0"], "the agent is one of another environment"),
        (["random", "--env", "GlimpseDigitsClassify-v0"], "has no judge"),
        (["random", "--env", "GlimpseDigits-v0", "--name", "x" * 81], "at most 80 characters"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "wrong.py").write_text("def make_agent(source, judge):\n    return 1\n")
    env = [] if "--env" in words or "--check" in words else ["--env", "GlimpseDigits-v0"]
    with pytest.raises(SystemExit, match=rf"^\w+Error: .*{re.escape(message)}"):
        glimpse("score", *words, *env)
    assert not (tmp_path / "runs").exists()
