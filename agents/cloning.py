"""Behaviour cloning: demonstrations into any SB3 on-policy model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from agents.cloning_data import HISTORY_OBSERVERS, CloningData
from agents.networks.encoders import observation_of
from glimpse_env.errors import ConfigurationError

FEATURE_DROPOUT = 0.3
"""Share of frozen features that the loss on demonstrations drops in training. Without, on 810 demonstrations of CUB,
KL(q || pi) on held-out ones is 0.81 nats in place of 0.71 at temperature 0.02, and rises from pass 16 on."""


@dataclass(frozen=True)
class CloningResult:
    """Losses and agreement of a cloned policy."""

    train_loss: list[float]
    """KL(q || pi) in nats during each pass, a mean over states."""
    held_out_loss: list[float]
    """KL(q || pi) in nats on held-out demonstrations after each pass, a mean over states."""
    top_1: float
    """Share of held-out states whose most probable action is the one that the demonstrator took."""
    top_5: float
    """Share of held-out states in which that action is among the five most probable ones."""


class DemonstrationLoss:
    """KL(q || pi) = sum_l q(l | s) (log q(l | s) - log pi(l | s)) of a policy on demonstrations, in nats.

    Policies with ``demonstration_logits``, as this project's, compute all T states of a demonstration in one pass; with
    a frozen encoder, or none, the features of its glimpses are computed once. Of ``observation="features"`` training
    mode drops some, here alone: dropped in updates on rollouts, the policy would not be the one that collected them.
    Any other SB3 actor-critic policy is evaluated state by state, without.
    """

    def __init__(self, policy: Any, data: CloningData):
        """
        Args:
            policy: policy of an SB3 model.
            data: N demonstrations.

        Raises:
            ConfigurationError: if actions or observations of policy and demonstrations differ.
        """
        check_spaces(policy, data)
        self.policy = policy
        self.data = data
        self._in_one_pass = hasattr(policy, "demonstration_logits")
        self._features: Tensor | None = None
        if self._in_one_pass and policy.pi_features_extractor.frozen:
            with torch.no_grad():
                self._features = torch.cat([self._encode(rows) for rows in data.chunks()])  # (N, T - 1, F)

    def logits(self, rows: np.ndarray) -> Tensor:
        """Returns log pi(l | s_t) up to a constant, (n, T, L) float32, for demonstrations ``rows`` (n,) int."""
        if self._in_one_pass:
            locations = torch.from_numpy(self.data.grid.normalised[self.data[rows].places])
            features = self._encode(rows) if self._features is None else self._features[rows]
            if self.data.observation == "features":
                features = functional.dropout(features, FEATURE_DROPOUT, self.policy.training)
            return self.policy.demonstration_logits(features, locations.to(self.policy.device))
        steps = self.data.num_glimpses
        observations, _ = self.data.batch(np.repeat(rows, steps), np.tile(np.arange(steps), len(rows)))
        observations = {key: value.to(self.policy.device) for key, value in observations.items()}
        logits = self.policy.get_distribution(observations).distribution.logits  # (n * T, L)
        return logits.unflatten(0, (len(rows), steps))

    def __call__(self, rows: np.ndarray) -> Tensor:
        """Returns the mean over the states of demonstrations ``rows`` (n,) int that have a target, a scalar with
        gradients."""
        targets = torch.from_numpy(self.data.targets[rows]).to(self.policy.device)  # (n, T, L)
        divergence = torch.special.xlogy(targets, targets) - targets * torch.log_softmax(self.logits(rows), dim=-1)
        states = (targets.sum(-1) > 0).sum().clamp(min=1)
        return divergence.sum() / states

    def _encode(self, rows: np.ndarray) -> Tensor:
        """Returns features (n, T - 1, F) of the glimpses of demonstrations ``rows`` (n,) int."""
        glimpses = torch.from_numpy(self.data.glimpses[rows]).to(self.policy.device).float()
        if self.data.observation != "history":
            return glimpses
        encoded = self.policy.pi_features_extractor.encoder(glimpses.flatten(0, 1) / 255.0)
        return encoded.unflatten(0, glimpses.shape[:2])


def actor_modules(policy: Any) -> list[nn.Module]:
    """Returns the modules of an SB3 actor-critic policy that its actions depend on."""
    return _modules(policy, "pi_features_extractor", "lstm_actor", "mlp_extractor.policy_net", "action_net")


def critic_modules(policy: Any) -> list[nn.Module]:
    """Returns the modules of an SB3 actor-critic policy that its values depend on."""
    return _modules(policy, "vf_features_extractor", "lstm_critic", "mlp_extractor.value_net", "value_net")


def actor_parameters(policy: Any) -> list[nn.Parameter]:
    """Returns the trainable parameters that the actions of an SB3 actor-critic policy depend on."""
    return _trainable(actor_modules(policy))


def critic_parameters(policy: Any) -> list[nn.Parameter]:
    """Returns the trainable parameters that only the values of an SB3 actor-critic policy depend on."""
    actor = {id(parameter) for parameter in actor_parameters(policy)}
    return [parameter for parameter in _trainable(critic_modules(policy)) if id(parameter) not in actor]


def clone(
    model: OnPolicyAlgorithm,
    data: CloningData,
    *,
    passes: int = 40,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    held_out: float = 0.1,
    seed: int = 0,
    progress: bool = True,
    on_pass: Callable[[int, float, float], None] | None = None,
) -> CloningResult:
    """Trains the actor of ``model`` on demonstrations; its critic and its own optimiser stay as they are.

    The weights after the last pass are kept. The held-out loss is lowest halfway, before the policy becomes too sure of
    itself where it is wrong; but its most probable location, which is what it looks at, gets better to the end.

    Args:
        model: an SB3 on-policy model with ``Discrete`` actions and history observations.
        data: demonstrations.
        passes: passes over the data.
        batch_size: states a gradient step.
        learning_rate: learning rate of AdamW, falling to zero as a cosine over ``passes``.
        weight_decay: weight decay of AdamW.
        held_out: share of the demonstrated images that are held out.
        seed: seed of the split and the batches.
        progress: whether to show a bar.
        on_pass: called after each pass with its 0-based number, the training loss and the held-out loss.

    Raises:
        ConfigurationError: if an argument is out of range or the model does not fit the demonstrations.
    """
    if passes < 1 or batch_size < 1:
        raise ConfigurationError(f"passes={passes} and batch_size={batch_size} must be positive.")
    policy: Any = model.policy
    train, held = (DemonstrationLoss(policy, part) for part in data.split(held_out, seed))
    rng = np.random.default_rng([seed, 1])
    per_batch = max(1, batch_size // data.num_glimpses)
    optimizer = torch.optim.AdamW(actor_parameters(policy), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=passes)
    train_losses: list[float] = []
    held_losses: list[float] = []
    with tqdm(total=passes, desc="cloning", unit="pass", disable=not progress) as bar:
        for number in range(passes):
            policy.set_training_mode(True)
            order = rng.permutation(len(train.data))
            total = 0.0
            for start in range(0, len(order), per_batch):
                rows = order[start : start + per_batch]
                loss = train(rows)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
            schedule.step()
            train_losses.append(total / len(order))
            held_losses.append(_mean_loss(held))
            bar.update()
            bar.set_postfix(train=f"{train_losses[-1]:.3f}", held_out=f"{held_losses[-1]:.3f}")
            if on_pass is not None:
                on_pass(number, train_losses[-1], held_losses[-1])
    policy.set_training_mode(False)
    optimizer.zero_grad()
    top_1, top_5 = agreement(held)
    return CloningResult(train_losses, held_losses, top_1, top_5)


@torch.no_grad()
def agreement(loss: DemonstrationLoss) -> tuple[float, float]:
    """Returns the shares of states with a target in which the location taken is the policy's most probable one, and
    among its five most probable ones."""
    loss.policy.set_training_mode(False)
    ranks, valid = [], []
    for rows in loss.data.chunks():
        logits = loss.logits(rows)
        taken = torch.from_numpy(loss.data.taken[rows].clip(0)).to(logits.device)[..., None]
        ranks.append((logits > logits.gather(-1, taken)).sum(-1).flatten())
        valid.append(torch.from_numpy(loss.data.targets[rows].sum(-1) > 0).flatten())
    rank = torch.cat(ranks).cpu()[torch.cat(valid)]
    return float((rank < 1).float().mean()), float((rank < 5).float().mean())


@torch.no_grad()
def _mean_loss(loss: DemonstrationLoss) -> float:
    """Returns the mean loss over all demonstrations, in evaluation mode."""
    loss.policy.set_training_mode(False)
    return sum(len(rows) * loss(rows).item() for rows in loss.data.chunks()) / len(loss.data)


def _modules(policy: nn.Module, *names: str) -> list[nn.Module]:
    """Returns those of the modules ``names`` that a policy has."""
    modules = dict(policy.named_modules(remove_duplicate=False))
    return [modules[name] for name in names if name in modules]


def _trainable(modules: list[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def check_spaces(policy: Any, data: CloningData) -> None:
    """Raises ConfigurationError if actions or observations of a policy and demonstrations differ."""
    if not isinstance(policy.action_space, spaces.Discrete) or policy.action_space.n != data.num_actions:
        raise ConfigurationError(
            f"demonstrations choose among {len(data.grid)} grid locations, which a model that acts in "
            f'{policy.action_space} cannot learn; use action="discrete", stop={data.stop} and the same data set.'
        )
    observed = policy.observation_space
    if observation_of(observed) != data.observation:
        raise ConfigurationError(
            f'demonstrations show observation="{data.observation}"; the model observes {observed}. Give both the same.'
        )
    key = HISTORY_OBSERVERS[data.observation].key
    width = data.num_glimpses * int(np.prod(data.glimpses.shape[2:]))
    if observed[key].shape != (width,):
        raise ConfigurationError(
            f"the model observes {key} of shape {observed[key].shape}, the demonstrations' are "
            f"({width},); use the same data set and scales."
        )
