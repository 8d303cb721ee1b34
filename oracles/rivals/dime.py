"""DIME, discriminative mutual information estimation (Gadgil, Covert and Lee, arXiv 2306.03301): greedy, learned.

A network v estimates what a glimpse tells of the class. Of the glimpses that its own episodes take,

    min E[ (v(h, l) - (CE(h) - CE(h + l)))^2 ],   v(h, l) = sigmoid(s(h, l)) H[q(. | h)],   CE(h) = -log q(theta | h)

whose optimum is I(theta; y_l | h) under an exact q, and the policy looks where v is highest. A share of the places is
random, a fifth of it after each fifth of the training (the authors': at each plateau). q is the frozen judge; theirs
learns with v. The amortised oracle regresses the same at many places of each history, DIME where it looks.

Where no glimpse tells anything alone it cannot tell places apart, see ``tests/oracles/rivals/test_learned.py``.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from oracles.boed.criteria import entropy, log_loss
from oracles.rivals.learned import RivalTrainer, unseen_choice

STAGES = 5
"""Parts of the training, each with a share of random places of its own."""
DECAY = 0.2
"""Share of random places in a stage, in multiples of that in the stage before."""


class DIMETrainer(RivalTrainer):
    """Trains v; ``plan.exploration`` is the share of random places at first."""

    name = "rivals/dime"

    def objective(
        self, scores: Tensor, before: Tensor, judged: Tensor, labels: Tensor, count: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        stage = min(int(self.progress * STAGES), STAGES - 1)
        chosen = unseen_choice(scores.detach(), self.plan.exploration * DECAY**stage, rng)
        own = torch.arange(len(judged), device=judged.device)[:, None]
        present = self.log_probabilities(before, count)
        drop = log_loss(present, labels) - log_loss(
            self.log_probabilities(before + judged[own, chosen], count + 1), labels
        )
        value = torch.sigmoid(scores.gather(-1, chosen[..., None])[..., 0]) * entropy(present)
        return F.mse_loss(value, drop), chosen
