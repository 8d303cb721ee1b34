"""Trains networks that look and classify: RAM, with partial supervision, with wake-sleep, with pretraining.

A minibatch is one episode on each of B images. The network plays it as it acts, then reads all its glimpses together,
with gradients, for the loss (:mod:`agents.ram.losses`). Sampled locations reach the network as numbers from the
environment: they carry no gradient.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

from agents.ram.losses import Played, Weights, loss_terms
from agents.ram.minibatches import DROPOUT, FREE, SAMPLING, Minibatch, MinibatchSampler, random_stream
from agents.ram.policy import RAMPolicy
from agents.ram.proposals import mixed
from agents.ram.sequences import Sequences
from agents.registry import Algorithm, episodes_of, posterior_config
from glimpse_env.checks import whole_number
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import Rollouts, play

FEATURES = 96
"""Width of the glimpse encoder's output by default: half the judge's, at a third of its cost."""
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Episodes:
    """B episodes as they were played."""

    locations: np.ndarray
    """(B, T) int64: grid locations in the order they were looked at."""
    glimpses: np.ndarray
    """(B, T, g * g * C * scales) or (B, T, W) float32."""
    places: np.ndarray
    """(B, T, coordinates) float32: the locations, normalised."""
    returns: np.ndarray
    """(B,): the episodes' returns."""


class RAM(BaseAlgorithm):
    """RAM and its relatives as an SB3 algorithm for ``task="classify"``, ``observation="glimpse"`` or ``"features"``.

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
        control_variates: bool = False,
        exploration: float = 0.0,
        proposal_map: bool = False,
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
            env: B of this project's environments; or None to load a model that only acts.
            sequences: sequences of the supervised images; None for none. They are not saved with the model. The other
                images, or all where each has a sequence, are played freely in the rest of the minibatches.
            supervised_share: share of supervised episodes in a minibatch, in 0..1.
            wake_sleep: episodes on an image that are weighted against each other (WS-RAM, Ba et al. 2015), a divisor
                of B; 0 for REINFORCE.
            control_variates: whether wake-sleep subtracts control variates from its weights, and has the bonus on the
                locator's entropy, see :mod:`agents.ram.losses`.
            exploration: d, share of wake-sleep's proposal that is uniform over locations, at least 0 and below 1.
            proposal_map: whether wake-sleep's proposal reads a feature map of the image in place of 16 x 16 pixels.
            pretraining: iterations at first that look at random and train all but the locator (RAM+).
            every_step: whether the classifier is trained after every glimpse and the next entropy is predicted, which
                early stopping needs.
            weights: weights of the loss's terms.
            learning_rate: learning rate of Adam, a number or SB3's schedule.
            max_grad_norm: norm to which gradients are clipped.
            policy_kwargs: see :class:`RAMPolicy`; ``posterior`` and what follows from the environment are filled in.
            seed: seed of the weights and of all draws.
            tensorboard_log, stats_window_size, verbose, device: as in SB3.

        Raises:
            ConfigurationError: if an argument is out of range, or the environment is of another kind or does not fit
                the sequences.
        """
        self.wake_sleep = whole_number("wake_sleep", wake_sleep, 0)
        self.pretraining = whole_number("pretraining", pretraining, 0)
        if not 0 <= supervised_share <= 1:
            raise ConfigurationError(f"supervised_share={supervised_share} must lie in 0..1.")
        if wake_sleep == 1:
            raise ConfigurationError("wake_sleep=1 has nothing to weigh an episode against; take 2 or more, or 0.")
        if not 0 <= exploration < 1:
            raise ConfigurationError(f"exploration={exploration} must be at least 0 and below 1.")
        if not wake_sleep and (control_variates or exploration or proposal_map):
            raise ConfigurationError(
                "control_variates, exploration and proposal_map are wake-sleep's; give wake_sleep too."
            )
        if wake_sleep and (sequences is not None or pretraining):
            raise ConfigurationError(
                f"wake_sleep={wake_sleep} proposes its own locations; leave sequences and pretraining out."
            )
        self.control_variates, self.exploration, self.proposal_map = control_variates, exploration, proposal_map
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
            asked, channels = dict(self.policy_kwargs), episodes.dataset.images.shape[3]
            posterior = posterior_config(episodes).to_json | {"features": FEATURES} | dict(asked.pop("posterior", {}))
            filled = {"posterior": posterior, "proposal": self.wake_sleep > 0, "image_channels": channels}
            if self.proposal_map:
                filled["proposal_grid"] = asdict(episodes.grid)
            self.policy_kwargs = filled | asked
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
        """Trains as SB3 does; an iteration takes T + 1 environment steps in each environment.

        Args:
            total_timesteps: environment steps, over all environments.
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
            drawn = self._sampler.draw(self.iterations)
            episodes = self._play(drawn, callback)
            if episodes is None:
                break
            callback.on_rollout_end()
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            with self._own_dropout():
                played = self.read(drawn, episodes)
            self._update(self.loss(drawn, played))
            if log_interval and self.iterations % log_interval == 0:
                self._log()
        callback.on_training_end()
        return self

    def look(self, dataset: GlimpseDataset, indices: np.ndarray) -> Rollouts:
        """One deterministic episode on each of the images ``indices`` (N,) of a split."""
        features = None if self.env is None else self._episodes.features
        kind = self.policy.observation
        return play(self, dataset, None, indices, observation=kind, features=features, progress=False)

    def loss(self, drawn: Minibatch, played: Played) -> Tensor:
        """Returns the loss of a minibatch that was played; logs its terms."""
        terms, samples = loss_terms(drawn, played, self.weights, self.control_variates)
        for name, term in terms.items():
            self.logger.record_mean(f"train/{name}_loss", term.item())
        if samples is not None:
            self.logger.record_mean("train/effective_samples", samples)
        return torch.stack(list(terms.values())).sum()

    # -- an iteration ---------------------------------------------------------------------------------------------

    @cached_property
    def _episodes(self) -> EpisodeBatch:
        """Episodes that the environments run."""
        batch = episodes_of(self.env)
        if batch.task != "classify":
            raise ConfigurationError("RAM needs an environment with task='classify', e.g. GlimpseBirdsClassify-v0.")
        if batch.stop:
            raise ConfigurationError("RAM answers after the last glimpse only; make the environment with stop=False.")
        return batch

    def _check_sequences(self, episodes: EpisodeBatch) -> None:
        if self.sequences is None:
            return
        images, steps = len(episodes.dataset), episodes.geometry.num_glimpses
        if self.sequences.indices.max() >= images or self.sequences.locations.max() >= len(episodes.grid):
            raise ConfigurationError(
                f"sequences of image {self.sequences.indices.max()} and location {self.sequences.locations.max()} do "
                f"not fit an environment of {images} images and {len(episodes.grid)} locations."
            )
        self.sequences = self.sequences.first(steps)

    @cached_property
    def _sampler(self) -> MinibatchSampler:
        episodes = self._episodes
        return MinibatchSampler(
            self.seed or 0,
            images=len(episodes.dataset),
            locations=len(episodes.grid),
            steps=episodes.geometry.num_glimpses,
            episodes=self.n_envs,
            sequences=self.sequences,
            supervised_share=self.supervised_share,
            wake_sleep=self.wake_sleep,
            pretraining=self.pretraining,
        )

    @torch.no_grad()
    def _play(self, drawn: Minibatch, callback: BaseCallback) -> Episodes | None:
        """Plays the episodes with the network as it acts; None if the callback stops training."""
        env, episodes, network = self.env, self._episodes, self.policy.network
        assert env is not None
        self.policy.set_training_mode(False)
        context = self._context(drawn)
        seed = int(random_stream(self.seed or 0, SAMPLING, self.iterations).integers(2**62))
        generator = torch.Generator(self.device).manual_seed(seed)
        env.set_options([{"index": int(index)} for index in drawn.indices])
        env.reset()
        state, memory = network.core.begin(self.n_envs)
        locations, glimpses, places, returns = [], [], [], np.zeros(self.n_envs)
        for t in range(episodes.geometry.num_glimpses):
            logits = network.locator(state) if context is None else self._proposed(state, context)
            sampled = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0].cpu().numpy()
            locations.append(np.where(drawn.given[:, t] == FREE, sampled, drawn.given[:, t]))
            observations, rewards = self._step(np.stack([locations[-1], np.zeros_like(sampled)], axis=1), callback)
            if observations is None:
                return None
            returns += rewards
            newest = self.policy.newest(observations)
            glimpses.append(newest["glimpse"])
            places.append(newest["location"])
            state, memory = network.core.step(network.read(newest), memory)
        answers = network.classifier(state).argmax(-1).cpu().numpy()
        observations, rewards = self._step(np.stack([np.zeros_like(answers), answers], axis=1), callback)
        if observations is None:
            return None
        return Episodes(
            np.stack(locations, axis=1), np.stack(glimpses, axis=1), np.stack(places, axis=1), returns + rewards
        )

    def read(self, drawn: Minibatch, episodes: Episodes) -> Played:
        """Returns what the network, in training mode, computes for episodes that were played."""
        network, batch = self.policy.network, self.n_envs
        self.policy.set_training_mode(True)
        glimpses = episodes.glimpses.reshape(-1, episodes.glimpses.shape[2])
        places = episodes.places.reshape(-1, episodes.places.shape[2])
        tokens = network.read({"glimpse": glimpses, "location": places})
        states = network.states(tokens.unflatten(0, (batch, -1)))  # (B, T + 1, H)
        before, taken = states[:, :-1], torch.as_tensor(episodes.locations, device=self.device)[..., None]
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

    @contextmanager
    def _own_dropout(self) -> Iterator[None]:
        """Draws what dropout leaves out, while the block runs, from the iteration's own random numbers."""
        if not self.policy.drops:
            yield
            return
        cuda = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch.random.fork_rng(cuda):
            torch.manual_seed(int(random_stream(self.seed or 0, DROPOUT, self.iterations).integers(2**62)))
            yield

    def _labels(self, drawn: Minibatch) -> Tensor:
        return torch.as_tensor(self._episodes.dataset.labels[drawn.indices], device=self.device)

    def _context(self, drawn: Minibatch) -> Any:
        """Returns the input of wake-sleep's proposal; None without wake-sleep."""
        if self.policy.proposal is None or drawn.group == 1:
            return None
        images = torch.from_numpy(self._episodes.dataset.images[drawn.indices]).to(self.device)
        return self.policy.proposal.context(images, self._labels(drawn), drawn.group)

    def _proposed(self, states: Tensor, context: Any) -> Tensor:
        """Returns logits (B, ..., L) of the proposal with its exploration for states (B, ..., H)."""
        assert self.policy.proposal is not None
        return mixed(self.policy.proposal(states, context), self.exploration)

    def _step(self, actions: np.ndarray, callback: BaseCallback) -> tuple[Any, np.ndarray]:
        """Returns observations and rewards of one step; None for observations if the callback stops training."""
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
        return [*super()._excluded_save_params(), "sequences", "_episodes", "_sampler"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


RAM_ALGORITHM = Algorithm(RAM, RAMPolicy, None, None, {})
