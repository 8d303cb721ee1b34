"""The policies of RecurrentPPO and MaskableRecurrentPPO on glimpse episodes: an LSTM reads one glimpse after the
other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentMultiInputActorCriticPolicy
from torch import Tensor
from torch.nn import functional as F

from agents.algorithms.maskable_recurrent import MaskableRecurrentPolicyMixin
from agents.algorithms.policies import NEVER, ActorCriticGlimpsePolicy, prepared, visited_in
from agents.networks.encoders import HistoryExtractor


class NewestGlimpseExtractor(HistoryExtractor):
    """The newest glimpse's token(y_t, l_t); zeros before the first one."""

    def __init__(self, observation_space: spaces.Dict, *, tokens: int = 128, **kwargs: Any):
        """Takes the arguments of :class:`HistoryExtractor`; the features are as wide as a token."""
        super().__init__(observation_space, features_dim=tokens, tokens=tokens, **kwargs)

    def read(self, features: Tensor, locations: Tensor, counts: Tensor) -> Tensor:
        newest = (counts - 1).clamp(min=0)[:, None, None]
        glimpse = features.gather(1, newest.expand(-1, 1, features.shape[2]))[:, 0]
        place = locations.gather(1, newest.expand(-1, 1, locations.shape[2]))[:, 0]
        return self.tokens(glimpse, place) * (counts > 0)[:, None]

    def states(self, features: Tensor, locations: Tensor) -> Tensor:
        return F.pad(self.tokens(features, locations), (0, 0, 1, 0))


class GlimpseRecurrentPolicy(ActorCriticGlimpsePolicy, RecurrentMultiInputActorCriticPolicy):
    """Policy of RecurrentPPO, whose actor and critic have extractors and LSTMs of their own.

    Observations hold the whole history; the policy reads the newest glimpse of it and remembers the others. Locations
    that were looked at get no probability, as in the other policies.
    """

    pi_features_extractor: NewestGlimpseExtractor
    vf_features_extractor: NewestGlimpseExtractor
    encodes_once = False

    def __init__(
        self,
        *args: Any,
        lstm_hidden_size: int = 128,
        features_extractor_class: type[HistoryExtractor] = NewestGlimpseExtractor,
        **kwargs: Any,
    ):
        """Takes the arguments of :class:`ActorCriticGlimpsePolicy`, and the width of the LSTMs."""
        self._visited: Tensor | None = None
        super().__init__(
            *args, lstm_hidden_size=lstm_hidden_size, features_extractor_class=features_extractor_class, **kwargs
        )
        self._constructor["lstm_hidden_size"] = lstm_hidden_size

    def forward(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        with self._masking(obs):
            return super().forward(obs, *args, **kwargs)

    def evaluate_actions(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        with self._masking(obs):
            return super().evaluate_actions(obs, *args, **kwargs)

    def get_distribution(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        with self._masking(obs):
            return super().get_distribution(obs, *args, **kwargs)

    def demonstration_logits(self, features: Tensor, locations: Tensor) -> Tensor:
        """Returns log pi(l | s_t) up to a constant, (n, T, L), for the T states of n demonstrations, see
        :meth:`GlimpseHistoryPolicy.demonstration_logits`."""
        tokens = self.pi_features_extractor.states(features, locations)  # (n, T, tokens)
        states, _ = self.lstm_actor(tokens.transpose(0, 1))  # (T, n, H)
        logits = self.action_net(self.mlp_extractor.forward_actor(states.transpose(0, 1)))
        if self.torch_grid is None:
            return logits
        return logits.masked_fill(self.torch_grid.visited_before(locations), NEVER)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Any:
        if isinstance(self.action_space, spaces.Box):
            return super()._get_action_dist_from_latent(latent_pi)
        return self.action_dist.proba_distribution(action_logits=self.action_logits(latent_pi))

    def action_logits(self, latent_pi: Tensor) -> Tensor:
        """Returns the logits (B, L) of ``Discrete`` actions from the actor's latent code; locations that were looked at
        are masked."""
        logits = self.action_net(latent_pi)
        return logits if self._visited is None else logits.masked_fill(self._visited, NEVER)

    @contextmanager
    def _masking(self, obs: dict[str, Tensor]) -> Iterator[None]:
        """Masks the locations looked at in ``obs`` within the block."""
        observations = prepared(obs, self.observation_space, self.normalize_images)
        self._visited = visited_in(observations, self.torch_grid)
        try:
            yield
        finally:
            self._visited = None


class MaskableGlimpseRecurrentPolicy(MaskableRecurrentPolicyMixin, GlimpseRecurrentPolicy):  # type: ignore[misc]
    """Policy of MaskableRecurrentPPO: the environment's masks are applied beside its own."""

    def action_logits(self, latent_pi: Tensor) -> Tensor:
        return GlimpseRecurrentPolicy.action_logits(self, latent_pi)
