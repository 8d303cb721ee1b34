"""The report of a benchmark: results.md, plots as PNG and SVG, and one self-contained report.html."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.evaluation.curves import MEASURES, THRESHOLDS, BoundedEstimate, speed_up, spread, times_to_threshold
from agents.evaluation.results import checked
from agents.evaluation.scores import RESAMPLES, aggregates, best_by_env, finals, improvements
from agents.evaluation.statistics import Estimate
from agents.reports.benchmark_plots import learning_curves, performance_profiles, sample_efficiency, steps_to_threshold
from agents.reports.tables import format_estimate, markdown
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import whole_file

if TYPE_CHECKING:
    from pandas import DataFrame

TEMPLATE = Path(__file__).with_name("report.html.jinja")
PLOTS = "plots"
"""Folder of the pictures beside ``results.md``."""
PNG = b"\x89PNG\r\n\x1a\n"
NONE = "–"
LEAST = 0.8
"""Of a plot's own width, below which it is scrolled and not shrunk."""
NOT_ENOUGH = "There is nothing to compare yet."


@dataclass(frozen=True)
class ReportContext:
    """What a report tells beside the results.

    Raises:
        ConfigurationError: if a figure is not a PNG.
    """

    title: str
    command: str
    """That made the results."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of packages, the code and the machine, by name."""
    protocol: Mapping[str, str] = field(default_factory=dict)
    """Budgets and rules of the benchmark, by name."""
    figures: Sequence[tuple[str, bytes]] = ()
    """(caption, PNG) of example episodes and maps of expected posterior entropy."""
    notes: Sequence[str] = ()
    """Sentences on what to keep in mind."""

    def __post_init__(self) -> None:
        for caption, content in self.figures:
            if not content.startswith(PNG):
                raise ConfigurationError(f"the figure {caption!r} is not a PNG; hand in the bytes of a PNG file.")


@dataclass(frozen=True)
class Table:
    """Rows of text, the first its head."""

    title: str
    """Empty where its section's says it all."""
    rows: Sequence[Sequence[str]]
    words: int = 1
    """How many of the first columns hold words; the others hold numbers."""


@dataclass(frozen=True)
class Picture:
    """A plot of the report."""

    caption: str
    path: Path
    """Of the SVG, or of the PNG where there is no SVG."""


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    anchor: str
    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Statistics:
    """Contents of the tables; rows as the functions of the same name describe them."""

    finals: DataFrame
    aggregates: DataFrame
    times: Mapping[tuple[str, float], DataFrame]
    """:func:`times_to_threshold` by (measure, threshold)."""
    speed_ups: Mapping[str, DataFrame]
    """:func:`speed_up` to :data:`LEVEL` of the gap by measure."""
    spreads: DataFrame
    improvements: DataFrame


LEVEL = 0.9
"""Share of the gap between random and the oracle to which speed is compared."""


def write_report(
    folder: Path, results: DataFrame, context: ReportContext, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Path]:
    """Writes ``results.md``, ``plots/`` and ``report.html`` into ``folder``, each file whole.

    Args:
        folder: made where it is missing; what else it holds stays.
        results: see :data:`agents.evaluation.results.COLUMNS`.
        context: see :class:`ReportContext`.
        resamples: of every bootstrap.
        seed: of every bootstrap. The same arguments give the same bytes of ``results.md``.

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
    template = _template()
    settings = {"resamples": resamples, "seed": seed}
    numbers = Statistics(
        finals(results, **settings),
        aggregates(results, **settings),
        {
            (measure, threshold): times_to_threshold(results, threshold, measure, **settings)
            for measure in MEASURES
            for threshold in THRESHOLDS
        },
        {measure: speed_up(results, threshold=LEVEL, measure=measure, **settings) for measure in MEASURES},
        spread(results, threshold=LEVEL, **settings),
        improvements(results, **settings),
    )
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
        temporary.write_text(_as_markdown(context, summary, sections), encoding="utf-8")
    with whole_file(page) as temporary:
        told = template.render(context=context, summary=summary, sections=sections, nothing=NOT_ENOUGH)
        temporary.write_text(told.rstrip() + "\n", encoding="utf-8")
    return [page, tables, *(path for paths in drawn.values() for path in paths), *(each.path for each in examples)]


def summary_table(results: DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> str:
    """Markdown for a page: a row a method and environment, with what matters most.

    Args:
        results: see :data:`agents.evaluation.results.COLUMNS`.
        resamples: of every bootstrap.
        seed: of every bootstrap.
    """
    results, settings = checked(results), {"resamples": resamples, "seed": seed}
    times = times_to_threshold(results, LEVEL, "total_steps", **settings)
    steps = {(one.env, one.method): one for one in times.itertuples()}
    gains = {
        (one.env, one.method, measure): one.ratio
        for measure in MEASURES
        for one in speed_up(results, threshold=LEVEL, measure=measure, **settings).itertuples()
    }
    rows = [
        [
            "environment",
            "agent",
            "right on test images",
            "std over seeds, points",
            f"steps to {_share(LEVEL)} of the gap",
            "times fewer steps",
            "times less time",
            "with the demonstrations' making",
        ]
    ]
    for one in finals(results, **settings).itertuples():
        own = (one.env, one.method)
        compared = [gains.get((*own, measure)) for measure in MEASURES]
        rows.append(
            [
                one.env,
                one.method.label,
                _percent(one.success),
                NONE if one.std.value is None else f"{100 * one.std.value:.1f}",
                _taken(steps[own], "total_steps") if own in steps else NONE,
                *(NONE if gain is None else _times(gain) for gain in compared),
            ]
        )
    return markdown(rows)


def _summary(numbers: Statistics) -> list[str]:
    """What came out in plain words: the best method of each environment, and what demonstrations save."""
    sentences = []
    for env, final in best_by_env(numbers.finals).items():
        share = final.normalised.value
        assert share is not None
        gains = [gain for gain in numbers.speed_ups["total_steps"].itertuples() if gain.env == env]
        sentences.append(
            f"{env}: the best is {final.method.label}, with {_percent(final.success)} judged right over "
            f"{_seeds(final.seeds)}, where random glimpses give {_share(final.random, 1)} and the oracle "
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
    """``90 %``."""
    return f"{100 * value:.{digits}f} %"


def _seeds(count: int) -> str:
    return f"{count} seed" + ("" if count == 1 else "s")


def _percent(estimate: Estimate) -> str:
    """``90.0 % (88.1 to 91.7)``."""
    value, bracket, interval = format_estimate(estimate, 1, scale=100).partition(" (")
    return value if value == NONE else f"{value} %{bracket}{interval}"


def _bounded(estimate: BoundedEstimate, number: Callable[[float], str], *, sign: str, interval: bool) -> str:
    """Formats an estimate; ``sign`` stands before a value and an interval's upper end that are lower bounds."""
    if estimate.value is None:
        return NONE
    text = (sign if estimate.at_least else "") + number(estimate.value)
    certain = estimate.low == estimate.high and estimate.open_above == estimate.at_least
    if not interval or certain or estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({number(estimate.low)} to {sign if estimate.open_above else ''}{number(estimate.high)})"


def _times(ratio: BoundedEstimate, *, interval: bool = True) -> str:
    """Formats a speed-up: ``≥ 3.1 (2.0 to ≥ 4.2)`` with its interval, ``at least 3.1`` in a sentence."""
    return _bounded(
        ratio,
        lambda value: f"{value:.1f}" if value < 100 else f"{value:,.0f}",
        sign="≥ " if interval else "at least ",
        interval=interval,
    )


def _taken(time: Any, measure: str) -> str:
    """Formats a row of :func:`times_to_threshold`, ``12,400 (9,800 to > 50,000), 4/5``: the median, its interval, and
    how many seeds got there if not all."""
    text = _bounded(
        time.median,
        lambda value: f"{value:,.0f}" if measure == "total_steps" or value >= 100 else f"{value:.1f}",
        sign="> ",
        interval=time.reached > 0,
    )
    return text if time.reached == time.seeds else f"{text}, {time.reached}/{time.seeds}"


def _by_env(
    items: Iterable[Any], env_of: Callable[[Any], str], head: Sequence[str], row: Callable[[Any], Sequence[str]]
) -> list[Table]:
    """Returns a table an environment, with a row an item."""
    tables: dict[str, list[Sequence[str]]] = {}
    for item in items:
        tables.setdefault(env_of(item), [head]).append(row(item))
    return [Table(env, rows) for env, rows in tables.items()]


def _sections(
    numbers: Statistics, plots: Mapping[str, Path], examples: Sequence[Picture], context: ReportContext
) -> list[Section]:
    """The report in order."""
    level = _share(LEVEL)
    scores = _by_env(
        numbers.finals.itertuples(),
        lambda final: final.env,
        ("method", "judged right, %", "gap closed, %", "std over seeds, points", "seeds"),
        lambda final: (
            final.method.label,
            format_estimate(final.success, 1, scale=100),
            format_estimate(final.normalised, 1, scale=100),
            format_estimate(final.std, 1, scale=100),
            str(final.seeds),
        ),
    )
    across = [("method", "IQM", "mean", "std over seeds", "seeds", "environments")]
    across += [
        (
            each.method.label,
            format_estimate(each.iqm, 3),
            format_estimate(each.mean, 3),
            format_estimate(each.std, 3),
            str(each.seeds),
            str(len(each.envs)),
        )
        for each in numbers.aggregates.itertuples()
    ]
    return [
        Section(
            "scores",
            "Test scores",
            "Share of test images judged right after the last glimpse, and the share of the gap between random "
            "glimpses and the oracle that is closed, of the weights that were best on validation images. Means over "
            "seeds, with 95 % bootstrap intervals over seeds in brackets; with few seeds these are too narrow.",
            scores,
        ),
        Section(
            "aggregate",
            "Over environments",
            "Normalised test scores, 0 random and 1 the oracle, of all runs of a method: interquartile mean (IQM), "
            "mean, and standard deviation over seeds inside an environment. 95 % intervals by rliable's bootstrap, "
            "which resamples the seeds of each environment by themselves. Compare only methods with the same "
            "environments.",
            [Table("", across)],
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
                zip(*(numbers.speed_ups[measure].itertuples() for measure in MEASURES), strict=True),
                lambda gains: gains[0].env,
                ("method", "in steps", "in training time", "in time with the demonstrations' making", "seeds"),
                lambda gains: (
                    gains[0].method.label,
                    *(_times(gain.ratio) for gain in gains),
                    f"{gains[0].seeds} / {gains[0].baseline_seeds}",
                ),
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
                numbers.spreads.itertuples(),
                lambda each: each.env,
                (
                    "method",
                    "success, without",
                    "success, with",
                    "ratio",
                    "steps, without",
                    "steps, with",
                    "ratio",
                ),
                lambda each: (
                    each.method.label,
                    format_estimate(each.success_without, 1, scale=100),
                    format_estimate(each.success_with, 1, scale=100),
                    format_estimate(each.success_ratio, 2),
                    format_estimate(each.steps_without, 0),
                    format_estimate(each.steps_with, 0),
                    format_estimate(each.steps_ratio, 2),
                ),
            ),
        ),
        Section(
            "improvement",
            "Probability of improvement",
            "How probably a run with demonstrations scores higher on test images than a run of the same algorithm and "
            "architecture without, a mean over the environments both were run on, with rliable's 95 % intervals.",
            [
                Table(
                    "",
                    [
                        ("method", "probability", "environments"),
                        *(
                            (each.method.label, format_estimate(each.probability, 2), str(len(each.envs)))
                            for each in numbers.improvements.itertuples()
                        ),
                    ],
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
    """What each method takes to each threshold, a table an environment."""
    times = [numbers.times[measure, threshold].itertuples() for threshold in THRESHOLDS]
    titles = {
        "total_steps": "Environment steps to a share of the gap",
        "wall_s": "Training time to a share of the gap",
        "wall_with_making_s": "Training time with the making of demonstrations",
    }
    return Section(
        measure.replace("_", "-"),
        titles[measure],
        f"Medians over seeds of the {MEASURES[measure]}, until the validation score first is at that share of the gap "
        "between random and the oracle, with 95 % bootstrap intervals; behind a comma, how many seeds got there where "
        "not all did. "
        "“>”: a lower bound, as seeds that never got there count with their budget.",
        _by_env(
            zip(*times, strict=True),
            lambda row: row[0].env,
            ("method", *(_share(threshold) for threshold in THRESHOLDS)),
            lambda row: (row[0].method.label, *(_taken(time, measure) for time in row)),
        ),
    )


def _as_markdown(context: ReportContext, summary: Sequence[str], sections: Sequence[Section]) -> str:
    """The report as Markdown, its pictures linked."""

    def clean(text: str) -> str:
        return " ".join(text.split()).replace("<", "&lt;")

    def cells(rows: Sequence[Sequence[str]]) -> list[list[str]]:
        return [[clean(cell).replace("|", "\\|") for cell in row] for row in rows]

    parts = [f"# {clean(context.title)}", "\n".join(f"- {clean(sentence)}" for sentence in summary)]
    if context.notes:
        parts.append("Notes:\n\n" + "\n".join(f"- {clean(note)}" for note in context.notes))
    for section in sections:
        parts.append(f"## {section.title}")
        if section.anchor == "protocol":
            parts.append(f"```sh\n{context.command}\n```")
        if section.text:
            parts.append(section.text)
        if not section.tables and not section.pictures and section.anchor != "protocol":
            parts.append(NOT_ENOUGH)
        for table in section.tables:
            if table.title:
                parts.append(f"### {clean(table.title)}")
            parts.append(_aligned(cells(table.rows), table.words))
        for picture in section.pictures:
            name = picture.path.with_suffix(".png").name
            parts.append(f"![{clean(picture.caption).replace(']', ')')}]({PLOTS}/{name})")
    return "\n\n".join(parts) + "\n"


def _aligned(rows: Sequence[Sequence[str]], words: int) -> str:
    """A Markdown table whose columns after the first ``words`` are set to the right."""
    head, _, *body = markdown(rows).split("\n")
    return "\n".join([head, "|" + "---|" * words + "---:|" * (len(rows[0]) - words), *body])


def inline_svg(text: str, prefix: str, caption: str) -> str:
    """An SVG of matplotlib's to be put into a page: without prolog, its ids made unique by ``prefix``, and named.

    Args:
        text: the whole file.
        prefix: letters, digits and hyphens, different for each picture of a page.
        caption: read out instead of the picture.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", body)
    width = round(float(body.split('width="', 1)[1].split("pt", 1)[0]) * 4 / 3)  # CSS pixels
    body = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", body, count=2)
    body = body.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "", 1).replace("xlink:href=", "href=")
    body = body.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    style = f"max-width: {width}px; min-width: {round(LEAST * width)}px"
    return body.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption, quote=True)}" style="{style}"', 1)


def _template() -> Any:
    """The page's template, which escapes what is put into it.

    Raises:
        ConfigurationError: if Jinja is missing.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ConfigurationError(
            f'the report needs Jinja, and importing it failed ({error}): pip install "glimpse-env[benchmark]".'
        ) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["embedded"] = _embedded
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _embedded(picture: Picture) -> Any:
    """A picture as markup that needs no other file."""
    from markupsafe import Markup

    if picture.path.suffix == ".svg":
        text = picture.path.read_text(encoding="utf-8")
        return Markup(inline_svg(text, picture.path.stem.replace("_", "-"), picture.caption))
    coded = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(picture.caption, coded)
