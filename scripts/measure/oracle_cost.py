"""Measures what a sequence of the oracle costs, by the size of its bank, and beside the published way.

python scripts/measure/oracle_cost.py
python scripts/measure/oracle_cost.py --banks 1000 10000 --out a.json --page a.md --picture a.png
"""

import itertools
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from agents.evaluation.memory import Memory
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.birds.source import Birds
from glimpse_env.datasets.copies import ImageCopy
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import whole_file, write_json
from glimpse_env.judge.judge import Judge, find_judge
from glimpse_env.rollout import play
from oracles.base import Observations
from oracles.boed.coarse import RESIDUAL, CoarseTable
from oracles.boed.completion import COARSE_DIMENSIONS, LARGE_BANK, CompletionConfig, ImageBank, Match, queries_of
from oracles.boed.criteria import expected_criterion
from oracles.boed.oracle import GLIMPSES_AT_ONCE, BOEDOracle, OracleConfig

MATCHES: tuple[Match, ...] = ("embedding", "pixels")
WIDTHS = {"small": (16, 32, 64, 64), "plain": (32, 64, 128, 256)}
"""Channels of the masked-image CNNs: 3 x 3 convolutions of stride 2, pooled, and a linear layer."""
NOISE = 4
"""Pixel values that a perturbed bird differs by from its copy, at most."""


@dataclass(frozen=True)
class Args:
    """What a sequence of the oracle costs on drawn birds (128 x 128, 169 locations, 5 glimpses) with the shipped judge.

    A run that was stopped goes on from the last cell in --out. What it makes meanwhile lies in a temporary folder, some
    20 GB for 100 000 images, and is removed.
    """

    banks: tuple[int, ...] = (1000, 3000, 10_000, 30_000, 100_000)
    """Images in the bank."""
    pixels_up_to: int = 30_000
    """Largest bank that pixels are compared in: exactly they take seconds a sequence in a larger one."""
    drawn: int = 10_000
    """Birds that are drawn; what a larger bank holds beyond are copies, moved, mirrored and with noise."""
    sequences: int = 32
    """Sequences a turn, in one batch."""
    rounds: int = 3
    """Turns; the median counts."""
    samples: int = 100
    """Completions of a history."""
    short_list: int = 500
    """Nearest images that the completions are weighted among."""
    coarse: int = COARSE_DIMENSIONS
    """Principal components of the coarse search."""
    threads: int = 2
    """Threads of torch."""
    passes: int = 512
    """Passes of the masked-image CNN that are measured; the whole is scaled from these."""
    recall_sequences: int = 8
    """Sequences whose histories the coarse search's recall is measured on."""
    recall_dimensions: tuple[int, ...] = (16, 32, 64, 128)
    """Principal components that are compared."""
    recall_keep: tuple[int, ...] = (1, 2, 4)
    """Entries kept by the coarse search that are compared, in multiples of short_list."""
    work: Path | None = None
    """Where the temporary folder is made; default the system's."""
    quick: bool = False
    """A few images and sequences only, to see that it runs."""
    out: Path = Path("docs/benchmark_oracle.json")
    """Where the figures go."""
    page: Path = Path("docs/oracle_cost.md")
    """Where the tables go."""
    picture: Path = Path("docs/images/oracle_cost.png")
    """Where the plot goes."""

    def __post_init__(self) -> None:
        counts = (*self.banks, self.drawn, self.sequences, self.rounds, self.threads, self.passes, self.samples)
        if not self.banks or min(*counts, self.recall_sequences, *self.recall_dimensions, *self.recall_keep) < 1:
            raise ConfigurationError("--banks and all other numbers must be positive.")

    @property
    def settings(self) -> dict[str, Any]:
        """What the figures depend on, as JSON values."""
        places = ("work", "quick", "out", "page", "picture")
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if k not in places}


def quickened(args: Args) -> Args:
    """The arguments with numbers so small that a run takes seconds."""
    return replace(
        args,
        banks=(60, 100),
        drawn=60,
        sequences=3,
        rounds=1,
        samples=6,
        short_list=20,
        coarse=6,
        passes=4,
        recall_sequences=1,
        recall_dimensions=(4, 8),
        recall_keep=(1, 2),
    )


def main(args: Args) -> None:
    args = quickened(args) if args.quick else args
    torch.set_num_threads(args.threads)
    report = begun(args)
    cells = report["cells"]
    with cache_in(args.work) as folder, tqdm(total=len(args.banks) * 6 + 1, desc="benchmark", unit="cell") as bar:
        world = World(args, folder)

        def cell(name: str, measure: Callable[[], dict[str, Any]]) -> None:
            bar.set_postfix_str(name)
            if name not in cells:
                cells[name] = measure()
                write_json(args.out, report)
            bar.update()

        for size in args.banks:
            setting = Setting(world, size)
            for match in MATCHES:
                left_out = match == "pixels" and size > args.pixels_up_to
                for kind, measured in (("exact", exact_cell), ("coarse", coarse_cell), ("recall", recall_cell)):
                    cell(f"{size}/{match}/{kind}", dict if left_out else partial(measured, setting, match))
            setting.clear()
        cell("published", partial(published_cell, Setting(world, args.banks[0])))
    report["complete"] = True
    write_json(args.out, report)
    draw(report, args.picture)
    page = described(report, args)
    with whole_file(args.page) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(page)
    print(f"Figures in {args.out}, tables in {args.page}, plot in {args.picture}.")


def begun(args: Args) -> dict[str, Any]:
    """The report of an unfinished run with the same settings, or a new one."""
    fresh = {"command": command(args), "settings": args.settings, "complete": False, **circumstances(), "cells": {}}
    if args.out.is_file():
        found: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8"))
        if not found.get("complete") and found.get("settings") == args.settings:
            return found
    return fresh


def command(args: Args) -> str:
    """The command line that measures this, written where it is by default."""
    words, usual = ["python", "scripts/measure/oracle_cost.py"], Args().settings
    for name, value in args.settings.items():
        if value != usual[name]:
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return " ".join(words)


def circumstances() -> dict[str, Any]:
    """What the figures depend on beside the settings."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }


@contextmanager
def cache_in(parent: Path | None) -> Iterator[Path]:
    """A temporary folder that is the cache for as long as it lasts, and is removed with all that was put there."""
    before = os.environ.get("GLIMPSE_CACHE")
    with tempfile.TemporaryDirectory(prefix="benchmark-oracle-", dir=parent, ignore_cleanup_errors=True) as folder:
        os.environ["GLIMPSE_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("GLIMPSE_CACHE")
            if before is not None:
                os.environ["GLIMPSE_CACHE"] = before


class World:
    """The images: as many birds as are drawn, copies of them, and others to look at; made when first asked for."""

    def __init__(self, args: Args, folder: Path):
        self.args, self.folder = args, folder
        self.source = Birds(num_train=args.drawn, num_val=1, num_test=args.sequences, num_judge=1)
        self.judge: Judge = find_judge(self.source)

    @cached_property
    def test(self) -> GlimpseDataset:
        return self.source.load("test")

    @cached_property
    def train(self) -> GlimpseDataset:
        """Block b of as many images as were drawn holds them moved and mirrored in the b-th way, with noise."""
        birds, count, rng = self.source.load("train"), max(self.args.banks), np.random.default_rng(0)
        if count <= len(birds):
            return birds
        path = self.folder / "bank.npy"
        images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *birds.images.shape[1:]))
        pixels = int(np.prod(images.shape[1:]))
        pool = rng.integers(-NOISE, NOISE + 1, pixels + 65_536, dtype=np.int16)  # each image's noise begins elsewhere
        noises = np.lib.stride_tricks.sliding_window_view(pool, pixels)
        for start in tqdm(range(0, count, 500), desc="bank", unit="chunk"):
            rows = np.arange(start, min(start + 500, count))
            for block in np.unique(rows // len(birds)):
                here = rows[rows // len(birds) == block]
                part = np.asarray(birds.images[here % len(birds)])
                if block:
                    copy = ImageCopy(bool(block % 2), *(int(shift) for shift in _moves(int(block))))
                    noise = noises[rng.integers(len(noises), size=len(here))].reshape(part.shape)
                    part = np.clip(copy(part) + noise, 0, 255).astype(np.uint8)
                images[here] = part
        images.flush()
        source = np.arange(count) % len(birds)
        return replace(
            birds,
            images=np.load(path, mmap_mode="r", allow_pickle=False),
            labels=np.asarray(birds.labels[source]),
            folds=np.asarray(birds.folds[source]),
            parts=np.asarray(birds.parts[source]),
        )


def _moves(block: int) -> np.ndarray:
    """(2,) pixels down and right, different for each block: on a spiral."""
    return np.rint(2 * np.sqrt(block) * np.array([np.cos(2.4 * block), np.sin(2.4 * block)])).astype(int)


class Setting:
    """One size of bank."""

    def __init__(self, world: World, size: int):
        self.args, self.world, self.size = world.args, world, size
        self.judge, self.test = world.judge, world.test

    @cached_property
    def dataset(self) -> GlimpseDataset:
        whole, n = self.world.train, self.size
        # no split "train", as a few images need not show every species
        return replace(
            whole,
            split="judge",
            images=whole.images[:n],
            labels=whole.labels[:n],
            folds=whole.folds[:n],
            parts=whole.parts[:n],
        )

    @cached_property
    def bank(self) -> ImageBank:
        return ImageBank(self.dataset, self.judge, 0, self.size)

    def config(self, match: Match, coarse: int) -> CompletionConfig:
        args = self.args
        return CompletionConfig(
            match,
            samples=min(args.samples, self.size),
            short_list=min(args.short_list, self.size),
            bank_size=self.size,
            coarse=coarse,
        )

    def oracle(self, match: Match, coarse: int) -> BOEDOracle:
        config = OracleConfig(completion=self.config(match, coarse))
        return BOEDOracle(self.dataset, self.judge, config, banks=[self.bank])

    @cached_property
    def chosen(self) -> dict[Match, np.ndarray]:
        """(N, T) locations that the exact search led to, where that was measured in this run."""
        return {}

    def locations(self, match: Match) -> np.ndarray:
        if match not in self.chosen:
            self.chosen[match] = sequences(self, Timed(self.oracle(match, 0)))
        return self.chosen[match]

    def clear(self) -> None:
        """Removes the bank's tables from the disk."""
        for name in ("dataset", "bank"):
            self.__dict__.pop(name, None)
        for name in ("embeddings", "coarse"):
            shutil.rmtree(self.world.folder / name, ignore_errors=True)


class Timed:
    """A policy, and the seconds that its predictions took."""

    def __init__(self, oracle: BOEDOracle):
        self.oracle, self.wall, self.cpu = oracle, 0.0, 0.0

    def predict(
        self, observation: Observations, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        found = self.oracle.predict(observation, state, episode_start, deterministic)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        return found


def sequences(setting: Setting, policy: Timed) -> np.ndarray:
    """(N, T) locations: a batch of sequences on images that are not in the bank."""
    rows = np.arange(setting.args.sequences)
    return play(
        policy,
        setting.test,
        setting.judge,
        rows,
        batch_size=len(rows),
        progress=False,
        start=lambda indices: policy.oracle.start(setting.test, indices),
    ).locations


def exact_cell(setting: Setting, match: Match) -> dict[str, Any]:
    figures, setting.chosen[match] = timed_cell(setting, match, 0)
    return figures


def coarse_cell(setting: Setting, match: Match) -> dict[str, Any]:
    """As :func:`exact_cell`, with the share of choices that are the exact search's."""
    if setting.config(match, setting.args.coarse).dimensions(setting.size) == 0:
        return {}  # the bank is so small that the coarse search would leave nothing out
    figures, locations = timed_cell(setting, match, setting.args.coarse)
    return {**figures, "same_choices": float((locations == setting.locations(match)).mean())}


def timed_cell(setting: Setting, match: Match, coarse: int) -> tuple[dict[str, Any], np.ndarray]:
    """Milliseconds a sequence and memory, and the locations chosen (N, T)."""
    with Memory() as preparing:
        start = time.perf_counter()
        oracle = setting.oracle(match, coarse)
        oracle.first_map()  # once a bank, not once a sequence
        if coarse:
            oracle.banks[0].coarse_table(match, coarse)
        seconds = time.perf_counter() - start
    wall, cpu = [], []
    with Memory() as running:
        for _ in range(setting.args.rounds + 1):
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
    """What share of the truly nearest entries the coarse search keeps; only the locations looked at get a table."""
    args, bank, judge = setting.args, setting.bank, setting.judge
    locations = setting.locations(match)[: args.recall_sequences, :-1]
    places = np.unique(locations)
    corners = judge.grid.corners[places]
    exact = np.zeros((*locations.shape, len(bank)), dtype=np.float32)
    asked: dict[int, tuple[np.ndarray, np.ndarray, Tensor]] = {}
    for i, place in enumerate(places):
        rows, steps = np.nonzero(locations == place)
        at = np.broadcast_to(corners[i], (len(rows), 2))
        glimpses = bank.sensor(setting.test.images, rows, at)
        embedded = judge.embed_glimpses(0, glimpses, at)
        asked[i] = rows, steps, queries_of(glimpses, embedded, match)
        found = bank.squared_distances(glimpses, embedded, at, match).numpy()
        for row, step, distances in zip(rows, steps, found, strict=True):
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
        for i, (rows, steps, queries) in asked.items():
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
    """(..., count): which of (..., N) are the lowest."""
    if count >= values.shape[-1]:
        return np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    return np.argpartition(values, count, axis=-1)[..., :count]


def published_cell(setting: Setting) -> dict[str, Any]:
    """EPE of one sequence from the same candidates and samples: ours, and one pass of a CNN for each of them.

    The first location is computed once for all images, so a sequence has T - 1 maps.
    """
    args, judge, bank = setting.args, setting.judge, setting.bank
    steps, count = judge.card.num_glimpses, min(args.samples, setting.size)
    rng = np.random.default_rng(0)
    looked = np.stack([rng.permutation(len(judge.grid))[:steps] for _ in range(args.sequences)])
    samples = torch.from_numpy(rng.permutation(setting.size)[:count])
    weights = torch.full((count,), 1.0 / count)
    embedded = judge.embed_grid(0, np.asarray(setting.test.images))[np.arange(args.sequences)[:, None], looked]
    oracle = setting.oracle("embedding", 0)

    def ours() -> None:
        for history in embedded:
            for t in range(1, steps):
                oracle.expected_over(bank, history[:t].sum(0), t, samples, weights)

    chunk = samples[: max(1, GLIMPSES_AT_ONCE // len(judge.grid))]
    part = bank.embeddings[chunk].float()
    share = torch.full((len(chunk),), 1.0 / len(chunk))
    our_flops = flops(
        lambda: expected_criterion(judge, 0, torch.zeros(part.shape[-1]), 1, part, bank.labels[chunk], share)
    )
    passes = (steps - 1) * count * len(judge.grid)
    ours()
    found: dict[str, Any] = {
        "passes": passes,
        "measured_passes": args.passes,
        "epe": {
            **{name: value / args.sequences for name, value in clocked(ours, args.rounds).items()},
            "mflop": our_flops / 1e6 / len(chunk) * count * (steps - 1),
        },
        "cnn": {},
    }
    for name, widths in WIDTHS.items():
        network = masked_image_cnn(widths, judge.num_classes)
        masked = MaskedImages(setting, looked[0], samples)

        def theirs(network: nn.Module = network, masked: MaskedImages = masked) -> None:
            for first in range(0, args.passes, 32):
                numbers = np.arange(first, min(first + 32, args.passes))
                log_probabilities = network(masked(numbers)).log_softmax(-1)
                torch.special.entr(log_probabilities.exp()).sum(-1)

        with torch.inference_mode():
            theirs()
            measured = clocked(theirs, args.rounds)
            operations = flops(lambda network=network, masked=masked: network(masked(np.arange(1))))  # type: ignore[misc]
        figures = {key: value * passes / args.passes for key, value in measured.items()}
        found["cnn"][name] = {
            **figures,
            "mflop": operations / 1e6,
            "cpu_ratio": figures["cpu_ms"] / found["epe"]["cpu_ms"],
            "wall_ratio": figures["wall_ms"] / found["epe"]["wall_ms"],
        }
    return found


def clocked(work: Callable[[], object], rounds: int) -> dict[str, float]:
    """Milliseconds of a turn, the median over turns; CPU time is that of all threads."""
    wall, cpu = [], []
    for _ in range(rounds):
        start, begin = time.perf_counter(), time.process_time()
        work()
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - begin))
    return {"wall_ms": float(np.median(wall)), "cpu_ms": float(np.median(cpu))}


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the products and convolutions in it, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def masked_image_cnn(widths: tuple[int, ...], num_classes: int) -> nn.Module:
    """(B, 4, H, W), an image with unseen pixels zeroed and a mask, to (B, classes) logits."""
    layers: list[nn.Module] = []
    for inner, outer in zip((4, *widths), widths, strict=False):
        layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_classes)).eval()


class MaskedImages:
    """The first test image as a history shows it, with each completion's glimpse at each candidate location."""

    def __init__(self, setting: Setting, looked: np.ndarray, samples: Tensor):
        self.bank, self.samples = setting.bank, samples.numpy()
        grid = setting.judge.grid
        self.corners, self.side = grid.corners, grid.glimpse_size
        self.seen = torch.zeros(4, grid.image_size, grid.image_size)
        for r, c in self.corners[looked[:-1]]:
            window = setting.test.images[0, r : r + self.side, c : c + self.side]
            self._show(self.seen, window, r, c)

    def __call__(self, numbers: np.ndarray) -> Tensor:
        """(B, 4, H, W) of passes number ``numbers`` (B,), candidates of one completion after those of another."""
        owners, places = np.divmod(numbers, len(self.corners))
        rows = self.bank.rows[self.samples[owners % len(self.samples)]]
        windows = self.bank.sensor(self.bank.dataset.images, rows, self.corners[places])
        images = self.seen.repeat(len(numbers), 1, 1, 1)
        for image, window, (r, c) in zip(images, windows, self.corners[places], strict=True):
            self._show(image, window, r, c)
        return images

    def _show(self, image: Tensor, window: np.ndarray, r: int, c: int) -> None:
        here = image[:, r : r + self.side, c : c + self.side]
        here[:3] = torch.from_numpy(np.array(window)).permute(2, 0, 1) / 255.0
        here[3] = 1.0


def draw(report: dict[str, Any], path: Path) -> None:
    """Milliseconds a sequence over the size of the bank, with lines of slope one."""
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    colours = {"embedding": "#1f6f8b", "pixels": "#c0562b"}
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
    axes.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def described(report: dict[str, Any], args: Args) -> str:
    """The page: what was measured, how, and the tables."""
    settings, cells = report["settings"], report["cells"]
    picture = os.path.relpath(args.picture, args.page.parent)
    figures = os.path.relpath(args.out, args.page.parent)
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
{settings["threads"]} threads of torch {report["versions"]["torch"]}. All figures: [{args.out.name}]({figures}).

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
    lines = [
        "| bank | compared by | search | ms a sequence | CPU, ms | same choices | own memory, MB | with files, MB | "
        "prepared, s |",
        "|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for size, match, search in itertools.product(report["settings"]["banks"], MATCHES, ("exact", "coarse")):
        cell = report["cells"][f"{size}/{match}/{search}"]
        if cell:
            same = f"{100 * cell['same_choices']:.1f} %" if "same_choices" in cell else "–"
            own, total = (f"{cell['memory'][key]:.0f}" if cell["memory"] else "–" for key in ("own", "total"))
            numbers = (
                f"{cell['wall_ms']:.1f} | {cell['cpu_ms']:.1f} | {same} | {own} | {total} | {cell['prepared_s']:.0f}"
            )
            lines.append(f"| {size:,} | {match} | {search} | {numbers} |")
    return "\n".join(lines)


def published_table(report: dict[str, Any]) -> str:
    published = report["cells"]["published"]
    epe = published["epe"]
    lines = [
        "| EPE of one sequence | MFLOP a pass | CPU, s | wall, s | times our CPU | times our wall |",
        "|---|---:|---:|---:|---:|---:|",
        f"| ours | – | {epe['cpu_ms'] / 1000:.3f} | {epe['wall_ms'] / 1000:.3f} | 1 | 1 |",
    ]
    for name, row in published["cnn"].items():
        seconds = f"{row['cpu_ms'] / 1000:.1f} | {row['wall_ms'] / 1000:.1f}"
        ratios = f"{row['cpu_ratio']:,.0f} | {row['wall_ratio']:,.0f}"
        lines.append(f"| masked-image CNN, {name} | {row['mflop']:.0f} | {seconds} | {ratios} |")
    return "\n".join(lines)


def recall_table(report: dict[str, Any]) -> str:
    """Of the two largest banks."""
    settings = report["settings"]
    kept = [keep * settings["short_list"] for keep in settings["recall_keep"]]
    lines = [
        "| bank | compared by | components | left-overs | " + " | ".join(f"{count:,} kept" for count in kept) + " |",
        "|---:|---|---:|---:|" + "---:|" * len(kept),
    ]
    for size, match in itertools.product(sorted(settings["banks"])[-2:], MATCHES):
        found: dict[tuple[int, float], dict[int, str]] = {}
        for row in report["cells"][f"{size}/{match}/recall"].get("recall", []):
            if row["nearest"] == min(settings["short_list"], size):
                shares = found.setdefault((row["dimensions"], row["residual"]), {})
                shares[row["kept"]] = f"{row['mean']:.4f} ({row['worst']:.3f})"
        for (dimensions, residual), shares in found.items():
            cells = " | ".join(shares.get(count, "–") for count in kept)
            lines.append(f"| {size:,} | {match} | {dimensions} | {residual:g} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Args))
