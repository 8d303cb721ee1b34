"""The benchmark's report: one page that stands alone, and tables that do not change with the run."""

import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from glimpse_env.errors import ConfigurationError

pandas = pytest.importorskip("pandas", reason="pip install -c constraints.txt -e '.[benchmark]'")
pytest.importorskip("rliable", reason="pip install -c constraints.txt -e '.[benchmark]'")
pytest.importorskip("jinja2", reason="pip install -c constraints.txt -e '.[benchmark]'")

from agents.evaluation.results import methods_of  # noqa: E402
from agents.reports.benchmark.plots import CROWD, learning_curves, performance_profiles, styles  # noqa: E402
from agents.reports.benchmark.tables import summary_table, write_report  # noqa: E402
from agents.reports.pages import ReportContext, inline_svg  # noqa: E402
from tests.support.toy_results import cell, cells, grid  # noqa: E402

MALICE = "<script>alert('x')</script> | & \"quoted\""
VOID = ("meta", "img", "br", "link", "path", "use", "rect")


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(stream, "PNG")
    return stream.getvalue()


CONTEXT = ReportContext(
    title=MALICE,
    command="python scripts/benchmark.py --seeds 2",
    versions={"torch": "2.9"},
    protocol={"budget": "50,000 steps | 2 seeds"},
    figures=[("Example <b>episodes</b>", picture()), ("Maps", picture())],
    notes=["Toy data, <i>not</i> results."],
)


class Page(HTMLParser):
    """Collects tags, attributes and ids, and that all tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.attributes if found == name]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    results = grid(envs=("GlimpseDigits-v0", "GlimpseMNIST-v0"), algos=("ppo",), architectures=("gru",), seeds=2)
    write_report(folder, results, CONTEXT, resamples=50)
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page((written / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_stands_alone(written, page):
    assert page.open == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    for name in ("src", "href", "xlink:href"):
        assert all(value.startswith(("#", "data:image/png;base64,")) for value in page.all(name)), name
    text = (written / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?!#)|@import""", text)
    assert ("name", "viewport") in page.attributes
    assert "@media print" in text


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for value in page.all("href") if value.startswith("#")}
    wanted |= {name for _, value in page.attributes for name in re.findall(r"url\(#([^)]+)\)", value)}
    assert len(wanted) > 20
    assert wanted <= set(ids)


def test_the_page_holds_all_pictures_and_names_them(page):
    assert page.tags.count("svg") == 4
    assert page.tags.count("img") == len(CONTEXT.figures)
    assert page.tags.count("figure") == 4 + len(CONTEXT.figures)
    assert page.all("alt") == ["Example <b>episodes</b>", "Maps"]
    assert page.all("role").count("img") == 4


def test_what_comes_from_outside_is_escaped(written, page):
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>episodes" not in text
    assert "<i>not" not in text
    assert MALICE in page.words
    text = (written / "results.md").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "![Example &lt;b>episodes&lt;/b>]" in text


def test_the_summary_tells_the_best_and_the_speed_ups(page):
    words = " ".join(page.words)
    assert "GlimpseDigits-v0: the best is PPO · GRU · 200 oracle demos, with " in words
    assert re.search(r"gets to 90 % of the gap at least [\d.]+ times as fast as without demonstrations", words)
    assert re.search(r"Over 2 environments PPO · GRU · 200 oracle demos has the highest interquartile mean", words)


def test_the_tables_are_the_same_each_time_and_complete(written, tmp_path):
    results = grid(envs=("GlimpseDigits-v0", "GlimpseMNIST-v0"), algos=("ppo",), architectures=("gru",), seeds=2)
    paths = write_report(tmp_path, results.sample(frac=1.0, random_state=3), CONTEXT, resamples=50)
    assert all(path.is_file() and path.stat().st_size for path in paths)
    assert {path.relative_to(tmp_path) for path in paths} == {
        path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()
    }
    for name in ("results.md", "report.html", "plots/learning_curves.svg"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    for heading in ("Test scores", "Over environments", "Environment steps", "Speed-ups", "Spread", "Probability"):
        assert f"## {heading}" in text
    assert CONTEXT.command in text
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (tmp_path / name).is_file()
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_one_seed_of_one_method_that_never_arrives_is_reported(tmp_path):
    write_report(tmp_path, cell({0: 0.0, 100: 0.3}), ReportContext("Small", "python x.py"), resamples=20)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert page.open == []
    assert "> 100, 0/1" in text
    assert "There is nothing to compare yet." in text
    assert "There is nothing to compare yet." in page.words


def test_demonstrations_that_never_help_are_told(tmp_path):
    results = pandas.concat([cells([{0: 0.0, 100: 0.3}] * 2), cells([{0: 0.2}] * 2, demos="hgs", num_demos=5)])
    write_report(tmp_path, results, ReportContext("Small", "python x.py"), resamples=20)
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "No method with demonstrations gets to 90 % of the gap inside its budget." in text


def test_what_cannot_be_reported_is_named(tmp_path, monkeypatch):
    context = ReportContext("Small", "python x.py")
    results = cell({0: 0.0, 100: 0.3})
    for split in ("val", "test"):
        with pytest.raises(ConfigurationError, match=f"no row of the split '{split}'"):
            write_report(tmp_path, results[results["split"] != split], context)
    with pytest.raises(ConfigurationError, match="'Map' is not a PNG"):
        ReportContext("Small", "python x.py", figures=[("Map", b"GIF89a")])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigurationError, match=r"pip install -c constraints.txt -e '\.\[benchmark\]'"):
        write_report(tmp_path, results, context, resamples=5)
    assert not list(tmp_path.iterdir())


def test_many_methods_get_a_panel_an_architecture(tmp_path):
    results = grid(
        envs=("GlimpseDigits-v0",),
        algos=("ppo",),
        architectures=("gru", "mlp", "canvas"),
        demos=(("none", 0), ("oracle", 200), ("hgs", 200)),
        seeds=1,
        evaluations=4,
    )
    methods = methods_of(results)
    assert len(methods) > CROWD
    for path in (
        *learning_curves(tmp_path / "curves", results, resamples=20),
        *performance_profiles(tmp_path / "profiles", results, resamples=20),
    ):
        assert path.is_file()
    assert "GlimpseDigits-v0, canvas" in (tmp_path / "curves.svg").read_text(encoding="utf-8")


def test_styles_tell_methods_apart_and_pair_those_without_demonstrations():
    results = grid(demos=(("none", 0), ("oracle", 200), ("hgs", 200)), seeds=1, evaluations=2)
    methods = methods_of(results)
    drawn = styles(methods, by_architecture=False)
    assert len({(style.colour, style.marker, style.dashed) for style in drawn.values()}) == len(methods)
    for method in methods:
        assert drawn[method].dashed != method.has_demos
        if method.demos == "oracle":
            [partner] = [each for each in methods if each.family == method.family and not each.has_demos]
            assert drawn[partner].colour == drawn[method].colour


def test_inlined_svgs_keep_their_references_together():
    text = (
        '<?xml version="1.0"?>\n<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36pt" '
        'viewBox="0 0 72 36" xmlns="http://www.w3.org/2000/svg" version="1.1"><defs><path id="a"/></defs>'
        '<g clip-path="url(#a)"><use xlink:href="#a"/></g></svg>'
    )
    inlined = inline_svg(text, "one", 'A "plot"')
    assert inlined.startswith('<svg role="img" aria-label="A &quot;plot&quot;"')
    assert 'id="one-a"' in inlined
    assert "url(#one-a)" in inlined
    assert 'href="#one-a"' in inlined
    assert "http" not in inlined
    assert "max-width: 96px" in inlined


def test_where_glimpses_have_a_price_returns_stand_beside_what_they_are_made_of(tmp_path):
    priced = grid(envs=("GlimpseBirdsAnytime-v0",), algos=("ppo",), architectures=("gru",), seeds=2)
    priced = priced.assign(judged_right=0.875, glimpses=3.25)
    plain = grid(envs=("GlimpseBirds-v0",), algos=("ppo",), architectures=("gru",), seeds=2)
    write_report(tmp_path, pandas.concat([plain, priced]), CONTEXT, resamples=50)
    tables = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| method | judged right, % | gap closed, %" in tables
    assert "| method | return, % | judged right, % | glimpses | gap closed, %" in tables
    assert "| 87.5 | 3.25 |" in tables
    assert "| return on test images | judged right, % | glimpses |" in summary_table(priced, resamples=50)
    assert "| right on test images | std over seeds" in summary_table(plain, resamples=50)
