"""Features of unseen places predicted from those of seen ones, by factor models of all the features of an image.

The features x (L, F) of an image at all locations are taken for

    x = mean + W z + e,   z ~ N(0, I),   e ~ N(0, TEMPERING diag)

with W the principal components, the remaining variances in diag; the tempering is for e, which is no noise but what
neighbouring windows share. Given the glimpses seen, E[x] = mean + W E[z | y_1:t, l_1:t] in closed form. No label is
needed. Each image is completed by a model that never saw it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

FACTORS = 30
"""Components of a model, at most; with 30 held-out images of CUB were predicted best."""
TEMPERING = 4.0
LEAST_VARIANCE = 1e-2


class FactorModel:
    """The factor model of images (n, L, F), float16 or float32.

    Attributes:
        mean: (L, F) float32.
        components: (L, F, R) float32, W.
        variances: (L, F) float32, what components leave.
    """

    def __init__(self, images: Tensor, factors: int = FACTORS):
        images = images.float()
        self.mean = images.mean(0)
        centred = (images - self.mean).flatten(1)  # (n, L * F)
        factors = min(factors, len(images) - 1)
        _, vectors = torch.linalg.eigh((centred @ centred.T).double())
        largest = vectors.flip(1)[:, :factors].float()  # (n, R)
        self.components = (centred.T @ largest / len(images) ** 0.5).view(*self.mean.shape, factors)
        total = centred.square().mean(0).view_as(self.mean)
        self.variances = (total - self.components.square().sum(-1)).clamp_min(LEAST_VARIANCE)

    def factors(self, features: Tensor, locations: Sequence[int]) -> Tensor:
        """Returns E[z] (B, R) given features (B, t, F) at ``locations`` (t,)."""
        at = list(locations)
        seen = self.components[at].flatten(0, 1)  # (t * F, R)
        weighted = seen / (TEMPERING * self.variances[at].flatten())[:, None]
        precision = weighted.T @ seen + torch.eye(seen.shape[1])
        return torch.linalg.solve(precision, weighted.T @ (features - self.mean[at]).flatten(1).T).T

    def predict(self, features: Tensor, locations: Sequence[int]) -> Tensor:
        """Returns E[x] (B, L, F) given features (B, t, F) at ``locations`` (t,)."""
        return self.mean + torch.einsum("lfr,br->blf", self.components, self.factors(features, locations))


class PredictedMaps:
    """Predictions for images of several folds, by one factor model each, as coordinates in one space.

    Args:
        images: (n, L, F) features of the training images.
        folds: (n,) int, their folds; the model of a fold is fitted to the others.
        further: (m, L, F) features that all models are fitted to, or None.
    """

    def __init__(self, images: np.ndarray, folds: np.ndarray, further: Tensor | None = None):
        others = [] if further is None else [further]
        self.folds = np.unique(folds)
        self.models = []
        for fold in self.folds:
            kept = images[folds != fold] if len(self.folds) > 1 else images
            self.models.append(FactorModel(torch.cat([torch.from_numpy(kept), *others])))
        # predictions lie in the span of all means and components
        span = torch.cat([torch.cat([one.mean[..., None], one.components], -1).flatten(0, 1) for one in self.models], 1)
        lengths, axes = torch.linalg.eigh((span.T @ span).double())
        self._to_coordinates = (axes * lengths.clamp_min(0.0).sqrt()).float()  # (P, P)

    def __call__(self, features: Tensor, locations: Sequence[int], folds: np.ndarray) -> Tensor:
        """Returns coordinates (B, P) float32 whose distances are those of the predicted features of all locations.

        Args:
            features: (B, t, F) at ``locations`` (t,).
            folds: (B,) int, each image's fold; -1 for the mean over all models.
        """
        parts = []
        for fold, model in zip(self.folds, self.models, strict=True):
            share = torch.from_numpy(np.where(folds == -1, 1.0 / len(self.models), folds == fold)).float()[:, None]
            factors = model.factors(features.cpu(), locations)
            parts.append(share * torch.cat([torch.ones(len(factors), 1), factors], 1))
        return (torch.cat(parts, 1) @ self._to_coordinates).to(features.device)
