"""The single environment: a batch of one episode."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from glimpse_env.checks import one_of, seed_or_none
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.episodes import EpisodeBatch, Posterior
from glimpse_env.rendering.frames import Window, draw_batch
from glimpse_env.sensing.observations import Observation, take


class GlimpseEnv(gym.Env):
    """
    ## Description

    An image is hidden. At each step the agent chooses where to look and is shown a small glimpse of the image;
    after T glimpses a judge, a network trained to name the class from any set of glimpses, says what it takes the
    image for. The task is hard visual attention (arXiv 1906.05462): to look where the class can be told.

    With `task="classify"`, the ids `Glimpse...Classify-v0`, there is no judge: the agent names the class itself.

    ## Action Space

    `Discrete(L)` (`action="discrete"`): the glimpse's place in a grid, numbered row by row. With
    `action="continuous"` `Box(-1, 1, (2,))`: row and column of the glimpse's centre, -1 for as far up or left as it
    goes and 1 for as far down or right, rounded to the pixel. Anything else raises `InvalidActionError` and leaves
    the episode as it was. `action_masks()` tells which grid places were not yet looked at; to classify it has an entry
    for each class behind those of the places, all True.

    To classify, each action also names a class: `MultiDiscrete([L, classes])`, or continuous
    `Box(-1, 1, (2 + classes,))`: the two coordinates, then a number for each class, which become probabilities when 1
    is added to each and they are divided by their sum. T actions take glimpses. One more action, whose place is
    ignored, is made with all of them in view, and its class is the answer.

    With `stop=True` an action can also stop: it takes no glimpse and ends the episode, which is judged by what was seen
    so far, nothing perhaps. It is the last, number L of `Discrete(L + 1)`; in a `Box` one more number behind the
    coordinates, which stops when it is above 0. To classify (`MultiDiscrete([L + 1, classes])`, continuous
    `Box(-1, 1, (3 + classes,))`) the class beside it is the answer. Masks have an entry for it behind those of the
    places, True.

    ## Observation Space

    `observation="history"` (Markov): all glimpses so far.

    | Key         | Space                          | Meaning                                                   |
    |-------------|--------------------------------|-----------------------------------------------------------|
    | `glimpses`  | `Box(0, 1, (T*g*g*C*scales,))` | flattened from (T, g, g, C * scales), zero where not taken |
    | `locations` | `Box(-1, 1, (T*2,))`           | flattened from (T, 2), as in continuous actions           |
    | `mask`      | `MultiBinary(T)`               | 1 where a glimpse is taken                                |
    | `step`      | `Discrete(T + 1)`              | glimpses taken                                            |

    `observation="glimpse"` (partially observed): `glimpse` `Box(0, 1, (g*g*C*scales,))` and `location`
    `Box(-1, 1, (2,))` of the newest glimpse alone, and `step`. `observation="canvas"`:
    `Box(0, 255, (H, W, C + 1), uint8)`, the image with unseen pixels zero and, as the last channel, 255 where seen;
    of several scales only the narrowest. `observation="embedding"`: as `"history"` with `embeddings` (T * D,) in place
    of `glimpses`, what the judge's first network makes of each glimpse and its place, read from a table.
    `observation="features"`: as `"history"` with `features` (T * W,) in place of `glimpses`, what the frozen encoder
    makes of each glimpse; read from a table, with continuous actions encoded at each step.

    With `scales=k` a glimpse is k concentric windows, each twice as wide as the last and reduced to the same size.

    With `zooms=(1, 2, 4)` an action also says how closely to look: a window z times as wide, reduced to the same size.
    The L places are then those of one grid a zoom, narrowest windows first, wider ones farther apart. Continuous
    actions and `locations` have a third number, -1 for the narrowest window and 1 for the widest, in octaves between;
    the first two are the place of the window's centre on the scale of the narrowest, and a window that would leave the
    image is moved inside. A `canvas` shows a wide glimpse enlarged where nothing was seen more closely, and 255 // z in
    its last channel.

    ## Rewards

    `reward="classification"`: at the end 1 if the judge's most probable class is the image's, else 0.
    `reward="information"`: at each step the fall in the judge's log-loss of the image's class, in nats.
    To classify: at the end 1 if the class named is the image's, else 0; with continuous actions it is the one of the
    largest number, and `reward="log_loss"` pays the logarithm of the class's probability, at least 1e-4, in place.
    Each step that takes a glimpse also costs `glimpse_cost`, in the unit of the reward: expected success, or nats.

    ## Starting State

    An image drawn uniformly from the split, or image `i` with `reset(options={"index": i})`; nothing is seen of it.

    ## Episode End

    The T-th glimpse terminates the episode, to classify the answer behind it, and an action that stops does so before;
    it is never truncated. `info` tells `index`, the number of `glimpses` taken, `probabilities` and `entropy` (nats) of
    the judge at each step, and at the end `is_success`, `label` and `log_loss` (nats). Without judge there are no
    `probabilities` and no `entropy`, and a `log_loss` is there with continuous actions only.

    ## Arguments

    Through `gymnasium.make`, see `glimpse_env.registration.make_env`. The class itself takes the objects:

    - `dataset`, `judge`: a split, whose `geometry` is the protocol of its glimpses, and what judges it (None to
      classify).
    - `task="look"`: or `"classify"`.
    - `observation`, `action`, `reward`: as above; `scales` and `zooms` are the data set's.
    - `stop=False`: whether an action can stop.
    - `glimpse_cost=0.0`: the price of a glimpse; in 0..1 with `reward="classification"`, else any that is not negative.
    - `posterior_info=True`: False leaves `probabilities` and `entropy` out, so the judge is asked only at the end.
    - `tabulated=False`: True has the judge answer from a table of its embeddings at all grid places, computed once
      for the split and kept in the cache: many times as fast, and the same up to half precision.
    - `features=None`: what `observation="features"` shows; None for what the judge reads.
    - `render_mode`: None, `"rgb_array"` or `"human"`.

    ## Version History

    - v0: first version.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self, dataset: GlimpseDataset, judge: Posterior | None, *, render_mode: str | None = None, **options: Any
    ):
        if render_mode is not None:
            one_of("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.batch = EpisodeBatch(dataset, judge, 1, **options)
        self.observation_space = self.batch.observer.space
        self.action_space = self.batch.action_space
        self._window = Window("Glimpses", self.metadata["render_fps"])
        self._begun = False

    @property
    def dataset(self) -> GlimpseDataset:
        return self.batch.dataset

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode; ``options={"index": i}`` on image ``i``.

        Raises:
            ConfigurationError: if the seed is negative or none, or an option is out of range or unknown; the episode
                can go on then.
        """
        indices = self.batch.requested(options)
        super().reset(seed=seed_or_none(seed))
        if indices is None:
            indices = np.array([self.np_random.integers(len(self.dataset))])
        observations, info = self.batch.begin(indices)
        self._begun = True
        self._show()
        return take(observations, 0), _single(info)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes a glimpse, or the answer of an agent that classifies, or stops.

        Raises:
            ResetNeeded: before :meth:`reset` and after the end of an episode.
            InvalidActionError: if the action is not in the action space; the episode can go on.
        """
        if not self._begun:
            raise ResetNeeded("Call reset() before step().")
        if self.batch.ended[0]:
            raise ResetNeeded("The episode has ended: call reset() before step().")
        transition = self.batch.step([action])
        self._show()
        reward = float(transition.rewards[0])
        return take(transition.observations, 0), reward, bool(transition.ended[0]), False, _single(transition.info)

    def action_masks(self) -> np.ndarray:
        """Returns which actions MaskablePPO may take, (L,), see :meth:`EpisodeBatch.action_masks` for other lengths.

        Raises:
            ConfigurationError: if actions are continuous.
        """
        return self.batch.action_masks()[0]

    def render(self) -> np.ndarray | None:
        """Draws the episode, (height, width, 3) uint8, with ``render_mode="rgb_array"``; else returns None.

        Raises:
            ResetNeeded: before the first :meth:`reset`.
        """
        if not self._begun:
            raise ResetNeeded("Call reset() before render().")
        if self.render_mode == "rgb_array":
            return draw_batch(self.batch)[0]
        self._show()
        return None

    def close(self) -> None:
        """Closes the window, if there is one."""
        self._window.close()

    def _show(self) -> None:
        if self.render_mode == "human":
            self._window.show(draw_batch(self.batch)[0])


def _single(info: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the info of the only episode of a batch, numbers as Python's own."""
    return {key: value[0].item() if value.ndim == 1 else value[0] for key, value in info.items()}
