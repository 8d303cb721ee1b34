"""How results are written down: Markdown tables between marks of a page, JSON by data set, numbers with intervals."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents.evaluation.statistics import BoundedEstimate, Estimate
from glimpse_env.errors import ArtifactError
from glimpse_env.files import read_json, whole_file, write_json

MISSING = "–"
"""Stands in a cell that has no value."""


def markdown_table(rows: Sequence[Sequence[str]], align: str = "") -> str:
    """Returns a Markdown table.

    Args:
        rows: cells, the first row the head; Markdown, of which HTML and the ends of cells are made text.
        align: a letter for each column, ``l`` or ``r``, the last one for those after it too; default all to the left.
    """
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    align = align or "l"
    letters = align.ljust(len(rows[0]), align[-1])[: len(rows[0])]
    rule = "".join("---:|" if letter == "r" else "---|" for letter in letters)
    return "\n".join([lines[0], f"|{rule}", *lines[1:]])


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", " ".join(text.split())).replace("<", "&lt;")


def plain(text: str) -> str:
    """Returns the Markdown that shows a text as it is, in one line: names are never markup."""
    text = re.sub(r"[\\`*\[\]{}|~$]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", " ".join(text.split()))
    text = re.sub(r"^(?=#|[+-]\s)|^\d+(?=[.)]\s)", r"\g<0>\\", text)  # begins no list and no heading
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")


def replace_section(text: str, path: Path, mark: str, *, begin: bool = True) -> None:
    """Writes ``text`` between ``<!-- mark -->`` and ``<!-- /mark -->`` in the page at ``path``.

    Args:
        text: the new content.
        path: the page.
        mark: the name in the marks.
        begin: a page without marks gets a section with them at its end, and a missing page is made.

    Raises:
        ArtifactError: if a mark is missing.
    """
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    if start not in content and begin:
        content = f"{content.rstrip()}\n\n## {mark}\n\n{start}\n{end}\n".lstrip()
    before, _, rest = content.partition(start)
    _, closed, after = rest.partition(end)
    if not closed:
        raise ArtifactError(f"{path} has no part between {start} and {end}; put the marks where the table belongs.")
    with whole_file(path) as temporary:
        temporary.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def replace_entry(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Sets the entry ``name`` of the JSON object at ``path`` and leaves its others as they are.

    Raises:
        ArtifactError: if there is a file that holds no JSON object.
    """
    try:
        entries = read_json(path) if path.is_file() else {}
        write_json(path, dict(sorted({**entries, name: entry}.items())))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{path} holds no JSON object ({error}); move it away.") from error


def count_seeds(count: int) -> str:
    """Returns a number of seeds in words."""
    return f"{count} seed" + ("" if count == 1 else "s")


def percent(value: float | None, interval: Sequence[float] | None, digits: int = 1) -> str:
    """Returns a share and its interval, both in 0..1, as ``90.0 % (88.1 to 91.7)``; a dash where it has no value."""
    return format_estimate(Estimate(value, *(interval or (None, None))), digits, scale=100, unit=" %", always=True)


def format_estimate(
    estimate: Estimate, digits: int, *, scale: float = 1.0, signed: bool = False, unit: str = "", always: bool = False
) -> str:
    """Returns an estimate with its interval, like ``0.31 (0.27 to 0.35)``; a dash where it has no value.

    Args:
        estimate: what to write.
        digits: decimals.
        scale: factor of all numbers.
        signed: numbers above zero get a plus sign.
        unit: stands behind the value, with the space before it.
        always: an interval of no width is written too.
    """
    if estimate.value is None:
        return MISSING

    def number(value: float) -> str:
        return f"{round(scale * value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # + 0.0: there is no -0

    text = number(estimate.value) + unit
    if estimate.low is None or estimate.high is None or (estimate.low == estimate.high and not always):
        return text
    return f"{text} ({number(estimate.low)} to {number(estimate.high)})"


def format_percent(estimate: Estimate, *, signed: bool = False) -> str:
    """Returns an estimate in 0..1 as ``90.0 % (88.1 to 91.7)``."""
    return format_estimate(estimate, 1, scale=100, signed=signed, unit=" %")


def format_bounded(estimate: BoundedEstimate, number: Callable[[float], str], *, sign: str, interval: bool) -> str:
    """Formats an estimate; ``sign`` stands before a value and an interval's upper end that are lower bounds."""
    if estimate.value is None:
        return MISSING
    text = (sign if estimate.at_least else "") + number(estimate.value)
    certain = estimate.low == estimate.high and estimate.open_above == estimate.at_least
    if not interval or certain or estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({number(estimate.low)} to {sign if estimate.open_above else ''}{number(estimate.high)})"
