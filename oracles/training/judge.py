"""Makes a judge: its networks trained on random histories and on those the oracle visits, in alternation."""

import contextlib
import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import JudgeNotFoundError
from glimpse_env.files import cache_folder, digest, only_process
from glimpse_env.judge.judge import Judge, find_judge, judge_path, rows_for_network
from glimpse_env.rollout import play
from oracles.base import random_keys, random_part
from oracles.boed.completion import ImageBank
from oracles.boed.oracle import BOEDOracle
from oracles.presets import preset_of
from oracles.training.entries import FeatureEntries
from oracles.training.loop import only_maker, remove_checkpoints
from oracles.training.plans import JudgePlan
from oracles.training.posterior import (
    NetworkTrainer,
    VisitedHistories,
    calibration_error,
    fit_temperatures,
    prefix_sums,
    prefix_sums_of,
)

logger = logging.getLogger(__name__)


def ensure_judge(
    source: DataSource,
    encoder: str | None = None,
    *,
    seed: int = 0,
    command: str = "",
    device: torch.device | str = "cpu",
) -> Judge:
    """Returns the judge that fits a data set; where there is none it is trained and kept in the cache.

    Args:
        source: the data set.
        encoder: the judge's encoder of glimpses; None for the data set's own, see
            :func:`glimpse_env.judge.judge.find_judge`.
        seed, command: of the training.
        device: that the judge is trained on and moved to.
    """
    plan = preset_of(source, encoder).judge
    with contextlib.suppress(JudgeNotFoundError):
        judge = find_judge(source, encoder)
        remove_checkpoints(_checkpoints(source, plan, judge.card.seed), judge.networks)
        return judge.to(device)
    out = judge_path(source, plan.encoder)
    with only_process([out]):
        with contextlib.suppress(JudgeNotFoundError):  # another process may have made it meanwhile
            return find_judge(source, encoder).to(device)
        logger.info("No judge fits %s; training one.", source.name)
        return train_judge(source, plan, seed=seed, command=command, out=out, device=device)


def train_judge(
    source: DataSource,
    plan: JudgePlan,
    *,
    seed: int,
    command: str = "",
    out: Path | None = None,
    device: torch.device | str = "cpu",
) -> Judge:
    """Trains, calibrates and scores a judge; a run that was stopped goes on from its last finished pass.

    Where another process does the same already, it is waited for, and its judge returned.

    Args:
        source: the data set.
        plan: how to train.
        seed: of all that is random.
        command: command line that makes this judge again; kept in its card.
        out: file that it is saved to; None for none.
        device: that computes, and that the judge is on.

    Raises:
        StorageError: if the cache, or ``out``, cannot be written.
    """
    work = _checkpoints(source, plan, seed)
    visit = partial(visited_histories, source, plan)
    trainers = []
    if plan.start == source.name:
        ensure_judge(source.with_zooms((1,)), plan.encoder, seed=seed, device=device)
    with only_maker(work, out) as made:
        if made is not None:
            return Judge.load(made).to(device)
        for fold in range(source.num_folds):
            trainer = NetworkTrainer(source, fold, plan, seed=seed, visit=visit, device=device)
            trainer.run(work / f"{fold}.pt")
            trainers.append(trainer)
        judge = calibrated(source, [trainer.provisional_judge() for trainer in trainers], plan, seed, command)
        if out is not None:
            judge.save(out)
        shutil.rmtree(work, ignore_errors=True)  # not before it is saved
    return judge


def _checkpoints(source: DataSource, plan: JudgePlan, seed: int) -> Path:
    """Returns the folder of a training's checkpoints."""
    geometry = source.geometry
    zooms = [geometry.zooms] if len(geometry.zooms) > 1 else []
    key = digest(source.name, source.fingerprint, geometry.scales, seed, vars(plan), *zooms)
    return cache_folder() / "judge-training" / key


def visited_histories(
    source: DataSource, plan: JudgePlan, judge: Judge, fold: int, rng: np.random.Generator
) -> VisitedHistories:
    """Returns where the oracle looks, under a judge of one network, on images that this network is trained on."""
    frozen = judge.frozen
    if frozen is not None:
        entries = FeatureEntries(source, frozen, "judge")
        drawn = entries.draw(fold, rng, copies=False)
        drawn = drawn.take(np.arange(min(plan.visited_images, len(drawn))))
        locations = _oracle_locations(source, judge, fold, entries.dataset, drawn.images)
        return VisitedHistories(drawn.images, drawn.labels, drawn.parts, locations)
    fresh = source.judge_images(fold, rng)
    visited = fresh.take(np.arange(min(plan.visited_images, len(fresh))))
    looked_at = replace(source.load("train"), split="judge", **vars(visited))
    locations = _oracle_locations(source, judge, fold, looked_at, np.arange(len(visited)))
    return VisitedHistories(visited.images, visited.labels, visited.parts, locations)


def _oracle_locations(
    source: DataSource, judge: Judge, fold: int, dataset: GlimpseDataset, rows: np.ndarray
) -> np.ndarray:
    """Returns where the oracle looks on images of ``dataset`` under a judge of one network: (N, T) grid locations.

    As in episodes its bank holds images of the fold that the network never saw.
    """
    train = source.load("train")
    # as that network's own fold, since it is the only one of this judge
    bank = replace(train, folds=np.where(np.isin(train.folds, (fold, -1)), 0, 1))
    config = preset_of(source).boed
    size = min(4000, config.completion.bank_size)
    oracle = BOEDOracle(bank, judge, config, banks=[ImageBank(bank, judge, 0, size, cached=False)])
    looked_at = replace(dataset, folds=np.full(len(dataset), -1))
    return play(oracle, looked_at, judge, rows, start=lambda indices: oracle.start(looked_at, indices)).locations


def calibrated(source: DataSource, parts: list[Judge], plan: JudgePlan, seed: int, command: str) -> Judge:
    """Returns one judge of several networks, each calibrated and scored on images it was not trained on.

    Half the held-out images fit the temperatures, on random and on visited histories alike; the other half gives the
    scores, on each kind by itself.
    """
    train = source.load("train")
    temperatures: list[list[float]] = []
    scores: dict[str, list[np.ndarray]] = {}
    for k, part in enumerate(parts):
        rows = random_part(rows_for_network(k, train.folds), plan.heldout_images)
        rng = np.random.default_rng([seed, k, 2**31])
        random = _random_locations(rng, len(rows), part)
        visited = _oracle_locations(source, part, k, train, rows)
        # images of even places fit, the others score
        answers = [
            (_log_probabilities(part, train, rows[i::2], locations[i::2]), np.asarray(train.labels[rows[i::2]]))
            for i in (0, 1)
            for locations in (random, visited)
        ]
        temperatures.append(fit_temperatures(*(np.concatenate(both) for both in zip(*answers[:2], strict=True))))
        for kind, (log_probabilities, labels) in zip(("random", "visited"), answers[2:], strict=True):
            for name, values in _scores(log_probabilities, labels, temperatures[-1]).items():
                scores.setdefault(f"{kind}_{name}", []).append(values)
    card = replace(
        parts[0].card,
        num_networks=len(parts),
        temperatures=temperatures,
        seed=seed,
        splits=_split_notes(source),
        scores={name: [round(float(x), 4) for x in np.mean(values, axis=0)] for name, values in scores.items()},
        command=command,
    )
    return Judge([part.networks[0] for part in parts], card)


def _random_locations(rng: np.random.Generator, count: int, judge: Judge) -> np.ndarray:
    """Draws histories (count, T) int64 without repetition."""
    if len(judge.grid.levels) > 1:
        return random_keys(rng, (count,), judge.grid).argsort(axis=-1)[:, : judge.card.num_glimpses]
    return rng.random((count, len(judge.grid))).argsort(axis=-1)[:, : judge.card.num_glimpses]


def _scores(log_probabilities: np.ndarray, labels: np.ndarray, temperatures: list[float]) -> dict[str, np.ndarray]:
    """Returns accuracy, log-loss and calibration error (T,) of (N, T + 1, classes) at ``temperatures``."""
    logits = torch.from_numpy(log_probabilities) / torch.tensor(temperatures)[:, None]
    probabilities = torch.softmax(logits, dim=-1).numpy()[:, 1:]  # (N, T, classes)
    true = np.take_along_axis(probabilities, labels[:, None, None], axis=-1)[..., 0]
    return {
        "accuracy": (probabilities.argmax(-1) == labels[:, None]).mean(0),
        "log_loss": -np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean(0),
        "calibration_error": np.array(
            [calibration_error(probabilities[:, t], labels) for t in range(probabilities.shape[1])]
        ),
    }


def _split_notes(source: DataSource) -> dict[str, str]:
    if source.num_folds == 1:
        return {"trained": "judge", "calibrated": "train", "scored": "train", "judges": "train, val, test"}
    return {
        "trained": "train, all folds but k for network k",
        "calibrated": "train, fold k",
        "scored": "train, fold k",
        "judges": "train, each image by the network of its fold; val and test by the mean of all",
    }


@torch.inference_mode()
def _log_probabilities(judge: Judge, dataset: GlimpseDataset, rows: np.ndarray, locations: np.ndarray) -> np.ndarray:
    """Returns log p (N, T + 1, classes) after the first 0..T of ``locations`` (N, T) on images ``rows``."""
    network, answers = judge.networks[0], []
    table = None if judge.frozen is None else FeatureTable(dataset, judge.frozen)
    for chunk in np.array_split(np.arange(len(rows)), max(1, len(rows) // 64)):
        histories = locations[chunk][:, None]
        if table is None:
            images = np.asarray(dataset.images[rows[chunk]])
            summed = prefix_sums(network, images, histories, judge.grid, judge.card.scales)[:, 0]
        else:
            features = torch.from_numpy(table(rows[chunk, None], locations[chunk])).float()
            summed = prefix_sums_of(network, features, histories, judge.grid)[:, 0]
        answers.append(torch.log_softmax(network.logits(summed), dim=-1).cpu().numpy())
    return np.concatenate(answers)
