"""The figures of a soak as Markdown."""

from typing import Any

from agents.reports.tables import markdown_table


def tables(figures: dict[str, Any]) -> str:
    """Returns the tables of the parts that were measured, each below the command that measured it."""
    parts = {"kills": _kills, "together": _together, "signals": _signals, "play": _play}
    return "\n\n".join(
        f"`{figures[name]['command']}`\n\n{write(figures[name])}" for name, write in parts.items() if name in figures
    )


def _kills(figures: dict[str, Any]) -> str:
    rows = [["killed", "renames", "kills at renames", "kills at random", "files compared", "faults"]]
    names = ("renames", "kills_at_renames", "kills_at_random", "files")
    for entry in figures["commands"].values():
        rows.append([entry["title"], *(str(entry[name]) for name in names), str(len(entry["faults"]))])
    if len(rows) > 2:
        columns = [[int(row[column]) for row in rows[1:]] for column in range(1, len(rows[0]))]
        rows.append(["all", *(str(sum(column)) for column in columns)])
    return markdown_table(rows, "lr")


def _together(figures: dict[str, Any]) -> str:
    rows = [["begun at once", "things made", "lines of waiting", "faults"]]
    for entry in figures["at_once"]:
        rows.append([f"{entry['processes']} processes", *_numbers(entry, "things_made", "lines_of_waiting")])
    taken = figures["taken_over"]
    title = f"1 that waits for one that is killed, and ends {taken['seconds_after_the_kill']:.0f} s later"
    rows.append([title, *_numbers(taken, "things_made", "lines_of_waiting")])
    return markdown_table(rows, "lr")


def _signals(figures: dict[str, Any]) -> str:
    numbers = [name for name in next(iter(figures["commands"].values())) if name != "title"]
    head = [[f"{name}: exit code", "s to the end"] for name in numbers]
    rows = [["stopped", *(cell for pair in head for cell in pair), "faults"]]
    for entry in figures["commands"].values():
        stopped = [entry[name] for name in numbers]
        cells = [[str(one["exit_code"]), f"{one['seconds']:.1f}"] for one in stopped]
        faults = sum(len(one["faults"]) for one in stopped)
        rows.append([entry["title"], *(cell for pair in cells for cell in pair), str(faults)])
    return markdown_table(rows, "lr")


def _play(figures: dict[str, Any]) -> str:
    steps, makes = figures["steps"], figures["makes"]
    head = ["", "memory, MiB", "growth, second half, MiB", "KiB per 1000", "open files", "further ones", "faults"]
    rows = [head]
    titles = (
        f"{steps['steps']} steps, {steps['refused']} wrong actions, {steps['modes']} modes of {figures['ids']} ids",
        f"{makes['environments']} environments made and closed",
    )
    for title, entry in zip(titles, (steps, makes), strict=True):
        growth = [f"{entry[name]:.2f}" for name in ("memory_mib", "growth_mib", "growth_kib_per_1000")]
        files = [str(entry["open_files"]), str(entry["further_files"])]
        rows.append([title, *growth, *files, str(len(entry["faults"]))])
    return markdown_table(rows, "lr")


def _numbers(entry: dict[str, Any], *names: str) -> list[str]:
    return [*(str(entry[name]) for name in names), str(len(entry["faults"]))]
