"""What a sequence of the oracle costs, as a page and a plot, and what judge and oracle cost on a fine grid."""

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.cost.banks import NOISE
from agents.evaluation.cost.masked import WIDTHS
from agents.evaluation.cost.oracle import MATCHES
from agents.evaluation.evaluate import TITLES, choose_images, evaluate
from agents.evaluation.memory import Memory
from agents.evaluation.statistics import wilson_interval
from agents.reports.style import BLUE, ORANGE, dress, new_figure, save
from agents.reports.tables import MISSING, markdown_table, percent
from glimpse_env.datasets.base import DataSource
from glimpse_env.judge.judge import Judge
from oracles.boed.coarse import RESIDUAL
from oracles.boed.completion import LARGE_BANK
from oracles.boed.oracle import BOEDOracle
from oracles.presets import preset_of
from oracles.registry import make_policy
from oracles.training.plans import JudgePlan
from oracles.training.posterior import NetworkTrainer


def cost_plot(report: dict[str, Any], path: Path) -> None:
    """Draws milliseconds a sequence over the size of the bank, with lines of slope one.

    Args:
        report: see :func:`agents.evaluation.cost.oracle.measure`.
        path: PNG to write.
    """
    figure = new_figure(7.0, 4.6)
    axes = figure.subplots()
    colours = {"embedding": BLUE, "pixels": ORANGE}
    banks = report["settings"]["banks"]
    for match, colour in colours.items():
        for search, style, marker in (("exact", "-", "o"), ("coarse", "--", "s")):
            points = [
                (size, cell["wall_ms"]) for size in banks if (cell := report["cells"].get(f"{size}/{match}/{search}"))
            ]
            if points:
                axes.plot(*zip(*points, strict=True), style, marker=marker, color=colour, label=f"{match}, {search}")
        largest = max(size for size in banks if report["cells"][f"{size}/{match}/exact"])
        last = report["cells"][f"{largest}/{match}/exact"]["wall_ms"]
        ends = np.array([min(banks), largest])
        label = "linear in the bank" if match == "pixels" else None
        axes.plot(ends, last * ends / largest, ":", color="0.55", zorder=0, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="images in the bank",
        ylabel="milliseconds a sequence",
        title=f"A sequence of {report['settings']['samples']} completions, 169 locations, 5 glimpses",
    )
    axes.set_ylim(bottom=5)
    axes.legend(frameon=False)
    dress(axes, "both")
    save(figure, path)


def cost_page(report: dict[str, Any], figures: str, picture: str) -> str:
    """Returns the page: what was measured, how, and the tables.

    Args:
        report: see :func:`agents.evaluation.cost.oracle.measure`.
        figures: path of its file, as the page links it.
        picture: path of the plot, as the page links it.
    """
    settings, cells = report["settings"], report["cells"]
    published = cells["published"]
    epe = published["epe"]
    plain = published["cnn"]["plain"]
    channels = " or ".join("-".join(map(str, widths)) for widths in WIDTHS.values())
    memory = (
        "the most that the process itself allocated while sequences ran (RssAnon). Images, embeddings and coarse "
        "tables are memory-mapped files, whose pages the system keeps as long as it likes: *with files* counts those "
        "too (VmRSS)."
    )
    return f"""# What the oracle costs

`{report["command"]}` measured this and wrote this page, on {report["cores"]} cores with
{settings["threads"]} threads of torch {report["versions"]["torch"]}. All figures: [{Path(figures).name}]({figures}).

Drawn birds of 128 x 128 pixels, 169 locations, five glimpses, the shipped judge (one network, embeddings of 160
numbers), {settings["samples"]} completions of a history. A turn is a batch of {settings["sequences"]} sequences. Times
are medians of {settings["rounds"]} turns, after one that reads files into memory; they leave out the environment, and
what is done once a bank: its tables and the map before the first glimpse. CPU time is that of all threads.

## By the size of the bank

{bank_table(report)}

- *exact* compares every glimpse with the same window of every image. *coarse* estimates these distances from
  {settings["coarse"]} principal components a location and compares the best {2 * settings["short_list"]} exactly
  (`CompletionConfig.coarse`); by default banks of more than {LARGE_BANK:,} entries are searched so. A bank of no more
  images than that would be compared as a whole, and has no coarse search.
- *same choices*: how many of the glimpses are where the exact search has them.
- *own memory*: {memory}
- *prepared*: what the tables of a new bank take, once: its embeddings (in its first row) and its coarse table.
- Images beyond the first {settings["drawn"]:,} are copies of drawn birds, moved, mirrored, and with noise of up to
  {NOISE} grey levels in each pixel.

![Time a sequence over the size of the bank]({picture})

## Beside the published way

The published way asks a CNN about the masked image, unseen pixels zeroed and the mask a further channel, once for each
completion and candidate location: {published["passes"]:,} passes a sequence (the first location is computed once for
all images, so that a sequence of five glimpses has four maps). Ours adds up embeddings out of a table. Both have the
same histories' lengths, completions and candidates, and in both finding the completions is left out.
{published["measured_passes"]} passes of the CNN were measured and **scaled linearly** to a sequence.

{published_table(report)}

The judge needs {epe["mflop"] / 1000:.1f} GFLOP a sequence, the plain CNN
{plain["mflop"] * published["passes"] / 1e6:.1f} TFLOP, as torch's `FlopCounterMode` counts them. The CNNs are four
3 x 3 convolutions of stride 2 ({channels} channels), a mean and a linear layer.

## What the coarse search misses

The share of the truly nearest {settings["short_list"]} images that are among those kept: the mean, and in brackets the
worst, over histories of one to four glimpses. *left-overs* is the weight of what the components leave out of a glimpse
(`oracles/boed/coarse.py`); {RESIDUAL} is used. The shares for the nearest {settings["samples"]} are in the figures.

{recall_table(report)}
"""


def bank_table(report: dict[str, Any]) -> str:
    """Returns times, memory and agreement by bank, way of comparing and search."""
    head = ["bank", "compared by", "search", "ms a sequence", "CPU, ms", "same choices", "own memory, MB"]
    rows = [[*head, "with files, MB", "prepared, s"]]
    for size, match, search in itertools.product(report["settings"]["banks"], MATCHES, ("exact", "coarse")):
        cell = report["cells"][f"{size}/{match}/{search}"]
        if cell:
            same = f"{100 * cell['same_choices']:.1f} %" if "same_choices" in cell else MISSING
            memory = [f"{cell['memory'][key]:.0f}" if cell["memory"] else MISSING for key in ("own", "total")]
            times = f"{cell['wall_ms']:.1f}", f"{cell['cpu_ms']:.1f}"
            rows.append([f"{size:,}", match, search, *times, same, *memory, f"{cell['prepared_s']:.0f}"])
    return markdown_table(rows, "rllr")


def published_table(report: dict[str, Any]) -> str:
    """Returns the operations and times of one sequence's EPE, ours and by each CNN."""
    published = report["cells"]["published"]
    epe = published["epe"]
    rows = [
        ["EPE of one sequence", "MFLOP a pass", "CPU, s", "wall, s", "times our CPU", "times our wall"],
        ["ours", MISSING, f"{epe['cpu_ms'] / 1000:.3f}", f"{epe['wall_ms'] / 1000:.3f}", "1", "1"],
    ]
    for name, row in published["cnn"].items():
        seconds = f"{row['cpu_ms'] / 1000:.1f}", f"{row['wall_ms'] / 1000:.1f}"
        ratios = f"{row['cpu_ratio']:,.0f}", f"{row['wall_ratio']:,.0f}"
        rows.append([f"masked-image CNN, {name}", f"{row['mflop']:.0f}", *seconds, *ratios])
    return markdown_table(rows, "lr")


def recall_table(report: dict[str, Any]) -> str:
    """Returns the shares of the nearest images that the coarse search keeps, in the two largest banks."""
    settings = report["settings"]
    kept = [keep * settings["short_list"] for keep in settings["recall_keep"]]
    rows = [["bank", "compared by", "components", "left-overs", *(f"{count:,} kept" for count in kept)]]
    for size, match in itertools.product(sorted(settings["banks"])[-2:], MATCHES):
        shares: dict[tuple[int, float], dict[int, str]] = {}
        for row in report["cells"][f"{size}/{match}/recall"].get("recall", []):
            if row["nearest"] == min(settings["short_list"], size):
                by_kept = shares.setdefault((row["dimensions"], row["residual"]), {})
                by_kept[row["kept"]] = f"{row['mean']:.4f} ({row['worst']:.3f})"
        for (dimensions, residual), by_kept in shares.items():
            cells = [by_kept.get(count, MISSING) for count in kept]
            rows.append([f"{size:,}", match, str(dimensions), f"{residual:g}", *cells])
    return markdown_table(rows, "rlr")


def training_cost(source: DataSource, plan: JudgePlan, seed: int) -> dict[str, float]:
    """Measures one pass of a judge's training over random histories.

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
        images: maximum number of validation images.

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
