"""The table of all policies on a data set: their success, log-loss and time, and what the oracle has over each."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from agents.evaluation.comparison import Comparison, difference, shares_closed, standing
from agents.evaluation.evaluate import BATCH, TITLES, Evaluation
from agents.evaluation.statistics import Estimate, entropy_of_shares, mean_of
from agents.reports.tables import format_estimate, markdown_table, percent, plain
from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.versions import versions
from oracles.presets import preset_of
from oracles.registry import POLICIES, peeks, policy_settings, unavailable_reason

logger = logging.getLogger(__name__)


def choose_policies(source: DataSource, wanted: tuple[str, ...] | None) -> list[str]:
    """Returns the names of the policies to play, in the order of the table; ``oracle`` stands for the default oracle.

    Args:
        source: the data set.
        wanted: names; None for all that look to the end and that the data set supports, but the rivals, with a log
            message for each that it does not.

    Raises:
        ConfigurationError: if a wanted one is unknown or the data set does not support it.
    """
    names = []
    own = [name for name in POLICIES if not POLICIES[name].stops and not name.startswith("rivals/")]
    for name in own if wanted is None else wanted:
        reason = unavailable_reason(name, source)
        if reason is None:
            names.append(preset_of(source).oracle if name == "oracle" else POLICIES.name_of(name))
        elif wanted is not None:
            raise ConfigurationError(reason)
        else:
            logger.info("%s is left out: %s", TITLES.get(name, name), reason)
    return [name for name in POLICIES if name in names]


@dataclass(frozen=True)
class PolicyComparison:
    """Evaluations of policies on the same images of a data set."""

    env: str
    """Environment id, or the name of the data set."""
    source: DataSource
    judge: Judge
    evaluations: Mapping[str, Evaluation]
    """Evaluations by policy; at least one."""

    @property
    def first(self) -> Evaluation:
        """The evaluation of the first policy."""
        return next(iter(self.evaluations.values()))

    @property
    def oracle(self) -> str:
        """Name of the data set's default oracle."""
        return preset_of(self.source).oracle

    @cached_property
    def log_loss(self) -> dict[str, Estimate]:
        """Mean log-loss after the last glimpse by policy, nats."""
        return {name: mean_of(one.final_log_loss) for name, one in self.evaluations.items()}

    @cached_property
    def class_entropy(self) -> float:
        """H(theta) of the class shares of the split that the images are from, nats."""
        return entropy_of_shares(self.source.load(self.first.split).labels)  # type: ignore[arg-type]

    @cached_property
    def information(self) -> dict[str, Estimate]:
        """Lower bound (Barber and Agakov) on what all glimpses tell of the class, H(theta) less the mean log-loss, by
        policy, nats."""
        return {name: mean_of(self.class_entropy - one.final_log_loss) for name, one in self.evaluations.items()}

    @cached_property
    def entropy(self) -> dict[str, Estimate]:
        """Mean entropy of the posterior after the last glimpse by policy, nats."""
        return {name: mean_of(one.final_entropy) for name, one in self.evaluations.items()}

    @cached_property
    def closed(self) -> dict[str, Comparison]:
        """Shares of the way from the best fixed sequence to the clairvoyant policy; empty without these two."""
        ends = [self.evaluations[name] for name in ("fixed", "clairvoyant") if name in self.evaluations]
        return {name: shares_closed(one, *ends) for name, one in self.evaluations.items()} if len(ends) == 2 else {}

    @cached_property
    def differences(self) -> dict[str, Comparison]:
        """The default oracle's results less those of each other policy; empty without the oracle."""
        oracle = self.evaluations.get(self.oracle)
        others = {name: one for name, one in self.evaluations.items() if name != self.oracle}
        return {} if oracle is None else {name: difference(oracle, other) for name, other in others.items()}

    def to_markdown(self) -> str:
        """Returns the table, the oracle's differences to other policies, and a sentence and a note on both."""
        steps = len(self.first.entropy)
        head = [
            "policy",
            "success",
            "log-loss, nats",
            "information, nats, at least",
            f"entropy after 1 to {steps} glimpses, nats",
        ]
        rows = [[*head, "of the way, by success", "by log-loss", "ms a sequence"]]
        for name, one in self.evaluations.items():
            entropies = [*(f"{value:.2f}" for value in one.entropy[:-1]), format_estimate(self.entropy[name], 2)]
            closed = self.closed.get(name)
            rows.append(
                [
                    self._title(name),
                    percent(one.success_rate, one.interval()),
                    format_estimate(self.log_loss[name], 3),
                    format_estimate(self.information[name], 3),
                    ", ".join(entropies),
                    "–" if closed is None else f"{format_estimate(closed.success, 0, scale=100)} %",
                    "–" if closed is None else f"{format_estimate(closed.log_loss, 0, scale=100)} %",
                    f"{one.milliseconds:.2g}" if one.milliseconds < 10 else f"{one.milliseconds:.0f}",
                ]
            )
        parts = [markdown_table(rows)]
        if self.differences:
            lines = [[f"{TITLES[self.oracle]} less", "success, points", "log-loss, nats"]]
            for name, less in self.differences.items():
                success = format_estimate(less.success, 1, scale=100, signed=True)
                lines.append([self._title(name), success, format_estimate(less.log_loss, 3, signed=True)])
            parts += [markdown_table(lines), self._verdict()]
        parts.append(
            f"{len(self.first.outcomes)} {self.first.split} images of {plain(self.source.name)} "
            f"(`{self.source.fingerprint}`), "
            f"judge `{self.judge.identity}`. † sees more of the image than its glimpses. 95 % intervals over images: "
            "Wilson's for success, bootstrap for the rest, paired for differences. Information is that of all glimpses "
            f"on the class, of H = {self.class_entropy:.3f} nats: at least H less the log-loss. The way is that from "
            "the best fixed sequence to the clairvoyant policy. The time is the policy's own, without environment and "
            f"judge, {BATCH} episodes at once."
        )
        return "\n\n".join(parts)

    def to_json(self, command: str) -> dict[str, Any]:
        """Returns all figures as JSON values; ``command`` made them."""
        policies = {}
        for name, one in self.evaluations.items():
            closed = self.closed.get(name)
            policies[name] = {
                "title": TITLES.get(name, name),
                "peeks": peeks(name),
                "settings": policy_settings(name, self.source, self.judge),
                **means_of(one),
                "final_log_loss": self.log_loss[name].to_json(),
                "information": self.information[name].to_json(),
                "final_entropy": self.entropy[name].to_json(),
                "milliseconds": one.milliseconds,
                "gap_closed": None if closed is None else closed.to_json(),
            }
        return {
            "env": self.env,
            "command": command,
            "dataset": {"name": self.source.name, "fingerprint": self.source.fingerprint},
            "split": self.first.split,
            "num_images": len(self.first.outcomes),
            "class_entropy": self.class_entropy,
            "judge": {"identity": self.judge.identity, "scales": self.judge.card.scales},
            "batch_size": BATCH,
            "threads": torch.get_num_threads(),
            "default_oracle": self.oracle,
            "policies": policies,
            "oracle_less": {name: less.to_json() for name, less in self.differences.items()},
            "oracle_stands": standing(self.differences),
            "versions": versions(),
        }

    def _title(self, name: str) -> str:
        """Returns a policy's name in the table."""
        title = TITLES.get(name) or plain(name)
        if name == self.oracle:
            return f"**{title}** (default oracle)"
        return f"{title} †" if peeks(name) else title

    def _verdict(self) -> str:
        """Returns a sentence on where the oracle stands among the policies that do not peek."""
        sentences = []
        for measure, places in standing(self.differences).items():
            parts = [
                f"{words} {', '.join(TITLES.get(name, name) for name in names)}"
                for words, names in zip(
                    ("better than", "not told apart from", "worse than"), places.values(), strict=True
                )
                if names
            ]
            sentences.append(f"by {measure.replace('_', '-')} {'; '.join(parts) or 'alone'}")
        return f"Among policies that do not peek the default oracle is {'. It is '.join(sentences)}."


def means_of(evaluation: Evaluation) -> dict[str, Any]:
    """Returns an evaluation as JSON values without those of single images."""
    content = evaluation.to_json()
    return {name: value for name, value in content.items() if name not in ("final_log_loss", "final_entropy")}
