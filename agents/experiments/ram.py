"""The paper's own experiment: methods that train networks to look and classify, on data sets, with several seeds.

Each cell of the grid is a training run in a process of its own, which is validated as it goes and can be stopped and
gone on with. Iterations to convergence are counted as the paper does: up to the first validation whose accuracy is
within 0.01 of the best (CUB, Birds, MNIST), or whose cross-entropy is (binary attributes).
"""

import json
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch

from agents.evaluation.evaluate import choose_images
from agents.experiments.grid import GridProgress
from agents.ram.algorithm import LEARNING_RATE, RAM
from agents.ram.sequences import Sequences
from agents.vec_env import GlimpseVecEnv
from glimpse_env.checks import one_of, whole_number
from glimpse_env.datasets.base import DataSource, GlimpseDataset, Split
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import digest, whole_file, write_json
from glimpse_env.registration import source_of
from glimpse_env.rollout import Rollouts
from oracles.demonstrations import demonstrate
from oracles.parallel import make_shards
from oracles.training.judge import ensure_judge
from oracles.training.loop import one_cycle

logger = logging.getLogger(__name__)

Criterion = Literal["accuracy", "cross_entropy"]
TOLERANCE = 0.01
"""How near to the best validation a run counts as converged: of accuracy, or nats of cross-entropy."""


@dataclass(frozen=True)
class DataSet:
    """What is classified, and how long networks are trained for it."""

    env: str
    iterations: int
    """Of training, at most."""
    num_sequences: int
    """Training images that are supervised, where a method has supervision. In birds all are: it takes the oracle
    seconds, and fewer are learned by heart together with their glimpses."""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    scales: int = 1
    criterion: Criterion = "accuracy"
    """By which weights are chosen and convergence is told."""
    batch_size: int = 64
    """Images an iteration."""
    validate_every: int = 250
    """Iterations."""
    demonstrated_by: dict[str, Any] = field(default_factory=dict)
    """Options of the data set of the same images that has the judge, where they differ from ``dataset_options``."""
    oracle: str = "oracle"
    """The policy that demonstrates, one of :data:`oracles.registry.POLICIES`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of :class:`RAM`."""
    unguided: dict[str, Any] = field(default_factory=dict)
    """Of :class:`RAM` where a method has no sequences, in place of those: a learning rate that sequences bear can be
    one with which REINFORCE alone forgets what it has found, and so can a gain of entropy that is too small: then the
    locator looks at the same places in all images."""
    encoder: str = "conv"
    """What reads a glimpse, see :class:`GlimpseNetwork`."""
    features: int = 64
    """Width of what it gives."""
    hidden: int = 128
    """Width of tokens and of the core's state."""
    averaging: float = 0.995
    """Decay of the average of the weights that is validated and tested, which is over 1 / (1 - decay) iterations."""
    patience: int | None = None
    """A run ends once its best validation is so many iterations old; None for runs that go on to the end."""
    decay: bool = False
    """Whether the learning rate rises and falls to zero (:func:`one_cycle`); where it does not, convergence does not
    depend on the budget."""

    @property
    def demonstrator(self) -> dict[str, Any]:
        return {**self.dataset_options, **self.demonstrated_by}


_BIRDS = DataSet(
    "GlimpseBirdsClassify-v0",
    iterations=20_000,
    num_sequences=4800,
    settings={"learning_rate": 2e-3},
    features=96,
    hidden=192,
)
_MNIST = DataSet(
    "GlimpseMNISTClassify-v0",
    iterations=20_000,
    num_sequences=16_000,
    batch_size=128,
    settings={"learning_rate": 2e-3},
    encoder="linear",
    features=128,
    patience=5000,
)
_RAM_S_MNIST = replace(
    _MNIST,
    iterations=10_000,
    num_sequences=10_000,
    settings={
        **_MNIST.settings,
        "supervised_share": 0.125,
        "weights": {"imitation": 0.05},
        "every_step": True,  # the classifier learns from few glimpses too, and faster
    },
    dataset_options={"num_glimpses": 8, "placements": 4},
    oracle="boed",
    scales=3,
    validate_every=1000,
    encoder="spatial",
    features=256,
    hidden=256,
    patience=None,
    decay=True,
)


def _with_glimpses(num_glimpses: int) -> DataSet:
    """RAM's published setting with so many; the sequences are the first glimpses of those that have 8."""
    options = {**_RAM_S_MNIST.dataset_options, "num_glimpses": num_glimpses}
    return replace(_RAM_S_MNIST, dataset_options=options, demonstrated_by={"num_glimpses": 8})


DATA_SETS: dict[str, DataSet] = {
    "birds": replace(_BIRDS, unguided={"weights": {"entropy": 0.004}}, patience=3500),
    "birds-19200": replace(
        _BIRDS,
        iterations=28_000,
        dataset_options={"num_train": 19_200},
        demonstrated_by={"num_train": 4800},
        settings={"learning_rate": 4e-3},
        unguided={"learning_rate": 2e-3, "weights": {"entropy": 0.002}},
        averaging=0.999,
        patience=4000,
    ),
    "mnist": _MNIST,
    "digits": DataSet("GlimpseDigitsClassify-v0", iterations=4000, num_sequences=500, encoder="linear", features=128),
    "cub": replace(_BIRDS, env="GlimpseCUBClassify-v0", iterations=1500, num_sequences=500, validate_every=50),
    "birds-eye-ring": replace(
        _BIRDS,
        iterations=4000,
        num_sequences=500,
        dataset_options={"size": 224, "attribute": "eye ring"},
        criterion="cross_entropy",
    ),
    "celeba-hq": replace(
        _BIRDS, env="GlimpseCelebAHQClassify-v0", iterations=30_000, num_sequences=600, criterion="cross_entropy"
    ),
    "mnist-4": _with_glimpses(4),
    "mnist-6": _with_glimpses(6),
    "mnist-8": _RAM_S_MNIST,
}
"""By name."""


@dataclass(frozen=True)
class Method:
    """How a network is trained."""

    title: str
    sequences: Literal["oracle", "ram", "hgs"] | None = None
    """Who supervises: the oracle, a network trained by RAM with the same seed, or hand-crafted glimpses at parts."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of :class:`RAM`."""


_GUIDED = {"weights": {"entropy": 0.0}}
"""Sequences keep a locator from always looking at the same places; a gain of entropy only blurs what they teach."""

METHODS: dict[str, Method] = {
    "ram": Method("RAM"),
    "ram+": Method("RAM+", settings={"pretraining": 1000}),
    "ws-ram": Method("WS-RAM", settings={"wake_sleep": 4}),
    "hgs": Method("HGS", "hgs", _GUIDED),
    "ps-ram": Method("PS-RAM", "ram", _GUIDED),
    "ps-nogs": Method("PS-NOGS", "oracle", _GUIDED),
    "ps-nogs-steps": Method("PS-NOGS, a classifier a step", "oracle", {**_GUIDED, "every_step": True}),
}
"""By name, in the paper's order."""


@dataclass(frozen=True)
class Architecture:
    """What differs from a data set's own network."""

    core: str = "gru"
    width: float = 1.0
    """Factor on the width of what the glimpse encoder gives."""
    unguided: dict[str, Any] = field(default_factory=dict)
    """See :class:`DataSet`."""

    def policy_kwargs(self, data: DataSet) -> dict[str, Any]:
        """Of :class:`agents.ram.policy.RAMPolicy`."""
        return {
            "posterior": {"features": round(data.features * self.width)},
            "encoder": data.encoder,
            "core": self.core,
            "tokens": data.hidden,
            "hidden": data.hidden,
            "averaging": data.averaging,
        }


ARCHITECTURES: dict[str, Architecture] = {
    "gru": Architecture(),
    "wide": Architecture(width=2.0),
    "narrow": Architecture(width=0.5),
    "transformer": Architecture(core="transformer", unguided={"learning_rate": 5e-4}),
}
"""By name."""


@dataclass(frozen=True)
class Cell:
    """One training run."""

    data: str
    method: str
    architecture: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.data}-{self.method}-{self.architecture}-s{self.seed}"

    def __str__(self) -> str:
        return self.name

    @property
    def size(self) -> str:
        """See :class:`oracles.parallel.Piece`."""
        return "one training run"


@dataclass(frozen=True)
class Grid:
    """Which cells there are.

    Raises:
        ConfigurationError: if an axis is empty or holds what there is not, or a data set lacks what a method needs.
    """

    data: tuple[str, ...]
    methods: tuple[str, ...]
    architectures: tuple[str, ...] = ("gru",)
    seeds: int = 5
    """Seeds 0 to this less one."""
    iterations: int | None = None
    """Of each run; None for the data set's own."""
    num_sequences: int | None = None
    """That supervise; None for the data set's own."""
    val_images: int = 2000
    eval_images: int = 10_000
    root: str | None = None
    """Folder of the data sets."""
    device: str = "cpu"
    """PyTorch's name of what networks are trained on; as SB3 has it, the CPU where there is no GPU."""

    def __post_init__(self) -> None:
        known: dict[str, Collection[str]] = {
            "data": DATA_SETS,
            "methods": METHODS,
            "architectures": ARCHITECTURES,
        }
        for axis, choices in known.items():
            members = getattr(self, axis)
            if not members or len(set(members)) < len(members):
                raise ConfigurationError(f"--{axis} {' '.join(members)} must name one or more, each once.")
            for member in members:
                one_of(f"--{axis}", member, choices)
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise ConfigurationError(
                f'--device {self.device} is no device that PyTorch knows; take "cpu" or "cuda".'
            ) from error
        for name in ("seeds", "iterations", "num_sequences", "val_images", "eval_images"):
            value = getattr(self, name)
            if value is not None:
                whole_number(f"--{name.replace('_', '-')}", value, 1)

    def cells(self) -> list[Cell]:
        """All of them, seed by seed; hand-crafted glimpses only where a data set has parts, and RAM where PS-RAM is."""
        found: dict[Cell, None] = {}
        for seed in range(self.seeds):
            for data in self.data:
                for method in self.methods:
                    if method == "hgs" and not self.source(data).part_names:
                        continue
                    for architecture in self.architectures:
                        if method == "ps-ram":
                            found[Cell(data, "ram", architecture, seed)] = None
                        found[Cell(data, method, architecture, seed)] = None
        return list(found)

    def source(self, data: str) -> DataSource:
        """The data set called ``data``."""
        spec = DATA_SETS[data]
        return source_of(spec.env, self.root, json.dumps(spec.dataset_options))

    def iterations_of(self, cell: Cell) -> int:
        """Of a cell's run."""
        return self.iterations or DATA_SETS[cell.data].iterations

    def sequences_of(self, data: str) -> int:
        """How many supervise on the data set called ``data``."""
        return self.num_sequences or DATA_SETS[data].num_sequences


@dataclass(frozen=True)
class Validation:
    """The network on validation images."""

    iterations: int
    """Of training so far."""
    accuracy: float
    cross_entropy: float
    """Nats."""
    seconds: float
    """Wall time of training so far, without validations."""


def convergence(curve: Sequence[Validation], criterion: Criterion, tolerance: float = TOLERANCE) -> int:
    """Iterations up to the first validation that is within ``tolerance`` of the best."""
    best = curve[best_of(curve, criterion)]
    for point in curve:
        if abs(getattr(point, criterion) - getattr(best, criterion)) <= tolerance + 1e-12:
            return point.iterations
    raise AssertionError("the best is within any tolerance of itself")


def best_of(curve: Sequence[Validation], criterion: Criterion) -> int:
    """Which validation is best, the first of equals."""
    scores = [getattr(point, criterion) for point in curve]
    return int(np.argmax(scores) if criterion == "accuracy" else np.argmin(scores))


def exhausted(curve: Sequence[Validation], spec: DataSet) -> bool:
    """Whether the best validation is as old as :attr:`DataSet.patience`."""
    if not curve or spec.patience is None:
        return False
    return curve[-1].iterations - curve[best_of(curve, spec.criterion)].iterations >= spec.patience


class Run:
    """The training run of a cell, below a folder; it goes on from what is there."""

    def __init__(self, grid: Grid, cell: Cell, out: Path):
        self.grid, self.cell, self.out = grid, cell, out
        self.spec, self.method = DATA_SETS[cell.data], METHODS[cell.method]
        self.folder = folder_of(out, cell)
        self.state_path, self.model_path = self.folder / "state.json", self.folder / "model.zip"
        self.best_path = self.folder / "best.zip"
        self.curve = read_curve(self.state_path)

    @cached_property
    def source(self) -> DataSource:
        return self.grid.source(self.cell.data)

    def dataset(self, split: Split) -> GlimpseDataset:
        return self.source.load(split)

    def vec_env(self) -> GlimpseVecEnv:
        """The environments that are trained in."""
        root: dict[str, Any] = {} if self.grid.root is None else {"root": self.grid.root}
        env: Any = gym.make_vec(
            self.spec.env,
            num_envs=self.spec.batch_size,
            observation="glimpse",
            scales=self.spec.scales,
            dataset_options=self.spec.dataset_options,
            **root,
        )
        return GlimpseVecEnv(env)

    def sequences(self) -> Sequences | None:
        """What supervises; the same images for every method and seed.

        Raises:
            ArtifactError: if it is a network's and that is not trained yet.
        """
        kind, steps = self.method.sequences, self.source.geometry.num_glimpses
        if kind is None:
            return None
        oracle = Sequences.demonstrated(demonstrate_for(self.grid, self.cell.data)).first(num_glimpses=steps)
        if kind == "oracle":
            return oracle
        train = self.dataset("train")
        if kind == "hgs":
            grid = self.vec_env().env.batch.grid
            return Sequences.hand_crafted(train, grid, steps, oracle.indices, seed=self.cell.seed)
        path = folder_of(self.out, Cell(self.cell.data, "ram", self.cell.architecture, self.cell.seed)) / "best.zip"
        if not path.is_file():
            raise ArtifactError(f"PS-RAM is supervised by the network at {path}, which is not trained yet; train RAM.")
        return Sequences.recorded(RAM.load(path, env=self.vec_env(), device=self.grid.device), train, oracle.indices)

    def model(self) -> RAM:
        """A new one, or the one that was stopped."""
        sequences = self.sequences()
        if self.curve:
            return RAM.load(self.model_path, env=self.vec_env(), device=self.grid.device, sequences=sequences)
        return RAM(
            "RAMPolicy",
            self.vec_env(),
            sequences=sequences,
            seed=self.cell.seed,
            device=self.grid.device,
            policy_kwargs=ARCHITECTURES[self.cell.architecture].policy_kwargs(self.spec),
            tensorboard_log=str(self.folder / "tensorboard"),
            **self.settings(),
        )

    def settings(self) -> dict[str, Any]:
        """Of :class:`RAM`: the data set's, the architecture's and the method's, of which the later count."""
        layers = [self.spec.settings, self.method.settings]
        if self.method.sequences is None:
            layers[1:1] = [self.spec.unguided, ARCHITECTURES[self.cell.architecture].unguided]
        merged = {name: value for layer in layers for name, value in layer.items()}
        return {**merged, "weights": {k: v for layer in layers for k, v in layer.get("weights", {}).items()}}

    def train(self) -> None:
        """To the end, validating on the way."""
        budget, spec = self.grid.iterations_of(self.cell), self.spec
        model = self.model()
        indices = choose_images(self.dataset("val"), self.grid.val_images)
        steps = spec.batch_size * (self.source.geometry.num_glimpses + 1)
        peak = float(self.settings().get("learning_rate", LEARNING_RATE))
        while model.iterations < budget and not exhausted(self.curve, spec):
            todo = min(spec.validate_every, budget - model.iterations)
            if spec.decay:
                model.learning_rate = peak * one_cycle((model.iterations + todo / 2) / budget)  # constant in between
                model._setup_lr_schedule()
            began = time.perf_counter()
            model.learn(todo * steps, reset_num_timesteps=False, tb_log_name="ram")
            seconds = time.perf_counter() - began + (self.curve[-1].seconds if self.curve else 0.0)
            looked = model.look(self.dataset("val"), indices)
            point = Validation(
                model.iterations, float(looked.success.mean()), float(looked.log_loss[:, -1].mean()), seconds
            )
            self.curve.append(point)
            model.logger.record("validation/accuracy", point.accuracy)
            model.logger.record("validation/cross_entropy", point.cross_entropy)
            model.logger.dump(step=model.num_timesteps)
            if best_of(self.curve, spec.criterion) == len(self.curve) - 1:
                _save(model, self.best_path)
            _save(model, self.model_path)
            write_json(self.state_path, {"curve": [asdict(point) for point in self.curve]})

    def test(self) -> Rollouts:
        """One deterministic episode on each test image, with the weights that did best on validation images."""
        test = self.dataset("test")
        model = RAM.load(self.best_path, env=self.vec_env(), device=self.grid.device)
        return model.look(test, choose_images(test, self.grid.eval_images))


def read_curve(path: Path) -> list[Validation]:
    """The validations so far of the run whose state is at ``path``; none where there is no file.

    Raises:
        ArtifactError: if it cannot be read.
    """
    if not path.is_file():
        return []
    try:
        return [Validation(**point) for point in json.loads(path.read_text(encoding="utf-8"))["curve"]]
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read ({error!r}); delete its folder to begin that run again.") from error


def folder_of(out: Path, cell: Cell) -> Path:
    """Where a cell's run is."""
    return out / "cells" / cell.name


def demonstrate_for(grid: Grid, data: str) -> Any:
    """The oracle's demonstrations for a data set, made first, and the judge before them, where there are none."""
    spec = DATA_SETS[data]
    source = source_of(spec.env, grid.root, json.dumps(spec.demonstrator))
    judge = ensure_judge(source, scales=spec.scales)
    return demonstrate(spec.oracle, source, judge, grid.sequences_of(data))


@dataclass(frozen=True)
class CellRunner:
    """Makes cells; what a process that makes them is sent."""

    grid: Grid
    out: Path

    def __call__(self, cell: Cell) -> dict[str, Any]:
        """Begins or goes on with a cell's run, and keeps what came of it in ``cell.json`` and ``looks.npz``."""
        run = Run(self.grid, cell, self.out)
        run.train()
        tested = run.test()
        with whole_file(run.folder / "looks.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, indices=tested.indices, locations=tested.locations.astype(np.int16))
        chosen = run.curve[best_of(run.curve, run.spec.criterion)]
        write_json(
            run.folder / "cell.json",
            {
                "cell": asdict(cell),
                "settings": settings_of(self.grid, cell),
                "criterion": run.spec.criterion,
                "curve": [asdict(point) for point in run.curve],
                "selected": chosen.iterations,
                "convergence": convergence(run.curve, run.spec.criterion),
                "test_accuracy": float(tested.success.mean()),
                "test_cross_entropy": float(tested.log_loss[:, -1].mean()),
                "test_images": len(tested),
                "seconds": run.curve[-1].seconds,
                "fingerprint": run.source.fingerprint,
            },
        )
        return {}


def settings_of(grid: Grid, cell: Cell) -> dict[str, Any]:
    """All that a cell's run depends on beside its name."""
    data = asdict(DATA_SETS[cell.data])
    for resolved in ("iterations", "num_sequences"):
        del data[resolved]
    return {
        "data": data,
        "method": asdict(METHODS[cell.method]),
        "architecture": asdict(ARCHITECTURES[cell.architecture]),
        "iterations": grid.iterations_of(cell),
        "num_sequences": grid.sequences_of(cell.data) if METHODS[cell.method].sequences else 0,
        "val_images": grid.val_images,
        "eval_images": grid.eval_images,
    }


class PaperExperiment:
    """A grid below a folder. Calling :meth:`run` again goes on with what is unfinished."""

    def __init__(self, grid: Grid, out: Path):
        self.grid, self.out = grid, out

    def run(self, workers: int = 1, ray: str | None = None) -> None:
        """Makes all cells, each in a process of its own.

        Args:
            workers: processes at a time, with one thread each.
            ray: address of a Ray cluster whose nodes share the folder, or "local".

        Raises:
            ConfigurationError: if the folder holds runs that were begun with other settings.
        """
        cells = self.grid.cells()
        for cell in cells:
            self._claim(cell)
        for data in self.grid.data:
            if any(METHODS[method].sequences for method in self.grid.methods):
                demonstrate_for(self.grid, data)
            for split in ("train", "val", "test"):
                self.grid.source(data).load(split)  # drawn or read once, before many processes want it
        todo = [cell for cell in cells if not (folder_of(self.out, cell) / "cell.json").is_file()]
        logger.info("%d runs, %d of them to do; results go to %s", len(cells), len(todo), self.out)
        waves = ([c for c in todo if c.method != "ps-ram"], [c for c in todo if c.method == "ps-ram"])
        progress = GridProgress(
            cells, self._done, self.grid.iterations_of, lambda c: (folder_of(self.out, c) / "cell.json").is_file()
        )
        with progress:
            for wave in waves:  # the second is supervised by what the first has trained
                for _ in make_shards(CellRunner(self.grid, self.out), wave, workers=workers, ray=ray, alone=True):
                    pass

    def results(self) -> list[dict[str, Any]]:
        """What is kept of each finished cell.

        Raises:
            ArtifactError: if none is finished.
        """
        paths = [folder_of(self.out, cell) / "cell.json" for cell in self.grid.cells()]
        found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
        if not found:
            raise ArtifactError(f"{self.out} holds no finished run yet; run the experiment first.")
        return found

    def _claim(self, cell: Cell) -> None:
        """Refuses to go on with what was begun with other settings."""
        path, settings = folder_of(self.out, cell) / "settings.json", settings_of(self.grid, cell)
        if not path.is_file():
            write_json(path, settings)
            return
        begun = json.loads(path.read_text(encoding="utf-8"))
        if digest(begun) != digest(json.loads(json.dumps(settings))):
            changed = [name for name, value in settings.items() if begun.get(name) != json.loads(json.dumps(value))]
            raise ConfigurationError(
                f"{path.parent} was begun with other settings ({', '.join(changed)}); choose another --out."
            )

    def _done(self, cell: Cell) -> int:
        try:
            curve = read_curve(folder_of(self.out, cell) / "state.json")
        except ArtifactError:  # the run itself will say so
            return 0
        return curve[-1].iterations if curve else 0


def _save(model: RAM, path: Path) -> None:
    with whole_file(path) as temporary:
        model.save(temporary)
