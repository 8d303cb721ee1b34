"""EPE of one sequence beside the published way: a CNN asked about a masked image for each completion and candidate."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from agents.evaluation.cost.banks import Setting
from oracles.boed.criteria import expected_criterion
from oracles.boed.oracle import GLIMPSES_AT_ONCE

WIDTHS = {"small": (16, 32, 64, 64), "plain": (32, 64, 128, 256)}
"""Channels of the masked-image CNNs: 3 x 3 convolutions of stride 2, pooled, and a linear layer."""


def published_cell(setting: Setting) -> dict[str, Any]:
    """Measures EPE of one sequence from the same candidates and samples: ours, and one pass of a CNN for each of them.

    The first location is computed once for all images, so a sequence has T - 1 maps.
    """
    args, judge, bank = setting.settings, setting.judge, setting.bank
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
    report: dict[str, Any] = {
        "passes": passes,
        "measured_passes": args.passes,
        "epe": {
            **{name: duration / args.sequences for name, duration in clocked(ours, args.rounds).items()},
            "mflop": our_flops / 1e6 / len(chunk) * count * (steps - 1),
        },
        "cnn": {},
    }
    masked = MaskedImages(setting, looked[0], samples)

    def theirs(network: nn.Module) -> None:
        for first in range(0, args.passes, 32):
            log_probabilities = network(masked(np.arange(first, min(first + 32, args.passes)))).log_softmax(-1)
            torch.special.entr(log_probabilities.exp()).sum(-1)

    for name, widths in WIDTHS.items():
        network = masked_image_cnn(widths, judge.num_classes)
        with torch.inference_mode():
            theirs(network)
            measured = clocked(partial(theirs, network), args.rounds)
            operations = flops(partial(network, masked(np.arange(1))))
        figures = {key: value * passes / args.passes for key, value in measured.items()}
        report["cnn"][name] = {
            **figures,
            "mflop": operations / 1e6,
            "cpu_ratio": figures["cpu_ms"] / report["epe"]["cpu_ms"],
            "wall_ratio": figures["wall_ms"] / report["epe"]["wall_ms"],
        }
    return report


def clocked(work: Callable[[], object], rounds: int) -> dict[str, float]:
    """Returns the milliseconds of a turn, the median over ``rounds`` turns; CPU time is that of all threads."""
    turns = []
    for _ in range(rounds):
        start = np.array([time.perf_counter(), time.process_time()])
        work()
        turns.append(1000 * (np.array([time.perf_counter(), time.process_time()]) - start))
    wall, cpu = np.median(turns, axis=0)
    return {"wall_ms": float(wall), "cpu_ms": float(cpu)}


def flops(work: Callable[[], object]) -> int:
    """Returns the floating-point operations of the products and convolutions in ``work``, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def masked_image_cnn(widths: tuple[int, ...], num_classes: int) -> nn.Module:
    """Returns a CNN from (B, 4, H, W), images with unseen pixels zeroed and a mask, to logits (B, classes)."""
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
        """Returns the inputs (B, 4, H, W) of the passes ``numbers`` (B,): all candidates of one completion, then of the
        next."""
        owners, places = np.divmod(numbers, len(self.corners))
        rows = self.bank.rows[self.samples[owners % len(self.samples)]]
        windows = self.bank.sensor(self.bank.dataset.images, rows, self.corners[places])
        images = self.seen.repeat(len(numbers), 1, 1, 1)
        for image, window, (r, c) in zip(images, windows, self.corners[places], strict=True):
            self._show(image, window, r, c)
        return images

    def _show(self, image: Tensor, window: np.ndarray, r: int, c: int) -> None:
        """Puts a window of pixels into an input, its corner at row ``r`` and column ``c``."""
        here = image[:, r : r + self.side, c : c + self.side]
        here[:3] = torch.from_numpy(np.array(window)).permute(2, 0, 1) / 255.0
        here[3] = 1.0
