"""What a judge gains by the encoder of its glimpses and by the width its features are reduced to: a judge for each, on
images that it was not trained on."""

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from agents.evaluation.evaluate import TITLES, Evaluation, choose_images, evaluate
from agents.evaluation.statistics import mean_difference, mean_of
from agents.reports.tables import MISSING, format_estimate, markdown_table, percent
from glimpse_env.checks import whole_number
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.datasets.copies import copies_of
from glimpse_env.encoding.efficientnet import load_efficientnet_lite0
from glimpse_env.encoding.registry import CONVOLUTIONAL, EFFICIENTNET_LITE0, ENCODERS, is_frozen, register_encoder
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.threads import at_most_threads
from oracles.base import PlannedPolicy
from oracles.baselines import FixedPolicy, RandomPolicy, best_fixed, centre_out, fitted_images
from oracles.presets import preset_of
from oracles.training.judge import ensure_judge, train_judge
from oracles.training.plans import JudgePlan

SPLITS = {"val": "validation images", "train": "held-out training images"}
"""Titles of the splits that are judged; training images each by the network that never saw it."""
POLICIES = ("fixed", "centre", "random")
TIMED_IMAGES = 4
"""Images whose glimpses at all locations are encoded for the time of one."""


@dataclass(frozen=True)
class Compared:
    """A judge to compare."""

    encoder: str
    """Name of the encoder."""
    width: int
    """Numbers that its features are reduced to; 0 for all of them, or for one that is trained with the judge."""

    @classmethod
    def parse(cls, text: str, source: DataSource) -> "Compared":
        """Reads ``encoder`` or ``encoder@width``, whose width is by default that of the data set's preset.

        ``efficientnet_lite0_64`` is registered as EfficientNet-Lite0 whose windows are enlarged to 64 x 64 pixels, as
        is any other number.

        Raises:
            ConfigurationError: if the width is no number from 0 on, or the encoder has none.
        """
        encoder, _, number = text.partition("@")
        name, _, side = encoder.rpartition("_")
        if name == EFFICIENTNET_LITE0 and side.isdecimal() and encoder not in ENCODERS:
            register_encoder(
                encoder, partial(load_efficientnet_lite0, whole_number(f"side in {encoder!r}", int(side), 16))
            )
        if not is_frozen(encoder):
            if number:
                raise ConfigurationError(f"{text!r}: an encoder that is trained with its judge has no width.")
            return cls(encoder, 0)
        if number and not number.isdecimal():
            raise ConfigurationError(f"{text!r}: the width behind @ must be a whole number, like 128.")
        return cls(encoder, int(number) if number else preset_of(source, encoder).judge.width)

    @property
    def title(self) -> str:
        return self.encoder if self.encoder == CONVOLUTIONAL else f"{self.encoder}@{self.width}"

    def plan(self, source: DataSource) -> JudgePlan:
        """Returns how its judge is trained: as its data set's preset has it, but for the width."""
        plan = preset_of(source, self.encoder).judge
        return replace(plan, width=self.width) if is_frozen(self.encoder) else plan


@dataclass(frozen=True)
class Measured:
    """What one judge came to."""

    judge: str
    """Its identity."""
    milliseconds: float
    """Processor time of encoding a glimpse by one thread; of a convolutional encoder in its pass over whole images, for
    each of the judge's networks."""
    table_bytes: int
    """Of the features of training images, with their copies, and validation images; 0 where there are none."""
    table_glimpses: int
    """Glimpses in there."""
    evaluations: dict[str, dict[str, Evaluation]]
    """By split and policy."""

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values."""
        judged = {split: {name: one.to_json() for name, one in by.items()} for split, by in self.evaluations.items()}
        return {**vars(self), "evaluations": judged}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Measured":
        """Reads what :meth:`to_json` returned."""
        judged = content["evaluations"].items()
        read = {split: {name: Evaluation.from_json(one) for name, one in by.items()} for split, by in judged}
        return cls(**{**content, "evaluations": read})


class _ByFold(PlannedPolicy):
    """Follows the sequence of an image's fold, one of (K, T)."""

    def __init__(self, grid: LocationGrid, sequences: np.ndarray):
        self.grid, self.sequences = grid, sequences

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> tuple[np.ndarray, None]:
        return self.sequences[dataset.folds[indices]], None


def fixed_by_fold(source: DataSource, judge: Judge) -> np.ndarray:
    """Returns, for each fold, the best fixed sequence (K, T) for training images of the other folds."""
    train, steps = source.load("train"), source.geometry.num_glimpses
    rows = fitted_images(train, judge)
    others = [rows[train.folds[rows] != fold] for fold in range(source.num_folds)]
    return np.stack([best_fixed(train, judge, steps, rows=some) for some in others])


def milliseconds(source: DataSource, judge: Judge, *, rounds: int = 5) -> float:
    """Returns the processor time in milliseconds of encoding a glimpse, the least of several rounds, by one thread."""
    train, grid = source.load("train"), source.geometry.grid
    rows = np.arange(min(TIMED_IMAGES, len(train)))
    owner, places = np.repeat(rows, len(grid)), np.tile(grid.corners, (len(rows), 1))
    glimpses, images = source.geometry.sensor(train.images, owner, places), np.asarray(train.images[rows])
    times = []
    with at_most_threads(1):
        for _ in range(rounds):
            began = time.process_time()
            if judge.frozen is None:
                judge.embed_grid(0, images)
            else:
                judge.frozen.encode(glimpses)
            times.append(time.process_time() - began)
    return 1000 * min(times) / len(owner)


def measure(source: DataSource, compared: Compared, *, images: int, seed: int = 0) -> Measured:
    """Trains a judge, or finds it in the cache where it is the data set's own with that encoder, and measures it.

    Args:
        source: the data set, of several folds.
        compared: which judge.
        images: validation images, and training images, at most.
        seed: of training and of the random policy.

    Raises:
        ConfigurationError: if the training images have no folds.
    """
    if source.num_folds == 1:
        raise ConfigurationError(
            f"{source.name} has images of its own for the judge and so no folds; take a data set of photographs."
        )
    plan = compared.plan(source)
    own = plan == preset_of(source, compared.encoder).judge and seed == 0
    judge = ensure_judge(source, compared.encoder) if own else train_judge(source, plan, seed=seed)
    geometry, train = source.geometry, source.load("train")
    everywhere = FixedPolicy(geometry.grid, best_fixed(train, judge, geometry.num_glimpses))
    centre = FixedPolicy(geometry.grid, centre_out(geometry.grid, geometry.num_glimpses))
    fixed = {"val": everywhere, "train": _ByFold(geometry.grid, fixed_by_fold(source, judge))}
    judged: dict[str, dict[str, Evaluation]] = {}
    for split, best in fixed.items():
        dataset = source.load(split)  # type: ignore[arg-type]  # a public split
        policies = (best, centre, RandomPolicy(geometry.grid, seed))
        rows = choose_images(dataset, images)
        judged[split] = {
            name: evaluate(policy, dataset, judge, rows, name=name)
            for name, policy in zip(POLICIES, policies, strict=True)
        }
    tables = []
    if judge.frozen is not None:
        tables += FeatureTable(train, judge.frozen, copies_of(source.mirror_symmetric, 0)).arrays
        tables += FeatureTable(source.load("val"), judge.frozen).arrays
    return Measured(
        judge.identity,
        milliseconds(source, judge),
        sum(array.nbytes for array in tables),
        sum(array.shape[0] * array.shape[1] for array in tables),
        judged,
    )


def encoder_tables(measured: dict[str, Measured], base: str) -> str:
    """Returns what judges came to as Markdown: on validation images, on held-out training images, and against the judge
    ``base`` on the same images, with 95 % intervals over images."""
    head = [f"{TITLES[name]}, {SPLITS[split]}" for split in SPLITS for name in POLICIES]
    rows = [["encoder and width", *head, "table, MB", "ms a glimpse"]]
    for name, one in measured.items():
        cells = [_judged(one.evaluations[split][policy]) for split in SPLITS for policy in POLICIES]
        table = f"{one.table_bytes / 1e6:.0f}" if one.table_bytes else MISSING
        rows.append([name, *cells, table, f"{one.milliseconds:.2f}"])
    differences = [[f"less {base}, held-out training images", "success, points", "log-loss, nats"]]
    for name, one in measured.items():
        if name != base:
            ours, theirs = one.evaluations["train"]["fixed"], measured[base].evaluations["train"]["fixed"]
            success = mean_difference(ours.outcomes, theirs.outcomes)
            nats = mean_difference(ours.final_log_loss, theirs.final_log_loss)
            points = format_estimate(success, 1, scale=100, signed=True)
            differences.append([name, points, format_estimate(nats, 3, signed=True)])
    counts = {split: len(measured[base].evaluations[split]["fixed"].outcomes) for split in SPLITS}
    note = (
        f"{counts['val']} validation images, judged by the mean of all networks, and {counts['train']} training "
        "images, each by the network that never saw it, where the best fixed sequence is fitted to the other folds. "
        "Success with Wilson's interval, log-loss in nats; differences of the best fixed sequence, paired. The time is "
        "processor time of one thread."
    )
    paired = [markdown_table(differences)] if len(measured) > 1 else []
    return "\n\n".join([markdown_table(rows), *paired, note])


def _judged(one: Evaluation) -> str:
    success = percent(one.success_rate, one.interval())
    return f"{success}, {format_estimate(mean_of(one.final_log_loss), 2)}"
