"""Expected posterior entropy, the score that Bayesian experimental design minimises, and other criteria."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from glimpse_env.judge.judge import Judge
from glimpse_env.registry import Registry

CriterionFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``criterion(log_probabilities (..., classes), labels (...) int64)`` gives (...) float32, lower is better."""


@dataclass(frozen=True)
class CriterionEntry:
    """What a criterion's name stands for."""

    function: CriterionFunction
    title: str
    """What it is called in pictures, with its unit."""


Horizon = Literal["next", "last"]
"""Glimpse after which the criterion counts: the ``next``, which is greedy BOED, or the ``last``, with those in between
chosen well, so that a glimpse may pay only later."""


def entropy(log_probabilities: Tensor) -> Tensor:
    """Returns -sum_c p_c log p_c in nats, (...), of log p (..., classes)."""
    p = log_probabilities.exp()
    # 0 log 0 is 0; a product is a third of the time of torch.special.entr, which takes a logarithm
    return -p.mul_(log_probabilities.clamp_min(torch.finfo(p.dtype).min)).sum(-1)


def log_loss(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Returns -log p_label in nats, (...), of log p (..., classes) and labels (...)."""
    return -log_probabilities.gather(-1, labels[..., None])[..., 0]


def error(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Returns 1 where the likeliest class of log p (..., classes) is not the label (...), else 0: (...)."""
    return (log_probabilities.argmax(-1) != labels).float()


def least_confidence(log_probabilities: Tensor) -> Tensor:
    """Returns 1 - max_c p_c, (...), of log p (..., classes): the error that the posterior itself expects."""
    return 1.0 - log_probabilities.amax(-1).exp()


CRITERIA: Registry[CriterionEntry] = Registry(
    "criterion",
    {
        "entropy": CriterionEntry(lambda log_probabilities, _labels: entropy(log_probabilities), "entropy, nats"),
        "log_loss": CriterionEntry(log_loss, "log-loss, nats"),
        "error": CriterionEntry(error, "error"),
        "least_confidence": CriterionEntry(
            lambda log_probabilities, _labels: least_confidence(log_probabilities), "posterior error"
        ),
    },
)
"""Criteria by name. ``entropy``: of the posterior, the paper's. ``log_loss``, ``error``: of the posterior against the
completions' labels. ``least_confidence``: the error that the posterior itself expects. Under an exact posterior the
first two expect the same, as the last two do."""


def register_criterion(name: str, function: CriterionFunction, title: str | None = None) -> None:
    """Adds a criterion for :class:`oracles.boed.oracle.OracleConfig` and the training of amortised oracles.

    Args:
        name: a word.
        function: see :data:`CriterionFunction`.
        title: what it is called in pictures, with its unit; default the name.

    Raises:
        ConfigurationError: if the name is taken.
    """
    CRITERIA.add(name, CriterionEntry(function, title or name))


def map_title(criterion: str, horizon: Horizon) -> str:
    """Returns what a map of the expected criterion is called in pictures, with its unit.

    A criterion that nothing has registered is called by its name: a card that somebody sent may name any module, and
    none is imported.
    """
    name = criterion.rpartition(":")[2]
    return f"{'Final' if horizon == 'last' else 'Expected'} {CRITERIA[name].title if name in CRITERIA else name}"


@torch.inference_mode()
def expected_criterion(
    judge: Judge,
    network: int,
    summed: Tensor,
    count: int,
    embeddings: Tensor,
    labels: Tensor,
    weights: Tensor,
    criterion: str = "entropy",
) -> Tensor:
    """Returns EPE(l) = sum_n w_n H[ p(theta | y_1:t, fovea(x_n, l)) ] for one history and every location l.

    Args:
        weights: (S,) that sum to one.
        judge, network, summed, count, embeddings, labels, criterion: see :func:`criterion_of_each`.

    Returns:
        (L,) float32, nats (or a probability, for ``error``); lower is better.
    """
    return weights @ criterion_of_each(judge, network, summed, count, embeddings, labels, criterion)


@torch.inference_mode()
def criterion_of_each(
    judge: Judge, network: int, summed: Tensor, count: int, embeddings: Tensor, labels: Tensor, criterion: str
) -> Tensor:
    """Returns H[ p(theta | y_1:t, fovea(x_n, l)) ] for one history, every completion x_n and every location l.

    The history keeps the glimpses that were seen; the completions x_n give the candidate's glimpse only.

    Args:
        judge: its network ``network`` gives the posterior.
        summed: (D,) sum of the embeddings of the t glimpses seen, or (S, 1, D), one for each completion.
        count: t.
        embeddings: (S, L, D) of the completions' glimpses at every location.
        labels: (S,) int64 of the completions.
        criterion: what is expected.

    Returns:
        (S, L) float32, nats (or 0 or 1, for ``error``).
    """
    log_probabilities = judge.class_log_probabilities(network, embeddings + summed, count + 1)  # (S, L, classes)
    return CRITERIA[criterion].function(log_probabilities, labels[:, None].expand(embeddings.shape[:2]))
