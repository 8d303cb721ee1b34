"""The settings of a training run, their defaults by data set, and the command line they make."""

import json
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from agents.registry import algorithm_of, architecture_of
from glimpse_env.errors import ConfigurationError
from glimpse_env.presets import dataset_of

DEMONSTRATORS = ("oracle", "hgs", "fixed", "random")


@dataclass(frozen=True)
class Budget:
    """What a run spends by default, and what suits the scale of its EPE maps."""

    num_demos: int
    timesteps: int
    temperature: float
    """Of the soft targets in cloning, in nats."""
    architecture: str = "gru"
    """What reads the history, where the algorithm leaves a choice."""


DEFAULTS: dict[str, Budget] = {
    "birds": Budget(num_demos=4800, timesteps=100_000, temperature=0.01),
    # a digit may lie anywhere: what a glimpse says of a place depends on how far off the place is
    "digits": Budget(num_demos=1000, timesteps=50_000, temperature=0.02, architecture="canvas"),
    "mnist": Budget(num_demos=8000, timesteps=150_000, temperature=0.02, architecture="canvas"),
    "cub": Budget(num_demos=600, timesteps=20_000, temperature=0.05),
    "cub-full": Budget(num_demos=600, timesteps=20_000, temperature=0.05),
    "folder": Budget(num_demos=1000, timesteps=50_000, temperature=0.05),
    "celeba-hq": Budget(num_demos=600, timesteps=20_000, temperature=0.05),
}
"""By data set: on two cores the whole job ends within 10 minutes, once there are a judge and an oracle; it takes longer
where there are thousands of locations."""


@dataclass(frozen=True)
class Args:
    """Trains an agent that chooses glimpses, from demonstrations through policy gradient to a table of results."""

    env: str = "GlimpseBirds-v0"
    """Environment: GlimpseBirds-v0, GlimpseCUB-v0, GlimpseCUBFull-v0, GlimpseCelebAHQ-v0, GlimpseMNIST-v0,
    GlimpseDigits-v0 or GlimpseFolder-v0."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    algo: str = "ppo"
    """Algorithm: ppo, a2c, reinforce, maskable_ppo, recurrent_ppo, dqn, qrdqn, or a Python file that sets ALGORITHM."""
    architecture: str | None = None
    """What reads the history: gru, attention (a set transformer), canvas (a convolution) or mlp; default by data set;
    recurrent_ppo has an LSTM."""
    observation: Literal["history", "embedding"] = "history"
    """What the agent is shown of each glimpse: its pixels, or the judge's embedding, from a table in the cache."""
    demos: str = "oracle"
    """Whose demonstrations to clone: oracle, hgs, fixed, random, none, a file of scripts/generate_demos.py, the
    model.zip of another run, or a text file or folder of published sequences on CUB."""
    num_demos: int | None = None
    """Demonstrations; default by data set (all of them for a file or folder)."""
    timesteps: int | None = None
    """Environment steps of training, the critic's warm-up among them, rounded up to whole rollouts; default by data
    set."""
    seed: int = 0
    """Of all that is random in training."""
    out: Path | None = None
    """Folder for the results; default runs/<env>-<algo>-<demos>-s<seed>."""
    resume: Path | None = None
    """Folder of a run that was stopped: go on with it, with its own settings."""
    eval_images: int = 2000
    """Test images of the final table, at most."""
    val_images: int = 2000
    """Validation images behind each point of the learning curve, at most."""
    validations: int = 8
    """Points of the learning curve; the weights that do best on validation images are kept."""
    scales: int | None = None
    """Concentric windows of a glimpse; default the environment's."""
    target_temperature: float | None = None
    """Of the soft targets softmax(-EPE / temperature) in cloning, nats; 0 clones the location taken alone; default by
    data set."""
    clone_passes: int = 40
    """Passes over the demonstrations in cloning."""
    warm_up: int = 8000
    """Environment steps of the cloned policy that the critic is fitted on before fine-tuning, in whole rollouts and
    at most half of all."""
    reward: Literal["information", "classification"] = "information"
    """What fine-tuning pays: the fall in the label's log-loss at each look, which is the less noisy, or 1 at the end
    for being right, which is what evaluation counts."""
    rollout: int | None = None
    """Environment steps between two updates, about; default the algorithm's."""
    group: int = 1
    """Episodes played on each image at a time; with more than one they serve each other as baselines."""
    demo_coefficient: float = 0.3
    """Weight of the demonstration loss that is kept in fine-tuning."""
    hyperparameters: str = "{}"
    """Of the algorithm, as JSON, e.g. '{"learning_rate": 1e-4}'; default agents/tuned.json."""
    demo_fade: int | None = None
    """Environment steps over which that weight falls to zero; default it stays."""

    def __post_init__(self) -> None:
        dataset_of(self.env)
        architecture_of(self.algo, self.architecture)
        if self.rollout is not None and algorithm_of(self.algo).off_policy:
            raise ConfigurationError(f"--rollout {self.rollout} does nothing with {self.algo}; leave it out.")
        if self.group > 1 and algorithm_of(self.algo).buffer is None:
            raise ConfigurationError(f"--group {self.group} does nothing with {self.algo}; take ppo, a2c or reinforce.")
        json_object("--hyperparameters", self.hyperparameters)
        if self.demos not in (*DEMONSTRATORS, "none") and not Path(self.demos).exists():
            raise ConfigurationError(
                f"--demos {self.demos} is no file or folder and none of {', '.join(DEMONSTRATORS)}, none."
            )
        at_least = {
            "num_demos": 10,
            "timesteps": 0,
            "seed": 0,
            "eval_images": 2,
            "val_images": 1,
            "validations": 1,
        }
        at_least |= {
            "clone_passes": 1,
            "rollout": 1,
            "warm_up": 0,
            "group": 1,
            "demo_coefficient": 0,
            "target_temperature": 0,
            "scales": 1,
        }
        for name, low in at_least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigurationError(f"--{name.replace('_', '-')} {value} must be at least {low}.")

    @property
    def command(self) -> str:
        """The command line that makes this run, without what is left at its default."""
        words = ["python", "scripts/train_agent.py"]
        for item in fields(self):
            value = getattr(self, item.name)
            if value != item.default or item.name in ("env", "demos"):
                words += [f"--{item.name.replace('_', '-')}", str(value)]
        return shlex.join(words)

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.out or Path("runs") / f"{self.env}-{Path(self.algo).stem}-{Path(self.demos).stem}-s{self.seed}"


def json_object(flag: str, text: str) -> dict[str, Any]:
    """The JSON object that ``flag`` was given as ``text``.

    Raises:
        ConfigurationError: if it is none.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{flag} {text} is no JSON ({error}).") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{flag} {text} must be a JSON object.")
    return found
