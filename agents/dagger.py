"""DAgger (Ross et al. 2011): the oracle is asked where the agent that learns from it gets to.

Demonstrations show what the oracle does where the oracle gets to; an agent that errs gets elsewhere. In round i of R
episodes on new images act by the oracle with probability beta_i at each step, else by the agent that learned from the
rounds before. The oracle's map is kept at every state on the way, whoever acts, and what the agent learns from is

    q(l | s) = softmax(-EPE(l | s) / temperature)

at all these states: the result are demonstrations like others, whose locations are those that were looked at.
"""

import inspect
import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from glimpse_env.checks import one_of, whole_number
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.rollout import Policy
from oracles.demonstrations import Demonstrations, manifest_of
from oracles.registry import depends_on_network, ensure_policy, make_policy

logger = logging.getLogger(__name__)

Schedule = Literal["linear", "first"]
"""Schedules of beta: a straight fall from 1 in the first round to 0 in the last, or 1 in the first and 0 in others."""
EPISODES_PER_BATCH = 128
"""Episodes that are played together, at most."""


def betas(rounds: int, schedule: Schedule = "linear") -> np.ndarray:
    """Returns (rounds,) float64: the probability in each round that the oracle acts; 1 in the first.

    Raises:
        ConfigurationError: if there is no such schedule, or ``rounds`` is below 1.
    """
    whole_number("rounds", rounds, 1)
    one_of("schedule", schedule, ("linear", "first"))
    if schedule == "linear":
        return np.linspace(1.0, 0.0, rounds)
    return (np.arange(rounds) == 0).astype(np.float64)


def dagger(
    source: DataSource,
    judge: Judge,
    num: int,
    teach: Callable[[Demonstrations], Policy],
    *,
    oracle: str = "oracle",
    observation: str = "history",
    rounds: int = 4,
    schedule: Schedule = "linear",
    seed: int = 0,
) -> Demonstrations:
    """Returns ``num`` sequences with the oracle's map at each of their ``num * T`` states.

    Images are those, in the order, of :func:`oracles.demonstrations.generate` with this seed; each is looked at with
    the oracle and the judge that never saw it.

    Args:
        source: the data set.
        judge: its judge.
        num: sequences, one a training image.
        teach: returns an agent that has learned from demonstrations; called once before each round but the first, with
            those of all rounds so far.
        oracle: policy that is asked, one of :data:`oracles.registry.POLICIES` that has maps.
        observation: what the agent observes.
        rounds: R, in 1..num; 1 makes the oracle's own demonstrations.
        schedule: of beta.
        seed: seed of the images, and of who acts.

    Raises:
        ConfigurationError: if a number is out of range or the policy has no maps.
    """
    train = source.load("train")
    if not 1 <= num <= len(train):
        raise ConfigurationError(f"num={num} must lie in 1..{len(train)}, the number of images of {source.name}/train.")
    whole_number("rounds", rounds, 1, num)
    ensure_policy(oracle, source, judge)
    images = np.random.default_rng([seed, 7]).permutation(len(train))[:num]
    manifest = manifest_of(oracle, source, judge, num, seed=seed) | {
        "policy": "dagger",
        "asked": oracle,
        "rounds": rounds,
        "schedule": schedule,
    }
    parts: dict[str, np.ndarray] = {}
    for number, (beta, some) in enumerate(zip(betas(rounds, schedule), np.array_split(images, rounds), strict=True)):
        agent = teach(Demonstrations(manifest=manifest, **parts)) if number else None
        rng = np.random.default_rng([seed, 8, number])
        made = _play_round(source, train, judge, some, oracle, agent, float(beta), observation, rng)
        parts = {name: np.concatenate([parts[name], values]) if parts else values for name, values in made.items()}
        logger.info("DAgger, round %d of %d: %d sequences, beta %.2f", number + 1, rounds, len(some), beta)
    return Demonstrations(manifest=manifest, **parts)


def _play_round(
    source: DataSource,
    train: GlimpseDataset,
    judge: Judge,
    images: np.ndarray,
    oracle: str,
    agent: Policy | None,
    beta: float,
    observation: str,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Returns the arrays of :class:`Demonstrations` of episodes on ``images`` (n,)."""
    steps, places, count = source.geometry.num_glimpses, len(source.geometry.grid), len(images)
    locations, entropies = np.empty((count, steps), dtype=np.int64), np.empty((count, steps), dtype=np.float32)
    epe = np.empty((count, steps, places), dtype=np.float16)
    oracle_acts = rng.random((count, steps)) < beta
    folds = train.folds[images]
    takes_masks = agent is not None and "action_masks" in inspect.signature(agent.predict).parameters
    for fold in np.unique(folds):
        network = int(fold) if fold >= 0 and depends_on_network(oracle, source) else None
        policy = make_policy(oracle, source, judge, network=network)
        of_fold = np.flatnonzero(folds == fold)
        for rows in np.split(of_fold, range(EPISODES_PER_BATCH, len(of_fold), EPISODES_PER_BATCH)):
            seen = EpisodeBatch(train, judge, len(rows))  # as the oracle observes them, and
            shown = EpisodeBatch(train, judge, len(rows), observation=observation, posterior_info=False)  # the agent
            histories, observations = seen.begin(images[rows])[0], shown.begin(images[rows])[0]
            state, memory = policy.start(train, images[rows]), None
            for t in range(steps):
                begins = np.full(len(rows), t == 0)
                taken, state = policy.predict(histories, state, begins)
                if policy.last_maps is None:
                    raise ConfigurationError(f"oracle={oracle!r} has no maps to learn from; take one that has.")
                epe[rows, t] = policy.last_maps
                if agent is not None:
                    masks: Any = {"action_masks": shown.action_masks()} if takes_masks else {}
                    chosen, memory = agent.predict(observations, memory, begins, True, **masks)
                    taken = np.where(oracle_acts[rows, t], taken, chosen)
                locations[rows, t] = taken
                transition = seen.step(taken)
                histories, observations = transition.observations, shown.step(taken).observations
                assert transition.assessment is not None
                entropies[rows, t] = transition.assessment.entropy
    return {"indices": images, "locations": locations, "entropies": entropies, "epe": epe}
