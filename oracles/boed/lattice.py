"""Looking ahead with stopping as an option at each step: backward induction over sets of places, on completions.

After a history h the completions x_1..S stand for the image. Were it x_n, and the places A looked at next, then the
completions would weigh w_m(n, A), by how well their glimpses at A match those of x_n. With c the cost of a glimpse,

    V_n(A) = min( sum_m w_m(n, A) loss_m(A),  c + min_l sum_m w_m(n, A) V_m(A + l) )

where loss_m(A) is the criterion of the posterior after x_m's glimpses at A, and V_n(A) without the second term after
the last glimpse. Each set of places is valued once for each completion, in whichever order they would be looked at. It
is dynamic programming where the completions are the images of the world, of which those that show the same weigh alike.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """The sets of d of P places."""

    members: Tensor
    """(n, d) int64, places of each set."""
    following: Tensor
    """(n, P) int64, index among the sets of d + 1 places of the one with a further place; -1 if that is in already."""


@lru_cache(maxsize=64)
def levels(num_places: int, depth: int) -> tuple[Level, ...]:
    """Returns the sets of 0..depth of ``num_places`` places, by size; those of the last size have none following."""
    sets = [list(combinations(range(num_places), d)) for d in range(depth + 1)]
    found = []
    for d, of_size in enumerate(sets):
        index = {one: i for i, one in enumerate(sets[d + 1])} if d < depth else {}
        following = [
            [index.get(tuple(sorted({*one, place})), -1) if place not in one else -1 for place in range(num_places)]
            for one in of_size
        ]
        members = torch.tensor(of_size, dtype=torch.int64).reshape(len(of_size), d)
        found.append(Level(members, torch.tensor(following, dtype=torch.int64)))
    return tuple(found)


def backward(losses: list[Tensor], weights: list[Tensor], lattice: tuple[Level, ...], cost: float) -> Tensor:
    """Returns the values V_n({l}) of looking at each place first, (S, P); see the module's docstring.

    Args:
        losses: for each size d = 1..depth of sets, loss_m(A), (n_d, S).
        weights: the same, w_m(n, A), (n_d, S, S), rows n of which sum to one.
        lattice: what :func:`levels` returns.
        cost: c.
    """
    values: Tensor | None = None  # (n_d, S)
    for level, loss, weight in zip(reversed(lattice), reversed(losses), reversed(weights), strict=False):
        stop = (weight @ loss[..., None])[..., 0]
        if values is None:
            values = stop
            continue
        further = values[level.following.clamp_min(0)]  # (n_d, P, S)
        expected = weight @ further.transpose(1, 2)  # (n_d, S, P)
        best = expected.masked_fill((level.following < 0)[:, None], torch.inf).amin(-1)
        values = torch.minimum(stop, cost + best)
    assert values is not None
    return values.T
