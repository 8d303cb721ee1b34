"""Measures and reports what judge and oracle cost on a fine grid of locations."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.evaluate import TITLES, choose_images, evaluate
from agents.evaluation.memory import Memory
from agents.evaluation.statistics import wilson_interval
from agents.reports.tables import markdown_table, percent
from glimpse_env.datasets.base import DataSource
from glimpse_env.judge.judge import Judge
from oracles.boed.oracle import BOEDOracle
from oracles.presets import preset_of
from oracles.registry import make_policy
from oracles.training.plans import JudgePlan
from oracles.training.posterior import NetworkTrainer


def training_cost(source: DataSource, plan: JudgePlan, seed: int) -> dict[str, float]:
    """Measures one pass of a judge's training over random histories.

    Args:
        source: the data set.
        plan: how its judge is trained.
        seed: seed of the training.

    Returns:
        ``images``, their number; ``pass_s``, seconds; and peak memory in MB as :class:`Memory` gives it.
    """
    with Memory() as memory:
        start = time.perf_counter()
        NetworkTrainer(source, 0, replace(plan, passes=1, rounds=0), seed=seed).run()
        seconds = time.perf_counter() - start
    images = len(source.judge_images(0, np.random.default_rng(0)).labels)
    return {"images": images, "pass_s": seconds, **memory.peak}


def policy_cost(name: str, source: DataSource, judge: Judge, images: int, seed: int) -> dict[str, Any]:
    """Measures a policy's results on validation images and its cost; BOED's tables are made before it is timed.

    Args:
        name: name of the policy.
        source, judge: data set and its judge.
        images: maximum number of validation images.
        seed: seed of the policy.

    Returns:
        The evaluation as JSON values; ``ms`` a sequence; ``prepared_s``, seconds of making the policy and its tables;
        ``tables_mb``; and peak memory in MB while it plays and before.
    """
    val = source.load("val")
    with Memory() as preparing:
        start = time.perf_counter()
        policy = make_policy(name, source, judge, seed=seed, config=preset_of(source).boed)
        tables = 0
        if isinstance(policy, BOEDOracle):
            policy.first_map()
            tables = sum(bank.embeddings.numel() * bank.embeddings.element_size() for bank in policy.banks)
        seconds = time.perf_counter() - start
    with Memory() as running:
        evaluation = evaluate(policy, val, judge, choose_images(val, images), name=name)
    return {
        **evaluation.to_json(),
        "ms": evaluation.milliseconds,
        "prepared_s": seconds,
        "tables_mb": tables / 1e6,
        "memory": running.peak,
        "memory_preparing": preparing.peak,
    }


def grid_section(report: dict[str, Any], figures: str) -> str:
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
