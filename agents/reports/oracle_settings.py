"""The table of BOED's settings on a data set: its default, one setting changed at a time, and the paper's form."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from agents.evaluation.comparison import difference
from agents.evaluation.evaluate import BATCH, Evaluation
from agents.evaluation.statistics import mean_of
from agents.reports.policies import means_of
from agents.reports.tables import format_estimate, markdown_table, percent, plain
from glimpse_env.datasets.base import DataSource
from glimpse_env.versions import versions
from oracles.boed.oracle import OracleConfig
from oracles.presets import preset_of

DEFAULT, PAPER = "default", "the paper's form"


def configurations(
    source: DataSource, settings: Mapping[str, Sequence[Any]], completions: Mapping[str, Sequence[Any]]
) -> dict[str, OracleConfig]:
    """Returns the default configuration of a data set, copies of it with one setting changed, and the paper's form.

    One setting at a time: all combinations would be nearly a hundred, and take hours. None is there twice.

    Args:
        source: the data set.
        settings: values to try, by field of :class:`OracleConfig`.
        completions: values to try, by field of :class:`CompletionConfig`; ``mirrored`` is left out where the data set
            is not mirror symmetric.

    Raises:
        ConfigurationError: if a value is out of range.
    """
    base = preset_of(source).boed
    configs = {DEFAULT: base}
    for field, values in settings.items():
        for value in values:
            configs[f"{field}: {value}"] = replace(base, **{field: value})
    for field, values in completions.items():
        for value in values if field != "mirrored" or source.mirror_symmetric else ():
            text = f"{value:g}" if isinstance(value, float) else str(value)
            completion = replace(base.completion, **{field: value})
            configs[f"{field.replace('_', ' ')}: {text}"] = replace(base, completion=completion)
    kept = {name: config for name, config in configs.items() if name == DEFAULT or config != base}
    return kept | {PAPER: preset_of(source).paper}


def settings_table(source: DataSource, evaluations: Mapping[str, Evaluation]) -> str:
    """Returns Markdown, a row for each configuration, the best by success and by log-loss in bold."""
    most = max(one.success_rate for one in evaluations.values())
    least = min(one.log_loss[-1] for one in evaluations.values())
    head = ["what is changed", "success", "less the default, points", "log-loss, nats", "less the default"]
    rows = [[*head, "ms a sequence"]]
    base = evaluations[DEFAULT]
    for name, one in evaluations.items():
        success, loss = percent(one.success_rate, one.interval()), format_estimate(mean_of(one.final_log_loss), 3)
        less = difference(one, base)
        rows.append(
            [
                _description(preset_of(source).boed) if name == DEFAULT else name,
                f"**{success}**" if one.success_rate == most else success,
                "" if name == DEFAULT else format_estimate(less.success, 1, scale=100, signed=True),
                f"**{loss}**" if one.log_loss[-1] == least else loss,
                "" if name == DEFAULT else format_estimate(less.log_loss, 3, signed=True),
                f"{one.milliseconds:.0f}",
            ]
        )
    note = (
        f"{len(base.outcomes)} validation images of {plain(source.name)} "
        f"(`{source.fingerprint}`), judge `{base.judge}`. One "
        "setting of the default changed at a time. 95 % intervals over images: Wilson's for success, bootstrap for the "
        "rest, paired for differences; the best of a column is bold, which of many is best by chance too. The time is "
        f"the policy's own, {BATCH} episodes at once."
    )
    return f"{markdown_table(rows)}\n\n{note}"


def _description(config: OracleConfig) -> str:
    """Returns the settings of the default configuration in words."""
    completion = config.completion
    return (
        f"{DEFAULT}: criterion {config.criterion}, horizon {config.horizon}, history {config.history}, "
        f"match {completion.match}, label weight {completion.label_weight:g}, "
        f"effective samples {completion.effective_samples:g}"
    )


def settings_entry(
    source: DataSource, configs: Mapping[str, OracleConfig], evaluations: Mapping[str, Evaluation]
) -> dict[str, Any]:
    """Returns all figures as JSON values."""
    base = evaluations[DEFAULT]
    return {
        "dataset": {"name": source.name, "fingerprint": source.fingerprint},
        "judge": base.judge,
        "configurations": {
            name: {
                "config": asdict(configs[name]),
                **means_of(one),
                "final_log_loss": mean_of(one.final_log_loss).to_json(),
                "less_default": difference(one, base).to_json(),
                "milliseconds": one.milliseconds,
            }
            for name, one in evaluations.items()
        },
        "versions": versions(),
    }
