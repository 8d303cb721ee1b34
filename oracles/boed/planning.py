"""Looking ahead with completions: all the glimpses that are left are planned at once, and one of them comes next."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glimpse_env.judge.judge import Judge
from oracles.boed.completion import ImageBank
from oracles.boed.criteria import expected_criterion

SHORT_LIST = 48
"""Locations tried beyond the first pass: those that were best in it."""
SWEEPS = 1
"""How often each planned glimpse is chosen again given the others."""


@dataclass(frozen=True)
class Completions:
    """Weighted completions of one history under one network of the judge."""

    bank: ImageBank
    summed: Tensor
    """(1, D), or one for each completion (S, D): sum of the embeddings of the glimpses of the history."""
    samples: Tensor
    """(S,) int64, entries of the bank."""
    weights: Tensor
    """(S,) that sum to one."""


def planned_map(
    judge: Judge, completions: list[Completions], seen: np.ndarray, num_glimpses: int, criterion: str
) -> np.ndarray:
    """The criterion expected after the last glimpse for each location that could come next, the others as planned.

    An open-loop plan: locations are chosen one after another, each the best given those before, then each again given
    all others, as the best fixed sequence is, but for the weighted completions of one history instead of all images.
    Of the plan the location that tells most by itself comes next; the map is that of its choice given the others, and
    where it is planned anew after each glimpse the policy is never worse than the plan it began with.

    Args:
        judge: whose criterion.
        completions: one a network asked; the criterion is their mean.
        seen: (t,) int64, locations looked at.
        num_glimpses: T > t.
        criterion: what is expected.

    Returns:
        (L,) float32; where a location was not worth a try, the highest value found.
    """
    count, places = len(seen), len(judge.grid)
    tried = torch.arange(places)
    tables = [part.bank.embeddings[part.samples].float() for part in completions]

    def expected(plan: list[int], glimpses: int) -> Tensor:
        """The criterion (L,) after the plan and one more glimpse at each location, ``glimpses`` in all."""
        total = torch.full((places,), torch.inf)
        scores = torch.zeros(len(tried))
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
    tried = first.topk(min(SHORT_LIST, places), largest=False).indices
    plan = [int(first.argmin())]
    while count + len(plan) < num_glimpses:
        plan.append(int(expected(plan, count + len(plan) + 1).argmin()))
    for _ in range(SWEEPS if len(plan) > 1 else 0):
        for i in range(len(plan)):
            others = plan[:i] + plan[i + 1 :]
            plan[i] = int(expected(others, num_glimpses).argmin())
    following = min(plan, key=lambda location: float(first[location]))
    found = expected([location for location in plan if location != following], num_glimpses)
    return found.where(found.isfinite(), found[found.isfinite()].max()).numpy()
