"""GDFS, greedy dynamic feature selection (Covert et al., arXiv 2301.00557): a policy trained through the predictor.

A selector's logits give a sample s of places, relaxed to weights, by which the judge's embeddings are mixed:

    min sum_t E[ -log q(theta | h + sum_l s_l y_l) ],   s = softmax((logits(h) / 0.2 + Gumbel noise) / tau)

The gradient goes through one step; the episode goes on with the place of the largest weight. tau falls from 1 to 0.1,
geometrically in five stages. The optimum is greedy: the place after which the label's log-loss is least. q is the
frozen judge, whose embeddings are summed, so that a mixture of glimpses is a mixture of embeddings; the authors'
predictor learns on mixtures, this one does not, which matters while tau is high.
"""

import numpy as np
import torch
from torch import Tensor

from oracles.boed.criteria import log_loss
from oracles.rivals.learned import RivalTrainer

SCALE = 0.2
"""What logits are divided by."""
TEMPERATURES = np.geomspace(1.0, 0.1, 5)
"""tau of each fifth of the training."""


class GDFSTrainer(RivalTrainer):
    """Trains the selector."""

    name = "rivals/gdfs"

    def objective(
        self, scores: Tensor, before: Tensor, judged: Tensor, labels: Tensor, count: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        tau = float(TEMPERATURES[min(int(self.progress * len(TEMPERATURES)), len(TEMPERATURES) - 1)])
        noise = torch.from_numpy(rng.gumbel(size=tuple(scores.shape)).astype(np.float32)).to(scores.device)
        weights = torch.softmax((scores / SCALE + noise) / tau, dim=-1)  # (b, H, L)
        answers = self.log_probabilities(before + weights @ judged, count + 1)
        return log_loss(answers, labels).mean(), weights.detach().argmax(-1)
