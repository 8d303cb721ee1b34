"""The scoreboard as a page: a table and a picture of the rows of each id."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.evaluation.evaluate import TITLES
from agents.evaluation.statistics import Estimate, gap_closed
from agents.reports.style import BLUE, GREY, POLICY_COLOURS, dress, entitle, literal, new_figure, save
from agents.reports.tables import MISSING, format_estimate, markdown_table, percent, plain
from agents.sharing.rows import numbers_of, outcomes_of

MARKS = ("random", "fixed", "human", "oracle")
"""Policies whose rows are what the others are seen against."""
MARK = "board"
"""Name of the part of the page that the tables go into."""
Row = Mapping[str, Any]


def boards_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Returns the rows of each id, the best first: by return where glimpses have a price, else by success."""
    envs = sorted({row["env"] for row in rows})
    return {env: sorted((row for row in rows if row["env"] == env), key=_order) for env in envs}


def _order(row: Row) -> tuple[float, str]:
    return -row["summary"].get("return", row["summary"]["success"])["value"], row["name"]


def mark_of(row: Row) -> str | None:
    """Returns which of :data:`MARKS` a row is of; None for others."""
    policy = row["origin"].get("policy") if row["origin"].get("kind") == "policy" else None
    return policy if policy in MARKS else None


def to_markdown(rows: Sequence[Row], folder: str, picture: str) -> str:
    """Returns the tables of all ids.

    Args:
        rows: as :func:`agents.sharing.rows.read_rows` returned them.
        folder: of the rows, relative to the page.
        picture: path of an id's picture relative to the page, with ``{}`` for the id.
    """
    parts = []
    for env, board in boards_of(rows).items():
        first = board[0]
        parts += [
            f"## {env}",
            f"{first['num_images']} {first['split']} images, fingerprint `{first['fingerprint']}`, judge "
            f"`{first['judge']}`.",
            f"![Success of each row of {env} with its interval, and lines for the marks]({picture.format(env)})",
            markdown_table(_table(board, folder), "lr"),
        ]
    return "\n\n".join(parts)


def _table(board: Sequence[Row], folder: str) -> list[list[str]]:
    priced = any("return" in row["summary"] for row in board)
    marks = {mark_of(row): row for row in board}
    head = ["row", "success", "log-loss, nats", "of the way from random to oracle"]
    table = [[*head, *(["glimpses", "return"] if priced else []), "by", "seed"]]
    for row in board:
        name, summary = plain(row["name"]), row["summary"]
        name = f"*{name}*" if mark_of(row) else f"**{name}**" if row["origin"]["kind"] != "policy" else name
        seed = row["seeds"]["training"]
        cells = [
            f"[{name}]({folder}/{row['file']}){' †' if row['peeks'] else ''}",
            percent(summary["success"]["value"], summary["success"]["interval"]),
            format_estimate(_estimate(summary["log_loss"]), 3),
            _way(row, marks),
        ]
        if priced:
            cells += [format_estimate(_estimate(summary.get(key)), 2) for key in ("glimpses", "return")]
        table.append([*cells, plain(row["author"]) or MISSING, MISSING if seed is None else str(seed)])
    return table


def _way(row: Row, marks: Mapping[str | None, Row]) -> str:
    """Returns how far a row is from random to the oracle, where both have rows; a dash for these."""
    if not {"random", "oracle"} <= marks.keys() or mark_of(row) in ("random", "oracle"):
        return MISSING
    values = [_values(one) for one in (row, marks["random"], marks["oracle"])]
    return format_estimate(gap_closed(*values), 0, scale=100, unit=" %")


def _values(row: Row) -> Any:
    """Returns the return of each image, or success where glimpses have no price."""
    success, cost = outcomes_of(row["results"]), row["glimpse_cost"]
    return success - cost * numbers_of(row["results"], "glimpses") if cost and "glimpses" in row["results"] else success


def _estimate(content: Mapping[str, Any] | None) -> Estimate:
    if content is None:
        return Estimate(None, None, None)
    return Estimate(content["value"], *(content["interval"] or (None, None)))


def draw_board(path: Path, env: str, board: Sequence[Row]) -> None:
    """Draws the success of an id's rows with their intervals, the best on top, and a line for each mark."""
    figure = new_figure(8.6, 1.2 + 0.34 * len(board))
    axes = figure.subplots()
    for height, row in enumerate(reversed(board)):
        value, (low, high) = (100 * row["summary"]["success"]["value"], row["summary"]["success"]["interval"])
        mark = mark_of(row)
        colour = POLICY_COLOURS[mark] if mark else GREY if row["origin"]["kind"] == "policy" else BLUE
        errors = [[max(0.0, value - 100 * low)], [max(0.0, 100 * high - value)]]
        axes.errorbar([value], [height], xerr=errors, fmt="D" if mark else "o", color=colour, capsize=3, zorder=3)
        if mark:
            axes.axvline(value, color=colour, linewidth=1.2, linestyle=(0, (6, 2)), zorder=1)
    titles = [f"{TITLES.get(row['name']) or row['name']}{' †' if row['peeks'] else ''}" for row in reversed(board)]
    axes.set_yticks(range(len(board)), [literal(title) for title in titles])
    axes.set_xlabel("judged right after the last glimpse (%)")
    dress(axes, "x", title=env)
    first = board[0]
    entitle(figure, "", f"{first['num_images']} {first['split']} images, 95 % intervals. Diamonds and lines: marks.")
    save(figure, path)
