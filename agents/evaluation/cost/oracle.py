"""Measures what a sequence of the oracle costs: by the size of its bank, and beside a CNN asked about masked images."""

import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from agents.evaluation.cost.banks import Setting, Timed, World, cache_in, sequences
from agents.evaluation.cost.masked import published_cell
from agents.evaluation.cost.settings import CostSettings
from agents.evaluation.memory import Memory
from glimpse_env.files import write_json
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
    report: dict[str, Any] = {"command": command, "settings": settings.to_json(), "complete": False, **circumstances()}
    report["cells"] = {}
    if out.is_file():
        before: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
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
                for kind, cell in (("exact", exact_cell), ("coarse", coarse_cell), ("recall", recall_cell)):
                    fill(f"{size}/{match}/{kind}", dict if left_out else partial(cell, setting, match))
            setting.clear()
        fill("published", partial(published_cell, Setting(world, settings.banks[0])))
    report["complete"] = True
    write_json(out, report)
    return report


def circumstances() -> dict[str, Any]:
    """Returns what the figures depend on beside the settings, as JSON values."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }


def exact_cell(setting: Setting, match: Match) -> dict[str, Any]:
    """Measures the exact search: see :func:`timed_cell`."""
    figures, setting.exact_locations[match] = timed_cell(setting, match, 0)
    return figures


def coarse_cell(setting: Setting, match: Match) -> dict[str, Any]:
    """Measures the coarse search, and the share of its choices that are the exact search's."""
    coarse = setting.settings.coarse
    if setting.config(match, coarse).dimensions(setting.size) == 0:
        return {}  # the bank is so small that the coarse search would leave nothing out
    figures, locations = timed_cell(setting, match, coarse)
    return {**figures, "same_choices": float((locations == setting.locations(match)).mean())}


def timed_cell(setting: Setting, match: Match, coarse: int) -> tuple[dict[str, Any], np.ndarray]:
    """Returns milliseconds a sequence and memory in MB, and the locations looked at (N, T)."""
    with Memory() as preparing:
        start = time.perf_counter()
        oracle = setting.oracle(match, coarse)
        oracle.first_map()  # once a bank, not once a sequence
        if coarse:
            oracle.banks[0].coarse_table(match, coarse)
        seconds = time.perf_counter() - start
    wall, cpu = [], []
    with Memory() as running:
        for _ in range(setting.settings.rounds + 1):
            policy = Timed(oracle)
            locations = sequences(setting, policy)
            wall.append(1000 * policy.wall / len(locations))
            cpu.append(1000 * policy.cpu / len(locations))
    # the first turn reads files into memory
    figures = {
        "wall_ms": float(np.median(wall[1:])),
        "cpu_ms": float(np.median(cpu[1:])),
        "first_wall_ms": wall[0],
        "prepared_s": seconds,
        "memory": running.peak,
        "memory_preparing": preparing.peak,
    }
    return figures, locations


def recall_cell(setting: Setting, match: Match) -> dict[str, Any]:
    """Measures which share of the truly nearest entries the coarse search keeps, at the locations looked at."""
    args, bank, judge = setting.settings, setting.bank, setting.judge
    locations = setting.locations(match)[: args.recall_sequences, :-1]
    places = np.unique(locations)
    corners = judge.grid.corners[places]
    exact = np.zeros((*locations.shape, len(bank)), dtype=np.float32)
    queries_at: dict[int, tuple[np.ndarray, np.ndarray, Tensor]] = {}
    for i, place in enumerate(places):
        rows, steps = np.nonzero(locations == place)
        at = np.broadcast_to(corners[i], (len(rows), 2))
        glimpses = bank.sensor(setting.test.images, rows, at)
        embedded = judge.embed_glimpses(0, glimpses, at)
        queries = queries_of(glimpses, embedded, match)
        queries_at[i] = rows, steps, queries
        exact_here = bank.squared_distances(queries, at, match).numpy()
        for row, step, distances in zip(rows, steps, exact_here, strict=True):
            exact[row, step:] += distances
    short = min(args.short_list, len(bank))
    wanted = {count: _lowest(exact, count) for count in sorted({short, min(args.samples, len(bank))})}
    table: list[dict[str, Any]] = []
    variants = [(dimensions, RESIDUAL) for dimensions in args.recall_dimensions]
    variants += [(args.coarse, 0.0), (args.coarse, 1.0)]
    for dimensions, residual in variants:
        coarse = CoarseTable.made(
            lambda entries, i: bank.features(entries, corners[i], match),
            *(len(bank), len(places), dimensions, None, residual),
        )
        estimates = np.zeros_like(exact)
        for i, (rows, steps, queries) in queries_at.items():
            for row, step, distances in zip(rows, steps, coarse.squared_distances(queries, i).numpy(), strict=True):
                estimates[row, step:] += distances
        for keep in args.recall_keep:
            if keep * short >= len(bank):
                continue
            kept = np.zeros(exact.shape, dtype=bool)
            np.put_along_axis(kept, _lowest(estimates, keep * short), True, axis=-1)
            for count, nearest in wanted.items():
                share = np.take_along_axis(kept, nearest, axis=-1).mean(-1)  # (histories, steps)
                table.append(
                    {
                        "dimensions": dimensions,
                        "residual": residual,
                        "kept": keep * short,
                        "nearest": count,
                        "mean": float(share.mean()),
                        "worst": float(share.min()),
                    }
                )
    return {"histories": int(locations.size), "recall": table}


def _lowest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices (..., count) of the lowest of ``values`` (..., N)."""
    if count >= values.shape[-1]:
        return np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    return np.argpartition(values, count, axis=-1)[..., :count]
