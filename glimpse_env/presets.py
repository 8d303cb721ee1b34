"""What depends on a data set's name: one table, from which the environment ids derive."""

from dataclasses import dataclass
from typing import Any

from glimpse_env.errors import ConfigurationError
from glimpse_env.registry import Registry, import_name


@dataclass(frozen=True)
class DatasetPreset:
    """How a data set is found and what its environments are like by default."""

    source: str | None = None
    """Its class as ``"module:Class"``; None where ``first_of`` names other data sets."""
    env_id: str | None = None
    """Id of its environment, ending in ``-v`` and a number; None where another entry serves it."""
    scales: int = 1
    """Concentric windows of a glimpse in its environments."""
    flat: bool = False
    """Whether its environments take the arguments of the data set's class as their own, beside ``dataset_options``."""
    first_of: tuple[str, ...] = ()
    """Data sets of which the first that is there is taken."""
    module: str | None = None
    """Module that registers the data set of another package; a new process imports it before it looks up the id."""
    encoder: str = "convolutional"
    """Encoder of glimpses that its judge has where it can be used, see :mod:`glimpse_env.encoding.registry`."""
    zooms: tuple[int, ...] = (1, 2, 4)
    """How many times as wide as a glimpse its window can be in the environment in which agents zoom and stop."""
    glimpse_cost: float = 0.02
    """Price of a glimpse there, in expected success: about where an oracle takes half of T, on validation images."""


PRESETS: dict[str, DatasetPreset] = {
    "auto": DatasetPreset(env_id="GlimpseCUB-v0", first_of=("cub", "birds")),
    "cub": DatasetPreset("glimpse_env.datasets.cub:CUB200", encoder="efficientnet_lite0"),
    "cub-full": DatasetPreset(
        "glimpse_env.datasets.cub:CUBFull", "GlimpseCUBFull-v0", scales=2, encoder="efficientnet_lite0"
    ),
    "celeba-hq": DatasetPreset("glimpse_env.datasets.celeba:CelebAHQ", "GlimpseCelebAHQ-v0", flat=True),
    "birds": DatasetPreset("glimpse_env.datasets.birds.source:Birds", "GlimpseBirds-v0"),
    "mnist": DatasetPreset("glimpse_env.datasets.digits:ClutteredMNIST", "GlimpseMNIST-v0"),
    "digits": DatasetPreset("glimpse_env.datasets.digits:Digits", "GlimpseDigits-v0", glimpse_cost=0.05),
    "signpost": DatasetPreset("glimpse_env.datasets.diagnostics.signpost:Signpost", "GlimpseSignpost-v0", zooms=(1, 2)),
    "needle": DatasetPreset("glimpse_env.datasets.diagnostics.needle:Needle", "GlimpseNeedle-v0", zooms=(1, 2)),
    "memory": DatasetPreset("glimpse_env.datasets.diagnostics.memory:Memory", "GlimpseMemory-v0", zooms=(1, 2)),
    "folder": DatasetPreset(
        "glimpse_env.datasets.folder:ImageFolder", "GlimpseFolder-v0", flat=True, encoder="efficientnet_lite0"
    ),
}
"""By the data set's name; :func:`glimpse_env.register_dataset` adds to it."""


def classify_id(env_id: str) -> str:
    """Returns the id of the same environment without a judge, in which the agent names the class.

    Raises:
        ConfigurationError: if ``env_id`` does not end in ``-v`` and a number.
    """
    return _twin(env_id, "Classify")


def anytime_id(env_id: str) -> str:
    """Returns the id of the same environment in which agents zoom, and stop when they will.

    Raises:
        ConfigurationError: if ``env_id`` does not end in ``-v`` and a number.
    """
    return _twin(env_id, "Anytime")


def _twin(env_id: str, word: str) -> str:
    name, dash_v, version = env_id.rpartition("-v")
    if not name or not version.isdecimal():
        raise ConfigurationError(f"env_id={env_id!r} must end in a version, like 'Shapes-v0'.")
    return f"{name}{word}{dash_v}{version}"


ENV_IDS: Registry[str] = Registry("env", {preset.env_id: name for name, preset in PRESETS.items() if preset.env_id})
"""Names of the data sets by environment id; ids that are registered later appear here too."""
CLASSIFY_IDS: Registry[str] = Registry("env", {classify_id(env_id): name for env_id, name in ENV_IDS.items()})
"""The same for the environments in which the agent names the class."""
ANYTIME_IDS: Registry[str] = Registry("env", {anytime_id(env_id): name for env_id, name in ENV_IDS.items()})
"""The same for the environments in which agents zoom, and stop when they will."""


def dataset_of(env: str) -> str:
    """Returns the name of the data set that ``--env`` means.

    Args:
        env: an environment id, of any kind, or a data set's name; ``"module:id"`` imports the module first, as
            ``gymnasium.make`` does.

    Raises:
        ConfigurationError: if there is no such id or name.
    """
    name = import_name("--env", env)
    if name in PRESETS:
        return name
    for ids in (ENV_IDS, CLASSIFY_IDS, ANYTIME_IDS):
        if name in ids:
            return ids[name]
    elsewhere = "" if ":" in env else f"; the id of another package has its module before it, like your_package:{env}"
    raise ConfigurationError(f"--env {env} must be one of {', '.join(ENV_IDS)}{elsewhere}.")


def glimpse_cost(dataset: str) -> float:
    """Returns the price of a glimpse where agents zoom and stop, the default for a data set without a preset."""
    return PRESETS.get(dataset, DatasetPreset()).glimpse_cost


def anytime_options(env: str) -> dict[str, Any]:
    """Returns the keyword arguments that make ``--env`` an environment in which agents zoom and stop; none where it is
    none.

    Args:
        env: see :func:`dataset_of`.
    """
    name = import_name("--env", env)
    if name not in ANYTIME_IDS:
        return {}
    preset = PRESETS[ANYTIME_IDS[name]]
    return {"zooms": list(preset.zooms), "stop": True, "glimpse_cost": preset.glimpse_cost}


def env_of(dataset: str) -> str:
    """Returns what ``--env`` takes for a data set: its environment's id, or its name where it has no id.

    Ids of other packages come with their module, ``"module:id"``.
    """
    preset = PRESETS.get(dataset, DatasetPreset())
    name = preset.env_id or dataset
    return f"{preset.module}:{name}" if preset.module else name
