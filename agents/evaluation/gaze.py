"""How well where policies look agrees with where people look: NSS and AUC of maps, and a distance of scanpaths.

Each run of the study is set against a map, or a scanpath, that has nothing of that run; a figure of an image is the
mean over the runs that looked at it. Points are (row, col) in pixels, pixel i covering i to i + 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agents.evaluation.statistics import Estimate, mean_of
from glimpse_env.datasets.base import Split
from glimpse_env.datasets.gaze import CUBGaze, Look
from glimpse_env.sensing.geometry import LocationGrid

MEASURES = ("nss", "auc", "shuffled_auc", "dtw")
"""Fields of :class:`Agreement`; of the last one less is better."""
PEOPLE, CENTRE = "people", "centre"
"""Rows of the comparison that bound it: each run against the others, and the centre of the image."""


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """How likely a look at each pixel of an image is, up to a monotone or linear change."""

    values: np.ndarray
    """(H, W) float64, higher for likelier."""

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        order = self.values.ravel().argsort()
        return order, self.values.ravel()[order]

    def at(self, points: np.ndarray) -> np.ndarray:
        """Returns the values (F,) at points (F, 2) inside the image."""
        return self.values[tuple(points.astype(np.int64).T)]

    def nss(self, points: np.ndarray) -> float:
        """Computes the normalised scanpath saliency at fixations (F, 2) (Peters et al., Vision Research 2005):

            NSS = 1/F sum_f (S(x_f) - mean S) / sd S,

        mean and standard deviation over the pixels; 0, that of chance, where the map is constant.
        """
        spread = self.values.std()
        return float((self.at(points).mean() - self.values.mean()) / spread) if spread > 0 else 0.0

    def auc(self, points: np.ndarray, others: np.ndarray) -> float:
        """Computes the area under the ROC curve that tells fixations from other pixels by the map,

            AUC = P(S(x_f) > S(x_o)) + 1/2 P(S(x_f) = S(x_o)).

        With all pixels that were not fixated as the others it is that of Judd et al. (ICCV 2009), here the exact area;
        with fixations on other images it is the shuffled AUC (Tatler et al., Vision Research 2005), to which a bias
        towards the centre is worth nothing.

        Args:
            points: (F, 2) fixations.
            others: (H, W) weights of the other pixels, not all zero.
        """
        order, ascending = self._sorted
        cumulated = np.concatenate([[0.0], others.ravel()[order].cumsum()])
        values = self.at(points)
        below, up_to = (cumulated[np.searchsorted(ascending, values, side)] for side in ("left", "right"))
        return float((below + up_to).mean() / 2 / cumulated[-1])


def dtw(first: np.ndarray, second: np.ndarray) -> float:
    """Computes the dynamic-time-warping distance of two scanpaths, in the unit of their points.

    That is the mean distance of the points that the best monotone alignment pairs, in the symmetric form of Sakoe and
    Chiba (IEEE Trans. ASSP 1978): a step that moves on in both scanpaths counts twice, so that the weights of any
    alignment sum to n + m. Several fixations of one place may be paired with a single glimpse of it.

    Args:
        first, second: (n, 2) and (m, 2) points in order.
    """
    costs = np.linalg.norm(first[:, None] - second, axis=-1)  # (n, m)
    total = np.full((len(first) + 1, len(second) + 1), np.inf)
    total[0, 0] = 0.0
    for i, row in enumerate(costs.tolist(), start=1):
        for j, cost in enumerate(row, start=1):
            total[i, j] = min(total[i - 1, j] + cost, total[i, j - 1] + cost, total[i - 1, j - 1] + 2 * cost)
    return float(total[-1, -1] / sum(costs.shape))


def blurred(points: np.ndarray, side: int, sigma: float) -> np.ndarray:
    """Returns a Gaussian of ``sigma`` pixels about each of the points (F, 2), summed: (side, side) float64."""
    pixels = np.arange(side) + 0.5
    rows, cols = np.exp(-(((pixels - points[..., None]) / sigma) ** 2) / 2).transpose(1, 0, 2)  # (F, side) each
    return rows.T @ cols


def upsampled(maps: np.ndarray, grid: LocationGrid) -> np.ndarray:
    """Returns values at locations (L,) as an image (H, W): linear between glimpses' centres, constant beyond them; with
    zooms those of the narrowest windows."""
    maps, grid = maps[: len(grid.levels[0])], grid.levels[0]
    pixels = np.arange(grid.image_size) + 0.5
    weights = np.stack(
        [np.interp(pixels, grid.steps + grid.glimpse_size / 2, unit) for unit in np.eye(grid.side)]
    )  # (side, H)
    return weights.T @ maps.reshape(grid.side, grid.side) @ weights


def preference(maps: np.ndarray) -> np.ndarray:
    """Returns what a policy prefers by its maps (T, L), lower for better: (L,) float64, higher for better.

    Each map is standardised over the locations, so that all glimpses count alike, and the mean over them turned round.
    """
    maps = maps.astype(np.float64)
    centred = maps - maps.mean(axis=1, keepdims=True)
    spread = maps.std(axis=1, keepdims=True)
    return -np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0).mean(axis=0)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement with people's gaze on N images."""

    nss: np.ndarray
    """(N,) float64: standard deviations of the map by which it is higher where people looked; chance is 0."""
    auc: np.ndarray
    """(N,) float64 in 0..1: area under the ROC curve, fixations against the image's other pixels; chance is 0.5."""
    shuffled_auc: np.ndarray
    """(N,) float64 in 0..1: area under the ROC curve, fixations against those on other images."""
    dtw: np.ndarray
    """(N,) float64: mean :func:`dtw` from people's scanpaths in shares of the image's side; NaN without a scanpath."""


@dataclass(frozen=True, eq=False)
class View:
    """What a run of the study is compared with on an image."""

    attention: AttentionMap
    paths: Sequence[np.ndarray] = ()
    """Scanpaths (n, 2); none where there is only a map."""


class People:
    """People's looks at N images, each by at least two runs.

    Args:
        gaze: on the data set.
        split: the images' split.
        indices: images of it; those with fewer than two runs are left out.
    """

    def __init__(self, gaze: CUBGaze, split: Split, indices: np.ndarray):
        self.side = gaze.source.image_shape[0]
        looks = {int(index): gaze.at(split, int(index)) for index in indices}
        kept = {index: some for index, some in looks.items() if len({look.run for look in some}) > 1}
        self.indices = np.array(list(kept), dtype=np.int64)
        """(N,) int64: the images."""
        self.looks = list(kept.values())
        """N lists of looks in pixels of the images."""

    def __len__(self) -> int:
        return len(self.looks)

    @cached_property
    def _fixations(self) -> np.ndarray:
        """(H, W) number of fixations of each pixel, over all images."""
        return np.sum([_counted(_points(looks), self.side) for looks in self.looks], axis=0)

    def agreement(self, views_of: Callable[[int], Mapping[int, View]]) -> Agreement:
        """Computes how well what is set against people's looks agrees with them.

        Args:
            views_of: gives for an image, 0..N - 1, what each of its runs is compared with.
        """
        measured = []
        for n, looks in enumerate(self.looks):
            elsewhere = self._fixations - _counted(_points(looks), self.side)
            figures = []
            for run, view in views_of(n).items():
                own = [look for look in looks if look.run == run]
                points, attention = _points(own), view.attention
                distances = [dtw(path, look.points) / self.side for path in view.paths for look in own]
                figures.append(
                    [
                        attention.nss(points),
                        attention.auc(points, _counted(points, self.side) == 0),
                        attention.auc(points, elsewhere),
                        sum(distances) / len(distances) if distances else np.nan,
                    ]
                )
            measured.append(np.array(figures).mean(axis=0))
        return Agreement(*np.array(measured).T)

    def ceiling(self, sigma: float) -> Agreement:
        """Returns the agreement of each run with all others: the map of their fixations, blurred by ``sigma`` pixels,
        and their scanpaths."""

        def without(n: int, run: int) -> View:
            others = [look for look in self.looks[n] if look.run != run]
            return View(AttentionMap(blurred(_points(others), self.side, sigma)), [look.points for look in others])

        return self.agreement(lambda n: {run: without(n, run) for run in self._runs(n)})

    def of_glimpses(self, centres: np.ndarray, sigma: float) -> Agreement:
        """Returns the agreement of glimpses with centres (N, T, 2): their blurred map, and they as a scanpath."""
        return self._same_for_all_runs(
            lambda n: View(AttentionMap(blurred(centres[n], self.side, sigma)), [centres[n]])
        )

    def of_maps(self, maps: np.ndarray, grid: LocationGrid) -> Agreement:
        """Returns the agreement of the maps (N, T, L), lower for better, that a policy had before each glimpse."""
        return self._same_for_all_runs(
            lambda n: View(AttentionMap(upsampled(preference(maps[n][:, : len(grid.levels[0])]), grid)))
        )

    def of_centre(self, width: float, centres: np.ndarray) -> Agreement:
        """Returns the agreement of the centre: a Gaussian of ``width`` pixels there, and a scanpath (T, 2) from it."""
        view = View(AttentionMap(blurred(np.full((1, 2), self.side / 2), self.side, width)), [centres])
        return self._same_for_all_runs(lambda _: view)

    def _same_for_all_runs(self, view_of: Callable[[int], View]) -> Agreement:
        return self.agreement(lambda n: dict.fromkeys(self._runs(n), view_of(n)))

    def _runs(self, n: int) -> list[int]:
        return sorted({look.run for look in self.looks[n]})


def spread_about_centre(gaze: CUBGaze, split: Split) -> float:
    """Returns the root-mean-square distance in pixels, of rows and columns alike, of a split's fixations from the
    images' centre: the standard deviation of the Gaussian there that fits them best."""
    looks = [look for index in range(gaze.source.size(split)) for look in gaze.at(split, index)]
    return float(np.sqrt(((_points(looks) - gaze.source.image_shape[0] / 2) ** 2).mean()))


@dataclass(frozen=True)
class Figures:
    """One measure of one row of the comparison, a mean over images with its 95 % bootstrap interval over them."""

    value: Estimate
    less_centre: Estimate
    """Paired difference to the centre."""
    less_people: Estimate
    """Paired difference to people."""


def compare(agreements: Mapping[str, Agreement]) -> dict[str, dict[str, Figures]]:
    """Returns each measure's figures by row; not defined where there is no scanpath.

    Args:
        agreements: on the same images, by row, :data:`PEOPLE` and :data:`CENTRE` among them.
    """

    def mean(ours: np.ndarray, theirs: np.ndarray | float = 0.0) -> Estimate:
        values = ours - theirs
        if np.isnan(values).any():
            return Estimate(None, None, None)
        return mean_of(values)

    figures: dict[str, dict[str, Figures]] = {}
    for row in agreements:
        figures[row] = {}
        for measure in MEASURES:
            own, centre, people = (getattr(agreements[name], measure) for name in (row, CENTRE, PEOPLE))
            figures[row][measure] = Figures(mean(own), mean(own, centre), mean(own, people))
    return figures


def _points(looks: Sequence[Look]) -> np.ndarray:
    return np.concatenate([look.points for look in looks])


def _counted(points: np.ndarray, side: int) -> np.ndarray:
    """Returns the number of points in each pixel, (side, side) float64."""
    counts = np.zeros((side, side))
    np.add.at(counts, tuple(points.astype(np.int64).T), 1.0)
    return counts
