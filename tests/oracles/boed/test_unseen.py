"""Predicted features against conditional Gaussians in closed form, and what a fold's model must not have seen."""

import numpy as np
import torch

from oracles.boed.unseen import LEAST_VARIANCE, TEMPERING, FactorModel, PredictedMaps

PLACES, WIDTH = 6, 3


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Images (count, PLACES, WIDTH) whose features are two factors and some noise."""
    generator = torch.Generator().manual_seed(seed)
    components = torch.randn(2, PLACES, WIDTH, generator=torch.Generator().manual_seed(9))
    noise = 0.1 * torch.randn(count, PLACES, WIDTH, generator=generator)
    return 1.0 + torch.einsum("br,rlf->blf", torch.randn(count, 2, generator=generator), components) + noise


def test_a_prediction_is_the_mean_of_the_gaussian_given_what_was_seen() -> None:
    model, seen = FactorModel(images(200), factors=2), [1, 4]
    some = images(5, seed=1)
    components = model.components.flatten(0, 1).double()  # (L * F, R)
    covariance = components @ components.T + TEMPERING * model.variances.flatten().double().diag()
    entries = torch.arange(PLACES * WIDTH).view(PLACES, WIDTH)
    at, apart = entries[seen].flatten(), entries[[0, 2, 3, 5]].flatten()
    gain = covariance[apart][:, at] @ covariance[at][:, at].inverse()
    offset = (some - model.mean)[:, seen].flatten(1).double()
    expected = model.mean.flatten()[apart] + offset @ gain.T
    predicted = model.predict(some[:, seen], seen).flatten(1)[:, apart]
    torch.testing.assert_close(predicted.double(), expected, atol=1e-4, rtol=1e-4)
    left = (predicted - some.flatten(1)[:, apart]).square().mean()
    assert left < 0.2 * (model.mean.flatten()[apart] - some.flatten(1)[:, apart]).square().mean()
    assert (model.variances >= LEAST_VARIANCE).all()


def test_distances_of_coordinates_are_those_of_predicted_features() -> None:
    bank, folds, seen = images(30).half(), np.arange(30) % 3, (0, 3)
    maps = PredictedMaps(bank.numpy(), folds)
    some, asked = images(4, seed=2), np.array([0, 2, 2, -1])
    coordinates = maps(some[:, list(seen)], seen, asked)
    each = torch.stack([model.predict(some[:, list(seen)], seen) for model in maps.models])  # (folds, B, L, F)
    predicted = torch.stack([each[0, 0], each[2, 1], each[2, 2], each[:, 3].mean(0)]).flatten(1)
    torch.testing.assert_close(
        torch.cdist(coordinates, coordinates), torch.cdist(predicted, predicted), atol=2e-3, rtol=0
    )


def test_a_model_never_saw_the_images_of_its_fold_and_saw_all_further_ones() -> None:
    bank, folds = images(12).half(), np.arange(12) % 2
    further = 5.0 + images(6, seed=3).half()
    for more, added in ((None, bank[:0]), (further, further)):
        maps = PredictedMaps(bank.numpy(), folds, more)
        for fold, model in enumerate(maps.models):
            others = torch.cat([bank[torch.from_numpy(folds != fold)], added]).float()
            torch.testing.assert_close(model.mean, others.mean(0))
    alone = PredictedMaps(bank.numpy(), np.zeros(12, dtype=np.int64))
    torch.testing.assert_close(alone.models[0].mean, bank.float().mean(0))
