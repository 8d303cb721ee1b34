"""Reports made of sections with tables and pictures, as Markdown and as one HTML page."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.reports.tables import markdown_table, plain
from glimpse_env.console.names import pip_extra
from glimpse_env.errors import ConfigurationError

TEMPLATE = Path(__file__).with_name("report.html.jinja")
PLOTS = "plots"
"""Folder of the pictures beside ``results.md``."""
PNG = b"\x89PNG\r\n\x1a\n"
MIN_SHRINKING = 0.8
"""Share of a plot's own width below which it is scrolled and not shrunk."""
NOTHING_YET = "There is nothing to compare yet."


@dataclass(frozen=True)
class ReportContext:
    """Title, command, protocol and figures of a report, beside the results.

    Raises:
        ConfigurationError: if a figure is not a PNG.
    """

    title: str
    command: str
    """Command that made the results."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of packages, by name."""
    protocol: Mapping[str, str] = field(default_factory=dict)
    """Budgets and rules of the benchmark, by name."""
    figures: Sequence[tuple[str, bytes]] = ()
    """(caption, PNG) of example episodes and maps of expected posterior entropy."""
    notes: Sequence[str] = ()
    """Sentences on what to keep in mind."""

    def __post_init__(self) -> None:
        for caption, content in self.figures:
            if not content.startswith(PNG):
                raise ConfigurationError(f"the figure {caption!r} is not a PNG; hand in the bytes of a PNG file.")


@dataclass(frozen=True)
class Table:
    """A table of a section; the first row is its head."""

    title: str
    """Empty where the section's title says enough."""
    rows: Sequence[Sequence[str]]
    words: int = 1
    """Number of columns at the left that hold words; the others hold numbers."""


@dataclass(frozen=True)
class Picture:
    """A plot of the report."""

    caption: str
    path: Path
    """Path of the SVG, or of the PNG where there is no SVG."""


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    anchor: str
    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def to_markdown(context: ReportContext, summary: Sequence[str], sections: Sequence[Section]) -> str:
    """Returns a report as Markdown that links its pictures."""

    parts = [f"# {plain(context.title)}", "\n".join(f"- {plain(sentence)}" for sentence in summary)]
    if context.notes:
        parts.append("Notes:\n\n" + "\n".join(f"- {plain(note)}" for note in context.notes))
    for section in sections:
        parts.append(f"## {section.title}")
        if section.anchor == "protocol":
            fence = max(["``", *re.findall("`+", context.command)], key=len) + "`"
            parts.append(f"{fence}sh\n{context.command}\n{fence}")
        if section.text:
            parts.append(section.text)
        if not section.tables and not section.pictures and section.anchor != "protocol":
            parts.append(NOTHING_YET)
        for table in section.tables:
            if table.title:
                parts.append(f"### {plain(table.title)}")
            parts.append(markdown_table([[*map(plain, row)] for row in table.rows], "l" * table.words + "r"))
        for picture in section.pictures:
            name = picture.path.with_suffix(".png").name
            parts.append(f"![{plain(picture.caption)}]({PLOTS}/{name})")
    return "\n\n".join(parts) + "\n"


def inline_svg(text: str, prefix: str, caption: str) -> str:
    """Returns an SVG of matplotlib's as it stands in a page: without prolog, with a name and ids of its own.

    Args:
        text: the whole file.
        prefix: letters, digits and hyphens, different for each picture of a page.
        caption: read out instead of the picture.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", body)
    width = round(float(body.split('width="', 1)[1].split("pt", 1)[0]) * 4 / 3)  # CSS pixels
    body = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", body, count=2)
    body = body.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "", 1).replace("xlink:href=", "href=")
    body = body.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    style = f"max-width: {width}px; min-width: {round(MIN_SHRINKING * width)}px"
    return body.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption, quote=True)}" style="{style}"', 1)


def html_template() -> Any:
    """Returns the template of a page that needs no other file and escapes what is put into it.

    It takes the report's ``context``, ``summary`` and ``sections``, and ``nothing``, the text of an empty section.

    Raises:
        ConfigurationError: if Jinja is missing.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ConfigurationError(
            f"the report needs Jinja, and importing it failed ({error}): {pip_extra('benchmark')}."
        ) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["embedded"] = _embedded
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _embedded(picture: Picture) -> Any:
    """Returns a picture as markup that needs no other file."""
    from markupsafe import Markup

    if picture.path.suffix == ".svg":
        text = picture.path.read_text(encoding="utf-8")
        return Markup(inline_svg(text, picture.path.stem.replace("_", "-"), picture.caption))
    coded = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(picture.caption, coded)
