"""Measures judge and oracle on CelebA-HQ's 2500 locations, with drawn birds of its size in its place.

python scripts/measure/fine_grid.py
"""

import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.evaluation.evaluate import TITLES, choose_images, evaluate
from agents.evaluation.memory import Memory
from agents.evaluation.statistics import wilson_interval
from agents.reports.tables import markdown_table, percent, replace_section
from glimpse_env import cli
from glimpse_env.datasets.base import DataSource
from glimpse_env.datasets.birds.source import Birds
from glimpse_env.files import write_json
from glimpse_env.judge.judge import Judge, judge_path
from glimpse_env.versions import versions
from oracles.boed.oracle import BOEDOracle
from oracles.presets import preset_of
from oracles.registry import make_policy
from oracles.training.judge import train_judge
from oracles.training.plans import JudgePlan
from oracles.training.posterior import NetworkTrainer

MARK = "Drawn birds on 2500 locations"


@dataclass(frozen=True)
class Args:
    """What a judge and BOED cost on 50 x 50 unevenly spaced locations: drawn birds of 224 x 224, one mark to tell.

    The judge is trained now and put into the cache, where gymnasium.make and the other scripts find it.
    """

    attribute: str = "eye ring"
    """The mark."""
    num_train: int = 1000
    """Training images: BOED's bank."""
    num_judge: int = 6000
    """Images that the judge is trained on."""
    passes: int = 24
    """Passes of the judge's training."""
    rounds: int = 1
    """Rounds of collecting histories that the oracle visits."""
    images: int = 100
    """Validation images that are played."""
    threads: int = 1
    """Threads of torch."""
    seed: int = 0
    """Of all that is random."""
    out: Path = Path("runs/fine_grid.json")
    """File of the figures."""
    into: Path | None = None
    """Page that the table goes into, between marks named like its section."""

    def __post_init__(self) -> None:
        cli.check_least(self, num_train=1, num_judge=1, passes=1, rounds=0, images=1, threads=1, seed=0)


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    source = Birds(
        size=224,
        attribute=args.attribute,
        num_train=args.num_train,
        num_val=args.images,
        num_test=args.images,
        num_judge=args.num_judge,
        num_oracle=args.num_train,
    )
    for split in ("train", "val", "judge"):
        source.load(split)  # painted before anything is timed
    plan = replace(preset_of(source).judge, passes=args.passes, rounds=args.rounds)
    command = cli.command_line("measure/fine_grid", args)
    report: dict[str, Any] = {
        "command": command,
        "settings": {k: v for k, v in asdict(args).items() if k not in ("out", "into")},
        "options": source.options,
        "locations": 2500,
        "versions": versions(),
        "training": training_cost(source, plan, args.seed),
    }
    judge = train_judge(source, plan, seed=args.seed, command=command)
    judge.save(judge_path(source))
    report["judge"] = judge.card.scores
    report["policies"] = {name: played(name, source, judge, args) for name in ("random", "boed")}
    write_json(args.out, report)
    text = described(report, os.path.relpath(args.out, args.out.parent if args.into is None else args.into.parent))
    print(f"{text}\n\nFigures in {args.out}.")
    if args.into is not None:
        replace_section(text, args.into, MARK)


def training_cost(source: DataSource, plan: JudgePlan, seed: int) -> dict[str, float]:
    """Seconds and memory of one pass over the judge's images, random histories only, and how many these are."""
    with Memory() as memory:
        start = time.perf_counter()
        NetworkTrainer(source, 0, replace(plan, passes=1, rounds=0), seed=seed).run()
        seconds = time.perf_counter() - start
    images = len(source.judge_images(0, np.random.default_rng(0)).labels)
    return {"images": images, "pass_s": seconds, **memory.peak}


def played(name: str, source: DataSource, judge: Judge, args: Args) -> dict[str, Any]:
    """How a policy does on validation images, and its cost; BOED's tables are made before its sequences are timed."""
    val = source.load("val")
    with Memory() as preparing:
        start = time.perf_counter()
        policy = make_policy(name, source, judge, seed=args.seed, config=preset_of(source).boed)
        tables = 0
        if isinstance(policy, BOEDOracle):
            policy.first_map()
            tables = sum(bank.embeddings.numel() * bank.embeddings.element_size() for bank in policy.banks)
        seconds = time.perf_counter() - start
    with Memory() as running:
        found = evaluate(policy, val, judge, choose_images(val, args.images), name=name)
    return {
        **found.to_json(),
        "ms": found.milliseconds,
        "prepared_s": seconds,
        "tables_mb": tables / 1e6,
        "memory": running.peak,
        "memory_preparing": preparing.peak,
    }


def described(report: dict[str, Any], figures: str) -> str:
    """Returns the figures as Markdown; ``figures`` is the path of their file, as the page links it."""
    settings, training = report["settings"], report["training"]
    rows = [("policy", "success", "log-loss, nats", "ms a sequence", "tables, MB", "prepared, s", "own memory, MB")]
    for name, entry in report["policies"].items():
        own = max(entry[key].get("own", float("nan")) for key in ("memory", "memory_preparing"))
        success = percent(entry["success_rate"], wilson_interval(entry["successes"], entry["num_images"]))
        costs = (f"{entry['ms']:.1f}", f"{entry['tables_mb']:.0f}", f"{entry['prepared_s']:.0f}", f"{own:.0f}")
        rows.append((TITLES[name], success, f"{entry['log_loss'][-1]:.3f}", *costs))
    return (
        f"`{report['command']}`, on {settings['threads']} thread of torch {report['versions']['torch']}.\n\n"
        f'{settings["images"]} validation images, "{settings["attribute"]}" or not, five glimpses of 16 x 16, a bank '
        f"of {settings['num_train']} images. A pass of the judge's training over {training['images']:.0f} images takes "
        f"{training['pass_s']:.1f} s and {training.get('own', float('nan')):.0f} MB. All figures: "
        f"[{Path(figures).name}]({figures}).\n\n{markdown_table(rows)}"
    )


if __name__ == "__main__":
    cli.run(main, Args)
