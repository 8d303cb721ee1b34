"""Names of classes, folders and methods in a real browser: text in every page, and nothing of them runs."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agents.reports.tables import markdown_table, plain
from scripts.compare_runs import table

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
RUNS = "top.document.title='ran'"
NAMES = (
    f"<script>{RUNS}</script>",
    f"a | <script>{RUNS}</script> | b",
    f'<img src=x onerror="{RUNS}">',
    f'"><svg onload="{RUNS}">',
    f"' autofocus onfocus={RUNS} x='",
    f"</title></style></textarea><script>{RUNS}</script>",
    f"`<script>{RUNS}</script>`",
    f"``` <script>{RUNS}</script>",
    f"[x](javascript:{RUNS})",
    f"![x](x){{onerror={RUNS}}}",
    f"<javascript:{RUNS}>",
    f'x {{: onmouseover="{RUNS}" style="position:fixed" }}',
    f"# x {{ #y onclick={RUNS} }}",
    f"\\<script>{RUNS}</script>",
    f"&lt;script&gt;{RUNS}&lt;/script&gt;",
    f"--> <script>{RUNS}</script> <!--",
    "{{ 7 * 7 }} {% raw %}",
)
OUTER = """<title>quiet</title>{frames}<script>
onload = () => {{
  const wrong = [...document.querySelectorAll("iframe")].map((frame) => [...frame.contentDocument.querySelectorAll("*")]
    .filter((one) => one.tagName === "SCRIPT" || [...one.attributes].some((attribute) =>
      attribute.name.startsWith("on") || /^\\s*javascript:/i.test(attribute.value))).length);
  document.body.dataset.wrong = JSON.stringify(wrong);
}};
</script>"""


def shown(pages: list[str], folder: Path) -> tuple[str, list[int]]:
    """The title that pages leave, which theirs that run change, and in each the elements that could run something."""
    frames = "".join(f'<iframe srcdoc="{html.escape(page)}"></iframe>' for page in pages)
    path = folder / "outer.html"
    path.write_text(OUTER.format(frames=frames), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    words = [str(BROWSER), *flags, "--virtual-time-budget=3000", "--dump-dom", path.as_uri()]
    dumped = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    title, wrong = re.search("<title>(.*?)</title>", dumped), re.search('data-wrong="(.*?)"', dumped)
    assert title is not None
    assert wrong is not None
    return title[1], json.loads(wrong[1])


def metrics(name: str) -> dict[str, Any]:
    one = {"success_rate": 0.5, "interval": [0.4, 0.6], "num_images": 8}
    gap = {"value": 0.5, "interval": [0.4, 0.6]}
    return {"env": name, "dataset": {"fingerprint": "0"}, "policies": {"random": one}, "gap_closed": gap}


def rendered(markdown: str) -> list[str]:
    """HTML of a page as a forge shows it and as the site's extensions do, both of which keep HTML."""
    forge = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    site = pytest.importorskip("markdown")
    return [
        forge.render(markdown),
        site.markdown(markdown, extensions=["tables", "attr_list", "md_in_html", "fenced_code"]),
    ]


def test_the_browser_runs_what_is_no_text(tmp_path: Path) -> None:
    """Else the other tests would tell nothing."""
    assert shown([f"<p>{NAMES[0]}</p>"], tmp_path) == ("ran", [1])
    assert shown([f"<p>{NAMES[2]}</p>", "<p>x</p>"], tmp_path) == ("ran", [1, 0])


def test_names_in_markdown(tmp_path: Path) -> None:
    pages = []
    for name in NAMES:
        body = markdown_table([[plain(name), "head"], [plain(name), "1.0"]])
        pages += rendered(f"# {plain(name)}\n\n{plain(name)}\n\n- {plain(name)}\n\n{body}\n")
        pages += rendered(table([metrics(name)]))
    assert shown(pages, tmp_path) == ("quiet", [0] * len(pages))


@pytest.mark.filterwarnings("ignore:constrained_layout")  # names this long leave no room
def test_names_in_the_report_of_a_benchmark(tmp_path: Path) -> None:
    for package in ("pandas", "rliable", "jinja2"):
        pytest.importorskip(package, reason="pip install -c constraints.txt -e '.[benchmark]'")
    import pandas

    from agents.reports.benchmark.tables import write_report
    from agents.reports.pages import ReportContext
    from tests.support.toy_results import cells

    curves = [{0: 0.2, 100: 0.5}, {0: 0.3, 100: 0.6}]
    methods = zip(NAMES[::3], NAMES[1::3], NAMES[2::3], strict=False)
    settings = [{"env": NAMES[0], "algo": a, "architecture": b, "demos": c, "num_demos": 8} for a, b, c in methods]
    results = [cells(curves, **one) for one in settings]
    everything = " ".join(NAMES)
    context = ReportContext(
        title=everything,
        command=everything,
        versions={everything: everything},
        protocol={everything: everything},
        figures=[],
        notes=list(NAMES),
    )
    write_report(tmp_path / "report", pandas.concat(results, ignore_index=True), context, resamples=20)
    pages = [(tmp_path / "report" / "report.html").read_text(encoding="utf-8")]
    pages += rendered((tmp_path / "report" / "results.md").read_text(encoding="utf-8"))
    assert shown(pages, tmp_path) == ("quiet", [0, 0, 0])
