"""Bottom-up saliency as a policy: the usual baseline that knows neither the task nor what was seen so far."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import LocationGrid
from oracles.base import PlannedPolicy

MISSING = (
    "policy 'saliency' needs OpenCV with its contributed modules, of which there may be only one build: "
    "pip install opencv-contrib-python-headless, in place of any other OpenCV package."
)


def saliency_installed() -> bool:
    """Returns whether OpenCV is installed with its saliency module, which some builds lack."""
    try:
        import cv2
    except ImportError:
        return False
    return hasattr(cv2, "saliency")


def saliency_map(image: np.ndarray) -> np.ndarray:
    """Returns the spectral residual of an image (Hou and Zhang, CVPR 2007), as OpenCV computes it.

    Args:
        image: (H, W, C) uint8, C 1 or 3 (RGB).

    Returns:
        (H, W) float32, not negative; only ratios are meaningful.

    Raises:
        ConfigurationError: if OpenCV or its saliency module is missing.
    """
    if not saliency_installed():
        raise ConfigurationError(MISSING)
    import cv2

    grey = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    _, salient = cv2.saliency.StaticSaliencySpectralResidual.create().computeSaliency(np.ascontiguousarray(grey))
    return np.maximum(salient, 0.0)


class SaliencyPolicy(PlannedPolicy):
    """Greedy: looks where the window holds most of the saliency that is left, and what was looked at has none left.

    It peeks at all pixels of the image, though not at its label. Of several scales only the narrowest window counts;
    with zooms it looks through the narrowest windows, and its maps have no number (NaN) at the others.

    Raises:
        ConfigurationError: if OpenCV or its saliency module is missing.
    """

    map_title = "Saliency left outside, share"

    def __init__(self, grid: LocationGrid, num_glimpses: int):
        if not saliency_installed():
            raise ConfigurationError(MISSING)
        self.grid, self.num_glimpses = grid, num_glimpses

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sequences (B, T), planned whole, and the maps (B, T, L) that they are the minima of."""
        plans = [self.plan(saliency_map(np.asarray(dataset.images[index]))) for index in indices]
        return np.stack([sequence for sequence, _ in plans]), np.stack([maps for _, maps in plans])

    def plan(self, salient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Plans where to look in an image.

        Args:
            salient: (H, W), not negative.

        Returns:
            (T,) int64 locations and (T, L) float32: for every location the share of all saliency that would be left
            after a look there.
        """
        grid = self.grid.levels[0]
        g = grid.glimpse_size
        rows = slice(None, None, int(grid.stride)) if grid.even else grid.steps
        left = np.array(salient, dtype=np.float64)
        total = max(float(left.sum()), np.finfo(np.float64).tiny)
        sequence = np.empty(self.num_glimpses, dtype=np.int64)
        maps = np.full((self.num_glimpses, len(self.grid)), np.nan, dtype=np.float32)
        for t in range(self.num_glimpses):
            inside = sliding_window_view(left, (g, g))[rows][:, rows].sum(axis=(2, 3)).ravel()  # (L,)
            maps[t, : len(grid)] = (left.sum() - inside) / total
            inside[sequence[:t]] = -1.0
            sequence[t] = inside.argmax()
            row, col = grid.corners[sequence[t]]
            left[row : row + g, col : col + g] = 0.0
        return sequence, maps
