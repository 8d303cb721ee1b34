"""The network of an amortised oracle: it reads a criterion's expectation at every location off the glimpses seen."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from glimpse_env.posterior import GlimpsePosterior, PosteriorConfig

HIDDEN = 256
"""Width of the head's hidden layers."""


class LocationScorer(GlimpsePosterior):
    """scores(l) = gain_t (base_t(l) + head(sum_i phi(y_i, l_i))), for each grid location l.

    Its convolutions are those of one of the judge's networks and stay so; the rest of phi starts as that network's and
    is trained for the scores: what tells *where to look* is more than what tells the class.
    """

    def __init__(self, config: PosteriorConfig, num_glimpses: int):
        """
        Args:
            config: the judge's shape, with as many classes as there are locations.
            num_glimpses: T.
        """
        super().__init__(config)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(config.embedding, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.num_classes),
        )
        self.base = nn.Parameter(torch.zeros(num_glimpses, config.num_classes))
        self.gain = nn.Parameter(torch.ones(num_glimpses))

    @classmethod
    def like(cls, judged: GlimpsePosterior, num_locations: int, num_glimpses: int) -> "LocationScorer":
        """One whose phi is that of a judge's network."""
        scorer = cls(replace(judged.config, num_classes=num_locations, num_parts=0, hidden=HIDDEN), num_glimpses)
        skipped = ("head.", "part_head.")
        shared = {name: value for name, value in judged.state_dict().items() if not name.startswith(skipped)}
        scorer.load_state_dict({**scorer.state_dict(), **shared})
        return scorer

    def scores(self, summed: Tensor, counts: Tensor | int) -> Tensor:
        """The criterion expected at every location.

        Args:
            summed: (..., D) sums of embeddings.
            counts: t, the number of glimpses summed; an int or (...,) int64.

        Returns:
            (..., L) float32, in the criterion's unit; lower is better. For horizon ``last`` up to a number that is the
            same for all locations.
        """
        gain = self.gain[counts]
        return (gain[..., None] if gain.ndim else gain) * (self.base[counts] + self.head(summed))
