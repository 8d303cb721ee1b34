"""Kernel ridge regression with predictions that leave rows out in closed form, for :mod:`oracles.boed.kernel`."""

import numpy as np
import torch
from torch import Tensor


class KernelRegression:
    """Kernel ridge regression of many targets, with predictions that leave training rows out in closed form.

    Args:
        inputs: (copies * n, F) float32; row c * n + i is copy c of image i.
        targets: (copies * n, L) float32.
        ridge, sharpness: see :class:`oracles.boed.kernel.KernelConfig`.
        copies: of each image, which are left out together.
        further: inputs (m, F), targets (m, L) and ridge of rows that are never left out and have a mean of their own;
            the kernel's width does not depend on them.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        ridge: float,
        sharpness: float,
        copies: int = 1,
        further: tuple[Tensor, Tensor, float] | None = None,
    ):
        count, self.mean = len(inputs), targets.mean(0)
        residuals, ridges = targets - self.mean, torch.full((count,), ridge, dtype=torch.float64)
        if further is not None:
            inputs = torch.cat([inputs, further[0]])
            residuals = torch.cat([residuals, further[1] - further[1].mean(0)])
            ridges = torch.cat([ridges, ridges.new_full((len(further[0]),), further[2])])
        self.inputs, self.targets = inputs, targets
        distances = squared_distances(inputs, inputs)
        self.precision = sharpness / distances[:count, :count].mean().clamp_min(1e-12)
        # in double precision, which Apple's devices lack
        exact = torch.device("cpu") if inputs.device.type == "mps" else inputs.device
        kernel = (-self.precision * distances).exp().to(exact).double()
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel + ridges.to(exact).diag()))
        weights = inverse @ residuals.to(exact).double()
        self.weights = weights.float().to(inputs.device)  # (copies * n + m, L)
        together = torch.arange(count, device=exact).view(copies, -1)  # (copies, n)
        blocks = inverse[together[:, None], together].permute(2, 0, 1)  # (n, copies, copies)
        missed = torch.linalg.solve(blocks, weights[together.T])  # (n, copies, L)
        self.left_out = targets - missed.transpose(0, 1).flatten(0, 1).float().to(inputs.device)
        """(copies * n, L) float32: the prediction for each row without its image (the mean keeps it)."""

    def __call__(self, inputs: Tensor, own: np.ndarray) -> Tensor:
        """Returns predictions (B, L) for inputs (B, F); ``own`` (B,) int64 is the image to leave out, or -1."""
        kernel = (-self.precision * squared_distances(inputs, self.inputs)).exp()
        predicted = self.mean + kernel @ self.weights
        known = torch.from_numpy(np.flatnonzero(own >= 0))
        predicted[known] = self.left_out[torch.from_numpy(own)[known]]
        return predicted


def squared_distances(ours: Tensor, theirs: Tensor) -> Tensor:
    """Returns the squared Euclidean distances (B, n) between rows (B, F) and (n, F)."""
    squares = ours.square().sum(1)[:, None] + theirs.square().sum(1)[None] - 2.0 * ours @ theirs.T
    return squares.clamp_min_(0.0)
