"""Evaluates anything with Stable-Baselines3's ``predict`` by one deterministic episode an image."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from agents.evaluation.statistics import wilson_interval
from glimpse_env.actions import ActionMode
from glimpse_env.checks import conforms
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import digest, kept, read_json, write_json
from glimpse_env.judge.judge import Judge
from glimpse_env.rollout import can_stop, play

FORMAT = 2
"""Version of the JSON of an evaluation."""
BATCH = 128
"""Episodes that a policy plays at once."""

TITLES: dict[str, str] = {
    "random": "random",
    "centre": "centre-out",
    "coarse-to-fine": "coarse to fine",
    "best": "best there is",
    "saliency": "saliency (sees all pixels)",
    "fixed": "best fixed sequence",
    "hgs": "hand-crafted (parts)",
    "human": "human gaze (sees all)",
    "boed-paper": "BOED as in the paper",
    "boed": "BOED",
    "kernel": "kernel BOED",
    "oracle": "oracle",
    "amortised": "amortised oracle",
    "lookahead": "non-myopic oracle",
    "clairvoyant": "clairvoyant (sees all)",
    "rivals/aaco": "rivals/aaco",
    "rivals/gdfs": "rivals/gdfs",
    "rivals/dime": "rivals/dime",
    "oracle-stop": "oracle, stops",
    "boed-anytime": "BOED, stops",
    "boed-gain": "BOED, stops by the next gain",
    "boed-information-gain": "BOED, stops by information gain",
    "boed-entropy": "BOED, stops by entropy",
    "boed-confidence": "BOED, stops by confidence",
    "fixed-length": "best fixed sequence, cut",
    "boed-clairvoyant-stop": "BOED, stop sees all",
    "agent_cloned": "agent, cloned",
    "agent": "agent, fine-tuned",
}
"""Names of policies in tables and pictures."""


@dataclass(frozen=True)
class Evaluation:
    """The outcomes of one policy on images of one split, one deterministic episode an image.

    Raises:
        ConfigurationError: if the shapes disagree or there is no image.
    """

    policy: str
    dataset: str
    """Name of the data set that was really played, e.g. ``birds`` where it stood in for CUB."""
    fingerprint: str
    """Fingerprint of the data set."""
    split: str
    judge: str
    """The judge's identity; "none" where the policy classified itself."""
    images: str
    """A digest of the indices of the images, in order: evaluations with the same one can be compared image by image."""
    outcomes: np.ndarray
    """(N,) bool: whether the judge, or the policy that classifies, was right after the last glimpse."""
    log_loss: np.ndarray
    """(T,) float64: -log p(true label) in nats after each glimpse, a mean over images, at its end for an episode that
    stopped before; NaN where it is unknown."""
    entropy: np.ndarray
    """(T,) float64: entropy of the judge's posterior in nats after each glimpse, a mean over images, at its end for an
    episode that stopped before."""
    final_log_loss: np.ndarray
    """(N,) float32: -log p(true label) in nats after the last glimpse."""
    final_entropy: np.ndarray
    """(N,) float32: entropy of the judge's posterior in nats after the last glimpse."""
    seconds: float
    """Wall time of the episodes, with environment and judge."""
    policy_seconds: float
    """Wall time of the policy's own ``start`` and ``predict``, :data:`BATCH` episodes at once."""
    glimpses: np.ndarray | None = None
    """(N,) int64: glimpses taken, where episodes could stop; None where each took T."""

    def __post_init__(self) -> None:
        if self.outcomes.ndim != 1 or len(self.outcomes) == 0 or self.log_loss.shape != self.entropy.shape:
            raise ConfigurationError(
                f"an evaluation needs outcomes (N,), log_loss (T,) and entropy (T,), N >= 1, not "
                f"{self.outcomes.shape}, {self.log_loss.shape} and {self.entropy.shape}."
            )
        if not self.outcomes.shape == self.final_log_loss.shape == self.final_entropy.shape:
            raise ConfigurationError(
                f"an evaluation of {len(self.outcomes)} images needs as many final_log_loss and final_entropy, not "
                f"{self.final_log_loss.shape} and {self.final_entropy.shape}."
            )
        if self.glimpses is not None and self.glimpses.shape != self.outcomes.shape:
            raise ConfigurationError(
                f"an evaluation of {len(self.outcomes)} images needs as many glimpses, not {self.glimpses.shape}."
            )

    @property
    def success_rate(self) -> float:
        """Share of the images that were judged right."""
        return float(self.outcomes.mean())

    @property
    def mean_glimpses(self) -> float:
        """Glimpses taken, a mean over images."""
        return float(len(self.log_loss) if self.glimpses is None else self.glimpses.mean())

    def returns(self, glimpse_cost: float) -> np.ndarray:
        """Returns (N,) float64: 1 where the class was named, less the price of each glimpse."""
        taken = len(self.log_loss) if self.glimpses is None else self.glimpses
        return self.outcomes - glimpse_cost * taken

    @property
    def milliseconds(self) -> float:
        """Milliseconds of the policy's own time a sequence."""
        return 1000 * self.policy_seconds / len(self.outcomes)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Returns Wilson's interval of the success rate."""
        return wilson_interval(int(self.outcomes.sum()), len(self.outcomes), confidence)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values; values of each image are one text, with a character or a number an image."""
        names = ("policy", "dataset", "fingerprint", "split", "judge", "images", "seconds", "policy_seconds")
        return {
            "success_rate": self.success_rate,
            "interval": list(self.interval()),
            "successes": int(self.outcomes.sum()),
            "num_images": len(self.outcomes),
            **{name: getattr(self, name).tolist() for name in ("log_loss", "entropy")},
            **{name: getattr(self, name) for name in names},
            "outcomes": "".join("1" if success else "0" for success in self.outcomes),
            **{name: " ".join(map(str, getattr(self, name))) for name in ("final_log_loss", "final_entropy")},
            **({} if self.glimpses is None else {"glimpses": self.glimpses.tolist()}),
            "format": FORMAT,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Evaluation":
        """Reads what :meth:`to_json` returned.

        Raises:
            ArtifactError: if something is missing or of another format.
        """
        try:
            if content["format"] != FORMAT:
                raise ArtifactError(f"an evaluation has format {content['format']}, not {FORMAT}; evaluate again.")
            arrays = {
                "outcomes": np.array([character == "1" for character in content["outcomes"]]),
                **{name: np.array(content[name], dtype=np.float64) for name in ("log_loss", "entropy")},
                **{
                    name: np.array(content[name].split(), dtype=np.float32)
                    for name in ("final_log_loss", "final_entropy")
                },
            }
            if content.get("glimpses") is not None:
                arrays["glimpses"] = np.array(content["glimpses"], dtype=np.int64)
            needed = [field.name for field in fields(cls) if field.name != "glimpses"]
            for name, hint in get_type_hints(cls).items():
                if name in needed and name not in arrays and not conforms(content[name], hint):
                    raise ArtifactError(f"{name} of an evaluation is {repr(content[name])[:80]}; evaluate again.")
            return cls(**{name: content[name] for name in needed} | arrays)
        except ArtifactError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"an evaluation lacks something ({error!r}); evaluate again.") from error


def choose_images(dataset: GlimpseDataset, count: int) -> np.ndarray:
    """Returns (min(count, N),) int64, ascending: the images of a split that are played by every policy and run.

    Raises:
        ConfigurationError: if ``count`` is not positive.
    """
    if count < 1:
        raise ConfigurationError(f"{count} images of {dataset.name}/{dataset.split} were asked for; need at least 1.")
    return np.sort(np.random.default_rng(0).permutation(len(dataset))[:count]).astype(np.int64)


def evaluate(
    policy: Any,
    dataset: GlimpseDataset,
    judge: Judge | None,
    indices: np.ndarray,
    *,
    name: str,
    action: ActionMode = "discrete",
    observation: str = "history",
    progress: bool = True,
) -> Evaluation:
    """Plays one deterministic episode on each image, in which a policy that can stop may do so.

    Args:
        policy: anything with ``predict(observation, state, episode_start, deterministic)``, e.g. a
            Stable-Baselines3 model. If it has ``start(dataset, indices)`` its state begins there.
        dataset: the split to play on.
        judge: decides on success; None for a policy that classifies, see :func:`play`.
        indices: (N,) int, images of the split.
        name: name of the policy in tables.
        action, observation: the policy's, see :class:`glimpse_env.env.GlimpseEnv`.
        progress: whether to show a bar.
    """
    began = time.perf_counter()
    timed = Timed(policy)
    rollouts = play(
        timed,
        dataset,
        judge,
        indices,
        action=action,
        observation=observation,
        stop=can_stop(policy, dataset, judge, action),
        batch_size=BATCH,
        progress=progress,
        start=start_on(timed, dataset),
    )
    return Evaluation(
        policy=name,
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        split=dataset.split,
        judge="none" if judge is None else judge.identity,
        images=digest(np.asarray(indices, dtype=np.int64)),
        outcomes=np.asarray(rollouts.success, dtype=bool),
        log_loss=rollouts.log_loss.mean(axis=0, dtype=np.float64),
        entropy=rollouts.entropy.mean(axis=0, dtype=np.float64),
        final_log_loss=rollouts.final_log_loss,
        final_entropy=rollouts.final_entropy,
        glimpses=rollouts.lengths if can_stop(policy, dataset, judge, action) else None,
        seconds=time.perf_counter() - began,
        policy_seconds=timed.seconds,
    )


def joined(parts: Sequence[tuple[np.ndarray, Evaluation]], indices: np.ndarray) -> Evaluation:
    """Returns the evaluation on images ``indices`` (N,) of a policy that was evaluated part by part.

    Args:
        parts: the rows (n,) int64 of ``indices`` that a part has, and its evaluation; each row is in one part.
        indices: (N,) int64, all images.
    """
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    ones = [one for _, one in parts]
    shares = [len(one.outcomes) for one in ones]
    merged: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in ones])[order]
        for name in ("outcomes", "final_log_loss", "final_entropy")
    }
    means: dict[str, Any] = {
        name: np.average([getattr(one, name) for one in ones], axis=0, weights=shares)
        for name in ("log_loss", "entropy")
    }
    times: dict[str, Any] = {name: sum(getattr(one, name) for one in ones) for name in ("seconds", "policy_seconds")}
    if ones[0].glimpses is not None:
        merged["glimpses"] = np.concatenate([one.glimpses for one in ones if one.glimpses is not None])[order]
    return replace(ones[0], **merged, **means, **times, images=digest(np.asarray(indices, dtype=np.int64)))


class Timed:
    """Measures the time that a policy spends in ``predict``, and in ``start`` where it has one."""

    def __init__(self, policy: Any):
        self.policy = policy
        self.seconds = self.cpu_seconds = 0.0  # the latter of all threads
        self.predict = self._taking_time(policy.predict)
        self.start = self._taking_time(policy.start) if hasattr(policy, "start") else None

    @property
    def last_probabilities(self) -> np.ndarray | None:
        """Class probabilities of the policy's last ``predict``, where it classifies."""
        return getattr(self.policy, "last_probabilities", None)

    def _taking_time(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began, cpu_began = time.perf_counter(), time.process_time()
            result = method(*args, **kwargs)
            self.seconds += time.perf_counter() - began
            self.cpu_seconds += time.process_time() - cpu_began
            return result

        return timed


def format_table(
    evaluations: Mapping[str, Evaluation], glimpse_cost: float | None = None, titles: Mapping[str, str] = TITLES
) -> str:
    """Returns the evaluations as aligned text, one a line: success with its 95 % interval, log-loss and entropy; with a
    price of a glimpse also the mean number of glimpses, and the return, in points like success."""
    priced = glimpse_cost is not None
    line = ("{:<25}  {:>8}  {:>13}  {:>8}  {:>8}" + "  {:>8}  {:>8}" * priced).format
    lines = [line("policy", "success", "95 % interval", "log-loss", "entropy", *("glimpses", "return") * priced)]
    for name, one in evaluations.items():
        low, high = one.interval()
        cells = [f"{100 * one.success_rate:.1f} %", f"{100 * low:.1f} to {100 * high:.1f}"]
        cells += [f"{one.log_loss[-1]:.3f}", f"{one.entropy[-1]:.3f}"]
        if glimpse_cost is not None:
            cells += [f"{one.mean_glimpses:.1f}", f"{100 * one.returns(glimpse_cost).mean():.1f}"]
        lines.append(line(titles.get(name, name), *cells))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def start_on(policy: Any, dataset: GlimpseDataset) -> Callable[[np.ndarray], Any] | None:
    """Returns a function from images of a split to the state that a policy begins them with; None where it has none."""
    start = getattr(policy, "start", None)
    return None if start is None else lambda indices: start(dataset, indices)


def cached(path: Path, make: Callable[[], Evaluation]) -> Evaluation:
    """Reads the evaluation at ``path``, or makes it with ``make`` and writes it there.

    The file has the format in its name: ``fixed.json`` becomes ``fixed-v2.json``, so that older formats are not read.

    One that is damaged is made again.
    """
    path = path.with_name(f"{path.stem}-v{FORMAT}{path.suffix}")
    return kept(
        path, lambda path: Evaluation.from_json(read_json(path)), lambda path: write_json(path, make().to_json())
    )
