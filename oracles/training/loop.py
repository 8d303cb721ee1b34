"""The loop in which judges' networks and amortised oracles' are trained: optimiser, schedule, checkpoints, progress."""

import logging
import pickle
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from glimpse_env.errors import ArtifactError
from glimpse_env.files import card_path, check_writable, only_process, whole_file
from oracles.training.plans import JudgePlan, ScorerPlan

logger = logging.getLogger(__name__)

FAST_FACTOR = 10.0
"""Learning rate of the fast parameters, in multiples of the others'."""
MAX_GRADIENT_NORM = 5.0
"""Norm to which gradients are clipped."""


@contextmanager
def only_maker(work: Path, out: Path | None) -> Iterator[Path | None]:
    """Runs a training while no other process runs the same one.

    Args:
        work: folder of its checkpoints.
        out: file that the result is saved to, if any.

    Yields:
        ``out`` where another process has made it while this one waited; None where it is to be made.

    Raises:
        StorageError: if one of both cannot be written.
    """
    check_writable(work, folder=True)
    if out is not None:
        check_writable(out)
        card_path(out)
    before = _written(out)
    with only_process([work]) as waited:
        yield out if waited and _written(out) not in (None, before) else None


def _written(out: Path | None) -> tuple[int, int] | None:
    """Returns what changes when an artefact is written, whose card comes last; None where there is none."""
    card = None if out is None else out.with_suffix(".json")
    if card is None or not card.is_file():
        return None
    status = card.stat()
    return status.st_mtime_ns, status.st_ino


def remove_checkpoints(work: Path, networks: Sequence[nn.Module]) -> None:
    """Removes the folder of a training's checkpoints where they are of these finished networks: a process leaves it
    that dies between saving an artefact and removing it."""
    for fold, network in enumerate(networks):
        try:
            kept = torch.load(work / f"{fold}.pt", weights_only=True, map_location="cpu")["network"]
        except (OSError, *DAMAGES):
            return
        finished = network.state_dict()
        if kept.keys() != finished.keys() or not all(  # artefacts may be saved in half precision
            torch.equal(kept[name].half(), finished[name].half().cpu()) for name in kept
        ):
            return
    shutil.rmtree(work, ignore_errors=True)


DAMAGES = (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError)
"""Errors of reading a damaged checkpoint."""

Network = TypeVar("Network", bound=nn.Module)
Plan = TypeVar("Plan", JudgePlan, ScorerPlan)


def one_cycle(progress: float, warm_up: float = 0.05) -> float:
    """Returns the share of the peak learning rate at ``progress`` in [0, 1]: a linear rise, then half a cosine down to
    zero."""
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1.0 + float(np.cos(np.pi * (progress - warm_up) / (1.0 - warm_up))))


class TrainingLoop(ABC, Generic[Network, Plan]):
    """Trains network ``fold`` of a judge or an oracle, stage by stage; the state after each stage can be saved.

    The random numbers of a stage depend on (seed, fold, done) only, so a resumed run ends like one that was not
    stopped.

    Attributes:
        network: the one that is trained.
        done: how much of ``total`` was trained on, in ``unit``.
    """

    unit: ClassVar[str]
    """What ``done`` and ``total`` count, in the plural."""

    def __init__(
        self, network: Network, plan: Plan, *, total: int, fold: int, seed: int, fast: Sequence[nn.Parameter] = ()
    ):
        """
        Args:
            network: to train; its parameters without ``requires_grad`` stay as they are.
            plan: gives learning rate and weight decay.
            total: where training ends, in :attr:`unit`.
            fold: k.
            seed: of all that is random.
            fast: parameters that learn :data:`FAST_FACTOR` times as fast, without weight decay.
        """
        self.network, self.total, self.fold, self.seed = network, total, fold, seed
        self.plan: Plan = plan
        trained = [p for p in network.parameters() if p.requires_grad and all(p is not other for other in fast)]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": plan.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if fast:
            groups.append({"params": list(fast), "weight_decay": 0.0, "factor": FAST_FACTOR})
        self.optimiser = torch.optim.AdamW(groups, lr=plan.learning_rate)
        self.done = 0

    @property
    @abstractmethod
    def title(self) -> str:
        """What is trained, for the progress bar."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """All that training depends on, as text; a checkpoint of another identity is refused."""

    @abstractmethod
    def stage(self, rng: np.random.Generator) -> Iterator[tuple[int, dict[str, str]]]:
        """Trains up to the next checkpoint; yields how much was done since the last time, and figures to show."""

    def run(self, checkpoint: Path | None = None, *, stop: Event | None = None) -> None:
        """Trains to the plan's end, or until ``stop`` is set.

        Args:
            checkpoint: file to go on from where there is one, saved after every stage; None for none.
            stop: set by another thread to end this run early.

        Raises:
            ArtifactError: if the checkpoint is another run's.
            StorageError: if there is no room for it.
        """
        if checkpoint is not None and checkpoint.is_file():
            self.restore(checkpoint)
        with tqdm(
            total=self.total,
            initial=self.done,
            desc=self.title,
            unit=self.unit,
            position=None if stop is None else self.fold,
        ) as bar:
            while self.done < self.total:
                for amount, figures in self.stage(np.random.default_rng([self.seed, self.fold, self.done])):
                    self.done += amount
                    bar.set_postfix(figures, refresh=False)
                    bar.update(amount)
                    if stop is not None and stop.is_set():
                        return
                    if self.done >= self.total:
                        break
                if checkpoint is not None:
                    self.save(checkpoint)
        self.network.eval().requires_grad_(False)

    def descend(self, loss: Tensor, progress: float) -> None:
        """Takes one step of the optimiser against the gradient of ``loss``, at ``progress`` in [0, 1]."""
        for group in self.optimiser.param_groups:
            group["lr"] = group.get("factor", 1.0) * self.plan.learning_rate * one_cycle(progress)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimiser.step()

    def save(self, path: Path) -> None:
        """Writes the checkpoint ``path``."""
        with whole_file(path) as temporary, temporary.open("wb") as file:
            torch.save(
                {
                    "network": self.network.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    f"{self.unit}_done": self.done,
                    "identity": self.identity,
                    **self.further_state(),
                },
                file,  # not its path, whose name would be in the file
            )

    def restore(self, path: Path) -> None:
        """Goes back to the state of the checkpoint ``path``; one that is damaged counts as none, which is said.

        Raises:
            ArtifactError: if it is another run's.
        """
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            identity = state["identity"]
        except DAMAGES as error:
            logger.warning("The checkpoint %s is damaged (%s); that training begins again.", path, error)
            return
        if identity != self.identity:
            raise ArtifactError(
                f"the checkpoint {path} belongs to another data set, judge or plan; delete it to start afresh."
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state[f"{self.unit}_done"]
        self.restore_further(state)

    def further_state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps beside network, optimiser and progress: tensors and plain values."""
        return {}

    def restore_further(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`further_state` gave."""
