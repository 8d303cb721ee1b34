"""The settings of a training run, the command line they make, and their defaults by data set and algorithm."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents.registry import algorithm_of, architecture_of, short_name
from glimpse_env.cli import DeviceFlags, check_least, command_line
from glimpse_env.errors import ConfigurationError
from glimpse_env.presets import anytime_options, dataset_of

DEMONSTRATORS = ("oracle", "best", "hgs", "human", "fixed", "random")
DAGGER = "dagger"
"""Demonstrations that the oracle gives at the states where the agent that learns from them gets to."""


@dataclass(frozen=True)
class Budget:
    """Defaults of a run that depend on its data set."""

    num_demos: int
    timesteps: int
    temperature: float
    """Temperature of the soft targets in cloning, in nats."""
    architecture: str = "gru"
    """Network that reads the history, where the algorithm leaves a choice."""
    learning_rate: float | None = None
    """Learning rate of an on-policy algorithm after cloning; None for the tuned one. On few images a cloned policy
    should change little: their rewards are too noisy to tell locations of about the same use apart."""


_BUDGETS: dict[str, Budget] = {
    "birds": Budget(num_demos=4800, timesteps=100_000, temperature=0.01),
    # a digit may lie anywhere: what a glimpse says of a place depends on how far off the place is
    "digits": Budget(num_demos=1000, timesteps=50_000, temperature=0.02, architecture="canvas"),
    "mnist": Budget(num_demos=8000, timesteps=150_000, temperature=0.02, architecture="canvas"),
    "cub": Budget(num_demos=810, timesteps=20_000, temperature=0.1, learning_rate=2e-5),
    "cub-full": Budget(num_demos=810, timesteps=20_000, temperature=0.1, learning_rate=2e-5),
    "celeba-hq": Budget(num_demos=600, timesteps=20_000, temperature=0.05),
}


def budget_of(dataset: str) -> Budget:
    """Returns the default budget for a data set; a data set that is not listed here has a folder of photographs'.

    On two cores the whole job ends within 10 minutes, once there are a judge and an oracle; it takes longer where there
    are thousands of locations.

    Args:
        dataset: name of its :class:`DataSource`.
    """
    return _BUDGETS.get(dataset, Budget(num_demos=2100, timesteps=30_000, temperature=0.1, learning_rate=2e-5))


TUNED = Path(__file__).with_name("tuned.json")
"""Hyperparameters that scripts/tune_agents.py found, for each algorithm without and with demonstrations."""
_TUNED_AS = dict.fromkeys(("maskable_ppo", "recurrent_ppo", "maskable_recurrent_ppo"), "ppo")
"""Algorithms that have the hyperparameters of another."""


def tuned(algo: str, demonstrations: bool) -> dict[str, Any]:
    """Returns the hyperparameters of ``algo`` that do best on validation images, among them ``rollout``, environment
    steps between two updates; none where it was not tuned.

    Args:
        algo: name of the algorithm.
        demonstrations: whether training starts from demonstrations.
    """
    entries = json.loads(TUNED.read_text(encoding="utf-8")) if TUNED.is_file() else {}
    start = "demonstrations" if demonstrations else "scratch"
    return dict(entries.get(_TUNED_AS.get(algo, algo), {}).get(start, {}))


@dataclass(frozen=True)
class Args(DeviceFlags):
    """Trains an agent that chooses glimpses, from demonstrations through policy gradient to a table of results."""

    env: str = "GlimpseBirds-v0"
    """Environment: GlimpseBirds-v0, GlimpseCUB-v0, GlimpseCUBFull-v0, GlimpseCelebAHQ-v0, GlimpseMNIST-v0,
    GlimpseDigits-v0, GlimpseFolder-v0 or a diagnostic, or with Anytime before the -v0 the one in which agents
    zoom and stop."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    algo: str = "ppo"
    """Algorithm: ppo, a2c, reinforce, maskable_ppo, recurrent_ppo, maskable_recurrent_ppo, dqn, qrdqn, module:name for
    one that a module registers, or a Python file that sets ALGORITHM."""
    architecture: str | None = None
    """Network that reads the history: gru, attention (a set transformer), canvas (a convolution), mlp, or module:name
    for one that a module registers; default by data set; recurrent_ppo and maskable_recurrent_ppo
    have an LSTM."""
    observation: Literal["history", "embedding", "features"] | None = None
    """Observation of each glimpse: its pixels (history), or from a table in the cache the judge's embedding, or the
    frozen features that the judge reads; default features where it reads them, else history."""
    demos: str = "oracle"
    """Demonstrations to clone: those of oracle, best (of diagnostics), hgs, human (gaze on CUB), fixed or random,
    dagger (the oracle asked at the states where the agent gets to), none, a file of generate-demos or play, the folder
    of another run, or a text file or folder of published sequences on CUB."""
    num_demos: int | None = None
    """Number of demonstrations; default by data set (all of them for a file or folder)."""
    dagger_rounds: int = 4
    """Rounds of --demos dagger, in each of which a new agent is cloned from all so far and acts on new images."""
    dagger_schedule: Literal["linear", "first"] = "linear"
    """Probability that the oracle acts in --demos dagger: falling from 1 in the first round to 0 in the last (linear),
    or 1 in the first and 0 in the others (first)."""
    timesteps: int | None = None
    """Environment steps of training, the critic's warm-up among them, rounded up to whole rollouts; default by data
    set."""
    seed: int = 0
    """Seed of all that is random in training."""
    out: Path | None = None
    """Folder for the results; default runs/<env>-<algo>-<demos>-s<seed>."""
    resume: Path | None = None
    """Folder of a run that was stopped: go on with it, with its own settings, and --root where its data moved."""
    eval_images: int = 2000
    """Test images of the final table, at most."""
    val_images: int = 2000
    """Validation images behind each point of the learning curve, at most."""
    validations: int = 8
    """Points of the learning curve; the weights that do best on validation images are kept."""
    scales: int | None = None
    """Concentric windows of a glimpse; default the environment's."""
    zooms: tuple[int, ...] | None = None
    """How many times as wide as a glimpse its window can be, e.g. 1 2 4; default the environment's."""
    target_temperature: float | None = None
    """Temperature of the soft targets softmax(-EPE / temperature) in cloning, nats; 0 clones only the location taken;
    default by data set."""
    clone_passes: int = 40
    """Passes over the demonstrations in cloning."""
    warm_up: int = 8000
    """Environment steps of the cloned policy that the critic is fitted on before fine-tuning, in whole rollouts and
    at most half of all."""
    reward: Literal["information", "classification"] | None = None
    """Reward in fine-tuning: the fall in the label's log-loss at each glimpse (information), which is less noisy, or 1
    at the end for a right class (classification), which is what evaluation counts; default information, but in Anytime
    environments classification, in whose unit glimpses have their price."""
    rollout: int | None = None
    """Environment steps between two updates, about; default the algorithm's."""
    group: int = 1
    """Episodes played on each image at a time; with more than one they serve each other as baselines."""
    demo_coefficient: float = 0.3
    """Weight of the demonstration loss in fine-tuning."""
    hyperparameters: str = "{}"
    """Hyperparameters of the algorithm as JSON, e.g. '{"learning_rate": 1e-4}'; default agents/tuned.json."""
    demo_fade: int | None = None
    """Environment steps over which that weight falls to zero; default it stays."""
    trust: bool = False
    """Whether to read the agent of --demos, or a checkpoint of an earlier version, from an SB3 zip without a card
    beside it, and to run the code that a card names. A file of somebody else can do anything then that you can do."""

    def __post_init__(self) -> None:
        dataset_of(self.env)
        architecture_of(self.algo, self.architecture)
        if self.rollout is not None and algorithm_of(self.algo).off_policy:
            raise ConfigurationError(f"--rollout {self.rollout} does nothing with {self.algo}; leave it out.")
        if self.group > 1 and not algorithm_of(self.algo).shares_baselines:
            raise ConfigurationError(f"--group {self.group} does nothing with {self.algo}; take ppo, a2c or reinforce.")
        if self.glimpse_cost is not None and self.reward == "information":
            raise ConfigurationError(
                f"--reward information is in nats, and the price of a glimpse in {self.env} in expected success; take "
                "--reward classification or leave it out."
            )
        if self.glimpse_cost is not None and self.group > 1:
            raise ConfigurationError(f"--group {self.group} needs episodes of one length, and {self.env}'s may stop.")
        json_object("--hyperparameters", self.hyperparameters)
        off_policy = self.demos == DAGGER and algorithm_of(self.algo).off_policy
        if self.demos == DAGGER and (off_policy or self.glimpse_cost is not None or self.target_temperature == 0):
            raise ConfigurationError(
                f"--demos {DAGGER} gives the oracle's maps at states where others act: take an on-policy algorithm, "
                f"soft targets and episodes that cannot stop, not {self.algo} in {self.env} at "
                f"--target-temperature {self.target_temperature}."
            )
        if self.demos not in (*DEMONSTRATORS, DAGGER, "none") and not Path(self.demos).exists():
            raise ConfigurationError(
                f"--demos {self.demos} is no file or folder and none of {', '.join(DEMONSTRATORS)}, {DAGGER}, none."
            )
        at_least = {"num_demos": 10, "eval_images": 2}
        at_least |= dict.fromkeys(
            ("val_images", "validations", "clone_passes", "rollout", "group", "scales", "dagger_rounds"), 1
        )
        at_least |= dict.fromkeys(("timesteps", "seed", "warm_up", "demo_coefficient", "target_temperature"), 0)
        check_least(self, **at_least)

    @property
    def glimpse_cost(self) -> float | None:
        """Price of a glimpse in environments whose episodes may stop; None where they cannot."""
        return anytime_options(self.env).get("glimpse_cost")

    @property
    def command(self) -> str:
        """The command line that makes this run; settings at their defaults are left out."""
        return command_line("train_agent", self, always=("env", "demos"))

    @property
    def folder(self) -> Path:
        """Folder for the results."""
        names = self.env, short_name(self.algo), Path(self.demos).stem
        return self.out or Path("runs") / f"{'-'.join(names)}-s{self.seed}"


def json_object(flag: str, text: str) -> dict[str, Any]:
    """Returns the JSON object that ``flag`` was given as ``text``.

    Raises:
        ConfigurationError: if the text is no JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{flag} {text} is no JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{flag} {text} must be a JSON object.")
    return value
