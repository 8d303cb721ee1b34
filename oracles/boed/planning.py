"""Looking ahead with completions: all the glimpses that are left are planned at once, and one of them comes next."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glimpse_env.judge.judge import Judge
from oracles.boed.completion import ImageBank
from oracles.boed.criteria import CRITERIA, expected_criterion

TRIED_LOCATIONS = 48
"""Locations tried after the first pass: those that were best in it."""
SWEEPS = 1
"""Times that each planned glimpse is chosen again given the others."""


@dataclass(frozen=True)
class Completions:
    """Weighted completions of one history under one network of the judge."""

    bank: ImageBank
    summed: Tensor
    """(1, D), or (S, D) with one for each completion: sum of the embeddings of the history's glimpses."""
    samples: Tensor
    """(S,) int64, entries of the bank."""
    weights: Tensor
    """(S,) that sum to one."""
    distances: Tensor
    """(S,) squared distances of the completions' glimpses from those seen, summed over the glimpses."""


@torch.inference_mode()
def present_criterion(judge: Judge, part: Completions, count: int, criterion: str) -> Tensor:
    """Returns the criterion () of the posterior after the ``count`` glimpses seen, against the completions' labels."""
    labels = part.bank.labels[part.samples]
    log_probabilities = judge.class_log_probabilities(part.bank.network, part.summed, count)
    return part.weights @ CRITERIA[criterion].function(log_probabilities.expand(len(labels), -1), labels)


def planned_map(
    judge: Judge, completions: list[Completions], seen: np.ndarray, num_glimpses: int, criterion: str
) -> np.ndarray:
    """Returns the criterion expected after the last glimpse, for each location that could come next.

    The plan is open-loop: locations are chosen one after another, each the best given those before, then each again
    given all others, as for the best fixed sequence, but on the weighted completions of one history instead of all
    images. The next location is the one of the plan with the lowest criterion by itself, and the map is that of its
    choice given the others. Planned anew after each glimpse, the policy is never worse than its first plan.

    Args:
        judge: gives the criterion.
        completions: one per network; the criterion is their mean.
        seen: (t,) int64, locations looked at.
        num_glimpses: T > t.
        criterion: one of :data:`oracles.boed.criteria.CRITERIA`.

    Returns:
        (L,) float32; for locations that were not tried, the highest value of those that were.
    """
    count, places = len(seen), len(judge.grid)
    tried = torch.arange(places, device=judge.device)
    tables = [part.bank.embedded(part.samples) for part in completions]

    def expected(plan: list[int], glimpses: int) -> Tensor:
        """Returns the criterion (L,) after the plan and one more glimpse at each location, ``glimpses`` in all."""
        total = torch.full((places,), torch.inf, device=judge.device)
        scores = torch.zeros(len(tried), device=judge.device)
        for part, table in zip(completions, tables, strict=True):
            history = part.summed[:, None] + table[:, plan].sum(1, keepdim=True)  # (S, 1, D)
            scores += expected_criterion(
                judge,
                part.bank.network,
                history,
                glimpses - 1,
                table[:, tried],
                part.bank.labels[part.samples],
                part.weights,
                criterion,
            )
        total[tried] = scores / len(completions)
        total[[*seen, *plan]] = torch.inf
        return total

    first = expected([], count + 1)
    tried = first.topk(min(TRIED_LOCATIONS, places), largest=False).indices
    plan = [int(first.argmin())]
    while count + len(plan) < num_glimpses:
        plan.append(int(expected(plan, count + len(plan) + 1).argmin()))
    for _ in range(SWEEPS if len(plan) > 1 else 0):
        for i in range(len(plan)):
            others = plan[:i] + plan[i + 1 :]
            plan[i] = int(expected(others, num_glimpses).argmin())
    following = min(plan, key=lambda location: float(first[location]))
    planned = expected([location for location in plan if location != following], num_glimpses)
    return planned.where(planned.isfinite(), planned[planned.isfinite()].max()).cpu().numpy()
