"""What a policy or an agent can and cannot do: its success on each diagnostic, as a table and a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.evaluate import TITLES
from agents.reports.style import GREY, ORANGE, PALETTE, POLICY_COLOURS, dress, entitle, new_figure, save
from agents.reports.tables import MISSING, markdown_table, percent, plain

MARKS = ("random", "oracle")
"""Policies that are marks beside the bars."""

Profile = Mapping[str, Mapping[str, Any]]
"""By environment id: ``optimum``, ``chance``, and ``success`` by name, each with ``value`` and 95 % ``interval``; an
agent's in the id that it was trained in only."""


def _names(profile: Profile) -> list[str]:
    """Returns the names that have a bar, in their order."""
    return list(dict.fromkeys(name for one in profile.values() for name in one["success"] if name not in MARKS))


def table(profile: Profile) -> str:
    """Returns a profile as Markdown: a row for each id."""
    names = [*_names(profile), "oracle", "random"]
    rows = [["id", *(plain(TITLES.get(name, name)) for name in names), "optimum", "chance"]]
    for env, one in profile.items():
        found = [one["success"].get(name) for name in names]
        cells = [MISSING if each is None else percent(each["value"], each["interval"]) for each in found]
        rows.append([f"`{env}`", *cells, *(f"{100 * one[key]:.1f} %" for key in ("optimum", "chance"))])
    return markdown_table(rows, "l")


def draw(path: Path, profile: Profile, *, title: str, note: str) -> None:
    """Draws a bar with its interval for each id and name, and lines for the optimum, the oracle and random."""
    names = _names(profile)
    figure = new_figure(2.6 * len(profile) + 2.4, 3.8)
    axes = figure.add_subplot()
    width = 0.7 / max(1, len(names))
    free = [colour for colour in PALETTE if colour != ORANGE]
    for k, name in enumerate(names):
        at = np.array([i for i, one in enumerate(profile.values()) if name in one["success"]])
        found = [one["success"][name] for one in profile.values() if name in one["success"]]
        values = 100 * np.array([each["value"] for each in found])
        around = np.abs(100 * np.array([each["interval"] for each in found]) - values[:, None]).T  # (2, n)
        colour = POLICY_COLOURS.get(name, free[k % len(free)])
        where = at + (k - (len(names) - 1) / 2) * width
        axes.bar(where, values, 0.9 * width, yerr=around, ecolor="black", color=colour, label=TITLES.get(name, name))
    for label, colour, style, value in (
        ("optimum", "black", "-", lambda one: one["optimum"]),
        ("oracle", ORANGE, "--", lambda one: one["success"]["oracle"]["value"]),
        ("random", GREY, ":", lambda one: one["success"]["random"]["value"]),
    ):
        heights = [100 * value(one) for one in profile.values()]
        at = np.arange(len(profile))
        axes.hlines(heights, at - 0.42, at + 0.42, color=colour, linestyle=style, linewidth=2, label=label)
    axes.set(ylabel="success (%)", ylim=(0, 105), xticks=np.arange(len(profile)), xticklabels=list(profile))
    dress(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    entitle(figure, title, note)
    save(figure, path)
