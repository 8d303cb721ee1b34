"""The game: a person plays the environment against the oracle, on the same images with the same judge, no window."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agents.evaluation.recordings import record
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.env import GlimpseEnv
from glimpse_env.episodes import Assessment
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.observations import CanvasObserver, Histories, unpack_history
from oracles.base import GlimpsePolicy


@dataclass(frozen=True)
class Attempt:
    """One player's glimpses of an image, and the judge's verdict on them."""

    corners: np.ndarray
    """(t, 2) int64 pixels: top-left corners (row, col) of the t glimpses taken, in order; (t, 3) with zooms."""
    probabilities: np.ndarray
    """(classes,) float32: the judge's probabilities after the last glimpse."""
    success: bool
    """Whether the judge named the class."""
    log_loss: float
    """Nats: -log p(true label) after the last glimpse."""

    @classmethod
    def of(cls, corners: np.ndarray, probabilities: np.ndarray, label: int) -> "Attempt":
        """Returns the attempt with the judge's ``probabilities`` (classes,) after the last glimpse."""
        verdict = Assessment.of(probabilities[None], np.array([label]))
        log_loss = max(0.0, float(verdict.log_loss[0]))  # in this order: it may be -0.0, or a hair below by rounding
        return cls(corners, probabilities, bool(verdict.success[0]), log_loss)


@dataclass(frozen=True)
class Round:
    """An image that was played to the end."""

    index: int
    """Index of the image in its split."""
    label: int
    assisted: bool
    """Whether the person saw the oracle's map at any time."""
    person: Attempt
    oracle: Attempt
    locations: np.ndarray
    """(T,) int64: grid locations that the person looked at, in order; -1 from a stop on."""
    entropies: np.ndarray
    """(T,) float32 nats: entropy of the judge's posterior after each of them; from a stop on that at the end."""


@dataclass(frozen=True)
class Score:
    """The person against the oracle over some images."""

    images: int
    person_successes: int
    oracle_successes: int
    person_log_loss: float | None
    """Nats, a mean over the images; None without images."""
    oracle_log_loss: float | None
    person_return: float | None = None
    """1 for a success less the price of the glimpses taken, a mean over the images; None where they have no price."""
    oracle_return: float | None = None


class Game:
    """A sequence of images with one episode on each. The oracle plays an image before the person does; the person sees
    the oracle's result afterwards. Until the last glimpse all that the person sees comes from ``history`` observations.
    Where glimpses have a price the person may stop before, and so may the oracle.

    Attributes:
        indices: (N,) int64, the images in the order they are played.
        number: place of the present image among them, 0..N-1.
        rounds: the images played to the end.
        map_shown: whether the oracle's map is visible.
        level: number of the zoom through which the person looks next, 0 for the narrowest windows.
        assisted: whether it was visible at any time on the present image.
        finished: whether the player left the last image.
        kept: rounds that are in a file already.
        oracle: the opponent on the present image.
        stops: whether the person may stop.
    """

    def __init__(
        self,
        dataset: GlimpseDataset,
        judge: Judge,
        oracle: GlimpsePolicy | Callable[[int], GlimpsePolicy],
        indices: np.ndarray,
        *,
        glimpse_cost: float | None = None,
    ):
        """
        Args:
            dataset: a split each image of which is judged by networks that were not trained on it.
            judge: decides on both players' success.
            oracle: the opponent, whose map the person may look at; or what gives it for images of a fold, -1 for those
                of none.
            indices: (N,) int, images of the split.
            glimpse_cost: price of a glimpse, in expected success, where episodes may stop; None where they may not.

        Raises:
            ConfigurationError: if there is no image or an index is out of range.
        """
        if len(indices) == 0:
            raise ConfigurationError("a game of 0 images cannot be played; take at least 1.")
        self.dataset, self.judge, self.glimpse_cost = dataset, judge, glimpse_cost
        self._oracle_of = oracle if callable(oracle) else lambda fold: oracle
        self.stops = glimpse_cost is not None
        self.indices = np.asarray(indices, dtype=np.int64)
        self.geometry, self.grid = dataset.geometry, dataset.geometry.grid
        self.rounds: list[Round] = []
        self.number = self.kept = 0
        self.finished = False
        self.level = 0
        self.map_shown = self.assisted = False
        self._env = GlimpseEnv(dataset, judge, stop=self.stops)
        self._begin()

    @property
    def over(self) -> bool:
        """Whether the last glimpse of the present image was taken, so that the image may be revealed."""
        return len(self.rounds) > self.number

    @property
    def corners(self) -> np.ndarray:
        """(t, 2) int64 pixels, (t, 3) with zooms: top-left corners of the person's glimpses so far."""
        return self._history.corners[0, : self._history.counts[0]]

    @property
    def canvas(self) -> np.ndarray:
        """(H, W, C + 1) uint8: the person's glimpses in their places, zero elsewhere; last channel 255 where seen.

        Wider scales lie under narrower ones, their pixels as blocks, as do wide windows under narrow ones.
        """
        if len(self.geometry.zooms) > 1:
            canvas = CanvasObserver(self.geometry, self.dataset.images.shape[-1])(self._history)[0]
            canvas[..., -1] = np.where(canvas[..., -1:] > 0, 255, 0)[..., 0]
            return canvas
        side, channels = self.grid.image_size, self.dataset.images.shape[-1]
        margin = self.grid.glimpse_size * 2 ** (self.geometry.scales - 1)  # for windows that reach over the rim
        canvas = np.zeros((side + 2 * margin, side + 2 * margin, channels + 1), dtype=np.uint8)
        glimpses = self._history.glimpses[0, : len(self.corners)]  # (t, g, g, C * scales)
        for scale in reversed(range(self.geometry.scales)):
            pixels = glimpses[..., scale * channels : (scale + 1) * channels]
            blocks = pixels.repeat(2**scale, axis=1).repeat(2**scale, axis=2)
            width = blocks.shape[1]
            for block, corner in zip(blocks, self.corners, strict=True):
                top, left = corner + margin - (width - self.grid.glimpse_size) // 2
                canvas[top : top + width, left : left + width, :channels] = block
                canvas[top : top + width, left : left + width, channels] = 255
        return canvas[margin:-margin, margin:-margin]

    @property
    def epe_map(self) -> np.ndarray | None:
        """(L,) float32: the oracle's map for the next location, given the person's glimpses; None while hidden."""
        return self._advice[0] if self._advice is not None and self.map_shown else None

    @property
    def choice(self) -> int | None:
        """Grid location where the oracle would look next, L if it would stop; None while the map is hidden."""
        return self._advice[1] if self._advice is not None and self.map_shown else None

    def locate(self, row: float, col: float) -> int:
        """Returns the grid location, of the present zoom, whose glimpse is centred nearest to a point of the image, in
        pixels."""
        level = self.grid.levels[self.level]
        middle = level.glimpse_size / 2
        return self.grid.level_slices[self.level].start + int(level.nearest(np.array([row - middle, col - middle])))

    def widen(self, steps: int) -> None:
        """Goes to a zoom ``steps`` wider, or narrower where negative, as far as there are any."""
        self.level = min(max(self.level + steps, 0), len(self.grid.levels) - 1)

    def taken(self, location: int) -> bool:
        """Returns whether the person has looked at a grid location."""
        return location in self.grid.nearest(self.corners)

    def click(self, row: float, col: float) -> bool:
        """Takes the glimpse at :meth:`locate`.

        Returns:
            Whether a glimpse was taken: none is after the episode's end, or where the person has looked before.
        """
        return self.look(self.locate(row, col))

    def look(self, location: int) -> bool:
        """Takes the glimpse at a grid location, in 0..L-1; returns as :meth:`click`."""
        if self.over or self.taken(location):
            return False
        self._step(location)
        return True

    def stop(self) -> bool:
        """Takes no further glimpse of the image; returns whether that was possible."""
        if self.over or not self.stops:
            return False
        self._step(len(self.grid))
        return True

    def toggle_map(self) -> None:
        """Shows or hides the oracle's map for the next glimpse; the image counts as assisted from then on."""
        if self.over:
            return
        self.map_shown = not self.map_shown
        self.assisted |= self.map_shown
        self._consult()

    def next(self) -> bool:
        """Goes to the next image, the map hidden, or ends the game after the last one.

        Returns:
            False if the episode is not over, in which case nothing happens.
        """
        if not self.over:
            return False
        if self.number + 1 == len(self.indices):
            self.finished = True
        else:
            self.number += 1
            self._begin()
        return True

    def score(self, assisted: bool | None = None) -> Score:
        """Returns the score over all rounds, or only over those with (True) or without (False) the map."""
        rounds = [played for played in self.rounds if assisted in (None, played.assisted)]

        def mean(losses: list[float]) -> float | None:
            return float(np.mean(losses)) if losses else None

        return Score(
            images=len(rounds),
            person_successes=sum(played.person.success for played in rounds),
            oracle_successes=sum(played.oracle.success for played in rounds),
            person_log_loss=mean([played.person.log_loss for played in rounds]),
            oracle_log_loss=mean([played.oracle.log_loss for played in rounds]),
            person_return=self._mean_return([played.person for played in rounds]),
            oracle_return=self._mean_return([played.oracle for played in rounds]),
        )

    def _mean_return(self, attempts: list[Attempt]) -> float | None:
        if self.glimpse_cost is None or not attempts:
            return None
        return float(np.mean([one.success - self.glimpse_cost * len(one.corners) for one in attempts]))

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values: data set and judge, the scores with and without the map, and every round."""
        return {
            "dataset": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            "split": self.dataset.split,
            "judge": self.judge.identity,
            "images": len(self.indices),
            "score": {
                name: asdict(self.score(assisted))
                for name, assisted in (("all", None), ("unassisted", False), ("assisted", True))
            },
            "rounds": [
                {
                    "index": played.index,
                    "class": self.dataset.class_names[played.label],
                    "assisted": played.assisted,
                    "person": self._attempt_to_json(played.person),
                    "oracle": self._attempt_to_json(played.oracle),
                }
                for played in self.rounds
            ],
        }

    def _attempt_to_json(self, attempt: Attempt) -> dict[str, Any]:
        return {
            "success": attempt.success,
            "log_loss": attempt.log_loss,
            "judged": self.dataset.class_names[int(attempt.probabilities.argmax())],
            "locations": self.grid.nearest(attempt.corners).tolist(),
        }

    def _begin(self) -> None:
        """Plays the image with the oracle, then begins the person's episode."""
        image = self.indices[[self.number]]
        observation, info = self._env.reset(options={"index": int(image[0])})
        self.oracle = self._oracle_of(int(self.dataset.folds[image[0]]))
        played = record(self.oracle, self.dataset, self.judge, image)
        label = int(self.dataset.labels[image[0]])
        taken = self.geometry.num_glimpses if played.lengths is None else int(played.lengths[0])
        self._opponent = Attempt.of(played.corners[0, :taken], played.probabilities[0, -1], label)
        self._state: Any = self.oracle.start(self.dataset, image)
        self.assisted = self.map_shown = False
        self._locations = np.full(self.geometry.num_glimpses, -1, dtype=np.int64)
        self._entropies = np.full(self.geometry.num_glimpses, info["entropy"], dtype=np.float32)
        self._observe(observation)

    def _step(self, action: int) -> None:
        """Takes a glimpse, or stops with L; at the end the round is added."""
        observation, _, ended, _, info = self._env.step(action)
        t = len(self.corners)
        if action < len(self.grid):
            self._locations[t], self._entropies[t:] = action, info["entropy"]
        self._observe(observation)
        if ended:
            index, label = int(info["index"]), int(info["label"])
            person = Attempt.of(self.corners, info["probabilities"], label)
            played = Round(index, label, self.assisted, person, self._opponent, self._locations, self._entropies)
            self.rounds.append(played)
        self._consult()

    def _observe(self, observation: Any) -> None:
        self._observation = observation
        self._history: Histories = unpack_history(observation, self.grid)
        self._advice: tuple[np.ndarray, int] | None = None

    def _consult(self) -> None:
        """Computes the oracle's map if it is to be shown."""
        if self.map_shown and not self.over and self._advice is None:
            action, self._state = self.oracle.predict(self._observation, self._state)
            assert self.oracle.last_maps is not None, "the opponent has no map"
            self._advice = self.oracle.last_maps[0].copy(), int(action)


def score_lines(game: Game) -> list[str]:
    """Returns the score in words, a line for all images and one each for those with the oracle's map and without."""
    if not game.rounds:
        return ["No image was played to its end."]
    everything, assisted = game.score(), game.score(assisted=True)
    lines = [f"{everything.images} of {len(game.indices)} images played. {_words(everything)}"]
    if assisted.images:
        lines.append(f"Assisted by the oracle's map: {assisted.images}. {_words(assisted)}")
        unassisted = game.score(assisted=False)
        lines += [f"Without the map: {unassisted.images}. {_words(unassisted)}"] if unassisted.images else []
    return lines


def _words(score: Score) -> str:
    """Returns successes and mean log-loss of person and oracle in a sentence."""
    yours, theirs = _times(score.person_successes), _times(score.oracle_successes)
    return (
        f"The judge was right {yours} after your glimpses and {theirs} after the oracle's; mean "
        f"log-loss {score.person_log_loss:.2f} and {score.oracle_log_loss:.2f} nats."
    )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
