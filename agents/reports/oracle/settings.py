"""The table of the oracles' settings on a data set, with the best fixed sequence that none should be below."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agents.evaluation.comparison import difference
from agents.evaluation.evaluate import BATCH, Evaluation
from agents.evaluation.statistics import mean_of
from agents.reports.policies import means_of
from agents.reports.tables import format_estimate, markdown_table, percent, plain
from glimpse_env.datasets.base import DataSource
from glimpse_env.versions import versions
from oracles.boed.kernel import KernelConfig
from oracles.boed.oracle import OracleConfig
from oracles.presets import preset_of

FIXED, PAPER = "best fixed sequence", "the paper's form"


@dataclass(frozen=True)
class Setting:
    """A row of the table."""

    policy: str
    """A key of :data:`oracles.registry.POLICIES`."""
    config: OracleConfig | KernelConfig | None = None
    """Its configuration."""


def oracle_settings(
    source: DataSource,
    values: Mapping[str, Sequence[Any]],
    completions: Mapping[str, Sequence[Any]],
    kernels: Mapping[str, Sequence[Any]],
    further: Mapping[str, Sequence[float]],
) -> dict[str, Setting]:
    """Returns the rows of the table, the default first: copies of the data set's oracle with one setting changed, the
    paper's form, and the best fixed sequence.

    One setting at a time: all combinations would be nearly a hundred, and take hours. None is there twice. Where the
    default oracle is ``kernel``, its settings come before those of ``boed``.

    Args:
        source: the data set.
        values: values to try, by field of :class:`OracleConfig`.
        completions: values to try, by field of :class:`CompletionConfig`; ``mirrored`` is left out where the data set
            is not mirror symmetric.
        kernels: the same by field of :class:`KernelConfig`.
        further: of further images, see :class:`KernelConfig`, the ridges to try.

    Raises:
        ConfigurationError: if a value is out of range.
    """
    preset = preset_of(source)
    base = preset.boed
    configs = _changed(source, base, values)
    for name, completion in _changed(source, base.completion, completions).items():
        configs[name] = replace(base, completion=completion)
    rows = {_described(base): Setting("boed", base)}
    rows |= {name: Setting("boed", config) for name, config in configs.items() if config != base}
    if preset.oracle == "kernel":
        tried = _changed(source, preset.kernel, kernels)
        for name, ridges in further.items():
            more = _changed(source, replace(preset.kernel, further=name), {"further_ridge": ridges})
            tried |= {f"further images, {plain(Path(name).name)}, {row}": config for row, config in more.items()}
        first = {_described(preset.kernel): Setting("kernel", preset.kernel)}
        first |= {name: Setting("kernel", config) for name, config in tried.items() if config != preset.kernel}
        rows = first | {f"BOED, {name}": setting for name, setting in rows.items()}
    return rows | {PAPER: Setting("boed", preset.paper), FIXED: Setting("fixed")}


def settings_table(source: DataSource, evaluations: Mapping[str, Evaluation]) -> str:
    """Returns Markdown, a row for each setting, the first of them the default, the best by success and by log-loss in
    bold."""
    most = max(one.success_rate for one in evaluations.values())
    least = min(one.log_loss[-1] for one in evaluations.values())
    head = ["what is changed", "success", "less the default, points", "log-loss, nats", "less the default"]
    rows = [[*head, "ms a sequence"]]
    default, base = next(iter(evaluations.items()))
    for name, one in evaluations.items():
        success, loss = percent(one.success_rate, one.interval()), format_estimate(mean_of(one.final_log_loss), 3)
        less = difference(one, base)
        rows.append(
            [
                f"default: {name}" if name == default else name,
                f"**{success}**" if one.success_rate == most else success,
                "" if name == default else format_estimate(less.success, 1, scale=100, signed=True),
                f"**{loss}**" if one.log_loss[-1] == least else loss,
                "" if name == default else format_estimate(less.log_loss, 3, signed=True),
                f"{one.milliseconds:.0f}",
            ]
        )
    where = {
        "train": "training images (each judged by the network not trained on it, left out of banks and regressions)",
        "val": "validation images",
    }
    note = (
        f"{len(base.outcomes)} {where[base.split]} of {plain(source.name)} (`{source.fingerprint}`), "
        f"judge `{base.judge}`. One setting of the default changed at a time. 95 % intervals over images: Wilson's for "
        "success, bootstrap for the rest, paired for differences; the best of a column is bold, which of many is best "
        f"by chance too. The time is the policy's own, {BATCH} episodes at once."
    )
    return f"{markdown_table(rows)}\n\n{note}"


def _changed(source: DataSource, base: Any, values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Returns copies of a configuration with one field changed, by what is changed; mirror images only where they are
    as likely as the images."""
    return {
        f"{field.replace('_', ' ')}: {f'{value:g}' if isinstance(value, float) else value}": replace(
            base, **{field: value}
        )
        for field, tried in values.items()
        if field != "mirrored" or source.mirror_symmetric
        for value in tried
    }


def _described(config: OracleConfig | KernelConfig) -> str:
    """Returns the settings of a configuration in words."""
    if isinstance(config, KernelConfig):
        mirrored = ", mirrored" if config.mirrored else ""
        return f"kernel, ridge {config.ridge:g}, sharpness {config.sharpness:g}, branches {config.branches}{mirrored}"
    completion = config.completion
    return (
        f"criterion {config.criterion}, horizon {config.horizon}, history {config.history}, "
        f"match {completion.match}, label weight {completion.label_weight:g}, "
        f"effective samples {completion.effective_samples:g}"
    )


def settings_entry(
    source: DataSource, settings: Mapping[str, Setting], evaluations: Mapping[str, Evaluation]
) -> dict[str, Any]:
    """Returns all figures as JSON values."""
    base = next(iter(evaluations.values()))
    return {
        "dataset": {"name": source.name, "fingerprint": source.fingerprint, "split": base.split},
        "judge": base.judge,
        "configurations": {
            name: {
                "policy": settings[name].policy,
                "config": None if config is None else asdict(config),
                **means_of(one),
                "final_log_loss": mean_of(one.final_log_loss).to_json(),
                "less_default": difference(one, base).to_json(),
                "milliseconds": one.milliseconds,
            }
            for name, one in evaluations.items()
            for config in [settings[name].config]
        },
        "versions": versions(),
    }
