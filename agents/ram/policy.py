"""RAM's network as an SB3 policy: one action names where to look next and what the image is taken for."""

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
from glimpse_env.errors import ConfigurationError

KEYS = frozenset({"glimpse", "location", "step"})
"""Of an observation space with ``observation="glimpse"``."""


class RAMPolicy(BasePolicy):
    """Remembers the glimpses itself: it is shown the newest one, and its state holds the tokens of all.

    Attributes:
        network: looks and classifies; it is trained.
        averaged: the average of its weights and statistics as training went on; None where none is kept.
        proposal: q(l | h_t, theta, x) of wake-sleep training, which is shown label and image; else None.
        last_probabilities: (B, classes) float32, p(theta | y_1:t, l_1:t) behind what :meth:`predict` named last.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        posterior: Mapping[str, Any],
        core: str = "gru",
        encoder: str = "conv",
        tokens: int = 192,
        hidden: int = 192,
        averaging: float = 0.0,
        proposal: bool = False,
        image_channels: int = 1,
    ):
        """
        Args:
            observation_space: of ``observation="glimpse"``.
            action_space: ``MultiDiscrete([locations, classes])``.
            lr_schedule: SB3's.
            posterior, core, encoder, tokens, hidden: see :class:`RAMNetwork`.
            averaging: decay of an exponential moving average of the weights over iterations, by which :meth:`predict`
                then acts, in 0..1: it hides how a constant learning rate makes them jitter. In iteration n the decay
                is (1 + n) / (10 + n) at most, so that the first weights are forgotten. 0 keeps no average.
            proposal: whether there is a proposal network.
            image_channels: of the images that it is shown.

        Raises:
            ConfigurationError: if a space is another one, or averaging is out of range.
        """
        if not 0 <= averaging < 1:
            raise ConfigurationError(f"averaging={averaging} must lie in 0..1, and below 1.")
        if not isinstance(action_space, spaces.MultiDiscrete) or len(action_space.nvec) != 2:
            raise ConfigurationError(f"RAM needs task='classify' with action='discrete', not actions {action_space}.")
        if not isinstance(observation_space, spaces.Dict) or set(observation_space.spaces) != KEYS:
            raise ConfigurationError(
                f"RAM needs an environment with observation='glimpse'; this one shows {observation_space}."
            )
        super().__init__(observation_space, action_space)
        self._constructor = {
            "posterior": dict(posterior),
            "core": core,
            "encoder": encoder,
            "tokens": tokens,
            "hidden": hidden,
            "averaging": averaging,
            "proposal": proposal,
            "image_channels": image_channels,
        }
        locations, classes = (int(number) for number in action_space.nvec)
        self.tokens = tokens
        self.num_glimpses = int(observation_space["step"].n) - 1  # type: ignore[attr-defined]
        self.network = RAMNetwork(posterior, locations, core=core, encoder=encoder, tokens=tokens, hidden=hidden)
        self.proposal = Proposal(locations, classes, image_channels, hidden) if proposal else None
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr_schedule(1))
        self.averaged: AveragedModel | None = None
        if averaging:  # after the optimiser, which has no business with it
            average = partial(_average, averaging)
            self.averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True).requires_grad_(False)
        self.last_probabilities = np.zeros((0, classes), dtype=np.float32)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | self._constructor | {"lr_schedule": _no_schedule}

    @property
    def acting(self) -> RAMNetwork:
        """The network by which :meth:`predict` acts."""
        return self.network if self.averaged is None else cast(RAMNetwork, self.averaged.module)

    def update_average(self) -> None:
        """Takes the network as it is now into the average, where one is kept."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Where to look next, and the class that is most probable now.

        Args:
            observation: of B episodes, or of one without a batch axis.
            state: what the last call returned; None at the first step. It is (B, T, tokens) float32.
            episode_start: of no account: the observations tell the step.
            deterministic: whether to take the most probable location in place of a random one.

        Returns:
            Actions (B, 2) int64, or (2,), and the state.
        """
        self.set_training_mode(False)
        single = np.ndim(observation["location"]) == 1
        shown = {key: np.asarray(value)[None] if single else np.asarray(value) for key, value in observation.items()}
        steps = shown["step"].reshape(-1)
        network = self.acting
        tokens = np.zeros((len(steps), self.num_glimpses, self.tokens), np.float32) if state is None else state.copy()
        seen = np.flatnonzero(steps)
        if len(seen):
            tokens[seen, steps[seen] - 1] = (
                network.read({key: value[seen] for key, value in shown.items()}).cpu().numpy()
            )
        read = torch.as_tensor(tokens[:, : steps.max()], device=self.device)
        states = network.states(read)[torch.arange(len(steps)), torch.as_tensor(steps)]  # (B, H)
        self.last_probabilities = network.classifier(states).softmax(-1).cpu().numpy()
        logits = network.locator(states)
        locations = logits.argmax(-1) if deterministic else torch.multinomial(logits.softmax(-1), 1)[:, 0]
        actions = np.stack([locations.cpu().numpy(), self.last_probabilities.argmax(1)], axis=1)
        return (actions[0] if single else actions), tokens

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        raise NotImplementedError("a policy that remembers acts by predict alone")


class Proposal(nn.Module):
    """q(l_t+1 | h_t, theta, x): where to look for what the image is known to show (Ba et al. 2015).

    It is shown the label and the whole image, 16 x 16 pixels of it, and only serves to train: it proposes sequences
    that explain the label.
    """

    SIDE = 16

    def __init__(self, num_locations: int, num_classes: int, image_channels: int, hidden: int):
        super().__init__()
        self.image = nn.Sequential(
            nn.AdaptiveAvgPool2d(self.SIDE),
            nn.Flatten(),
            nn.Linear(image_channels * self.SIDE**2, hidden),
            nn.ReLU(),
        )
        self.label = nn.Embedding(num_classes, hidden)
        self.joint = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, num_locations)

    def context(self, images: Tensor, labels: Tensor) -> Tensor:
        """(B, 2 H) of images (B, H, W, C) uint8 and labels (B,)."""
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        return torch.cat([self.image(pixels), self.label(labels)], dim=1)

    def forward(self, states: Tensor, context: Tensor) -> Tensor:
        """Logits (..., L) given the core's states (..., H), which it does not move, and contexts (..., 2 H)."""
        return self.out(torch.relu(self.joint(torch.cat([states.detach(), context], dim=-1))))


def _average(decay: float, averaged: list[Tensor], current: list[Tensor], iterations: Tensor) -> None:
    """Takes ``current`` into ``averaged``, which ``iterations`` others are in."""
    count = int(iterations)
    get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, iterations)


def _no_schedule(_: float) -> float:
    """What SB3's policies are saved with in place of their schedule."""
    return 0.0
