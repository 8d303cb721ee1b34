"""How scripts hand in results: Markdown tables between marks of a page, JSON by data set, the command behind them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.evaluation.statistics import Estimate
from glimpse_env.errors import ArtifactError
from glimpse_env.files import whole_file, write_json


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first row its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def insert(text: str, path: Path, mark: str, *, begin: bool = True) -> None:
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


def keep_entry(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Sets the entry ``name`` of the JSON object at ``path`` and leaves its others as they are.

    Raises:
        ArtifactError: if there is a file that holds no JSON object.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        write_json(path, dict(sorted({**entries, name: entry}.items())))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{path} holds no JSON object ({error}); move it away.") from error


def percent(value: float, interval: Sequence[float], digits: int = 1) -> str:
    """Returns a share and its interval, both in 0..1, as ``90.0 % (88.1 to 91.7)``."""
    return f"{100 * value:.{digits}f} % ({100 * interval[0]:.{digits}f} to {100 * interval[1]:.{digits}f})"


def estimated(estimate: Estimate, digits: int, *, scale: float = 1.0, signed: bool = False) -> str:
    """An estimate as ``0.31 (0.27 to 0.35)``, times ``scale``; a dash where it is not defined, and no interval where
    there is none or nothing is uncertain."""
    if estimate.value is None:
        return "–"

    def told(number: float) -> str:
        return f"{round(scale * number, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # + 0.0: there is no -0

    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return told(estimate.value)
    return f"{told(estimate.value)} ({told(estimate.low)} to {told(estimate.high)})"
