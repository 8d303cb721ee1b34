"""What all glimpses of an episode tell of the class: the exact information in toy worlds, and contrastive bounds.

With h the glimpses of an episode of a policy that sees nothing else, of which its locations follow,

    I(theta; h) = H(theta) - E H[ p(theta | h) ]

Where a likelihood p(h | theta) is known, contrasts theta_1..L drawn from the prior bound it from both sides (Foster et
al., arXiv 2103.02438), log means over them with and without the theta_0 that made h:

    sPCE = E[ log p(h | theta_0) - log 1/(L+1) sum_{l=0..L} p(h | theta_l) ] <= min(I, log(L + 1))
    sNMC = E[ log p(h | theta_0) - log 1/L     sum_{l=1..L} p(h | theta_l) ] >= I

and both go to I as L grows. Of images the likelihood is unknown; any judge q gives Barber and Agakov's lower bound
H(theta) + E log q(theta | h), whose gap is E KL(p || q): zero for the exact posterior.
"""

import numpy as np
from scipy.special import logsumexp

from glimpse_env.checks import whole_number
from oracles.base import GlimpsePolicy
from oracles.validation.optimal import AnytimeProblem
from oracles.validation.toy_world import History, ToyWorld


def total_information(problem: AnytimeProblem, policy: GlimpsePolicy) -> float:
    """Returns I(theta; h) of a policy's episodes in nats, by enumeration of all that it may see.

    Args:
        problem: with any criterion; the cost of glimpses does not count.
        policy: see :meth:`AnytimeProblem.walk`.
    """
    problem = AnytimeProblem(problem.world, problem.num_glimpses, 0.0, "entropy")
    return problem.world.present([], "entropy") - problem.worth(policy).loss


def class_log_likelihoods(world: ToyWorld, history: History) -> np.ndarray:
    """Returns log p(h | theta) up to what the policy chose, (classes,) float64; -inf where a class never shows h."""
    causes = np.ones(len(world.labels))
    for place, value in dict.fromkeys(history):
        causes = causes * world.likelihood[:, place, value]
    sums = np.bincount(world.labels, weights=causes, minlength=world.num_classes)
    with np.errstate(divide="ignore"):
        return np.log(sums / np.bincount(world.labels, minlength=world.num_classes))


def contrastive_samples(
    problem: AnytimeProblem, policy: GlimpsePolicy, *, rollouts: int, contrasts: int, rng: np.random.Generator
) -> np.ndarray:
    """Plays episodes and draws classes to contrast each with.

    Args:
        problem, policy: see :meth:`AnytimeProblem.walk`.
        rollouts: R, at least 1.
        contrasts: L, at least 1.
        rng: draws images and contrasts.

    Returns:
        (R, 1 + L) float64: log p(h | theta_0) of the class that made h, then of L classes drawn from the prior.
    """
    whole_number("rollouts", rollouts, 1)
    whole_number("contrasts", contrasts, 1)
    world = problem.world
    values, labels = world.draw(rollouts, rng)
    histories: list[History] = [[] for _ in range(rollouts)]
    for _ in range(problem.num_glimpses):
        actions, _ = policy.predict(problem.observation(histories))
        for history, seen, action in zip(histories, values, actions.tolist(), strict=True):
            if action < world.num_places:  # else it stops
                history.append((action, int(seen[action])))
    likelihoods = np.stack([class_log_likelihoods(world, history) for history in histories])
    drawn = np.concatenate([labels[:, None], rng.choice(world.labels, (rollouts, contrasts))], axis=1)
    return np.take_along_axis(likelihoods, drawn, axis=1)


def spce(samples: np.ndarray) -> np.ndarray:
    """Returns the terms (R,) of the lower bound sPCE, of which the mean is to be taken, from ``samples`` (R, 1 + L) of
    :func:`contrastive_samples`."""
    return samples[:, 0] - logsumexp(samples, axis=1) + np.log(samples.shape[1])


def snmc(samples: np.ndarray) -> np.ndarray:
    """Returns the terms (R,) of the upper bound sNMC; infinite where no contrast can show what was seen."""
    return samples[:, 0] - logsumexp(samples[:, 1:], axis=1) + np.log(samples.shape[1] - 1)
