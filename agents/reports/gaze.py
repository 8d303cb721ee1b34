"""Human gaze and where policies look: the table of how well they agree, and the pictures beside it.

Rows are :data:`agents.evaluation.gaze.PEOPLE` and :data:`CENTRE`, policies by name for their glimpses, and
``"<policy> maps"`` for the maps that a policy chose them by.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from agents.evaluation.evaluate import TITLES, Evaluation
from agents.evaluation.gaze import CENTRE, MEASURES, PEOPLE, Figures, People, blurred, preference, upsampled
from agents.evaluation.recordings import Recording
from agents.evaluation.statistics import Estimate
from agents.reports.oracle.plots import GLIMPSE_COLOURS, show_image
from agents.reports.style import NOTE_GREY, POLICY_COLOURS, WINE, dress, entitle, literal, new_figure, save
from agents.reports.tables import format_estimate, markdown_table, percent
from glimpse_env.datasets.base import GlimpseDataset
from oracles.registry import peeks

MAPS = " maps"
"""Ends the name of a row that is a policy's maps."""
HEADS = {
    "nss": "NSS",
    "auc": "AUC",
    "shuffled_auc": "shuffled AUC",
    "dtw": "scanpath distance, %",
}
DIGITS = {"nss": 2, "auc": 3, "shuffled_auc": 3, "dtw": 1}
CHANCE = {"nss": 0.0, "auc": 0.5, "shuffled_auc": 0.5}
RUN_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442")
"""Colours of the study's runs."""


def title_of(row: str) -> str:
    """Returns the name of a row in tables and pictures."""
    if row in (PEOPLE, CENTRE):
        return {PEOPLE: "people, each run against the others", CENTRE: "centre (a Gaussian; outwards from it)"}[row]
    name = row.removesuffix(MAPS)
    return TITLES.get(name, name) + (", its maps" if row != name else "") + (" †" if peeks(name) else "")


def agreement_table(figures: Mapping[str, Mapping[str, Figures]]) -> str:
    """Returns :func:`agents.evaluation.gaze.compare`'s figures as Markdown: the measures, and these less the centre."""

    def rows(field: str, signed: bool) -> list[list[str]]:
        return [
            [
                title_of(row),
                *(_written(measure, getattr(by_measure[measure], field), signed=signed) for measure in MEASURES),
            ]
            for row, by_measure in figures.items()
            if row != CENTRE or not signed
        ]

    head = [HEADS[measure] for measure in MEASURES]
    measures = markdown_table([["where looks go", *head], *rows("value", False)])
    return f"{measures}\n\n{markdown_table([['less the centre', *head], *rows('less_centre', True)])}"


def runs_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Returns a Markdown table of the judge's success on people's sequences, by run and of all, each on the images that
    somebody looked at."""
    rows = [["people's sequences", "images", "success", "log-loss, nats"]]
    for name, one in evaluations.items():
        success = percent(one.success_rate, one.interval())
        rows.append([name, str(len(one.outcomes)), success, f"{one.log_loss[-1]:.3f}"])
    return markdown_table(rows)


def to_json(figures: Mapping[str, Mapping[str, Figures]]) -> dict[str, Any]:
    """Returns the figures as JSON values by row, measure and field."""
    return {
        row: {
            measure: {field: getattr(one, field).to_json() for field in ("value", "less_centre", "less_people")}
            for measure, one in by_measure.items()
        }
        for row, by_measure in figures.items()
    }


def agreement_plot(path: Path, figures: Mapping[str, Mapping[str, Figures]], *, title: str, note: str) -> None:
    """Draws each measure of each row with its interval, people's and the centre's as bands, as a PNG."""
    rows = list(figures)
    figure = new_figure(13.0, 1.5 + 0.36 * len(rows))
    for axes, measure in zip(figure.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        for height, row in enumerate(rows):
            estimate, colour = _scaled(measure, figures[row][measure].value), _colour(row)
            if estimate.value is None or estimate.low is None or estimate.high is None:
                continue
            if row in (PEOPLE, CENTRE):
                axes.axvspan(estimate.low, estimate.high, color=colour, alpha=0.2, linewidth=0)
            spread = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
            marker = "D" if row.endswith(MAPS) else "o"
            axes.errorbar([estimate.value], [height], xerr=spread, fmt=marker, color=colour, markersize=6)
        if measure in CHANCE:
            axes.axvline(CHANCE[measure], color="black", linewidth=0.9, linestyle=(0, (1, 1.6)))
        axes.set_xlabel(HEADS[measure])
        axes.set_yticks(range(len(rows)), [title_of(row) for row in rows])
        dress(axes, "x")
    axes.invert_yaxis()
    entitle(figure, title, note)
    save(figure, path)


def examples(
    path: Path,
    dataset: GlimpseDataset,
    people: People,
    recording: Recording,
    rows: np.ndarray,
    *,
    name: str,
    sigma: float,
    photographs: bool,
    title: str,
    note: str,
) -> None:
    """Draws, an image a row: people's fixations, their map, a policy's glimpses, and its map where it has one.

    Args:
        dataset: the split.
        people: looks at N images of it.
        recording: of the policy on the same images.
        rows: (n,) which of them.
        name: of the policy.
        sigma: of the blur of people's map, in pixels.
        photographs: draw the images; else only where their annotated parts are.
    """
    grid, columns = dataset.geometry.grid, 3 if recording.maps is None else 4
    figure = new_figure(2.5 * columns + 0.4, 2.5 * len(rows) + 0.8, dpi=130)
    panels = figure.subplots(len(rows), columns, squeeze=False)
    heads = ("people's fixations", "people's map", f"{TITLES.get(name, name)}: glimpses", "its maps, taken together")
    for axes, head in zip(panels[0], heads, strict=False):
        axes.set_title(head, fontsize=10)
    for row, line in zip(rows, panels, strict=True):
        index, looks = int(recording.indices[row]), people.looks[row]
        for axes in (line[0], line[2]):
            show_image(axes, dataset, index, photographs)
        line[0].set_ylabel(literal(dataset.class_names[int(dataset.labels[index])]), fontsize=9)
        for look in looks:
            y, x = look.points.T - 0.5
            colour = RUN_COLOURS[(look.run - 1) % len(RUN_COLOURS)]
            line[0].plot(x, y, "-", color=colour, linewidth=1.0)
            line[0].scatter(x, y, s=look.durations / 15, color=colour, edgecolor="black", linewidth=0.5, zorder=3)
        fixations = np.concatenate([look.points for look in looks])
        _heat(line[1], blurred(fixations, people.side, sigma), None)
        for t, (top, left, *zoom) in enumerate(recording.corners[row]):
            order = GLIMPSE_COLOURS(t / max(len(recording.corners[row]) - 1, 1))
            side = grid.glimpse_size * (zoom[0] if zoom else 1)
            line[2].add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, color=order, lw=1.8))
            line[2].text(left + 2, top + 2, str(t + 1), color=order, fontsize=9, va="top", fontweight="bold")
        if recording.maps is not None:
            _heat(line[3], upsampled(preference(recording.maps[row][:, : len(grid.levels[0])]), grid), fixations)
    entitle(figure, title, note)
    save(figure, path)


def _heat(axes: Axes, values: np.ndarray, points: np.ndarray | None) -> None:
    """Draws a map, with people's fixations (F, 2) as white dots."""
    axes.imshow(values, cmap="magma")
    if points is not None:
        axes.plot(points[:, 1] - 0.5, points[:, 0] - 0.5, "o", color="white", markersize=2.5, markeredgewidth=0)
    side = len(values)
    axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5), xticks=[], yticks=[])


def _colour(row: str) -> str:
    return WINE if row == PEOPLE else POLICY_COLOURS.get(row.removesuffix(MAPS), NOTE_GREY)


def _scaled(measure: str, estimate: Estimate) -> Estimate:
    """Returns an estimate in the unit of its table: a distance in percent."""
    if measure != "dtw" or estimate.value is None:
        return estimate
    return Estimate(*(None if end is None else 100 * end for end in (estimate.value, estimate.low, estimate.high)))


def _written(measure: str, estimate: Estimate, *, signed: bool) -> str:
    return format_estimate(_scaled(measure, estimate), DIGITS[measure], signed=signed)
