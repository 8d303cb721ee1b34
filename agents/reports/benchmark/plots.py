"""Pictures of a benchmark: learning curves, sample efficiency, performance profiles and steps to a threshold.

Each function writes its picture whole as ``stem``.png and ``stem``.svg and returns these paths; for ``results``,
``resamples`` and ``seed`` see :mod:`agents.evaluation.scores`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import offset_copy

from agents.evaluation.curves import (
    curves_of,
    efficiency,
    mean_curve,
    times_to_threshold,
    to_threshold,
)
from agents.evaluation.results import Method, by_env_and_method, checked, display_name, envs_of, methods_of
from agents.evaluation.scores import RESAMPLES, profiles
from agents.evaluation.statistics import BoundedEstimate
from agents.reports.style import GREY, PALETTE, dress, new_figure, save_both, short_number
from glimpse_env.errors import ConfigurationError

if TYPE_CHECKING:
    from pandas import DataFrame

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHED = (0, (5, 2.2))
CROWD = 8
"""Largest number of methods in one panel; more get a panel for each architecture."""
REFERENCES = {"oracle": "#333333", "random": GREY}
STEPS = "environment steps, those of demonstrations included"
TAUS = np.linspace(0.0, 1.1, 111)


@dataclass(frozen=True)
class Style:
    """How one method is drawn: its colour and marker with its counterpart's, solid with demonstrations."""

    colour: str
    marker: str
    dashed: bool

    def line(self) -> dict[str, Any]:
        """Returns keyword arguments of a matplotlib line."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": 4.2,
            "linewidth": 1.7,
            "linestyle": DASHED if self.dashed else "-",
            "markerfacecolor": "white" if self.dashed else self.colour,
        }


def styles(methods: Sequence[Method], *, by_architecture: bool) -> dict[Method, Style]:
    """Returns a style for each method; one without demonstrations has the colour of the first with them.

    Args:
        methods: all that a figure shows.
        by_architecture: whether architectures have panels of their own, and so share their styles.
    """

    def group(method: Method) -> tuple[Any, ...]:
        architecture = "" if by_architecture else method.architecture
        if not method.has_demos and method.variant == "default":
            partners = [other for other in methods if other.family == method.family and other.has_demos]
            if partners:
                method = min(partners, key=lambda other: other.rank)
        return method.algo, architecture, method.demos, method.num_demos, method.variant

    groups = list(dict.fromkeys(group(method) for method in sorted(methods, key=lambda method: method.rank)))
    styles_by_method = {}
    for method in methods:
        rank = groups.index(group(method))
        marker = MARKERS[(rank + rank // len(PALETTE)) % len(MARKERS)]
        styles_by_method[method] = Style(PALETTE[rank % len(PALETTE)], marker, dashed=not method.has_demos)
    return styles_by_method


def _panels(methods: Sequence[Method]) -> list[tuple[str, list[Method]]]:
    """Returns the panels, (title, methods): one an architecture where there are more than :data:`CROWD` methods."""
    if len(methods) <= CROWD:
        return [("", list(methods))]
    architectures = sorted({method.architecture for method in methods})
    return [
        (display_name(architecture), [method for method in methods if method.architecture == architecture])
        for architecture in architectures
    ]


def _new(rows: int, columns: int, width: float, height: float, **shared: Any) -> tuple[Figure, np.ndarray]:
    """Returns a figure of panels (rows, columns) of ``width`` x ``height`` inches, all plainly dressed."""
    figure = new_figure(width * columns, height * rows, dpi=130)
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for each in axes.flat:
        dress(each, "both")
        each.tick_params(labelsize=9)
    return figure, axes


def _label(axes: np.ndarray, used: int, x: str, y: str) -> None:
    """Labels the lowest panel of each column and the first of each row; hides all after the first ``used``."""
    columns = axes.shape[1]
    for index, each in enumerate(axes.flat):
        each.set_visible(index < used)
        if used - columns <= index < used:
            each.set_xlabel(x, fontsize=9)
            each.tick_params(labelbottom=True)
        if index % columns == 0:
            each.set_ylabel(y, fontsize=9)


def _legend(figure: Figure, styles: dict[Method, Style], *, by_architecture: bool) -> None:
    """Puts one legend below all panels, in as many columns as fit; the figure grows by its height."""
    entries: dict[str, Line2D] = {}
    for method, style in styles.items():
        label = method.recipe if by_architecture else method.label
        entries.setdefault(label, Line2D([], [], **style.line()))
    width, height = figure.get_size_inches()
    longest = max(map(len, entries))
    most = max(1, int(width / (0.075 * longest + 0.75)))
    rows = math.ceil(len(entries) / most)
    figure.set_size_inches(width, height + 0.2 * rows + 0.1)
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=math.ceil(len(entries) / rows),
        fontsize=9,
        frameon=False,
        handlelength=3.2,
    )


def _round_steps(low: float, high: float, most: int) -> list[float]:
    """Returns at most ``most`` ticks of a log axis in [low, high]: 1, 2, 5 times powers of ten, or the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]


def _set_ticks(axes: Axes, steps: list[float]) -> None:
    """Puts the ticks of the x-axis at numbers of steps, which are written in few signs."""
    axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def _steps_axis(axes: Axes, steps: np.ndarray, most: int = 6) -> None:
    """Makes the x-axis logarithmic over ``steps``, and linear from 0 to the first step or the last one's hundredth."""
    last = max(float(steps.max(initial=1.0)), 1.0)
    first = max(float(steps[steps > 0].min(initial=last)), last / 100)
    linear = min(first, last / 2)
    axes.set_xscale("symlog", linthresh=linear, linscale=0.35)
    _set_ticks(axes, [0.0, *_round_steps(linear, last, most)])
    axes.set_xlim(-0.15 * linear, 1.1 * last)


def _draw(axes: Axes, xs: np.ndarray, values: np.ndarray, style: Style, *, stairs: bool = False) -> None:
    """Draws a line with its band; ``values`` (3, N) are the line, the band's lower end and its upper one."""
    if len(xs) == 0:
        return
    line, low, high = values
    settings = style.line()
    if stairs:
        settings["drawstyle"] = "steps-post"
    axes.fill_between(xs, low, high, step="post" if stairs else None, color=style.colour, alpha=0.13, linewidth=0)
    axes.plot(xs, line, markevery=max(1, len(xs) // 7), zorder=3 if style.dashed else 4, **settings)


def _references(axes: Axes, curves: Iterable[tuple[str, float]]) -> None:
    """Draws horizontal lines with their names, each where curves seldom are: above at the left, below at the right."""
    for name, success in curves:
        axes.axhline(100 * success, color=REFERENCES[name], linewidth=1.2, linestyle=(0, (1, 1.6)), zorder=2)
        above = name == "oracle"
        axes.annotate(
            f"{name} {success:.1%}",
            (0.01 if above else 0.99, 100 * success),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2 if above else -2),
            textcoords="offset points",
            ha="left" if above else "right",
            va="bottom" if above else "top",
            fontsize=8.5,
            color=REFERENCES[name],
        )


def learning_curves(stem: Path, results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Path]:
    """Draws validation success against total steps, a panel an environment, between oracle and random.

    Lines are means over seeds with 95 % bootstrap bands. More than :data:`CROWD` methods get a row of panels an
    environment, one an architecture.

    Raises:
        ConfigurationError: if the results are not as :func:`checked` wants them, or hold no curve.
    """
    results = checked(results)
    val = results[results["split"] == "val"]
    if val.empty:
        raise ConfigurationError("the results hold no evaluation on validation images; a curve needs some.")
    curves = curves_of(results)
    envs, methods = envs_of(val), methods_of(val)
    panels = _panels(methods)
    crowded = len(panels) > 1
    drawn = styles(methods, by_architecture=crowded)
    places = [(env, title, of_panel) for env in envs for title, of_panel in panels]
    columns = len(panels) if crowded else min(3, len(envs))
    rows = math.ceil(len(places) / columns)
    figure, axes = _new(rows, columns, 3.7 if columns > 1 else 6.4, 2.9 if columns > 1 else 3.6)
    for each, (env, title, of_panel) in zip(axes.flat, places, strict=False):
        here = val[val["env"] == env]
        for method in of_panel:
            if (env, method) in curves:
                grid, values = mean_curve(curves[env, method], resamples=resamples, seed=seed)
                _draw(each, grid, 100 * values, drawn[method])
        oracle, random = 100 * here["oracle"].mean(), 100 * here["random"].mean()
        room = oracle - random
        lowest, highest = 100 * here["success"].min(), 100 * here["success"].max()
        each.set_ylim(min(random - 0.13 * room, lowest - 0.03 * room), max(oracle + 0.13 * room, highest + 0.03 * room))
        _references(each, [("oracle", oracle / 100), ("random", random / 100)])
        _steps_axis(each, here["total_steps"].to_numpy(dtype=np.float64))
        each.set_title(f"{env}, {title}" if title else env, loc="left", fontsize=10, fontweight="bold")
    priced = "glimpses" in val and val["glimpses"].notna().any()
    _label(axes, len(places), STEPS, f"{'return' if priced else 'judged right'} on validation (%)")
    _legend(figure, drawn, by_architecture=crowded)
    return save_both(figure, stem)


def _over_methods(
    stem: Path, xs: np.ndarray, lines: dict[Method, np.ndarray], *, steps: bool, labels: tuple[str, str]
) -> list[Path]:
    """Draws lines of all methods in one panel, or in one an architecture where there are many.

    Args:
        stem: path of the files without suffix.
        xs: places (N,) of all lines on the x-axis.
        lines: (3, N) each, with NaN where a line or its band is not drawn.
        steps: whether x are environment steps.
        labels: names of the two axes.
    """
    panels = _panels(list(lines))
    crowded = len(panels) > 1
    drawn = styles(list(lines), by_architecture=crowded)
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (4.6, 3.2) if columns > 1 else (7.2, 4.0)
    figure, axes = _new(rows, columns, *size, sharey=True)
    for each, (title, of_panel) in zip(axes.flat, panels, strict=False):
        for method in of_panel:
            inside = np.isfinite(lines[method][0])
            _draw(each, xs[inside], lines[method][:, inside], drawn[method], stairs=True)
        if steps:
            _steps_axis(each, xs)
        else:
            each.set_xlim(xs[0], xs[-1])
        each.set_title(title, loc="left", fontsize=10, fontweight="bold")
    _label(axes, len(panels), *labels)
    _legend(figure, drawn, by_architecture=crowded)
    return save_both(figure, stem)


def sample_efficiency(stem: Path, results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Path]:
    """Draws the IQM of normalised validation scores over environments and seeds against total steps."""
    grid, lines = efficiency(results, resamples=resamples, seed=seed)
    labels = (STEPS, "IQM of the normalised score")
    return _over_methods(stem, grid, lines, steps=True, labels=labels)


def performance_profiles(stem: Path, results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Path]:
    """Draws which share of the runs has a normalised test score above each value.

    Raises:
        ConfigurationError: if the results are not as :func:`checked` wants them, or hold no test row.
    """
    lines = profiles(results, TAUS, resamples=resamples, seed=seed)
    if not lines:
        raise ConfigurationError("the results hold no evaluation on test images; a profile needs some.")
    labels = ("normalised score on test images", "share of runs above it")
    return _over_methods(stem, TAUS, lines, steps=False, labels=labels)


def steps_to_threshold(
    stem: Path, results: DataFrame, *, threshold: float = 0.9, resamples: int = RESAMPLES, seed: int = 0
) -> list[Path]:
    """Draws the total steps to a normalised validation score, a panel an environment and a row a method.

    Small marks are seeds, large ones medians with 95 % bootstrap intervals; hollow marks with an arrow are lower
    bounds, of what did not get there inside its budget.

    Args:
        threshold: in (0, 1].

    Raises:
        ConfigurationError: if the results are not as :func:`checked` wants them, or hold no curve.
    """
    times = to_threshold(results, threshold)
    if times.empty:
        raise ConfigurationError("the results hold no evaluation on validation images; a curve needs some.")
    medians = times_to_threshold(results, threshold, resamples=resamples, seed=seed)
    methods, envs = methods_of(times), envs_of(times)
    drawn = styles(methods, by_architecture=len(methods) > CROWD)
    heights = {method: -rank for rank, method in enumerate(methods)}
    columns = min(3, len(envs))
    rows = math.ceil(len(envs) / columns)
    figure, axes = _new(rows, columns, 3.2, 0.8 + 0.26 * len(methods), sharey=True)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + 0.075 * max(len(method.label) for method in methods), height)
    ends = times["budget"].clip(lower=1.0)
    low, high = max(min(times["value"].min(), ends.min()), 1.0) / 1.4, ends.max() * 2.0
    seeds = by_env_and_method(times)
    for each, env in zip(axes.flat, envs, strict=False):
        for row in medians[medians["env"] == env].itertuples():
            height, style = heights[row.method], drawn[row.method]
            for time in seeds[env, row.method].itertuples():
                if math.isfinite(time.value):
                    _mark(each, time.value, height, style, "o", 4, alpha=0.45, zorder=3)
                else:
                    _mark(each, time.budget, height, style, ">", 4, alpha=0.45, zorder=3, markerfacecolor="none")
            _median_mark(each, row.median, height, style)
        each.set_xscale("log")
        each.set_xlim(low, high)
        _set_ticks(each, _round_steps(low, high, 6))
        each.set_yticks(list(heights.values()), [method.label for method in heights], fontsize=9)
        each.set_ylim(-len(methods) + 0.4, 0.6)
        each.set_title(env, loc="left", fontsize=10, fontweight="bold")
    _label(axes, len(envs), f"environment steps to {threshold:.0%} of the gap", "")
    return save_both(figure, stem)


def _mark(axes: Axes, x: float, height: float, style: Style, marker: str, size: float, **settings: Any) -> None:
    """Draws a mark in a method's colour."""
    colours = {"markerfacecolor": style.colour, "markeredgecolor": style.colour}
    axes.plot([max(x, 1.0)], [height], marker=marker, markersize=size, **colours | settings)


def _median_mark(axes: Axes, median: BoundedEstimate, height: float, style: Style) -> None:
    """Draws a large mark at the median with its interval; hollow, and with an arrow, where it is a lower bound."""
    assert median.value is not None
    x, hollow = max(median.value, 1.0), {}
    if median.low is not None and median.high is not None:
        axes.plot([max(median.low, 1.0), max(median.high, 1.0)], [height, height], color=style.colour, linewidth=2)
    if median.at_least:
        arrow = {"arrowstyle": "-|>", "color": style.colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
        tip = offset_copy(axes.transData, axes.get_figure(root=True), x=22, units="points")
        axes.annotate("", (x, height), (x, height), xycoords=tip, textcoords="data", arrowprops=arrow, zorder=4)
        hollow = {"markerfacecolor": "white"}
    _mark(axes, x, height, style, style.marker, 7.5, markeredgewidth=1.5, zorder=5, **hollow)
