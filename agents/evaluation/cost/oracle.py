"""Measures what a sequence of the oracle costs: by the size of its bank, and beside a CNN asked about masked images."""

import os
import platform
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from agents.evaluation.cost.banks import Setting, World, cache_in, sequences
from agents.evaluation.cost.masked import published_cell
from agents.evaluation.cost.settings import CostSettings
from agents.evaluation.evaluate import Timed
from agents.evaluation.memory import Memory
from glimpse_env.files import read_json, write_json
from glimpse_env.versions import versions
from oracles.boed.coarse import RESIDUAL, CoarseTable
from oracles.boed.completion import Match, queries_of

MATCHES: tuple[Match, ...] = ("embedding", "pixels")


def measure(settings: CostSettings, out: Path, *, command: str, work: Path | None = None) -> dict[str, Any]:
    """Measures all cells, goes on with an unfinished report of the same settings, and returns the finished one.

    Args:
        settings: see :class:`CostSettings`.
        out: JSON file of the report, written after each cell.
        command: the command that is run, for the report.
        work: where the temporary folder is made; default the system's.
    """
    torch.set_num_threads(settings.threads)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "versions": versions()}
    report: dict[str, Any] = {
        "command": command,
        "settings": settings.to_json(),
        "complete": False,
        **machine,
        "cells": {},
    }
    if out.is_file():
        before: dict[str, Any] = read_json(out)
        if not before.get("complete") and before.get("settings") == settings.to_json():
            report = before
    cells = report["cells"]
    with cache_in(work) as folder, tqdm(total=len(settings.banks) * 6 + 1, desc="benchmark", unit="cell") as bar:
        world = World(settings, folder)

        def fill(name: str, cell: Callable[[], dict[str, Any]]) -> None:
            bar.set_postfix_str(name)
            if name not in cells:
                cells[name] = cell()
                write_json(out, report)
            bar.update()

        for size in settings.banks:
            setting = Setting(world, size)
            for match in MATCHES:
                left_out = match == "pixels" and size > settings.pixels_up_to
                for kind, cell in (
                    ("exact", partial(search_cell, setting, match, 0)),
                    ("coarse", partial(search_cell, setting, match, settings.coarse)),
                    ("recall", partial(recall_cell, setting, match)),
                ):
                    fill(f"{size}/{match}/{kind}", dict if left_out else cell)
            setting.clear()
        fill("published", partial(published_cell, Setting(world, settings.banks[0])))
    report["complete"] = True
    write_json(out, report)
    return report


def search_cell(setting: Setting, match: Match, coarse: int) -> dict[str, Any]:
    """Measures milliseconds a sequence and memory in MB, of the coarse search also the share of its choices that are
    the exact search's.

    Args:
        setting: the bank and what is looked at.
        match: how glimpses are compared.
        coarse: components of the coarse search; 0 for the exact one.

    Returns:
        The figures; none where the bank is so small that the coarse search would leave nothing out.
    """
    if coarse and setting.config(match, coarse).dimensions(setting.size) == 0:
        return {}
    with Memory() as preparing:
        start = time.perf_counter()
        oracle = setting.oracle(match, coarse)
        oracle.first_map()  # once a bank, not once a sequence
        if coarse:
            oracle.banks[0].coarse_table(match, coarse)
        seconds = time.perf_counter() - start
    turns = []
    with Memory() as running:
        for _ in range(setting.settings.rounds + 1):
            policy = Timed(oracle)
            locations = sequences(setting, policy)
            turns.append((1000 * policy.seconds / len(locations), 1000 * policy.cpu_seconds / len(locations)))
    wall, cpu = np.median(turns[1:], axis=0)  # the first turn reads files into memory
    figures = {
        "wall_ms": float(wall),
        "cpu_ms": float(cpu),
        "first_wall_ms": turns[0][0],
        "prepared_s": seconds,
        "memory": running.peak,
        "memory_preparing": preparing.peak,
    }
    if not coarse:
        setting.exact_locations[match] = locations
        return figures
    return {**figures, "same_choices": float((locations == setting.locations(match)).mean())}


def recall_cell(setting: Setting, match: Match) -> dict[str, Any]:
    """Measures which share of the truly nearest entries the coarse search keeps, at the locations looked at."""
    args, bank, judge = setting.settings, setting.bank, setting.judge
    locations = setting.locations(match)[: args.recall_sequences, :-1]
    places = np.unique(locations)
    corners = judge.grid.corners[places]
    looks = [np.nonzero(locations == place) for place in places]
    queries, seen_at = [], []
    for (rows, _), corner in zip(looks, corners, strict=True):
        at = np.broadcast_to(corner, (len(rows), 2))
        glimpses = bank.sensor(setting.test.images, rows, at)
        queries.append(queries_of(glimpses, judge.embed_glimpses(0, glimpses, at), match))
        seen_at.append(at)

    def of_histories(distances: Iterable[Tensor]) -> np.ndarray:
        """Returns the sums over histories (n, T - 1, entries) of the distances at each place."""
        summands = np.empty((*locations.shape, len(bank)), dtype=np.float32)
        for (rows, steps), at_place in zip(looks, distances, strict=True):
            summands[rows, steps] = at_place.numpy()
        return summands.cumsum(axis=1)

    exact = of_histories(bank.squared_distances(*glimpses, match) for glimpses in zip(queries, seen_at, strict=True))
    short = min(args.short_list, len(bank))
    wanted = {count: _lowest(exact, count) for count in sorted({short, min(args.samples, len(bank))})}
    table: list[dict[str, Any]] = []
    variants = [(dimensions, RESIDUAL) for dimensions in args.recall_dimensions]
    for dimensions, residual in [*variants, (args.coarse, 0.0), (args.coarse, 1.0)]:
        coarse = CoarseTable.made(
            lambda entries, i: bank.features(entries, corners[i], match),
            *(len(bank), len(places), dimensions, None, residual),
        )
        estimates = of_histories(coarse.squared_distances(query, i) for i, query in enumerate(queries))
        for keep in (keep * short for keep in args.recall_keep if keep * short < len(bank)):
            kept = np.zeros(exact.shape, dtype=bool)
            np.put_along_axis(kept, _lowest(estimates, keep), True, axis=-1)
            for count, nearest in wanted.items():
                share = np.take_along_axis(kept, nearest, axis=-1).mean(-1)  # (histories, steps)
                figures = {"mean": float(share.mean()), "worst": float(share.min())}
                table.append(
                    {"dimensions": dimensions, "residual": residual, "kept": keep, "nearest": count, **figures}
                )
    return {"histories": int(locations.size), "recall": table}


def _lowest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices (..., count) of the lowest of ``values`` (..., N)."""
    if count >= values.shape[-1]:
        return np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    return np.argpartition(values, count, axis=-1)[..., :count]
