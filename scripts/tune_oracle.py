"""Compares configurations of the oracle on validation images: python scripts/tune_oracle.py --env GlimpseBirds-v0"""

import logging
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import tyro

from agents.evaluation.comparison import Difference, kept_evaluation
from agents.evaluation.evaluate import BATCH, Evaluation, choose_images
from agents.evaluation.statistics import mean_of
from agents.reports.tables import command_line, format_estimate, insert, keep_entry, markdown, percent
from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError, GlimpseError
from glimpse_env.registration import source_of
from glimpse_env.versions import versions
from oracles.boed.completion import CompletionConfig, Match
from oracles.boed.criteria import CRITERIA, Horizon
from oracles.boed.oracle import History, OracleConfig
from oracles.presets import preset_of
from oracles.training.judge import ensure_judge

DEFAULT, PAPER = "default", "the paper's form"


@dataclass(frozen=True)
class Args:
    """Plays the data set's default oracle with one setting changed at a time, and the paper's form, on the same
    validation images; a run that was stopped goes on when called again."""

    env: str = "GlimpseBirds-v0"
    """Environment id, or the name of a data set."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    scales: int | None = None
    """Concentric windows a glimpse; default the environment's."""
    images: int = 480
    """Validation images, at most."""
    criteria: tuple[str, ...] = tuple(CRITERIA)
    """What is minimised."""
    horizons: tuple[str, ...] = get_args(Horizon)
    """When it counts: after the next glimpse, or after the last."""
    histories: tuple[str, ...] = get_args(History)
    """Whose glimpses the candidate's is added to."""
    matches: tuple[str, ...] = get_args(Match)
    """How glimpses are compared."""
    label_weights: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    """Exponents of the completions' labels' posterior."""
    effective_samples: tuple[float, ...] = (5.0, 10.0, 30.0, 100.0)
    """Effective sample sizes of the completions."""
    mirrored: tuple[bool, ...] = (False, True)
    """Whether the bank holds mirror images too; tried where the data set is mirror symmetric."""
    shifts: tuple[int, ...] = (0, 4)
    """Pixels by which further copies in the bank are shifted, up, down, left and right."""
    evaluations: Path | None = None
    """Folder where what is finished is kept and met again; default in the cache."""
    out: Path = Path("docs/oracle_ablation.json")
    """Where the figures go, an entry a data set; those of other data sets stay."""
    into: Path | None = Path("docs/oracle.md")
    """A page whose part between `<!-- ablation:NAME -->` and `<!-- /ablation:NAME -->` the table of data set NAME takes
    the place of; a page without it gets it at its end."""


def main(args: Args) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    source = source_of(args.env, args.root, args.dataset_options, args.scales)
    configs = configurations(source, args)
    judge = ensure_judge(source)
    dataset = source.load("val")
    images = choose_images(dataset, args.images)
    evaluations = {}
    try:
        for number, (name, config) in enumerate(configs.items(), start=1):
            logging.info("%s: %s (%d of %d), %d images", source.name, name, number, len(configs), len(images))
            evaluations[name] = kept_evaluation(
                "boed", source, judge, dataset, images, config=config, folder=args.evaluations
            )
        text = table(source, evaluations)
        print(f"\n{args.env}\n\n{text}\n")
        keep_entry(args.out, source.name, entry(args, source, judge.identity, configs, evaluations))
        if args.into is not None:
            insert(text, args.into, f"ablation:{source.name}")
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def configurations(source: DataSource, args: Args) -> dict[str, OracleConfig]:
    """The default of a data set, it with one setting changed, and the paper's form; none twice.

    One setting at a time: all combinations would be nearly a hundred, and take hours.

    Raises:
        ConfigurationError: if a setting is out of range or there is none of that name.
    """
    base = preset_of(source).boed
    found = {DEFAULT: base}
    for criterion in args.criteria:
        found[f"criterion: {criterion}"] = replace(base, criterion=criterion)
    for horizon in args.horizons:
        found[f"horizon: {horizon}"] = replace(base, horizon=horizon)  # type: ignore[arg-type]
    for history in args.histories:
        found[f"history: {history}"] = replace(base, history=history)  # type: ignore[arg-type]
    for title, field, values in (
        ("match", "match", args.matches),
        ("label weight", "label_weight", args.label_weights),
        ("effective samples", "effective_samples", args.effective_samples),
        ("mirrored", "mirrored", args.mirrored if source.mirror_symmetric else ()),
        ("shifts", "shifts", args.shifts),
    ):
        for value in values:
            told = f"{value:g}" if isinstance(value, float) else str(value)
            found[f"{title}: {told}"] = replace(base, completion=_changed(base.completion, field, value))
    kept = {name: config for name, config in found.items() if name == DEFAULT or config != base}
    return kept | {PAPER: preset_of(source).paper}


def _changed(completion: CompletionConfig, field: str, value: Any) -> CompletionConfig:
    try:
        return replace(completion, **{field: value})
    except TypeError as error:
        raise ConfigurationError(f"completions have no setting {field!r} in this version; leave it out.") from error


def table(source: DataSource, evaluations: dict[str, Evaluation]) -> str:
    """Markdown: configurations down, the best by success and by log-loss in bold."""
    most = max(one.success_rate for one in evaluations.values())
    least = min(one.log_loss[-1] for one in evaluations.values())
    head = ["what is changed", "success", "less the default, points", "log-loss, nats", "less the default"]
    rows = [[*head, "ms a sequence"]]
    base = evaluations[DEFAULT]
    for name, one in evaluations.items():
        success, loss = percent(one.success_rate, one.interval()), format_estimate(mean_of(one.final_log_loss), 3)
        difference = Difference.of(one, base)
        rows.append(
            [
                _told(preset_of(source).boed) if name == DEFAULT else name,
                f"**{success}**" if one.success_rate == most else success,
                "" if name == DEFAULT else format_estimate(difference.success, 1, scale=100, signed=True),
                f"**{loss}**" if one.log_loss[-1] == least else loss,
                "" if name == DEFAULT else format_estimate(difference.log_loss, 3, signed=True),
                f"{one.milliseconds:.0f}",
            ]
        )
    note = (
        f"{len(base.outcomes)} validation images of {source.name} (`{source.fingerprint}`), judge `{base.judge}`. One "
        "setting of the default changed at a time. 95 % intervals over images: Wilson's for success, bootstrap for the "
        "rest, paired for differences; the best of a column is bold, which of many is best by chance too. The time is "
        f"the policy's own, {BATCH} episodes at once."
    )
    return f"{markdown(rows)}\n\n{note}"


def _told(config: OracleConfig) -> str:
    completion = config.completion
    return (
        f"{DEFAULT}: criterion {config.criterion}, horizon {config.horizon}, history {config.history}, "
        f"match {completion.match}, label weight {completion.label_weight:g}, "
        f"effective samples {completion.effective_samples:g}"
    )


def entry(
    args: Args,
    source: DataSource,
    judge: str,
    configs: dict[str, OracleConfig],
    evaluations: dict[str, Evaluation],
) -> dict[str, Any]:
    """All figures as JSON values."""
    rows = {}
    for name, one in evaluations.items():
        content = one.to_json()
        for of_each_image in ("final_log_loss", "final_entropy"):
            del content[of_each_image]
        rows[name] = {
            "config": asdict(configs[name]),
            **content,
            "final_log_loss": mean_of(one.final_log_loss).to_json(),
            "less_default": Difference.of(one, evaluations[DEFAULT]).to_json(),
            "milliseconds": one.milliseconds,
        }
    return {
        "env": args.env,
        "command": command_line("tune_oracle", args),
        "dataset": {"name": source.name, "fingerprint": source.fingerprint},
        "judge": judge,
        "configurations": rows,
        "versions": versions(),
    }


if __name__ == "__main__":
    main(tyro.cli(Args))
