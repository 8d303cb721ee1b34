"""The report of a benchmark: results.md, plots as PNG and SVG, and one self-contained report.html."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.evaluation.curves import MEASURES, THRESHOLDS, speed_up, spread, times_to_threshold
from agents.evaluation.results import checked
from agents.evaluation.scores import RESAMPLES, aggregates, best_by_env, finals, improvements
from agents.evaluation.statistics import BoundedEstimate
from agents.reports.benchmark.plots import learning_curves, performance_profiles, sample_efficiency, steps_to_threshold
from agents.reports.pages import NOTHING_YET, PLOTS, Picture, ReportContext, Section, Table, html_template, to_markdown
from agents.reports.tables import (
    MISSING,
    count_seeds,
    format_bounded,
    format_estimate,
    format_percent,
    markdown_table,
)
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import whole_file

if TYPE_CHECKING:
    from pandas import DataFrame

LEVEL = 0.9
"""Share of the gap between random and the oracle to which speed is compared."""
SPEEDS = {
    "total_steps": ("Environment steps to a share of the gap", "in steps"),
    "wall_s": ("Training time to a share of the gap", "in training time"),
    "wall_with_making_s": (
        "Training time with the making of demonstrations",
        "in time with the demonstrations' making",
    ),
}
"""Title of the section on each measure, and head of its speed-ups."""


class Statistics:
    """Contents of the tables; rows as the functions of the same name describe them."""

    def __init__(self, results: DataFrame, **settings: Any):
        self.finals, self.aggregates = finals(results, **settings), aggregates(results, **settings)
        self.times = {
            (measure, threshold): times_to_threshold(results, threshold, measure, **settings)
            for measure in MEASURES
            for threshold in THRESHOLDS
        }
        self.speed_ups = {name: speed_up(results, threshold=LEVEL, measure=name, **settings) for name in MEASURES}
        self.spreads = spread(results, threshold=LEVEL, **settings)
        self.improvements = improvements(results, **settings)


def write_report(
    folder: Path, results: DataFrame, context: ReportContext, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Path]:
    """Writes ``results.md``, ``plots/`` and ``report.html`` into ``folder``, each file whole.

    Args:
        folder: made where it is missing; other files in it stay.
        context: see :class:`ReportContext`.
        seed: seed of every bootstrap. The same arguments give the same bytes of ``results.md``.

    Returns:
        The paths of what was written, the page and the tables first.

    Raises:
        ConfigurationError: if the results are not as :func:`checked` wants them, have no row on
            validation or none on test images, or rliable or Jinja are missing.
    """
    results = checked(results)
    missing = {"val", "test"} - set(results["split"])
    if missing:
        raise ConfigurationError(
            f"the results hold no row of the split {sorted(missing)[0]!r}; finish at least one cell of the benchmark."
        )
    template = html_template()
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed}
    numbers = Statistics(results, **settings)
    plots = folder / PLOTS
    drawn = {
        draw.__name__: draw(plots / draw.__name__, results, **settings)
        for draw in (learning_curves, sample_efficiency, performance_profiles, steps_to_threshold)
    }
    examples = []
    for rank, (caption, content) in enumerate(context.figures, start=1):
        path = plots / f"example_{rank}.png"
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
        examples.append(Picture(caption, path))
    svgs = {name: paths[1] for name, paths in drawn.items()}
    sections = _sections(numbers, svgs, examples, context)
    summary = _summary(numbers)
    page, tables = folder / "report.html", folder / "results.md"
    with whole_file(tables) as temporary:
        temporary.write_text(to_markdown(context, summary, sections), encoding="utf-8")
    with whole_file(page) as temporary:
        text = template.render(context=context, summary=summary, sections=sections, nothing=NOTHING_YET)
        temporary.write_text(text.rstrip() + "\n", encoding="utf-8")
    return [page, tables, *(path for paths in drawn.values() for path in paths), *(each.path for each in examples)]


def summary_table(results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> str:
    """Returns a Markdown table for a page, with a row for each environment and method."""
    results, settings = checked(results), {"resamples": resamples, "seed": seed}
    times = times_to_threshold(results, LEVEL, "total_steps", **settings).itertuples()
    steps = {(one.env, one.method): one for one in times}
    gains = {
        (one.env, one.method, measure): one.ratio
        for measure in MEASURES
        for one in speed_up(results, threshold=LEVEL, measure=measure, **settings).itertuples()
    }
    scores = list(finals(results, **settings).itertuples())
    priced = any(one.glimpses.value is not None for one in scores)
    parts: Columns = PRICED if priced else ()
    head = ["environment", "agent", "return on test images" if priced else "right on test images"]
    head += [name for name, _ in parts] + ["std over seeds, points"]
    head += [f"steps to {_share(LEVEL)} of the gap", "times fewer steps", "times less time"]
    rows = [[*head, "with the demonstrations' making"]]
    for one in scores:
        own = (one.env, one.method)
        compared = [gains.get((*own, measure)) for measure in MEASURES]
        rows.append(
            [
                one.env,
                one.method.label,
                format_percent(one.success),
                *(fill(one) for _, fill in parts),
                MISSING if one.std.value is None else f"{100 * one.std.value:.1f}",
                _taken(steps[own], "total_steps") if own in steps else MISSING,
                *(MISSING if gain is None else _times(gain) for gain in compared),
            ]
        )
    return markdown_table(rows)


def _summary(numbers: Statistics) -> list[str]:
    """Returns sentences on the best method of each environment and on what demonstrations save."""
    sentences = []
    for env, final in best_by_env(numbers.finals).items():
        share = final.normalised.value
        assert share is not None
        gains = [gain for gain in numbers.speed_ups["total_steps"].itertuples() if gain.env == env]
        sentences.append(
            f"{env}: the best is {final.method.label}, with {format_percent(final.success)} {_measured(final)} over "
            f"{count_seeds(final.seeds)}, where random glimpses give {_share(final.random, 1)} and the oracle "
            f"{_share(final.oracle, 1)}: it closes {_share(share)} of that gap.{_gains(gains)}"
        )
    if len(numbers.aggregates) > 1:
        broad = max(map(len, numbers.aggregates["envs"]))
        rivals = [each for each in numbers.aggregates.itertuples() if len(each.envs) == broad]
        top = max(rivals, key=lambda each: each.iqm.value or 0.0)
        if broad > 1:
            sentences.append(
                f"Over {broad} environments {top.method.label} has the highest interquartile mean of normalised test "
                f"scores, {format_estimate(top.iqm, 2)}, where 0 is random and 1 the oracle."
            )
    if any(ratio.at_least for ratio in numbers.speed_ups["total_steps"]["ratio"]):
        sentences.append(
            "“At least”: runs without demonstrations never got there, and count with all the steps they were given."
        )
    sentences.append(
        "The best are picked by their mean on test images among all methods, which flatters them a little; where "
        "intervals overlap, the order is not settled."
    )
    return sentences


def _gains(gains: Sequence[Any]) -> str:
    """Returns a sentence on the rows of :func:`speed_up` for one environment, on the largest and the smallest."""
    if not gains:
        return ""
    defined = [gain for gain in gains if gain.ratio.value is not None]
    if not defined:
        return f" No method with demonstrations gets to {_share(LEVEL)} of the gap inside its budget."
    defined.sort(key=lambda gain: (gain.ratio.value, gain.method.rank))
    least, most = defined[0], defined[-1]
    sentence = (
        f" {most.method.label} gets to {_share(LEVEL)} of the gap {_times(most.ratio, interval=False)} times as "
        "fast as without demonstrations, in environment steps that include their glimpses"
    )
    if len(defined) > 1:
        fewest = _times(least.ratio, interval=False)
        if fewest == _times(most.ratio, interval=False):
            sentence += f", and so do all {len(defined)} methods"
        else:
            sentence += f", the most of {len(defined)} methods; the least is {fewest} times, by {least.method.label}"
    if len(defined) < len(gains):
        sentence += f"; {len(gains) - len(defined)} of {len(gains)} methods with demonstrations do not get there"
    return sentence + "."


def _share(value: float, digits: int = 0) -> str:
    """Returns a share as ``90 %``."""
    return f"{100 * value:.{digits}f} %"


def _times(ratio: BoundedEstimate, *, interval: bool = True) -> str:
    """Formats a speed-up: ``≥ 3.1 (2.0 to ≥ 4.2)`` with its interval, ``at least 3.1`` in a sentence."""
    return format_bounded(
        ratio,
        lambda value: f"{value:.1f}" if value < 100 else f"{value:,.0f}",
        sign="≥ " if interval else "at least ",
        interval=interval,
    )


def _taken(time: Any, measure: str) -> str:
    """Formats a row of :func:`times_to_threshold`, ``12,400 (9,800 to > 50,000), 4/5``: the median, its interval, and
    how many seeds got there if not all."""
    text = format_bounded(
        time.median,
        lambda value: f"{value:,.0f}" if measure == "total_steps" or value >= 100 else f"{value:.1f}",
        sign="> ",
        interval=time.reached > 0,
    )
    return text if time.reached == time.seeds else f"{text}, {time.reached}/{time.seeds}"


Columns = Sequence[tuple[str, Callable[[Any], str]]]
"""Heads of columns, and how each is filled from a row of a frame."""
METHOD: tuple[str, Callable[[Any], str]] = ("method", lambda row: row.method.label)
SEEDS: tuple[str, Callable[[Any], str]] = ("seeds", lambda row: str(row.seeds))
ENVIRONMENTS: tuple[str, Callable[[Any], str]] = ("environments", lambda row: str(len(row.envs)))


def _estimates(head: str, name: str, digits: int, scale: float = 1.0) -> tuple[str, Callable[[Any], str]]:
    """Returns a column of the estimates ``name`` of a frame."""
    return head, lambda row: format_estimate(getattr(row, name), digits, scale=scale)


PRICED: Columns = (_estimates("judged right, %", "judged_right", 1, 100), _estimates("glimpses", "glimpses", 2))
"""What the return is made of, where glimpses have a price."""


def _measured(final: Any) -> str:
    """Returns what a row of :func:`finals` holds as success."""
    return "judged right" if final.glimpses.value is None else "return"


def _score_tables(finals: DataFrame) -> list[Table]:
    """Returns a table of test scores for each environment."""
    tables = []
    for env in dict.fromkeys(finals["env"]):
        rows = list(finals[finals["env"] == env].itertuples())
        columns = [
            METHOD,
            _estimates(f"{_measured(rows[0])}, %", "success", 1, 100),
            *(() if rows[0].glimpses.value is None else PRICED),
            _estimates("gap closed, %", "normalised", 1, 100),
            _estimates("std over seeds, points", "std", 1, 100),
            SEEDS,
        ]
        tables.append(_table(rows, columns, env))
    return tables


def _table(rows: Iterable[Any], columns: Columns, title: str = "") -> Table:
    """Returns a table with a line for each row of a frame."""
    return Table(title, [[head for head, _ in columns], *([fill(row) for _, fill in columns] for row in rows)])


def _by_env(frame: DataFrame, columns: Columns) -> list[Table]:
    """Returns a table for each environment of a frame, in the order of the frame."""
    envs = dict.fromkeys(frame["env"]) if len(frame) else ()
    return [_table(frame[frame["env"] == env].itertuples(), columns, env) for env in envs]


def _side_by_side(frames: Mapping[str, DataFrame], cell: Callable[[Any], str]) -> Columns:
    """Returns a column for each of several frames of the same rows, under its name; ``cell`` fills one from a row."""
    texts = {head: [cell(row) for row in frame.itertuples()] for head, frame in frames.items()}
    return [(head, partial(_entry_of, column)) for head, column in texts.items()]


def _entry_of(column: list[str], row: Any) -> str:
    return column[row.Index]


def _sections(
    numbers: Statistics, plots: Mapping[str, Path], examples: Sequence[Picture], context: ReportContext
) -> list[Section]:
    """Returns the sections of the report in order."""
    level = _share(LEVEL)
    gains = {SPEEDS[measure][1]: numbers.speed_ups[measure] for measure in MEASURES}
    has_price = any(one.value is not None for one in numbers.finals["glimpses"])
    priced = "where glimpses have a price the return, which is that less what they cost, " if has_price else ""
    return [
        Section(
            "scores",
            "Test scores",
            f"Share of test images judged right after the last glimpse, {priced}and the share of the gap between "
            "random glimpses and the oracle that is closed, of the weights that were best on validation images. Means "
            "over seeds, with 95 % bootstrap intervals over seeds in brackets; with few seeds these are too narrow.",
            _score_tables(numbers.finals),
        ),
        Section(
            "aggregate",
            "Over environments",
            "Normalised test scores, 0 random and 1 the oracle, of all runs of a method: interquartile mean (IQM), "
            "mean, and standard deviation over seeds inside an environment. 95 % intervals by rliable's bootstrap, "
            "which resamples the seeds of each environment by themselves. Compare only methods with the same "
            "environments.",
            [
                _table(
                    numbers.aggregates.itertuples(),
                    [
                        METHOD,
                        _estimates("IQM", "iqm", 3),
                        _estimates("mean", "mean", 3),
                        _estimates("std over seeds", "std", 3),
                        SEEDS,
                        ENVIRONMENTS,
                    ],
                )
            ],
            [
                Picture(
                    "Performance profiles: the share of runs whose normalised test score is above each value. "
                    "Bands: pointwise 95 % intervals.",
                    plots["performance_profiles"],
                )
            ],
        ),
        Section(
            "curves",
            "Learning curves",
            "Steps count each glimpse the agent takes in training and each one its demonstrations took, so that "
            "curves with demonstrations (solid) begin later than those without (dashed).",
            pictures=[
                Picture(
                    "Share of validation images judged right against environment steps, between random and the "
                    "oracle. Lines: means over seeds; bands: 95 % bootstrap intervals over seeds.",
                    plots["learning_curves"],
                ),
                Picture(
                    "Sample efficiency: interquartile mean of normalised validation scores over environments and "
                    "seeds, each run's last evaluation carried forward. Bands: pointwise 95 % intervals.",
                    plots["sample_efficiency"],
                ),
            ],
        ),
        *(_speed_section(numbers, measure) for measure in MEASURES),
        Section(
            "speed-ups",
            "Speed-ups by demonstrations",
            f"How many times sooner the same algorithm and architecture reach {level} of the gap with demonstrations: "
            "median without over median with, with 95 % bootstrap intervals over the seeds of both. “≥”: runs without "
            "never got there and count with their budget, so the true number is at least this. “–”: the median run "
            "with demonstrations did not get there.",
            _by_env(
                numbers.speed_ups["total_steps"],
                [
                    METHOD,
                    *_side_by_side(gains, lambda row: _times(row.ratio)),
                    ("seeds", lambda row: f"{row.seeds} / {row.baseline_seeds}"),
                ],
            ),
            [
                Picture(
                    f"Environment steps to {level} of the gap. Large marks: medians over seeds with 95 % intervals; "
                    "small marks: seeds. Hollow marks with an arrow are lower bounds: the budget ended before.",
                    plots["steps_to_threshold"],
                )
            ],
        ),
        Section(
            "spread",
            "Spread over seeds",
            "Standard deviations over seeds of the test success, in percentage points, and of the steps to "
            f"{level} of the gap, without and with demonstrations, and their ratio: below 1, demonstrations make runs "
            "more alike. “–”: a seed never got there, or there is one seed only.",
            _by_env(
                numbers.spreads,
                [
                    METHOD,
                    _estimates("success, without", "success_without", 1, 100),
                    _estimates("success, with", "success_with", 1, 100),
                    _estimates("ratio", "success_ratio", 2),
                    _estimates("steps, without", "steps_without", 0),
                    _estimates("steps, with", "steps_with", 0),
                    _estimates("ratio", "steps_ratio", 2),
                ],
            ),
        ),
        Section(
            "improvement",
            "Probability of improvement",
            "How probably a run with demonstrations scores higher on test images than a run of the same algorithm and "
            "architecture without, a mean over the environments both were run on, with rliable's 95 % intervals.",
            [
                _table(
                    numbers.improvements.itertuples(),
                    [METHOD, _estimates("probability", "probability", 2), ENVIRONMENTS],
                )
            ]
            if len(numbers.improvements)
            else [],
        ),
        *([Section("examples", "Examples", "", pictures=examples)] if examples else []),
        Section(
            "protocol",
            "How this was made",
            "",
            [
                Table(title, [(title.lower(), "value"), *entries.items()], words=2)
                for title, entries in (("Protocol", context.protocol), ("Versions", context.versions))
                if entries
            ],
        ),
    ]


def _speed_section(numbers: Statistics, measure: str) -> Section:
    """Returns the section on the steps or the time that each method takes to each threshold."""
    times = {_share(threshold): numbers.times[measure, threshold] for threshold in THRESHOLDS}
    return Section(
        measure.replace("_", "-"),
        SPEEDS[measure][0],
        f"Medians over seeds of the {MEASURES[measure]}, until the validation score first is at that share of the gap "
        "between random and the oracle, with 95 % bootstrap intervals; behind a comma, how many seeds got there where "
        "not all did. "
        "“>”: a lower bound, as seeds that never got there count with their budget.",
        _by_env(next(iter(times.values())), [METHOD, *_side_by_side(times, lambda row: _taken(row, measure))]),
    )
