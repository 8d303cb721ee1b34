"""Making a judge: its networks trained on random histories and on those the oracle visits, in alternation."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import torch
from tqdm.auto import tqdm

from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.errors import JudgeNotFoundError
from glimpse_env.files import cache_folder, digest
from glimpse_env.judge import Judge, find_judge, judge_path
from glimpse_env.judge_training import (
    JudgePlan,
    NetworkTrainer,
    VisitedHistories,
    calibration_error,
    fit_temperatures,
    prefix_sums,
)
from glimpse_env.rollout import play
from oracles.oracle import BOEDOracle
from oracles.policies import default_oracle_config

logger = logging.getLogger(__name__)

PLANS: dict[str, JudgePlan] = {
    "birds": JudgePlan(passes=24, visited_images=2000, features=144, embedding=160),
    "mnist": JudgePlan(passes=6, visited_images=700, features=96, embedding=128),
    "digits": JudgePlan(passes=40, features=96, embedding=128, visited_images=500),
    "cub": JudgePlan(passes=60, features=144, embedding=160, visited_images=400, learning_rate=1e-3, weight_decay=0.1),
}
"""How the judge of each data set is trained by default."""


def ensure_judge(source: DataSource, *, scales: int = 1, seed: int = 0, command: str = "") -> Judge:
    """The judge that fits a data set, trained and kept in the cache where there is none."""
    try:
        return find_judge(source, scales)
    except JudgeNotFoundError:
        logger.info("No judge fits %s; training one.", source.name)
        judge = train_judge(source, PLANS.get(source.name, JudgePlan()), seed=seed, scales=scales, command=command)
        judge.save(judge_path(source, scales))
        return judge


def train_judge(source: DataSource, plan: JudgePlan, *, seed: int, scales: int = 1, command: str = "") -> Judge:
    """Trains, calibrates and scores a judge; a run that was stopped goes on from its last finished pass.

    Args:
        source: the data set.
        plan: how to train.
        seed: of all that is random.
        scales: windows a glimpse.
        command: what makes this judge again; kept in its card.
    """
    work = cache_folder() / "judge-training" / digest(source.name, source.fingerprint, scales, seed, vars(plan))
    trainers = []
    for fold in range(source.num_folds):
        trainer = NetworkTrainer(source, fold, plan, seed=seed, scales=scales)
        trainer.run(
            visit=lambda judge, k, rng: visited_histories(source, judge, k, plan, rng), checkpoint=work / f"{fold}.pt"
        )
        trainers.append(trainer)
    judge = calibrated(source, [trainer.provisional_judge() for trainer in trainers], plan, seed, command)
    shutil.rmtree(work, ignore_errors=True)
    return judge


def visited_histories(
    source: DataSource, judge: Judge, fold: int, plan: JudgePlan, rng: np.random.Generator
) -> VisitedHistories:
    """Where the oracle looks, under a judge of one network, on images that this network is trained on.

    The bank holds images of the fold that the network never saw, as in the oracle proper, and fewer of them.
    """
    train = source.load("train")
    unseen = np.flatnonzero(np.isin(train.folds, (fold, -1)))[:4000]
    bank = GlimpseDataset(
        name=train.name,
        split="train",
        images=np.asarray(train.images[unseen]),
        labels=np.asarray(train.labels[unseen]),
        folds=np.zeros(len(unseen), dtype=np.int64),
        class_names=train.class_names,
        part_names=train.part_names,
        parts=np.asarray(train.parts[unseen]),
        fingerprint=train.fingerprint,
    )
    fresh = source.judge_images(fold, rng)
    chosen = slice(0, plan.visited_images)
    looked_at = replace(
        bank,
        split="judge",
        images=fresh.images[chosen],
        labels=fresh.labels[chosen],
        parts=fresh.parts[chosen],
        folds=np.zeros(len(fresh.labels[chosen]), dtype=np.int64),
    )
    config = default_oracle_config(source)
    config = replace(config, completion=replace(config.completion, samples=40, short_list=500))
    oracle = BOEDOracle(bank, judge, config)
    rollouts = play(oracle, looked_at, judge, source.geometry, np.arange(len(looked_at)), scales=judge.card.scales)
    return VisitedHistories(looked_at.images, looked_at.labels, looked_at.parts, rollouts.locations)


def calibrated(source: DataSource, parts: list[Judge], plan: JudgePlan, seed: int, command: str) -> Judge:
    """One judge of several networks, each calibrated and scored on images it was not trained on.

    Half the held-out images fit the temperatures, the other half gives the scores, both on random histories.
    """
    train = source.load("train")
    temperatures: list[list[float]] = []
    scores: dict[str, list[np.ndarray]] = {"accuracy": [], "log_loss": [], "calibration_error": []}
    for k, part in enumerate(parts):
        rows = np.flatnonzero(np.isin(train.folds, (k, -1)))[: plan.heldout_images]
        rng = np.random.default_rng([seed, k, 2**31])
        log_probabilities, labels = _random_histories(part, train, rows, rng)
        half = len(rows) // 2
        temperatures.append(fit_temperatures(log_probabilities[:half], labels[:half]))
        logits = torch.from_numpy(log_probabilities[half:]) / torch.tensor(temperatures[-1])[:, None]
        probabilities = torch.softmax(logits, dim=-1).numpy()[:, 1:]  # (N, T, classes)
        target = labels[half:]
        true = np.take_along_axis(probabilities, target[:, None, None], axis=-1)[..., 0]
        scores["accuracy"].append((probabilities.argmax(-1) == target[:, None]).mean(0))
        scores["log_loss"].append(-np.log(true).mean(0))
        scores["calibration_error"].append(
            np.array([calibration_error(probabilities[:, t], target) for t in range(probabilities.shape[1])])
        )
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
def _random_histories(
    judge: Judge, dataset: GlimpseDataset, rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (N, T + 1, classes) after 0..T random glimpses of the images ``rows``, and their labels."""
    found = []
    for chunk in tqdm(np.array_split(rows, max(1, len(rows) // 64)), desc="held-out images", unit="batch", leave=False):
        random = rng.random((len(chunk), 1, len(judge.grid)))
        locations = random.argsort(axis=-1)[..., : judge.card.num_glimpses]
        images = np.asarray(dataset.images[chunk])
        summed = prefix_sums(judge.networks[0], images, locations, judge.grid, judge.card.scales)[:, 0]
        found.append(torch.log_softmax(judge.networks[0].logits(summed), dim=-1).numpy())
    return np.concatenate(found), np.asarray(dataset.labels[rows])
