"""Human gaze as a policy: where people looked who told the species apart."""

import numpy as np

from glimpse_env.checks import whole_number
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.datasets.gaze import RUNS, CUBGaze, Look, find_gaze
from glimpse_env.errors import ConfigurationError, GlimpseError
from glimpse_env.sensing.geometry import LocationGrid
from oracles.base import PlannedPolicy
from oracles.baselines import centre_out


class HumanPolicy(PlannedPolicy):
    """Follows people's gaze, who see all of the image at once: the first T distinct locations that they fixated.

    A fixation's location is the one whose glimpse has its centre nearest to it. The looks at an image follow upon each
    other in the order of their runs. Where they have fewer than T distinct locations, those nearest to the longest
    fixation fill up; an image that nobody looked at is looked at from the centre outwards, as by policy ``centre``.
    With zooms all are of the narrowest windows, which come first among the locations.

    Args:
        gaze: on the images of the data set.
        grid: the locations.
        num_glimpses: T.
        run: the run of the study to follow, in 1..5; None for all.

    Raises:
        ConfigurationError: if there is no such run.
    """

    def __init__(self, gaze: CUBGaze, grid: LocationGrid, num_glimpses: int, run: int | None = None):
        if run is not None and whole_number("run", run, 1) not in RUNS:
            raise ConfigurationError(f"run={run} must lie in {RUNS[0]}..{RUNS[-1]}, the runs of the study.")
        self.gaze, self.grid, self.num_glimpses, self.run = gaze, grid, num_glimpses, run

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> tuple[np.ndarray, None]:
        """Returns the sequences (B, T) for the images, which have no maps."""
        looks = [self.gaze.at(dataset.split, int(index)) for index in indices]
        return np.stack([self.plan([look for look in one if self.run in (None, look.run)]) for one in looks]), None

    def plan(self, looks: list[Look]) -> np.ndarray:
        """Returns (T,) int64 locations from looks at an image, in its pixels."""
        if not looks:
            return centre_out(self.grid, self.num_glimpses)
        points = np.concatenate([look.points for look in looks])
        durations = np.concatenate([look.durations for look in looks])
        to_corner = self.grid.glimpse_size / 2
        grid = self.grid.levels[0]
        nearby = grid.corners - (points[durations.argmax()] - to_corner)  # (L, 2)
        order = [*grid.nearest(points - to_corner), *np.hypot(*nearby.T).argsort(kind="stable")]
        return np.array(list(dict.fromkeys(map(int, order)))[: self.num_glimpses])


def human_unavailable(source: DataSource) -> str | None:
    """Returns what keeps the policy from images of a data set, as a sentence; None where nothing does."""
    try:
        find_gaze(source)
    except GlimpseError as error:
        return str(error)
    return None
