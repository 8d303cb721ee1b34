"""Where to look, and until when, in a toy world: solved exactly, and any policy's worth in it computed exactly.

With c the cost of a glimpse and T the most there may be, after a history h of t glimpses

    V(h) = min(loss(h), c + min_l sum_y p(y | h, l) V(h, l, y)),   V(h) = loss(h) after T glimpses

where loss(h) is the criterion of the exact posterior: 1 - max p for ``error``, else its entropy. What was seen counts,
not in which order, so that V is computed once for each set of (place, value).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.observations import Histories, HistoryObserver
from oracles.base import GlimpsePolicy
from oracles.validation.toy_world import History, ToyWorld

TIE = 1e-9
"""Values that are no further apart are equal; of equals looking on comes before stopping."""


@dataclass(frozen=True)
class PolicyWorth:
    """What a policy is expected to lose and to pay, computed without sampling."""

    loss: float
    """Criterion of the posterior where it stops."""
    glimpses: float
    """Glimpses taken."""
    value: float
    """loss + cost x glimpses."""


class AnytimeProblem:
    """Where to look, and until when, in a toy world."""

    def __init__(self, world: ToyWorld, num_glimpses: int, cost: float, criterion: str = "error"):
        """
        Args:
            world: what there is to see.
            num_glimpses: T, glimpses at most.
            cost: of a glimpse, in the criterion's unit.
            criterion: ``error``, or ``entropy`` or ``log_loss``, which are the same under the exact posterior.

        Raises:
            ConfigurationError: if there are no more than ``num_glimpses`` places.
        """
        if not 1 <= num_glimpses <= world.num_places:
            raise ConfigurationError(f"num_glimpses={num_glimpses} must lie in 1..{world.num_places}, the places.")
        self.world, self.num_glimpses, self.cost, self.criterion = world, num_glimpses, cost, criterion
        self.geometry = replace(world.geometry, num_glimpses=num_glimpses)
        self._values: dict[tuple[tuple[int, int], ...], float] = {}

    def value(self, history: History) -> float:
        """Returns V(h): the least that loss and further costs may be expected to be."""
        state = tuple(sorted(set(history)))
        if state not in self._values:
            self._values[state] = float(self.action_values(list(state)).min())
        return self._values[state]

    def action_values(self, history: History) -> np.ndarray:
        """Returns what loss and further costs are expected to be, at best, after each action: (L + 1,) float64.

        The last is for stopping. Places that were looked at have +inf, as have all after T glimpses.
        """
        values = np.full(self.world.num_places + 1, np.inf)
        values[-1] = self.world.present(history, self.criterion)
        if len(history) == self.num_glimpses:
            return values
        seen = {place for place, _ in history}
        unseen = [place for place in range(self.world.num_places) if place not in seen]
        if len(history) == self.num_glimpses - 1:
            values[unseen] = self.cost + self.world.expected(history, self.criterion)[unseen]
            return values
        chances = np.einsum("m,mlv->lv", self.world.causes(history), self.world.likelihood)
        for place in unseen:
            values[place] = self.cost + sum(
                chances[place, value] * self.value([*history, (place, int(value))])
                for value in np.flatnonzero(chances[place])
            )
        return values

    def best_actions(self, history: History, tie: float = TIE) -> np.ndarray:
        """Returns the actions (n,) int64 whose values are no more than ``tie`` above the least."""
        values = self.action_values(history)
        return np.flatnonzero(values <= values.min() + tie)

    def worth(self, policy: GlimpsePolicy) -> PolicyWorth:
        """Returns what a policy is worth, by enumeration of all that it may see; see :meth:`walk`."""
        loss = glimpses = 0.0
        for history, chance, action in self.walk(policy):
            if action == self.world.num_places:
                loss += chance * self.world.present(history, self.criterion)
                glimpses += chance * len(history)
        return PolicyWorth(loss, glimpses, loss + self.cost * glimpses)

    def walk(self, policy: GlimpsePolicy) -> Iterator[tuple[History, float, int]]:
        """Yields each history that a policy reaches, its probability, and the action there: L after T glimpses.

        Args:
            policy: chooses by the history alone, at random nowhere. It is asked without a state.

        Raises:
            ConfigurationError: if it looks at a place twice.
        """
        reached: list[tuple[History, float]] = [([], 1.0)]
        while reached:
            actions = np.full(len(reached), self.world.num_places)
            if len(reached[0][0]) < self.num_glimpses:
                actions, _ = policy.predict(self.observation([history for history, _ in reached]))
            following: list[tuple[History, float]] = []
            for (history, chance), action in zip(reached, actions.tolist(), strict=True):
                yield history, chance, action
                if action == self.world.num_places:
                    continue
                if action in {place for place, _ in history}:
                    raise ConfigurationError(f"the policy looks at place {action} twice, after {history}.")
                chances = chance * self.world.causes(history) @ self.world.likelihood[:, action]
                following += [([*history, (action, int(v))], float(chances[v])) for v in np.flatnonzero(chances)]
            reached = following

    def observation(self, histories: list[History]) -> dict[str, np.ndarray]:
        """Returns ``history`` observations of episodes that have seen B histories."""
        seen = Histories.empty(len(histories), self.num_glimpses, 1, 1)
        for b, history in enumerate(histories):
            seen.counts[b] = len(history)
            for t, (place, value) in enumerate(history):
                seen.corners[b, t] = self.geometry.grid.corners[place]
                seen.glimpses[b, t] = self.world.pixels[value]
        observation: dict[str, np.ndarray] = HistoryObserver(self.geometry, 1)(seen)
        return observation


class OptimalPolicy(GlimpsePolicy):
    """Looks, and stops, where dynamic programming says; of equally good actions it looks at the first place."""

    stops = True

    def __init__(self, problem: AnytimeProblem):
        self.problem, self.grid = problem, problem.geometry.grid

    def choose(self, histories: Histories, state: Any, episode_start: np.ndarray | None) -> tuple[np.ndarray, Any]:
        places = self.grid.nearest(histories.corners)
        values = np.abs(histories.glimpses[:, :, 0, 0, 0, None].astype(int) - self.problem.world.pixels).argmin(-1)
        seen = [
            list(zip(places[b, :count].tolist(), values[b, :count].tolist(), strict=True))
            for b, count in enumerate(histories.counts)
        ]
        return np.array([self.problem.best_actions(history)[0] for history in seen], dtype=np.int64), state
