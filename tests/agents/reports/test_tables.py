"""How results are handed in: pages whose tables are renewed, JSON by data set, commands."""

import html
import io
import json
import re

import pytest

from agents.evaluation.statistics import Estimate
from agents.reports.style import dress, entitle, literal, new_figure
from agents.reports.tables import format_estimate, markdown_table, percent, plain, replace_entry, replace_section
from glimpse_env.errors import ArtifactError


def test_a_table_is_put_between_its_own_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n<!-- table:a -->\nold\n<!-- /table:a -->\n\n<!-- table:b -->\nkept\n<!-- /table:b -->\nend\n"
    )
    replace_section("| new |", page, "table:a")
    first = "# Page\n\n<!-- table:a -->\n| new |\n<!-- /table:a -->\n\n"
    assert page.read_text() == first + "<!-- table:b -->\nkept\n<!-- /table:b -->\nend\n"
    replace_section("other", page, "table:b")
    assert page.read_text() == first + "<!-- table:b -->\nother\n<!-- /table:b -->\nend\n"


def test_a_page_without_the_marks_gets_a_section(tmp_path):
    page = tmp_path / "docs" / "page.md"
    replace_section("one", page, "table:a")
    replace_section("two", page, "table:b")
    replace_section("three", page, "table:a")
    assert page.read_text() == (
        "## table:a\n\n<!-- table:a -->\nthree\n<!-- /table:a -->\n\n"
        "## table:b\n\n<!-- table:b -->\ntwo\n<!-- /table:b -->\n"
    )


def test_half_a_pair_of_marks_is_refused_and_the_page_kept(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- table:a -->\nold\n")
    with pytest.raises(ArtifactError, match="no part between <!-- table:a --> and"):
        replace_section("new", page, "table:a")
    assert page.read_text() == "<!-- table:a -->\nold\n"


def test_entries_of_other_data_sets_stay(tmp_path):
    path = tmp_path / "figures.json"
    replace_entry(path, "b", {"x": 1})
    replace_entry(path, "a", {"x": 2})
    replace_entry(path, "b", {"x": 3})
    assert json.loads(path.read_text()) == {"a": {"x": 2}, "b": {"x": 3}}
    for content in ("[]", "{"):
        path.write_text(content)
        with pytest.raises(ArtifactError, match="no JSON object"):
            replace_entry(path, "b", {})
        assert path.read_text() == content


def test_numbers_are_written_with_their_intervals():
    assert percent(0.5, (0.4, 0.625)) == "50.0 % (40.0 to 62.5)"
    assert format_estimate(Estimate(0.25, -0.125, 0.5), 1, scale=100, signed=True) == "+25.0 (-12.5 to +50.0)"
    assert format_estimate(Estimate(1.0, 1.0, 1.0), 0, scale=100) == "100"
    assert format_estimate(Estimate(0.5, None, None), 2) == "0.50"
    assert format_estimate(Estimate(-0.001, -0.1, 0.2), 1) == "0.0 (-0.1 to 0.2)"
    assert format_estimate(Estimate(None, None, None), 2) == "–"
    assert markdown_table([["a", "b"], ["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
    assert markdown_table([["a", "b", "c"]], "lr") == "| a | b | c |\n|---|---:|---:|"
    assert markdown_table([["a"]], "llr") == "| a |\n|---|"


NAMES = (
    *(
        "<script>alert('x')</script>",
        "<img src=x onerror=alert(1)>",
        "a | b",
        "\\| c",
        "two\nlines",
        "&lt;b&gt;",
        "A & B",
    ),
    *(
        "[here](javascript:alert(1))",
        "![](//e.org/x.png)",
        "`code`",
        "**bold**",
        "_it_",
        "__init__",
        "~~no~~",
    ),
    *(
        "costs $5 or $6",
        "efficientnet_lite0",
        "back\\slash",
        "\\<b>",
        "<!-- /table:a -->",
        "a.b#c-d+e",
        "## x",
        "- x",
        "1. x",
        "x {: #y onclick=z }",
    ),
)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text_and_never_markup(name):
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page = markdown.render(markdown_table([[plain(name), "head"], ["one", plain(name)]]))
    head, body = re.findall(r"<t[hd]>(.*?)</t[hd]>", page)[::3]
    assert html.unescape(head) == html.unescape(body) == " ".join(name.split())
    assert set(re.findall(r"</?(\w+)", page)) == {"table", "thead", "tbody", "tr", "th", "td"}
    assert markdown.render(f"# {plain(name)}").startswith("<h1>")
    assert html.unescape(markdown.render(f"# {plain(name)}").strip()[4:-5]) == " ".join(name.split())


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_holds_html_or_ends_a_table(name):
    """Cells may have markup of ours, like bold."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    page = markdown.render(markdown_table([["**bold**", "head"], [name, "last"]]))
    assert page.count("<td>") == 2
    assert "<strong>bold</strong>" in page
    assert not re.search("<script|<img src=x|<b>|<!--", page)


def test_dollars_begin_no_formula():
    figure = new_figure(2, 2)
    axes = figure.subplots()
    dress(axes, title="$a^ and $b")
    entitle(figure, "$x_", "$5 or $6^")
    axes.set_ylabel(literal("$z^$"))
    figure.savefig(io.BytesIO())  # which would not parse
