"""How scripts hand in results: Markdown tables between marks of a page, JSON by data set, the command behind them."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from agents.evaluation.statistics import Estimate
from glimpse_env.errors import ArtifactError
from glimpse_env.files import whole_file, write_json


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first row its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def insert(text: str, path: Path, mark: str) -> None:
    """Writes ``text`` between ``<!-- mark -->`` and ``<!-- /mark -->`` in the page at ``path``.

    Where the page has no such marks a section with them is added at its end; where there is no page it is begun.

    Raises:
        ArtifactError: if the first mark is there and the second is missing.
    """
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    if start not in content:
        content = f"{content.rstrip()}\n\n## {mark}\n\n{start}\n{end}\n".lstrip()
    before, _, rest = content.partition(start)
    _, closed, after = rest.partition(end)
    if not closed:
        raise ArtifactError(f"{path} has {start} and no {end} behind it; put it where the table ends.")
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


def command_line(script: str, args: Any) -> str:
    """The command that runs a script with ``args``, its dataclass, without what is left at its default."""
    words = ["python", f"scripts/{script}.py"]
    for item in fields(args):
        value, flag = getattr(args, item.name), f"--{item.name.replace('_', '-')}"
        if value != item.default:
            words += [flag, *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)


def percent(value: float, interval: tuple[float, float]) -> str:
    """A share as ``90.0 % (88.1 to 91.7)``."""
    return f"{100 * value:.1f} % ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def format_estimate(
    estimate: Estimate, digits: int, *, scale: float = 1.0, signed: bool = False, unit: str = ""
) -> str:
    """Returns an estimate times ``scale`` as ``0.31 (0.27 to 0.35)``, its value followed by ``unit``.

    A dash stands for an estimate that is not defined; there is no interval where none is defined or it is a point.
    """
    if estimate.value is None:
        return "–"

    def rounded(number: float) -> str:
        return f"{round(scale * number, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # + 0.0: there is no -0

    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return rounded(estimate.value) + unit
    return f"{rounded(estimate.value)}{unit} ({rounded(estimate.low)} to {rounded(estimate.high)})"
