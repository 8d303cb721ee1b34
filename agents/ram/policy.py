"""RAM's network as an SB3 policy, whose actions are pairs of the next location and the predicted class."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agents.ram.network import RAMNetwork
from agents.ram.proposals import MapProposal, PixelProposal, Proposal
from glimpse_env.errors import ConfigurationError

KEYS = {
    "glimpse": frozenset({"glimpse", "location", "step"}),
    "features": frozenset({"features", "locations", "mask", "step"}),
}
"""Keys of the observation spaces that RAM reads, by ``observation``."""


class RAMPolicy(BasePolicy):
    """Policy that observes the newest glimpse; its state holds the tokens of all glimpses.

    Attributes:
        observation: what it observes, a key of :data:`KEYS`.
        network: the network that is trained.
        drops: whether its training drops some numbers.
        averaged: moving average of its weights and statistics; None without averaging.
        proposal: q(l | h_t, theta, x) of wake-sleep training, which observes label and image; else None.
        last_probabilities: (B, classes) float32, p(theta | y_1:t, l_1:t) at the last call of :meth:`predict`.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        posterior: Mapping[str, Any],
        averaging: float = 0.0,
        weight_decay: float = 0.0,
        proposal: bool = False,
        proposal_grid: Mapping[str, Any] | None = None,
        image_channels: int = 1,
        **network: Any,
    ):
        """
        Args:
            observation_space: that of ``observation="glimpse"`` or ``"features"``.
            action_space: ``MultiDiscrete([locations, classes])``.
            lr_schedule: SB3's learning rate schedule.
            posterior: see :class:`RAMNetwork`.
            weight_decay: of AdamW, decoupled from the gradient.
            averaging: decay, 0 or more and below 1, of an exponential moving average of the weights over iterations,
                by which :meth:`predict` then acts: it smooths the noise of a constant learning rate. In iteration n
                the decay is (1 + n) / (10 + n) at most, so that the first weights are forgotten. 0 keeps no average.
            proposal: whether there is a proposal network.
            proposal_grid: the fields of the environment's :class:`LocationGrid`, for a proposal that reads a feature
                map; None for one that reads 16 x 16 pixels.
            image_channels: channels of the images that the proposal network observes.
            **network: further arguments of :class:`RAMNetwork`.

        Raises:
            ConfigurationError: if a space is of another kind, or averaging is out of range.
        """
        if not 0 <= averaging < 1:
            raise ConfigurationError(f"averaging={averaging} must be at least 0 and below 1.")
        if not isinstance(action_space, spaces.MultiDiscrete) or len(action_space.nvec) != 2:
            raise ConfigurationError(f"RAM needs task='classify' with action='discrete', not actions {action_space}.")
        if not isinstance(observation_space, spaces.Dict) or set(observation_space.spaces) not in KEYS.values():
            raise ConfigurationError(
                f"RAM needs an environment with observation='glimpse' or 'features', not one of {observation_space}."
            )
        super().__init__(observation_space, action_space)
        self._constructor = {
            "posterior": dict(posterior),
            "averaging": averaging,
            "weight_decay": weight_decay,
            "proposal": proposal,
            **({} if proposal_grid is None else {"proposal_grid": dict(proposal_grid)}),
            "image_channels": image_channels,
            **network,
        }
        locations, classes = (int(number) for number in action_space.nvec)
        self.num_glimpses = int(observation_space["step"].n) - 1  # type: ignore[attr-defined]
        self.observation = next(kind for kind, keys in KEYS.items() if keys == set(observation_space.spaces))
        width = None
        if self.observation == "features":
            width = math.prod(observation_space["features"].shape or ()) // self.num_glimpses
        self.network = RAMNetwork(posterior, locations, width=width, **network)
        self.drops = any(isinstance(module, nn.Dropout) and module.p > 0 for module in self.network.modules())
        self.proposal: Proposal | None = None
        if proposal and proposal_grid is not None:
            self.proposal = MapProposal(proposal_grid, classes, image_channels, self.network.hidden)
        elif proposal:
            self.proposal = PixelProposal(locations, classes, image_channels, self.network.hidden)
        self.optimizer = torch.optim.AdamW(self.parameters(), lr=lr_schedule(1), weight_decay=weight_decay)
        self.averaged: AveragedModel | None = None
        if averaging:  # after the optimiser, which must not train it
            average = partial(_average, averaging)
            self.averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True).requires_grad_(False)
        self.last_probabilities = np.zeros((0, classes), dtype=np.float32)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | self._constructor | {"lr_schedule": self._dummy_schedule}

    def newest(self, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the newest glimpses (B, ...) and their locations (B, 2) of observations after a first glimpse."""
        if self.observation == "glimpse":
            return {key: observation[key] for key in ("glimpse", "location")}
        steps = observation["step"].reshape(-1)
        shown = {"glimpse": observation["features"], "location": observation["locations"]}
        rows = np.arange(len(steps))
        return {
            key: values.reshape(len(steps), self.num_glimpses, -1)[rows, steps - 1] for key, values in shown.items()
        }

    @property
    def acting(self) -> RAMNetwork:
        """Network by which :meth:`predict` acts."""
        return self.network if self.averaged is None else cast(RAMNetwork, self.averaged.module)

    def update_average(self) -> None:
        """Adds the present weights to the moving average, if there is one."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Returns where to look next and the most probable class.

        Args:
            observation: observations of B episodes, or of one without a batch axis.
            state: (B, T, tokens) float32 that the last call returned; None at the first step.
            episode_start: ignored, as the observations tell the step.
            deterministic: whether to take the most probable location in place of a random one.

        Returns:
            Actions (B, 2) int64, or (2,), and the state.
        """
        single = np.ndim(observation["location" if self.observation == "glimpse" else "locations"]) == 1
        batch = {key: np.asarray(value)[None] if single else np.asarray(value) for key, value in observation.items()}
        logits, tokens = self.locate(batch, state)
        locations = logits.argmax(-1) if deterministic else torch.multinomial(logits.softmax(-1), 1)[:, 0]
        actions = np.stack([locations.cpu().numpy(), self.last_probabilities.argmax(1)], axis=1)
        return (actions[0] if single else actions), tokens

    @torch.no_grad()
    def locate(self, observation: Mapping[str, np.ndarray], state: np.ndarray | None) -> tuple[Tensor, np.ndarray]:
        """Returns the logits (B, L) of where to look next, and the state, with arguments as in :meth:`predict` but
        always with a batch axis; sets ``last_probabilities``."""
        self.set_training_mode(False)
        steps, network = observation["step"].reshape(-1), self.acting
        shape = (len(steps), self.num_glimpses, network.tokens)
        tokens = np.zeros(shape, np.float32) if state is None else state.copy()
        seen = np.flatnonzero(steps)
        if len(seen):
            newest = network.read(self.newest({key: value[seen] for key, value in observation.items()}))
            tokens[seen, steps[seen] - 1] = newest.cpu().numpy()
        read = torch.as_tensor(tokens[:, : steps.max()], device=self.device)
        states = network.states(read)[torch.arange(len(steps)), torch.as_tensor(steps)]  # (B, H)
        self.last_probabilities = network.classifier(states).softmax(-1).cpu().numpy()
        return network.locator(states), tokens

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        raise NotImplementedError("a policy with memory acts by predict() only")


def _average(decay: float, averaged: list[Tensor], current: list[Tensor], iterations: Tensor) -> None:
    """Adds ``current`` weights to ``averaged``, the moving average of ``iterations`` earlier ones."""
    count = int(iterations)
    get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, iterations)
