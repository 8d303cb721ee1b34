"""Expected posterior entropy, the score that Bayesian experimental design minimises, and its relatives."""

from typing import Literal, get_args

import torch
from torch import Tensor

from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge

Criterion = Literal["entropy", "log_loss", "error"]
"""``entropy``: of the posterior, the paper's. ``log_loss``, ``error``: of it against the completions' labels."""

Horizon = Literal["next", "last"]
"""When the criterion counts: after the ``next`` glimpse, as greedy BOED has it, or after the ``last`` one, the glimpses
between them chosen well: then looking for what only pays later pays."""


def entropy(log_probabilities: Tensor) -> Tensor:
    """-sum_c p_c log p_c in nats of (..., classes): (...)."""
    p = log_probabilities.exp()
    # 0 log 0 is 0; a product is a third of the time of torch.special.entr, which takes a logarithm
    return -p.mul_(log_probabilities.clamp_min(torch.finfo(p.dtype).min)).sum(-1)


def map_title(criterion: Criterion, horizon: Horizon) -> str:
    """What a map of the expected criterion is called in pictures, with its unit."""
    named = {"entropy": "entropy", "log_loss": "log-loss", "error": "error"}[criterion]
    return f"{'Final' if horizon == 'last' else 'Expected'} {named}{'' if criterion == 'error' else ', nats'}"


def criterion_of(log_probabilities: Tensor, labels: Tensor, criterion: Criterion) -> Tensor:
    """The criterion of posteriors (..., classes), against ``labels`` (...,) int64 except for the entropy: (...).

    Raises:
        ConfigurationError: if there is no such criterion.
    """
    if criterion == "entropy":
        return entropy(log_probabilities)
    if criterion == "log_loss":
        return -log_probabilities.gather(-1, labels[..., None])[..., 0]
    if criterion == "error":
        return (log_probabilities.argmax(-1) != labels).float()
    raise ConfigurationError(f"criterion={criterion!r} must be one of {', '.join(get_args(Criterion))}.")


@torch.inference_mode()
def expected_criterion(
    judge: Judge,
    network: int,
    summed: Tensor,
    count: int,
    embeddings: Tensor,
    labels: Tensor,
    weights: Tensor,
    criterion: Criterion = "entropy",
) -> Tensor:
    """EPE(l) = sum_n w_n H[ p(theta | y_1:t, fovea(x_n, l)) ] for one history and every location l.

    The history keeps the glimpses really seen; from the completions x_n comes the candidate's glimpse only.

    Args:
        judge: whose network ``network`` is asked.
        summed: (D,) sum of the embeddings of the t glimpses seen, or (S, 1, D), one for each completion.
        count: t.
        embeddings: (S, L, D) of the completions' glimpses at every location.
        labels: (S,) int64 of the completions.
        weights: (S,) that sum to one.
        criterion: what is expected.

    Returns:
        (L,) float32, nats (or a probability, for ``error``); lower is better.
    """
    log_probabilities = judge.class_log_probabilities(network, embeddings + summed, count + 1)  # (S, L, classes)
    return weights @ criterion_of(log_probabilities, labels[:, None].expand(embeddings.shape[:2]), criterion)
