"""How results are handed in: pages whose tables are renewed, JSON by data set, commands."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro

from agents.evaluation.statistics import Estimate
from agents.reports.tables import command_line, format_estimate, insert, keep_entry, markdown, percent
from glimpse_env.errors import ArtifactError


@dataclass(frozen=True)
class Args:
    env: tuple[str, ...] = ("a",)
    images: int = 5
    options: str = "{}"
    into: Path | None = Path("page.md")


def test_a_table_is_put_between_its_own_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n<!-- table:a -->\nold\n<!-- /table:a -->\n\n<!-- table:b -->\nkept\n<!-- /table:b -->\nend\n"
    )
    insert("| new |", page, "table:a")
    first = "# Page\n\n<!-- table:a -->\n| new |\n<!-- /table:a -->\n\n"
    assert page.read_text() == first + "<!-- table:b -->\nkept\n<!-- /table:b -->\nend\n"
    insert("other", page, "table:b")
    assert page.read_text() == first + "<!-- table:b -->\nother\n<!-- /table:b -->\nend\n"


def test_a_page_without_the_marks_gets_a_section(tmp_path):
    page = tmp_path / "docs" / "page.md"
    insert("one", page, "table:a")
    insert("two", page, "table:b")
    insert("three", page, "table:a")
    assert page.read_text() == (
        "## table:a\n\n<!-- table:a -->\nthree\n<!-- /table:a -->\n\n"
        "## table:b\n\n<!-- table:b -->\ntwo\n<!-- /table:b -->\n"
    )


def test_half_a_pair_of_marks_is_refused_and_the_page_kept(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- table:a -->\nold\n")
    with pytest.raises(ArtifactError, match="no <!-- /table:a --> behind it"):
        insert("new", page, "table:a")
    assert page.read_text() == "<!-- table:a -->\nold\n"


def test_entries_of_other_data_sets_stay(tmp_path):
    path = tmp_path / "figures.json"
    keep_entry(path, "b", {"x": 1})
    keep_entry(path, "a", {"x": 2})
    keep_entry(path, "b", {"x": 3})
    assert json.loads(path.read_text()) == {"a": {"x": 2}, "b": {"x": 3}}
    for content in ("[]", "{"):
        path.write_text(content)
        with pytest.raises(ArtifactError, match="no JSON object"):
            keep_entry(path, "b", {})
        assert path.read_text() == content


def test_a_command_leads_back_to_its_arguments():
    assert command_line("play", Args()) == "python scripts/play.py"
    args = Args(env=("a", "b"), images=7, options='{"x": [1]}', into=None)
    words = shlex.split(command_line("play", args))
    assert words[:5] == ["python", "scripts/play.py", "--env", "a", "b"]
    assert tyro.cli(Args, args=words[2:]) == args


def test_numbers_are_written_with_their_intervals():
    assert percent(0.5, (0.4, 0.625)) == "50.0 % (40.0 to 62.5)"
    assert format_estimate(Estimate(0.25, -0.125, 0.5), 1, scale=100, signed=True) == "+25.0 (-12.5 to +50.0)"
    assert format_estimate(Estimate(1.0, 1.0, 1.0), 0, scale=100) == "100"
    assert format_estimate(Estimate(0.5, None, None), 2) == "0.50"
    assert format_estimate(Estimate(-0.001, -0.1, 0.2), 1) == "0.0 (-0.1 to 0.2)"
    assert format_estimate(Estimate(None, None, None), 2) == "–"
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
