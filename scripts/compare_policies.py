"""Makes the table of all policies on a data set.

python scripts/compare_policies.py --env GlimpseBirds-v0 GlimpseMNIST-v0 GlimpseCUB-v0
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from agents.evaluation.comparison import Closed, Difference, kept_evaluation, standing
from agents.evaluation.evaluate import BATCH, TITLES, Evaluation, choose_images
from agents.evaluation.statistics import mean_of
from agents.reports.tables import command_line, format_estimate, insert, keep_entry, markdown, percent
from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError, GlimpseError
from glimpse_env.judge.judge import Judge
from glimpse_env.registration import source_of
from glimpse_env.versions import versions
from oracles.presets import preset_of
from oracles.registry import POLICIES, peeks, policy_settings, unavailable_reason
from oracles.training.judge import ensure_judge


@dataclass(frozen=True)
class Args:
    """Plays every policy once on the same images and sets them side by side; a run that was stopped goes on when called
    again."""

    env: tuple[str, ...] = ("GlimpseBirds-v0",)
    """Environment ids, or names of data sets."""
    policies: tuple[str, ...] | None = None
    """Which; default all that the data set supports."""
    images: int = 1000
    """Images, at most."""
    split: Literal["val", "test"] = "test"
    """Whose images."""
    root: str | None = None
    """Folder of the data sets; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data sets as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a
    folder."""
    scales: int | None = None
    """Concentric windows a glimpse; default the environment's."""
    evaluations: Path | None = None
    """Folder where what is finished is kept and met again; default in the cache. An empty one plays all policies anew,
    as after a change of their code or for their times on a quiet machine."""
    out: Path = Path("docs/policies.json")
    """Where the figures go, an entry a data set; those of other data sets stay."""
    into: Path | None = Path("docs/oracle.md")
    """A page whose part between `<!-- table:NAME -->` and `<!-- /table:NAME -->` the table of data set NAME takes the
    place of; a page without it gets it at its end."""


def main(args: Args) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        for env in args.env:
            compare(env, args)
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def compare(env: str, args: Args) -> None:
    """The table of one data set."""
    source = source_of(env, args.root, args.dataset_options, args.scales)
    names = choose_policies(source, args.policies)
    judge = ensure_judge(source)
    dataset = source.load(args.split)
    indices = choose_images(dataset, args.images)
    evaluations = {}
    for number, name in enumerate(names, start=1):
        logging.info(
            "%s: %s (%d of %d), %d %s images",
            source.name,
            TITLES.get(name, name),
            number,
            len(names),
            len(indices),
            args.split,
        )
        evaluations[name] = kept_evaluation(name, source, judge, dataset, indices, folder=args.evaluations)
    report = Report(env, source, judge, evaluations, command_line("compare_policies", args))
    text = report.markdown()
    print(f"\n{env}\n\n{text}\n")
    keep_entry(args.out, source.name, report.to_json())
    if args.into is not None:
        insert(text, args.into, f"table:{source.name}")


def choose_policies(source: DataSource, wanted: tuple[str, ...] | None) -> list[str]:
    """The policies to play, in the order of the table; ``oracle`` by the name of what it is.

    Raises:
        ConfigurationError: if one that was asked for is unknown or cannot be had.
    """
    chosen = []
    for name in POLICIES if wanted is None else wanted:
        reason = unavailable_reason(name, source)
        if reason is not None and wanted is not None:
            raise ConfigurationError(reason)
        if reason is not None:
            logging.info("%s is left out: %s", TITLES.get(name, name), reason)
        else:
            chosen.append(preset_of(source).oracle if name == "oracle" else POLICIES.name_of(name))
    return [name for name in POLICIES if name in chosen]


class Report:
    """What evaluations of policies on the same images say."""

    def __init__(
        self, env: str, source: DataSource, judge: Judge, evaluations: dict[str, Evaluation], command: str
    ) -> None:
        self.env, self.source, self.judge, self.evaluations, self.command = env, source, judge, evaluations, command
        self.any = next(iter(evaluations.values()))
        self.log_loss = {name: mean_of(one.final_log_loss) for name, one in evaluations.items()}
        self.entropy = {name: mean_of(one.final_entropy) for name, one in evaluations.items()}
        self.closed: dict[str, Closed] = {}
        if "fixed" in evaluations and "clairvoyant" in evaluations:
            ends = evaluations["fixed"], evaluations["clairvoyant"]
            self.closed = {name: Closed.of(one, *ends) for name, one in evaluations.items()}
        self.differences: dict[str, Difference] = {}
        self.default = preset_of(source).oracle
        if self.default in evaluations:
            oracle = evaluations[self.default]
            others = {name: one for name, one in evaluations.items() if name != self.default}
            self.differences = {name: Difference.of(oracle, other) for name, other in others.items()}

    def markdown(self) -> str:
        """The table, the differences to the oracle, and what they mean."""
        steps = len(self.any.entropy)
        head = ["policy", "success", "log-loss, nats", f"entropy after 1 to {steps} glimpses, nats"]
        rows = [[*head, "of the way, by success", "by log-loss", "ms a sequence"]]
        for name, one in self.evaluations.items():
            entropies = [*(f"{value:.2f}" for value in one.entropy[:-1]), format_estimate(self.entropy[name], 2)]
            closed = self.closed.get(name)
            rows.append(
                [
                    self._title(name),
                    percent(one.success_rate, one.interval()),
                    format_estimate(self.log_loss[name], 3),
                    ", ".join(entropies),
                    "–" if closed is None else f"{format_estimate(closed.success, 0, scale=100)} %",
                    "–" if closed is None else f"{format_estimate(closed.log_loss, 0, scale=100)} %",
                    f"{one.milliseconds:.2g}" if one.milliseconds < 10 else f"{one.milliseconds:.0f}",
                ]
            )
        parts = [markdown(rows)]
        if self.differences:
            lines = [[f"{TITLES.get(self.default, self.default)} less", "success, points", "log-loss, nats"]]
            for name, difference in self.differences.items():
                success = format_estimate(difference.success, 1, scale=100, signed=True)
                lines.append([self._title(name), success, format_estimate(difference.log_loss, 3, signed=True)])
            parts += [markdown(lines), self._verdict()]
        parts.append(
            f"{len(self.any.outcomes)} {self.any.split} images of {self.source.name} (`{self.source.fingerprint}`), "
            f"judge `{self.judge.identity}`. † sees more of the image than its glimpses. 95 % intervals over images: "
            "Wilson's for success, bootstrap for the rest, paired for differences. The way is that from the best fixed "
            "sequence to the clairvoyant policy. The time is the policy's own, without environment and judge, "
            f"{BATCH} episodes at once."
        )
        return "\n\n".join(parts)

    def to_json(self) -> dict[str, Any]:
        policies = {}
        for name, one in self.evaluations.items():
            content = one.to_json()
            for of_each_image in ("final_log_loss", "final_entropy"):
                del content[of_each_image]
            closed = self.closed.get(name)
            policies[name] = {
                "title": TITLES.get(name, name),
                "peeks": peeks(name),
                "settings": policy_settings(name, self.source, self.judge),
                **content,
                "final_log_loss": self.log_loss[name].to_json(),
                "final_entropy": self.entropy[name].to_json(),
                "milliseconds": one.milliseconds,
                "gap_closed": None if closed is None else closed.to_json(),
            }
        return {
            "env": self.env,
            "command": self.command,
            "dataset": {"name": self.source.name, "fingerprint": self.source.fingerprint},
            "split": self.any.split,
            "num_images": len(self.any.outcomes),
            "judge": {"identity": self.judge.identity, "scales": self.judge.card.scales},
            "batch_size": BATCH,
            "threads": torch.get_num_threads(),
            "default_oracle": self.default,
            "policies": policies,
            "oracle_less": {name: difference.to_json() for name, difference in self.differences.items()},
            "oracle_stands": standing(self.differences),
            "versions": versions(),
        }

    def _title(self, name: str) -> str:
        title = TITLES.get(name, name)
        if name == self.default:
            return f"**{title}** (default oracle)"
        return f"{title} †" if peeks(name) else title

    def _verdict(self) -> str:
        """Where the oracle stands among the policies that do not peek, in words."""
        sentences = []
        for measure, places in standing(self.differences).items():
            told = [
                f"{words} {', '.join(TITLES.get(name, name) for name in places[place])}"
                for place, words in (
                    ("above", "better than"),
                    ("beside", "not told apart from"),
                    ("below", "worse than"),
                )
                if places[place]
            ]
            sentences.append(f"by {measure.replace('_', '-')} {'; '.join(told) or 'alone'}")
        return f"Among policies that do not peek the default oracle is {'. It is '.join(sentences)}."


if __name__ == "__main__":
    main(tyro.cli(Args))
