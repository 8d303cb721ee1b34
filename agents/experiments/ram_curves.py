"""The validations of a run of the paper's experiment: curves by way of testing, convergence, and when a run ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agents.experiments.ram_tasks import RamCriterion, RamTask
from agents.ram.rollouts import WAYS, Answers
from glimpse_env.checks import content_of
from glimpse_env.errors import ArtifactError
from glimpse_env.files import read_json

FIGURES = {"accuracy", "cross_entropy"}
"""Figures of each way of testing."""
TOLERANCE = 0.01
"""Distance from the best validation at which a run counts as converged: of accuracy, or nats of cross-entropy."""


@dataclass(frozen=True)
class Validation:
    """Figures of the network on validation images."""

    iterations: int
    """Iterations of training so far."""
    accuracy: float
    cross_entropy: float
    """Mean cross-entropy in nats."""
    seconds: float
    """Wall time of training so far, without validations."""
    ways: dict[str, dict[str, float]] = field(default_factory=dict)
    """``accuracy`` and ``cross_entropy`` by way of testing, a key of :data:`WAYS`, but for argmax, whose are those
    above; none in runs that were begun before there were other ways."""


def curve_by(curve: Sequence[Validation], way: str) -> list[Validation]:
    """Returns the validations with the figures of one way of testing in place of argmax's; none where a validation
    lacks them."""
    if way == "argmax" or not all(way in point.ways for point in curve):
        return list(curve) if way == "argmax" else []
    figures = [(point.ways[way]["accuracy"], point.ways[way]["cross_entropy"]) for point in curve]
    return [Validation(point.iterations, *two, point.seconds) for point, two in zip(curve, figures, strict=True)]


def convergence(curve: Sequence[Validation], criterion: RamCriterion, tolerance: float = TOLERANCE) -> int:
    """Returns the iterations up to the first validation that is within ``tolerance`` of the best."""
    best = getattr(curve[best_of(curve, criterion)], criterion)
    return next(point.iterations for point in curve if abs(getattr(point, criterion) - best) <= tolerance + 1e-12)


def best_of(curve: Sequence[Validation], criterion: RamCriterion) -> int:
    """Returns the index of the best validation, the first of equals."""
    scores = [getattr(point, criterion) for point in curve]
    return int(np.argmax(scores) if criterion == "accuracy" else np.argmin(scores))


def exhausted(curve: Sequence[Validation], task: RamTask) -> bool:
    """Returns whether the best validation, by each way of testing, is as old as :attr:`RamTask.patience`."""
    if not curve or task.patience is None:
        return False
    curves = [found for way in WAYS if (found := curve_by(curve, way))]
    best = max(one[best_of(one, task.criterion)].iterations for one in curves)
    return curve[-1].iterations - best >= task.patience


def figures_of(answers: Answers) -> dict[str, float]:
    """Returns ``accuracy`` and ``cross_entropy``, the mean in nats."""
    return {"accuracy": float(answers.success.mean()), "cross_entropy": float(answers.log_loss.mean())}


def read_curve(path: Path) -> list[Validation]:
    """Reads the validations so far of the run whose state is at ``path``; none where there is no file.

    Raises:
        ArtifactError: if it cannot be read.
    """
    if not path.is_file():
        return []
    try:
        curve = [Validation(**content_of(Validation, point)) for point in read_json(path)["curve"]]
        if wrong := [way for point in curve for way, own in point.ways.items() if own.keys() != FIGURES]:
            raise ArtifactError(f"the figures of {wrong[0]} are not {', '.join(sorted(FIGURES))}")
        return curve
    except (ArtifactError, TypeError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read ({error!r}); delete its folder to begin that run again.") from error
