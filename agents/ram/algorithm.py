"""Training of networks that look and classify: RAM, with partial supervision, with wake-sleep, with pretraining.

One minibatch is one episode on each of B images, played by the network as it acts; then the network reads all its
glimpses together, with gradients. The loss is, with S its episodes that are supervised by an image's sequence,

    mean_i CE_i  +  a mean_(i in S) sum_t -log pi(l_t | h_t-1)
                 +  b mean_(i not in S) sum_t -log pi(l_t | h_t-1) (R_i - b(h_t-1))  +  c mean (R_i - b(h_t-1))^2
                 -  e mean_(i not in S) sum_t H[ pi(. | h_t-1) ]

The glimpses of episodes in S are fixed to the sequence, and they know no REINFORCE; the others sample (Harvey et al.
2019). All terms are means, so that no weight depends on the batch's size. Sampled locations reach the network as
numbers from the environment: they carry no gradient.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import safe_mean
from torch import Tensor
from torch.nn import functional as F

from agents.ram.policy import RAMPolicy
from agents.ram.sequences import Sequences
from agents.registry import episodes_of, posterior_config
from glimpse_env.checks import whole_number
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import Rollouts, play

FREE = -1
"""In place of a location: it is sampled."""
FEATURES = 96
"""Width of the glimpse encoder's output by default: half the judge's, at a third of its cost."""
LEARNING_RATE = 1e-3
_IMAGES, _SUPERVISED, _HEURISTIC, _SAMPLING = range(4)
"""What random numbers are for: each has a stream of its own."""


@dataclass(frozen=True)
class Weights:
    """Of the terms of the loss, beside the classification's, which is 1."""

    imitation: float = 0.2
    """Of -log pi over the locations of a sequence, a mean over supervised images of the sum over t."""
    reinforce: float = 0.2
    """Of the policy gradient's term, a mean over the other images of the sum over t."""
    baseline: float = 0.5
    """Of (R - b(h_t))^2, a mean over the same images and t."""
    entropy: float = 0.001
    """Of the locator's entropy in nats, which is a gain: a mean over the same images of the sum over t. RAM's own is a
    Gaussian of fixed width, which never stops to explore; one over a grid soon looks at one place without this, and the
    classifier learns the training images by heart."""


@dataclass(frozen=True)
class Minibatch:
    """What the B episodes of an iteration are to be like."""

    indices: np.ndarray
    """(B,) int64: images of the training split."""
    given: np.ndarray
    """(B, T) int64: where to look, or FREE."""
    supervised: np.ndarray
    """(B,) bool: whether the locations given are to be imitated."""
    group: int = 1
    """Neighbouring episodes on one image, whose locations are proposed by wake-sleep's q; 1 without."""


@dataclass(frozen=True)
class Episodes:
    """B episodes as they were played."""

    chosen: np.ndarray
    """(B, T) int64: grid locations."""
    glimpses: np.ndarray
    """(B, T, g * g * C * scales) float32."""
    places: np.ndarray
    """(B, T, 2) float32: the locations, normalised."""
    returns: np.ndarray
    """(B,): what the environment paid."""


@dataclass(frozen=True)
class Played:
    """What the network makes of B episodes, with gradients."""

    log_pi: Tensor
    """(B, T): log pi(l_t | h_t-1) of the locations taken."""
    entropies: Tensor
    """(B, T): H[pi(. | h_t-1)], nats."""
    log_q: Tensor | None
    """(B, T): the proposal's, where it proposed."""
    values: Tensor
    """(B, T): b(h_t-1)."""
    logits: Tensor
    """(B, T, classes) of the classifier after each glimpse, or (B, 1, classes) after the last."""
    foreseen: Tensor | None
    """(B, T - 1): the entropies expected after the second to the last glimpse, a glimpse before."""
    labels: Tensor
    """(B,) int64."""
    returns: Tensor
    """(B,): what the environment paid."""


class RAM(BaseAlgorithm):
    """RAM and its relatives as an SB3 algorithm for ``task="classify"`` with ``observation="glimpse"``.

    An iteration, of one episode in every environment, is one step of Adam. What it draws depends on the seed and its
    number only, so training that goes on from a saved model ends as if it had not been stopped.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"RAMPolicy": RAMPolicy}
    policy: RAMPolicy

    def __init__(
        self,
        policy: str | type[RAMPolicy],
        env: Any,
        *,
        sequences: Sequences | None = None,
        supervised_share: float = 0.5,
        wake_sleep: int = 0,
        pretraining: int = 0,
        every_step: bool = False,
        weights: Weights | Mapping[str, float] | None = None,
        learning_rate: Any = LEARNING_RATE,
        max_grad_norm: float = 5.0,
        policy_kwargs: dict[str, Any] | None = None,
        tensorboard_log: str | None = None,
        stats_window_size: int = 100,
        verbose: int = 0,
        seed: int | None = None,
        device: Any = "cpu",
        _init_setup_model: bool = True,
    ):
        """
        Args:
            policy: ``"RAMPolicy"``.
            env: this project's, B environments; or None to load a model that only acts.
            sequences: of the images that are supervised; None for none. They are not saved with the model. The others
                are played freely; where all images have one, all of them are too, in minibatches' other parts.
            supervised_share: of a minibatch, which supervised images make up; in 0..1.
            wake_sleep: episodes on an image that are weighted against each other (WS-RAM, Ba et al. 2015), a divisor
                of B; 0 for REINFORCE.
            pretraining: iterations at first that look at random and train all but the locator (RAM+).
            every_step: whether the classifier is trained after every glimpse, and the entropy to come is foreseen:
                what stopping early needs.
            weights: of the loss's terms.
            learning_rate: Adam's; a number or SB3's schedule.
            max_grad_norm: to which gradients are clipped.
            policy_kwargs: see :class:`RAMPolicy`; ``posterior`` and what follows from the environment are filled in.
            seed: of the weights and of all that is drawn.
            tensorboard_log, stats_window_size, verbose, device: as in SB3.

        Raises:
            ConfigurationError: if an argument is out of range, sequences do not fit the environment, or it is another.
        """
        self.wake_sleep = whole_number("wake_sleep", wake_sleep, 0)
        self.pretraining = whole_number("pretraining", pretraining, 0)
        if not 0 <= supervised_share <= 1:
            raise ConfigurationError(f"supervised_share={supervised_share} must lie in 0..1.")
        if wake_sleep == 1:
            raise ConfigurationError("wake_sleep=1 has nothing to weigh an episode against; take 2 or more, or 0.")
        if wake_sleep and (sequences is not None or pretraining):
            raise ConfigurationError(
                f"wake_sleep={wake_sleep} proposes its own locations; leave sequences and pretraining out."
            )
        self.supervised_share, self.every_step = supervised_share, every_step
        self.weights = asdict(weights) if isinstance(weights, Weights) else asdict(Weights(**(weights or {})))
        self.max_grad_norm, self.sequences = max_grad_norm, sequences
        self.iterations = 0
        super().__init__(
            policy,
            env,
            learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=(spaces.MultiDiscrete,),
        )
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        if self.env is not None:
            episodes = self._episodes
            if self.wake_sleep and self.n_envs % self.wake_sleep:
                raise ConfigurationError(f"wake_sleep={self.wake_sleep} must divide {self.n_envs}, the environments.")
            self._check_sequences(episodes)
            asked = dict(self.policy_kwargs)
            posterior = asdict(posterior_config(episodes)) | {"features": FEATURES} | dict(asked.pop("posterior", {}))
            self.policy_kwargs = {
                "posterior": posterior,
                "proposal": self.wake_sleep > 0,
                "image_channels": episodes.dataset.images.shape[3],
                **asked,
            }
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)

    @property
    def last_probabilities(self) -> np.ndarray:
        """See :class:`RAMPolicy`."""
        return self.policy.last_probabilities

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int = 50,
        tb_log_name: str = "RAM",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> "RAM":
        """As SB3's; ``total_timesteps`` are environment steps, T + 1 of each environment an iteration.

        Args:
            log_interval: iterations between two entries of the log, which are means over them.

        Raises:
            ConfigurationError: if the model has no environment.
        """
        if self.env is None:
            raise ConfigurationError("the model has no environment to learn in; call set_env first.")
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            callback.on_rollout_start()
            drawn = self._draw()
            episodes = self._play(drawn, callback)
            if episodes is None:
                break
            callback.on_rollout_end()
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self._update(self.loss(drawn, self.read(drawn, episodes)))
            if log_interval and self.iterations % log_interval == 0:
                self._log()
        callback.on_training_end()
        return self

    def look(self, dataset: GlimpseDataset, indices: np.ndarray) -> Rollouts:
        """One deterministic episode on each of the images ``indices`` (N,) of a split."""
        return play(self, dataset, None, indices, observation="glimpse", progress=False)

    def loss(self, drawn: Minibatch, played: Played) -> Tensor:
        """L of a minibatch that was played; logs its terms."""
        every = played.labels[:, None].expand(played.logits.shape[:2])
        errors = F.cross_entropy(played.logits.flatten(0, 1), every.flatten(), reduction="none").view(every.shape)
        last, errors = errors[:, -1], errors.mean(1)  # (B,)
        terms: dict[str, Tensor] = {}
        if played.log_q is not None:
            terms |= self._wake_sleep_terms(drawn, played, errors, last)
        else:
            terms["classification"] = errors.mean()
            supervised = torch.as_tensor(drawn.supervised, device=self.device)
            free = torch.as_tensor((drawn.given == FREE).all(1), device=self.device)
            if supervised.any():
                terms["imitation"] = -self.weights["imitation"] * played.log_pi[supervised].sum(1).mean()
            if free.any():
                values, returns = played.values[free], played.returns[free, None]
                advantages = (returns - values).detach()
                terms["reinforce"] = -self.weights["reinforce"] * (played.log_pi[free] * advantages).sum(1).mean()
                terms["entropy"] = -self.weights["entropy"] * played.entropies[free].sum(1).mean()
                terms["baseline"] = self.weights["baseline"] * (returns - values).square().mean()
        if played.foreseen is not None:
            entropies = torch.distributions.Categorical(logits=played.logits.detach()).entropy()
            terms["foresight"] = (played.foreseen - entropies[:, 1:]).square().mean()
        for name, term in terms.items():
            self.logger.record_mean(f"train/{name}_loss", term.item())
        return torch.stack(list(terms.values())).sum()

    def _wake_sleep_terms(self, drawn: Minibatch, played: Played, errors: Tensor, last: Tensor) -> dict[str, Tensor]:
        """Those of WS-RAM, from M episodes a_m ~ q on each image:

            w_m = p(theta | a_m) p(a_m) / q(a_m), normalised over m;  -sum_m w_m [log p(theta, a_m) + log q(a_m)]

        with p(theta | a_m) the classifier's answer, of which ``last`` (B,) is the -log. q learns in the same way, which
        is its wake phase.
        """
        assert played.log_q is not None
        log_pi, log_q = (log.sum(1).unflatten(0, (-1, drawn.group)) for log in (played.log_pi, played.log_q))  # (b, M)
        errors, last = (error.unflatten(0, (-1, drawn.group)) for error in (errors, last))
        weights = (-last + log_pi - log_q).detach().softmax(1)
        self.logger.record_mean("train/effective_samples", (1 / weights.square().sum(1)).mean().item())
        return {
            "classification": (weights * errors).sum(1).mean(),
            "prior": -self.weights["imitation"] * (weights * log_pi).sum(1).mean(),
            "proposal": -self.weights["imitation"] * (weights * log_q).sum(1).mean(),
        }

    # -- an iteration ---------------------------------------------------------------------------------------------

    @cached_property
    def _episodes(self) -> EpisodeBatch:
        """What the environments are made of."""
        batch = episodes_of(self.env)
        if batch.task != "classify":
            raise ConfigurationError("RAM needs an environment with task='classify', e.g. GlimpseBirdsClassify-v0.")
        return batch

    def _generator(self, what: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed or 0, what, number])

    def _check_sequences(self, episodes: EpisodeBatch) -> None:
        if self.sequences is None:
            return
        images, steps = len(episodes.dataset), episodes.geometry.num_glimpses
        if self.sequences.indices.max() >= images or self.sequences.locations.max() >= len(episodes.grid):
            raise ConfigurationError(
                f"sequences of image {self.sequences.indices.max()} and location {self.sequences.locations.max()} do "
                f"not fit an environment of {images} images and {len(episodes.grid)} locations."
            )
        self.sequences = self.sequences.first(num_glimpses=steps)

    def _draw(self) -> Minibatch:
        """The images of this iteration: passes over them in an order drawn anew for each."""
        episodes, number = self._episodes, self.iterations
        steps, count = episodes.geometry.num_glimpses, self.n_envs
        if self.wake_sleep:
            images = self._in_turn(_IMAGES, len(episodes.dataset), count // self.wake_sleep, number)
            rows = np.repeat(images, self.wake_sleep)
            return Minibatch(rows, np.full((count, steps), FREE), np.zeros(count, dtype=bool), self.wake_sleep)
        supervised = 0 if self.sequences is None else round(self.supervised_share * count)
        free = self._free_images[self._in_turn(_IMAGES, len(self._free_images), count - supervised, number)]
        given = np.full((count, steps), FREE)
        if number < self.pretraining:
            given = self._generator(_HEURISTIC, number).integers(len(episodes.grid), size=given.shape)
        indices = free
        if self.sequences is not None:
            chosen = self._in_turn(_SUPERVISED, len(self.sequences), supervised, number)
            indices = np.concatenate([self.sequences.indices[chosen], free])
            given[:supervised] = self.sequences.locations[chosen]
        return Minibatch(indices, given, np.arange(count) < supervised)

    @cached_property
    def _free_images(self) -> np.ndarray:
        """Those without a sequence; where all have one, all."""
        every = np.arange(len(self._episodes.dataset))
        free = every if self.sequences is None else np.setdiff1d(every, self.sequences.indices)
        return free if len(free) else every

    def _in_turn(self, what: int, count: int, wanted: int, number: int) -> np.ndarray:
        """(wanted,) of 0..count - 1 for iteration ``number``: all come once before one comes again."""
        places = np.arange(number * wanted, (number + 1) * wanted)
        return np.concatenate(
            [
                self._order(what, int(turn), count)[places[places // count == turn] % count]
                for turn in np.unique(places // count)
            ]
            or [np.empty(0, dtype=np.int64)]
        )

    def _order(self, what: int, turn: int, count: int) -> np.ndarray:
        key = (what, turn, count)
        if key not in self._orders:
            for old in [old for old in self._orders if old[0] == what and old[1] < turn - 1]:
                del self._orders[old]
            self._orders[key] = self._generator(what, turn).permutation(count)
        return self._orders[key]

    @cached_property
    def _orders(self) -> dict[tuple[int, int, int], np.ndarray]:
        return {}

    @torch.no_grad()
    def _play(self, drawn: Minibatch, callback: BaseCallback) -> Episodes | None:
        """The episodes, played by the network as it acts; None if the callback stops training."""
        env, episodes, network = self.env, self._episodes, self.policy.network
        assert env is not None
        self.policy.set_training_mode(False)
        context = self._context(drawn)
        chance = torch.Generator(self.device).manual_seed(
            int(self._generator(_SAMPLING, self.iterations).integers(2**62))
        )
        env.set_options([{"index": int(index)} for index in drawn.indices])
        env.reset()
        state, memory = network.core.begin(self.n_envs)
        chosen, glimpses, places, returns = [], [], [], np.zeros(self.n_envs)
        for t in range(episodes.geometry.num_glimpses):
            sampled = torch.multinomial(self._chances(state, context), 1, generator=chance)[:, 0].cpu().numpy()
            chosen.append(np.where(drawn.given[:, t] == FREE, sampled, drawn.given[:, t]))
            observations, rewards = self._step(np.stack([chosen[-1], np.zeros_like(sampled)], axis=1), callback)
            if observations is None:
                return None
            returns += rewards
            glimpses.append(observations["glimpse"])
            places.append(observations["location"])
            state, memory = network.core.step(network.read(observations), memory)
        answers = network.classifier(state).argmax(-1).cpu().numpy()
        observations, rewards = self._step(np.stack([np.zeros_like(answers), answers], axis=1), callback)
        if observations is None:
            return None
        return Episodes(
            np.stack(chosen, axis=1), np.stack(glimpses, axis=1), np.stack(places, axis=1), returns + rewards
        )

    def read(self, drawn: Minibatch, episodes: Episodes) -> Played:
        """What the network, in training, makes of episodes that were played."""
        network, batch = self.policy.network, self.n_envs
        self.policy.set_training_mode(True)
        shown = {"glimpse": episodes.glimpses.reshape(-1, episodes.glimpses.shape[2])}
        shown["location"] = episodes.places.reshape(-1, 2)
        states = network.states(network.read(shown).unflatten(0, (batch, -1)))  # (B, T + 1, H)
        before, taken = states[:, :-1], torch.as_tensor(episodes.chosen, device=self.device)[..., None]
        context = self._context(drawn)
        proposed = None if context is None else self._proposed(before, context)
        pi = torch.distributions.Categorical(logits=network.locator(before), validate_args=False)
        return Played(
            log_pi=pi.logits.gather(2, taken)[..., 0],
            entropies=pi.entropy(),
            log_q=None if proposed is None else proposed.log_softmax(-1).gather(2, taken)[..., 0],
            values=network.expected_return(before),
            logits=network.classifier(states[:, 1:] if self.every_step else states[:, -1:]),
            foreseen=network.expected_entropy(states[:, 1:-1]) if self.every_step else None,
            labels=self._labels(drawn),
            returns=torch.as_tensor(episodes.returns, dtype=torch.float32, device=self.device),
        )

    def _labels(self, drawn: Minibatch) -> Tensor:
        return torch.as_tensor(self._episodes.dataset.labels[drawn.indices], device=self.device)

    def _context(self, drawn: Minibatch) -> Tensor | None:
        """What wake-sleep's proposal is shown of the images; None without it."""
        if self.policy.proposal is None or drawn.group == 1:
            return None
        images = torch.from_numpy(self._episodes.dataset.images[drawn.indices]).to(self.device)
        return self.policy.proposal.context(images, self._labels(drawn))

    def _chances(self, state: Tensor, context: Tensor | None) -> Tensor:
        """(B, L): how probable each location is to be sampled next."""
        logits = self.policy.network.locator(state) if context is None else self._proposed(state, context)
        return logits.softmax(-1)

    def _proposed(self, states: Tensor, context: Tensor) -> Tensor:
        """The proposal's logits (B, ..., L) for states (B, ..., H)."""
        assert self.policy.proposal is not None
        shape = (*states.shape[:-1], context.shape[-1])
        return self.policy.proposal(states, context.view(len(context), *[1] * (states.ndim - 2), -1).expand(shape))

    def _step(self, actions: np.ndarray, callback: BaseCallback) -> tuple[Any, np.ndarray]:
        """Observations and rewards of one step; None in place of the former if the callback stops training."""
        assert self.env is not None
        observations, rewards, dones, infos = self.env.step(actions)
        self.num_timesteps += self.n_envs
        self._update_info_buffer(infos, dones)
        callback.update_locals(locals())
        return (observations if callback.on_step() else None), rewards

    def _update(self, loss: Tensor) -> None:
        optimiser = self.policy.optimizer
        self._update_learning_rate(optimiser)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        optimiser.step()
        self.policy.update_average()
        self.iterations += 1

    def _log(self) -> None:
        buffer, successes = self.ep_info_buffer, self.ep_success_buffer
        if buffer:
            self.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in buffer]))
        if successes:
            self.logger.record("rollout/success_rate", safe_mean(successes))
        self.logger.record("time/iterations", self.iterations)
        self.logger.dump(step=self.num_timesteps)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "sequences", "_episodes", "_free_images", "_orders"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
