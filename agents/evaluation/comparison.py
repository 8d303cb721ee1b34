"""Policies on the same images: their evaluations, kept in a cache, and how they differ image by image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.evaluate import BATCH, Evaluation, cached, evaluate, joined
from agents.evaluation.statistics import Estimate, gap_closed, mean_difference
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.errors import ArtifactError
from glimpse_env.files import cache_folder, digest
from glimpse_env.judge.judge import Judge
from oracles.demonstrations import manifest_of
from oracles.entries import PolicyConfig
from oracles.registry import depends_on_network, ensure_policy, make_policy, peeks


def kept_evaluation(
    name: str,
    source: DataSource,
    judge: Judge,
    dataset: GlimpseDataset,
    indices: np.ndarray,
    *,
    config: PolicyConfig | None = None,
    folder: Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Returns the evaluation of a policy on images of a split, played at first use.

    Images of the training split are judged each by the network that was not trained on it, which alone an oracle may
    ask there.

    Args:
        name, source, judge, config: see :func:`oracles.registry.make_policy`.
        dataset: a split of the source.
        indices: (N,) int64, images of it.
        folder: folder where evaluations are kept; default in the cache, where runs and benchmarks share them.
        progress: whether to show a bar.
    """
    ensure_policy(name, source, judge, config)
    manifest = manifest_of(name, source, judge, len(indices), config=config)
    key = digest(manifest, dataset.split, indices, BATCH)
    folder = cache_folder() / "evaluations" if folder is None else folder

    def make() -> Evaluation:
        folds = np.asarray(dataset.folds[indices])
        if not depends_on_network(name, source, config):
            folds = np.full_like(folds, -1)
        parts = []
        for fold in np.unique(folds):
            policy = make_policy(name, source, judge, network=None if fold == -1 else int(fold), config=config)
            rows = np.flatnonzero(folds == fold)
            parts.append((rows, evaluate(policy, dataset, judge, indices[rows], name=name, progress=progress)))
        return joined(parts, indices)

    return cached(folder / f"{source.name}-{name.replace('/', '-')}-{key}.json", make)


@dataclass(frozen=True)
class Comparison:
    """A policy beside others image by image, with 95 % bootstrap intervals over images."""

    success: Estimate
    """Comparison of the success rates, as shares."""
    log_loss: Estimate
    """Comparison of the mean log-losses after the last glimpse, nats where it is a difference."""

    def to_json(self) -> dict[str, Any]:
        return {"success": self.success.to_json(), "log_loss": self.log_loss.to_json()}


def difference(ours: Evaluation, theirs: Evaluation) -> Comparison:
    """Returns one policy's results less another's; of success more is better, of log-loss less.

    Raises:
        ArtifactError: unless both are of the same images and judge.
    """
    for field in ("fingerprint", "split", "judge", "images"):
        if getattr(ours, field) != getattr(theirs, field):
            raise ArtifactError(
                f"{ours.policy} and {theirs.policy} differ in {field} ({getattr(ours, field)}, "
                f"{getattr(theirs, field)}) and cannot be compared image by image; evaluate both again."
            )
    return Comparison(
        mean_difference(ours.outcomes, theirs.outcomes), mean_difference(ours.final_log_loss, theirs.final_log_loss)
    )


def shares_closed(policy: Evaluation, fixed: Evaluation, clairvoyant: Evaluation) -> Comparison:
    """Returns the shares of the gap between the best fixed sequence and the clairvoyant policy that a policy closes."""
    three = (policy, fixed, clairvoyant)
    return Comparison(gap_closed(*(one.outcomes for one in three)), gap_closed(*(-one.final_log_loss for one in three)))


def standing(differences: Mapping[str, Comparison]) -> dict[str, dict[str, list[str]]]:
    """Ranks a policy among those that do not peek.

    Args:
        differences: the policy less each other.

    Returns:
        For success and log-loss the names of the others that it is ``above``, ``below``, or ``beside``, where the
        interval of the difference holds zero.
    """
    standings: dict[str, dict[str, list[str]]] = {}
    for measure, better in (("success", 1), ("log_loss", -1)):
        places: dict[str, list[str]] = {"above": [], "beside": [], "below": []}
        for name in (name for name in differences if not peeks(name)):
            estimate: Estimate = getattr(differences[name], measure)
            if estimate.low is None or estimate.high is None or estimate.low <= 0 <= estimate.high:
                places["beside"].append(name)
            else:
                places["above" if better * estimate.low > 0 else "below"].append(name)
        standings[measure] = places
    return standings
