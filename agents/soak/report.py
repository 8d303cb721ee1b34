"""The figures of a soak as Markdown."""

from typing import Any

from agents.reports.tables import markdown_table
from agents.soak.kills import KINDS


def tables(figures: dict[str, Any]) -> str:
    """Returns a table for each part that was measured, below the commands that measured it."""
    texts = []
    for name, rows in {"kills": _kills, "together": _together, "play": _play}.items():
        if name in figures:
            lines = sorted({entry["command"] for entry in figures[name].values()})
            texts += ["```bash\n" + "\n".join(lines) + "\n```", markdown_table(rows(figures[name]), "lr")]
    return "\n\n".join(texts)


def _kills(measured: dict[str, Any]) -> list[list[str]]:
    columns = ("renames", "files", *KINDS)
    rows = [["command", "renames", "files compared", "kills at renames", "at random", "SIGTERM", "SIGHUP", "faults"]]
    counts = [[*(entry[name] for name in columns), len(entry["faults"])] for entry in measured.values()]
    rows += [[entry["title"], *map(str, row)] for entry, row in zip(measured.values(), counts, strict=True)]
    return [*rows, ["all", *(str(sum(column)) for column in zip(*counts, strict=True))]]


def _together(measured: dict[str, Any]) -> list[list[str]]:
    rows = [["processes", "things made", "lines of waiting", "faults"]]
    for entry in measured.values():
        rows.append([entry["title"], str(entry["made"]), str(entry["waiting"]), str(len(entry["faults"]))])
    return rows


def _play(measured: dict[str, Any]) -> list[list[str]]:
    rows = [["", "memory, MiB", "growth, second half, MiB", "open files", "further ones", "faults"]]
    for entry in measured.values():
        numbers = [f"{entry['memory_mib']:.0f}", f"{entry['growth_mib']:.2f}", entry["open_files"]]
        rows.append([entry["title"], *map(str, [*numbers, entry["further_files"], len(entry["faults"])])])
    return rows
