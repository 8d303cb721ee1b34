"""When to stop looking: once the next glimpse is expected to tell too little (Harvey et al.).

After t glimpses the expected information gain of the next one is

    EIG_t = H[ p(theta | y_1:t, l_1:t) ] - min_l EPE(l)

over the locations l not yet seen. The rule stops as soon as EIG_t falls under a threshold.
"""

from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.assessment import entropy_of
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.sequences import judge_sequences
from glimpse_env.rollout import play
from oracles.boed.oracle import BOEDOracle

EPISODES_PER_CHUNK = 128
"""Episodes played at once."""


def expected_information_gain(entropy: np.ndarray, epe_map: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Returns EIG = H - min_l EPE(l) among the locations not seen.

    Args:
        entropy: (...,) nats, of the present posterior.
        epe_map: (..., L) nats, expected after a glimpse at each location.
        seen: (..., L) bool.

    Returns:
        (...,) nats. An exact posterior's is never negative; an estimate of it can be.
    """
    return entropy - np.where(seen, np.inf, epe_map).min(axis=-1)


def glimpses_used(signal: np.ndarray, threshold: float) -> np.ndarray:
    """Returns how many glimpses are taken by the rule that stops as soon as a signal is under a threshold.

    Args:
        signal: (N, T - 1), after 1..T - 1 glimpses: the expected information gain of the next, or the entropy. The
            first glimpse is always taken: before it all images are alike.
        threshold: in the unit of the signal.

    Returns:
        (N,) int64 in 1..T; with a higher threshold never more.
    """
    stops = np.concatenate([signal < threshold, np.ones((len(signal), 1), dtype=bool)], axis=1)
    return stops.argmax(axis=1).astype(np.int64) + 1


@dataclass(frozen=True)
class PlayedOut:
    """Episodes of T glimpses on N images, and what is known after each glimpse: the results of stopping there."""

    success: np.ndarray
    """(N, T) bool: whether the judge names the class after 1..T glimpses."""
    entropy: np.ndarray
    """(N, T) float64 nats: of the judge's posterior after 1..T glimpses."""
    gain: np.ndarray
    """(N, T - 1) float64 nats: the next glimpse's expected information gain after 1..T - 1 of them, present entropy and
    EPE both means over the judge's networks."""


def play_out(
    oracle: BOEDOracle,
    dataset: GlimpseDataset,
    judge: Judge,
    indices: np.ndarray,
    *,
    progress: bool = True,
) -> PlayedOut:
    """Plays all T glimpses on each of the images ``indices`` (N,).

    Raises:
        ConfigurationError: if the oracle's criterion is not in nats of entropy, or there is no glimpse to leave out.
    """
    if oracle.config.criterion not in ("entropy", "log_loss"):
        raise ConfigurationError(
            f"criterion={oracle.config.criterion!r} cannot be subtracted from an entropy; the stopping rule needs "
            "'entropy' or 'log_loss'."
        )
    if dataset.geometry.num_glimpses < 2:
        raise ConfigurationError(f"num_glimpses={dataset.geometry.num_glimpses} leaves none to save; play at least 2.")
    parts = []
    with tqdm(total=len(indices), desc="Episodes", unit="img", disable=not progress) as bar:
        for start in range(0, len(indices), EPISODES_PER_CHUNK):
            parts.append(_play_chunk(oracle, dataset, judge, indices[start : start + EPISODES_PER_CHUNK]))
            bar.update(len(parts[-1].success))
    return PlayedOut(
        success=np.concatenate([part.success for part in parts]),
        entropy=np.concatenate([part.entropy for part in parts]),
        gain=np.concatenate([part.gain for part in parts]),
    )


def _play_chunk(
    oracle: BOEDOracle,
    dataset: GlimpseDataset,
    judge: Judge,
    indices: np.ndarray,
) -> PlayedOut:
    maps = []
    rollouts = play(
        oracle,
        dataset,
        judge,
        indices,
        batch_size=EPISODES_PER_CHUNK,
        progress=False,
        start=lambda rows: oracle.start(dataset, rows),
        on_step=lambda _rows, _t, _policy: maps.append(np.array(oracle.last_maps)),
    )
    count, steps = rollouts.locations.shape
    folds = np.asarray(dataset.folds[indices])
    # network by network, as the EPE is a mean over networks and the entropy of their mean would be larger
    answers = np.stack(
        [
            judge_sequences(dataset, judge, indices, rollouts.corners, np.where(folds < 0, k, folds))
            for k in range(len(judge.networks))
        ]
    )  # (K, N, T, classes)
    success = answers.mean(axis=0).argmax(axis=-1) == rollouts.labels[:, None]
    present = entropy_of(answers).mean(axis=0)  # (N, T)
    gain = np.empty((count, steps - 1))
    seen = np.zeros((count, len(judge.grid)), dtype=bool)
    for t in range(1, steps):
        seen[np.arange(count), rollouts.locations[:, t - 1]] = True
        gain[:, t - 1] = expected_information_gain(present[:, t - 1], maps[t], seen)
    return PlayedOut(success, rollouts.entropy.astype(np.float64), gain)
