"""Behaviour cloning: demonstrations into any SB3 on-policy model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn
from tqdm.auto import tqdm

from agents.networks.encoders import EMBEDDING_KEYS, HISTORY_KEYS
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.sensing.observations import EmbeddingObserver, HistoryObserver

if TYPE_CHECKING:
    from oracles.demonstrations import Demonstrations

Targets = Literal["soft", "argmax"]


@dataclass(frozen=True)
class CloningData:
    """Demonstrations as states and target distributions: T states each, the one before every glimpse.

    Raises:
        ArtifactError: where shapes disagree.
    """

    grid: LocationGrid
    indices: np.ndarray
    """(N,) int64: which image of the split."""
    taken: np.ndarray
    """(N, T) int64: grid locations in the order they were looked at."""
    glimpses: np.ndarray
    """(N, T - 1, g, g, C * scales) uint8, or (N, T - 1, D) float16 embeddings: what was seen there; nobody acts on the
    last glimpse."""
    targets: np.ndarray
    """(N, T, L) float32: q(l | s_t), the distribution to imitate. All zero, which means no target, where the
    demonstrator looked at a location for the second time under ``"argmax"``."""

    def __post_init__(self) -> None:
        count, steps = self.taken.shape
        if (
            self.indices.shape != (count,)
            or self.glimpses.shape[:2] != (count, steps - 1)
            or self.targets.shape != (count, steps, len(self.grid))
        ):
            raise ArtifactError(
                f"indices {self.indices.shape}, locations {self.taken.shape}, glimpses {self.glimpses.shape} "
                f"and targets {self.targets.shape} of demonstrations do not belong together."
            )

    @classmethod
    def from_demonstrations(
        cls,
        demonstrations: "Demonstrations",
        dataset: GlimpseDataset,
        *,
        targets: Targets = "soft",
        temperature: float = 0.02,
    ) -> "CloningData":
        """Looks the demonstrations' glimpses up in the images.

        Args:
            demonstrations: N sequences.
            dataset: the split that they were made on.
            targets: ``"soft"`` for q(l) = softmax(-EPE(l) / temperature) over the locations not yet looked
                at, ``"argmax"`` for all of q on the location taken.
            temperature: in the unit of the EPE maps, nats.

        Raises:
            ConfigurationError: if an argument is out of range, or soft targets are asked for without maps.
            ArtifactError: if demonstrations and data set do not belong together.
        """
        geometry, grid = dataset.geometry, dataset.geometry.grid
        taken, indices = demonstrations.locations, demonstrations.indices
        if taken.shape[1] != geometry.num_glimpses:
            raise ArtifactError(
                f"the demonstrations have {taken.shape[1]} glimpses a sequence, {dataset.name} has "
                f"{geometry.num_glimpses}; make them again."
            )
        for name, values, end in (("image", indices, len(dataset)), ("location", taken, len(grid))):
            if values.min(initial=0) < 0 or values.max(initial=0) >= end:
                raise ArtifactError(
                    f"the demonstrations name {name}s {values.min()} to {values.max()}, "
                    f"{dataset.name}/{dataset.split} has {end}; make them again."
                )
        rows = np.repeat(indices, geometry.num_glimpses - 1)
        corners = grid.corners[taken[:, :-1].reshape(-1)]
        glimpses = geometry.sensor(dataset.images, rows, corners)
        return cls(
            grid=grid,
            indices=indices,
            taken=taken,
            glimpses=glimpses.reshape(len(taken), geometry.num_glimpses - 1, *glimpses.shape[1:]),
            targets=_target_distributions(targets, taken, demonstrations.epe, len(grid), temperature),
        )

    def __len__(self) -> int:
        """N, sequences."""
        return len(self.taken)

    @property
    def num_glimpses(self) -> int:
        """T."""
        return self.taken.shape[1]

    def __getitem__(self, rows: Any) -> "CloningData":
        """Some of the demonstrations; ``rows`` is a slice, an index array or a mask."""
        return CloningData(self.grid, self.indices[rows], self.taken[rows], self.glimpses[rows], self.targets[rows])

    def with_mirror_images(self) -> "CloningData":
        """These and their mirror images, 2 N in all: for data whose classes do not care about left and right.

        Raises:
            ConfigurationError: if the grid of locations is not symmetric, or there are embeddings in place of pixels.
        """
        if self.observation == "embedding":
            raise ConfigurationError("embeddings cannot be mirrored; mirror the demonstrations first, then embed them.")
        if not self.grid.mirror_symmetric:
            raise ConfigurationError(
                f"locations at every {self.grid.stride} of {self.grid.span} pixels are not symmetric, "
                "so demonstrations on them cannot be mirrored."
            )
        mirror = np.arange(len(self.grid)).reshape(self.grid.side, -1)[:, ::-1].reshape(-1)
        return CloningData(
            self.grid,
            np.concatenate([self.indices, self.indices]),
            np.concatenate([self.taken, mirror[self.taken]]),
            np.concatenate([self.glimpses, self.glimpses[..., ::-1, :]]),
            np.concatenate([self.targets, self.targets[..., mirror]]),
        )

    @torch.inference_mode()
    def embedded(self, judge: Judge) -> "CloningData":
        """These with what the judge's first network makes of each glimpse and its location in place of pixels, as
        ``observation="embedding"`` shows it."""
        network = judge.networks[0]
        embeddings = []
        for start in range(0, len(self), 256):
            glimpses, taken = self.glimpses[start : start + 256], self.taken[start : start + 256, :-1]
            places = torch.from_numpy(self.grid.normalised[taken])  # (n, T - 1, 2)
            features = network.encode_glimpses(torch.from_numpy(np.ascontiguousarray(glimpses)))
            embeddings.append(network.embed(features, places).half().numpy())  # (n, T - 1, D)
        return CloningData(self.grid, self.indices, self.taken, np.concatenate(embeddings), self.targets)

    @property
    def observation(self) -> Literal["history", "embedding"]:
        """The observation mode that shows what was seen."""
        return "embedding" if self.glimpses.ndim == 3 else "history"

    def split(self, held_out: float, seed: int) -> tuple["CloningData", "CloningData"]:
        """A part to train on and a held-out part; all demonstrations of one image are in the same part.

        Args:
            held_out: share of the images held out, in (0, 1).
            seed: which ones.

        Raises:
            ConfigurationError: if the share is out of range or one part would be empty.
        """
        images = np.unique(self.indices)
        count = round(held_out * len(images))
        if not 0 < count < len(images):
            raise ConfigurationError(
                f"held_out={held_out} of {len(images)} images leaves nothing on one side; "
                "give more demonstrations or another share."
            )
        chosen = np.random.default_rng(seed).permutation(images)[:count]
        held = np.isin(self.indices, chosen)
        return self[~held], self[held]

    def batch(self, rows: np.ndarray, steps: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """States as an environment would show them, and their targets.

        Args:
            rows: (n,) int, which demonstration.
            steps: (n,) int in 0..T - 1, how many of its glimpses have been seen.

        Returns:
            Observation tensors of n states, and (n, L) float32.
        """
        made = EmbeddingObserver if self.observation == "embedding" else HistoryObserver
        observer = made(self.grid, self.num_glimpses, self.glimpses.shape[-1])
        shown = observer.blank(len(rows))
        for t in range(int(steps.max(initial=0))):
            which = np.flatnonzero(steps > t)
            corners = self.grid.corners[self.taken[rows[which], t]]
            observer.write(shown, t, self.glimpses[rows[which], t], corners, which)
        tensors = {key: torch.from_numpy(value) for key, value in shown.items()}
        return tensors, torch.from_numpy(self.targets[rows, steps])


@dataclass(frozen=True)
class CloningResult:
    """How cloning went."""

    train_loss: list[float]
    """KL(q || pi) in nats for each pass, a mean over states and over the pass."""
    held_out_loss: list[float]
    """The same on held-out demonstrations after each pass."""
    top_1: float
    """Share of held-out states at which the policy's favourite is the location that the demonstrator took."""
    top_5: float
    """Share at which that location is among the policy's five favourites."""


class DemonstrationLoss:
    """KL(q || pi) = sum_l q(l | s) (log q(l | s) - log pi(l | s)) of a policy on demonstrations, in nats.

    Our own policies read all T states of a demonstration in one pass; with a frozen encoder, or none, the features of
    its glimpses are computed once and kept. Any other SB3 actor-critic policy is asked state by state.
    """

    def __init__(self, policy: Any, data: CloningData):
        """
        Args:
            policy: of an SB3 on-policy model.
            data: N demonstrations.

        Raises:
            ConfigurationError: if the policy has other actions or observations than the demonstrations.
        """
        check_spaces(policy, data)
        self.policy = policy
        self.data = data
        self._own = hasattr(policy, "demonstration_logits")
        self._features: Tensor | None = None
        if self._own and policy.pi_features_extractor.frozen:
            with torch.no_grad():
                chunks = torch.arange(len(data)).split(256)
                self._features = torch.cat([self._encode(chunk.numpy()) for chunk in chunks])  # (N, T - 1, F)

    def logits(self, rows: np.ndarray) -> Tensor:
        """(n, T, L) float32: log pi(l | s_t) up to a constant, for the states of demonstrations ``rows`` (n,) int."""
        return self._fast_logits(rows) if self._own else self._generic_logits(rows)

    def __call__(self, rows: np.ndarray) -> Tensor:
        """Mean over the states of demonstrations ``rows`` (n,) int that have a target; a scalar with gradients."""
        targets = torch.from_numpy(self.data.targets[rows]).to(self.policy.device)  # (n, T, L)
        divergence = torch.special.xlogy(targets, targets) - targets * torch.log_softmax(self.logits(rows), dim=-1)
        states = (targets.sum(-1) > 0).sum().clamp(min=1)
        return divergence.sum() / states

    def _fast_logits(self, rows: np.ndarray) -> Tensor:
        locations = torch.from_numpy(self.data.grid.normalised[self.data.taken[rows, :-1]]).to(self.policy.device)
        features = self._encode(rows) if self._features is None else self._features[rows]
        return self.policy.demonstration_logits(features, locations)

    def _generic_logits(self, rows: np.ndarray) -> Tensor:
        steps = self.data.num_glimpses
        observations, _ = self.data.batch(np.repeat(rows, steps), np.tile(np.arange(steps), len(rows)))
        observations = {key: value.to(self.policy.device) for key, value in observations.items()}
        logits = self.policy.get_distribution(observations).distribution.logits  # (n * T, L)
        return logits.unflatten(0, (len(rows), steps))

    def _encode(self, rows: np.ndarray) -> Tensor:
        """(n, T - 1, F)."""
        glimpses = torch.from_numpy(self.data.glimpses[rows]).to(self.policy.device).float()
        if self.data.observation == "embedding":
            return glimpses
        encoded = self.policy.pi_features_extractor.encoder(glimpses.flatten(0, 1) / 255.0)
        return encoded.unflatten(0, glimpses.shape[:2])


def actor_parameters(policy: Any) -> list[nn.Parameter]:
    """What decides on the actions of an SB3 actor-critic policy, without what is frozen."""
    if hasattr(policy, "actor_modules"):
        return _trainable(policy.actor_modules)
    return _trainable((policy.pi_features_extractor, policy.mlp_extractor.policy_net, policy.action_net))


def critic_parameters(policy: Any) -> list[nn.Parameter]:
    """What decides on the values of an SB3 actor-critic policy and on nothing else, without what is frozen."""
    actor = {id(parameter) for parameter in actor_parameters(policy)}
    modules = (
        policy.critic_modules
        if hasattr(policy, "critic_modules")
        else (policy.vf_features_extractor, policy.mlp_extractor.value_net, policy.value_net)
    )
    return [parameter for parameter in _trainable(modules) if id(parameter) not in actor]


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

    All passes are made and the last weights kept. The held-out loss is lowest halfway, when the policy is least sure of
    itself where it is wrong; but what it looks at is its favourite, and that gets better to the end.

    Args:
        model: an SB3 on-policy model with ``Discrete`` actions and history observations.
        data: demonstrations.
        passes: over the data.
        batch_size: states a gradient step.
        learning_rate: of Adam (AdamW), falling to zero as a cosine over ``passes``.
        weight_decay: of AdamW.
        held_out: share of the demonstrated images that are not trained on.
        seed: of the split and the batches.
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
    """Shares of states, among those with a target, at which the location taken is the policy's favourite,
    and among its five."""
    ranks, valid = [], []
    for rows in _chunks(loss.data):
        logits = loss.logits(rows)
        taken = torch.from_numpy(loss.data.taken[rows]).to(logits.device)[..., None]
        ranks.append((logits > logits.gather(-1, taken)).sum(-1).flatten())
        valid.append(torch.from_numpy(loss.data.targets[rows].sum(-1) > 0).flatten())
    rank = torch.cat(ranks).cpu()[torch.cat(valid)]
    return float((rank < 1).float().mean()), float((rank < 5).float().mean())


@torch.no_grad()
def _mean_loss(loss: DemonstrationLoss) -> float:
    """Over all demonstrations, in evaluation mode."""
    loss.policy.set_training_mode(False)
    parts = [(len(rows), loss(rows).item()) for rows in _chunks(loss.data)]
    return sum(count * value for count, value in parts) / len(loss.data)


def _chunks(data: CloningData) -> list[np.ndarray]:
    return [np.arange(start, min(start + 256, len(data))) for start in range(0, len(data), 256)]


def _trainable(modules: tuple[nn.Module, ...]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def check_spaces(policy: Any, data: CloningData) -> None:
    if not isinstance(policy.action_space, spaces.Discrete) or policy.action_space.n != len(data.grid):
        raise ConfigurationError(
            f"demonstrations choose among {len(data.grid)} grid locations, which a model that acts in "
            f'{policy.action_space} cannot learn; use action="discrete" and the same data set.'
        )
    observed, keys = policy.observation_space, {"history": HISTORY_KEYS, "embedding": EMBEDDING_KEYS}
    if not isinstance(observed, spaces.Dict) or set(observed.spaces) != keys[data.observation]:
        raise ConfigurationError(
            f'demonstrations show observation="{data.observation}"; the model observes {observed}. Give both the same.'
        )
    shown = "glimpses" if data.observation == "history" else "embeddings"
    width = data.num_glimpses * int(np.prod(data.glimpses.shape[2:]))
    if observed[shown].shape != (width,):
        raise ConfigurationError(
            f"the model observes {shown} of shape {observed[shown].shape}, the demonstrations' are "
            f"({width},); use the same data set and scales."
        )


def _target_distributions(
    targets: Targets, taken: np.ndarray, epe: np.ndarray | None, num_locations: int, temperature: float
) -> np.ndarray:
    """(N, T, L) float32; see :meth:`CloningData.from_demonstrations`."""
    looked = np.eye(num_locations, dtype=bool)[taken]  # (N, T, L)
    visited = np.zeros_like(looked)
    visited[:, 1:] = np.logical_or.accumulate(looked, axis=1)[:, :-1]
    if targets == "argmax":
        return (looked & ~visited).astype(np.float32)
    if targets != "soft":
        raise ConfigurationError(f"targets={targets!r} must be one of {', '.join(get_args(Targets))}.")
    if temperature <= 0:
        raise ConfigurationError(f"temperature={temperature} must be positive.")
    if epe is None:
        raise ConfigurationError('these demonstrations have no EPE maps for soft targets; use targets="argmax".')
    if epe.shape != looked.shape:
        raise ArtifactError(f"EPE maps are {epe.shape}, where {looked.shape} is needed; make the demonstrations again.")
    usable = np.isfinite(epe) & ~visited
    if not usable.any(axis=-1).all():
        n, t = np.argwhere(~usable.any(axis=-1))[0]
        raise ArtifactError(f"demonstration {n} has no finite EPE before glimpse {t + 1}; make them again.")
    scores = np.where(usable, -epe.astype(np.float32) / temperature, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)
