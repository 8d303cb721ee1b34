"""The loss of networks that look and classify: with S the episodes that are supervised by an image's sequence,

    mean_i CE_i  +  a mean_(i in S) sum_t -log pi(l_t | h_t-1)
                 +  b mean_(i not in S) sum_t -log pi(l_t | h_t-1) (R_i - b(h_t-1))  +  c mean (R_i - b(h_t-1))^2
                 -  e mean_(i not in S) sum_t H[ pi(. | h_t-1) ]

Episodes in S are fixed to the sequence and take no part in REINFORCE; the others sample (Harvey et al. 2019). All terms
are means, so that no weight depends on the batch's size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from agents.ram.minibatches import FREE, Minibatch


@dataclass(frozen=True)
class Weights:
    """Weights of the loss's terms relative to classification, whose weight is 1."""

    imitation: float = 0.2
    """a, weight of -log pi over the locations of a sequence, a mean over supervised images of the sum over t."""
    reinforce: float = 0.2
    """b, weight of the policy gradient's term, a mean over the other images of the sum over t."""
    baseline: float = 0.5
    """c, weight of (R - b(h_t))^2, a mean over the same images and t."""
    entropy: float = 0.001
    """e, weight of the locator's entropy in nats, a mean over the same images of the sum over t. RAM's own locator, a
    Gaussian of fixed width, never stops exploring; one over a grid soon looks at one place without this term, and the
    classifier overfits."""


@dataclass(frozen=True)
class Played:
    """What the network computes for B episodes, with gradients."""

    log_pi: Tensor
    """(B, T): log pi(l_t | h_t-1) of the locations taken."""
    entropies: Tensor
    """(B, T): H[pi(. | h_t-1)], nats."""
    log_q: Tensor | None
    """(B, T): log-probabilities of the locations by wake-sleep's proposal; None without."""
    values: Tensor
    """(B, T): b(h_t-1)."""
    logits: Tensor
    """(B, T, classes) of the classifier after each glimpse, or (B, 1, classes) after the last."""
    foreseen: Tensor | None
    """(B, T - 1): the entropies after the second to the last glimpse, each as expected a glimpse earlier."""
    labels: Tensor
    """(B,) int64."""
    returns: Tensor
    """(B,): the episodes' returns."""


def loss_terms(
    drawn: Minibatch, played: Played, weights: Mapping[str, float], control_variates: bool = False
) -> tuple[dict[str, Tensor], float | None]:
    """Returns the loss's terms by name, weighted, and wake-sleep's mean effective number of samples; None without.

    Args:
        drawn: the minibatch.
        played: what the network computes for it.
        weights: the fields of :class:`Weights`.
        control_variates: see :func:`_wake_sleep_terms`.
    """
    labels = played.labels[:, None].expand(played.logits.shape[:2])
    errors = F.cross_entropy(played.logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    last, errors = errors[:, -1], errors.mean(1)  # (B,)
    terms: dict[str, Tensor] = {}
    samples = None
    if played.log_q is not None:
        terms, samples = _wake_sleep_terms(
            drawn.group, played, errors, last, weights["imitation"], control_variates=control_variates
        )
        if control_variates:
            terms["entropy"] = -weights["entropy"] * played.entropies.sum(1).mean()
    else:
        terms["classification"] = errors.mean()
        supervised = torch.as_tensor(drawn.supervised, device=last.device)
        free = torch.as_tensor((drawn.given == FREE).all(1), device=last.device)
        if supervised.any():
            terms["imitation"] = -weights["imitation"] * played.log_pi[supervised].sum(1).mean()
        if free.any():
            values, returns = played.values[free], played.returns[free, None]
            advantages = (returns - values).detach()
            terms["reinforce"] = -weights["reinforce"] * (played.log_pi[free] * advantages).sum(1).mean()
            terms["entropy"] = -weights["entropy"] * played.entropies[free].sum(1).mean()
            terms["baseline"] = weights["baseline"] * (returns - values).square().mean()
    if played.foreseen is not None:
        entropies = torch.distributions.Categorical(logits=played.logits.detach()).entropy()
        terms["foresight"] = (played.foreseen - entropies[:, 1:]).square().mean()
    return terms, samples


def _wake_sleep_terms(
    group: int, played: Played, errors: Tensor, last: Tensor, imitation: float, *, control_variates: bool
) -> tuple[dict[str, Tensor], float]:
    """Returns the terms of WS-RAM (Ba et al. 2015) from M = ``group`` episodes a_m ~ q on each image,

        w_m = p(theta | a_m) p(a_m) / q(a_m), normalised over m;  -sum_m w_m [log p(theta, a_m) + log q(a_m)]

    with p(theta | a_m) the classifier's answer, whose -log is ``last`` (B,), and the mean effective number of samples.
    q learns by the same weights, its wake phase. With control variates p(a_m) learns by w_m - v_m and q(a_m) by
    w_m - 1 / M, where v_m = p(a_m) / q(a_m), normalised over m: the same expected gradients up to the bias of the
    normalised weights, with less noise, since E_p grad log p and E_q grad log q are 0.
    """
    assert played.log_q is not None
    log_pi, log_q = (log.sum(1).unflatten(0, (-1, group)) for log in (played.log_pi, played.log_q))  # (b, M)
    errors, last = (error.unflatten(0, (-1, group)) for error in (errors, last))
    weights = (-last + log_pi - log_q).detach().softmax(1)
    for_pi = for_q = weights
    if control_variates:
        for_pi, for_q = weights - (log_pi - log_q).detach().softmax(1), weights - 1 / group
    terms = {
        "classification": (weights * errors).sum(1).mean(),
        "prior": -imitation * (for_pi * log_pi).sum(1).mean(),
        "proposal": -imitation * (for_q * log_q).sum(1).mean(),
    }
    return terms, (1 / weights.square().sum(1)).mean().item()
