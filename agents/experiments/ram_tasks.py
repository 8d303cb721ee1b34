"""What the paper's experiment trains: its data sets with their budgets, its methods and its networks."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from glimpse_env.devices import Device

RamCriterion = Literal["accuracy", "cross_entropy"]


@dataclass(frozen=True)
class RamTask:
    """A data set that is classified, and how networks are trained for it."""

    env: str
    """Environment id."""
    iterations: int
    """Most iterations of training."""
    num_sequences: int | None
    """Training images that are supervised, where a method has supervision; None for all. In birds all are: it takes the
    oracle seconds, and fewer are learned by heart together with their glimpses."""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    """Options of the data set."""
    folder: str | None = None
    """Folder of the data set below that of all data sets; None where the data set finds its own."""
    scales: int = 1
    """Concentric windows of a glimpse."""
    observation: Literal["glimpse", "features"] = "glimpse"
    """What is shown of glimpses: pixels, or the frozen features that the data set's judge reads."""
    criterion: RamCriterion = "accuracy"
    """Figure on validation images by which weights are selected and convergence is decided."""
    batch_size: int = 64
    """Images an iteration."""
    validate_every: int = 250
    """Iterations between two validations."""
    judge_options: dict[str, Any] = field(default_factory=dict)
    """Options of the data set with the same images that the judge and the oracle are of, where they differ from
    ``dataset_options``."""
    oracle: str = "oracle"
    """Policy that demonstrates, one of :data:`oracles.registry.POLICIES`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of :class:`agents.ram.algorithm.RAM`."""
    without_sequences: dict[str, Any] = field(default_factory=dict)
    """Arguments of RAM that replace ``settings`` where a method has no sequences: a learning rate that sequences bear
    can be one with which REINFORCE alone forgets what it has found, and with too small a gain of entropy the locator
    looks at the same places in all images."""
    encoder: str = "conv"
    """Network that reads a glimpse, see :class:`agents.ram.network.GlimpseNetwork`."""
    features: int = 64
    """Width of that network's output."""
    hidden: int = 128
    """Width of tokens and of the core's state."""
    dropout: float = 0.0
    """Share of tokens' and of the classifier's hidden numbers that training drops."""
    input_dropout: float = 0.0
    """Share of a glimpse's frozen features that training drops."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    averaging: float = 0.995
    """Decay of the average of the weights that is validated and tested, which spans 1 / (1 - decay) iterations."""
    patience: int | None = None
    """Iterations without a better validation after which a run ends; None for runs that use their whole budget."""
    decay: bool = False
    """Whether the learning rate rises and falls to zero (:func:`oracles.training.posterior.one_cycle`). Where it does
    not, convergence does not depend on the budget."""

    @property
    def demonstrator_options(self) -> dict[str, Any]:
        """Options of the data set that the judge and the oracle are of."""
        return {**self.dataset_options, **self.judge_options}


LATER = ("folder", "observation", "dropout", "input_dropout", "weight_decay")
"""Fields that runs which were begun earlier do not know."""

_BIRDS = RamTask(
    "GlimpseBirdsClassify-v0",
    iterations=20_000,
    num_sequences=4800,
    settings={"learning_rate": 2e-3},
    features=96,
    hidden=192,
)
_PHOTOGRAPHS = RamTask(
    "GlimpseCUBClassify-v0",
    iterations=2500,
    num_sequences=None,
    observation="features",
    # with a weight of 0.2 what is imitated slows down the classifier, which photographs are more work for
    settings={"learning_rate": 1e-3, "weights": {"imitation": 0.05}},
    without_sequences={"weights": {"entropy": 0.05}},
    encoder="features",
    features=192,
    hidden=192,
    dropout=0.4,
    input_dropout=0.4,
    validate_every=25,
    patience=1000,
)
_MNIST = RamTask(
    "GlimpseMNISTClassify-v0",
    iterations=20_000,
    num_sequences=16_000,
    batch_size=128,
    settings={"learning_rate": 2e-3},
    encoder="linear",
    features=128,
    patience=5000,
)
_RAM_S_MNIST = replace(
    _MNIST,
    iterations=10_000,
    num_sequences=10_000,
    settings={
        **_MNIST.settings,
        "supervised_share": 0.125,
        "weights": {"imitation": 0.05},
        "every_step": True,  # the classifier learns from few glimpses too, and faster
    },
    dataset_options={"num_glimpses": 8, "placements": 4},
    oracle="boed",
    scales=3,
    validate_every=1000,
    encoder="spatial",
    features=256,
    hidden=256,
    patience=None,
    decay=True,
)


def _with_glimpses(num_glimpses: int) -> RamTask:
    """RAM's published setting with ``num_glimpses``; its sequences are the first glimpses of those of 8."""
    options = {**_RAM_S_MNIST.dataset_options, "num_glimpses": num_glimpses}
    return replace(_RAM_S_MNIST, dataset_options=options, judge_options={"num_glimpses": 8})


TASKS: dict[str, RamTask] = {
    "birds": replace(_BIRDS, without_sequences={"weights": {"entropy": 0.004}}, patience=3500),
    "birds-19200": replace(
        _BIRDS,
        iterations=28_000,
        dataset_options={"num_train": 19_200},
        judge_options={"num_train": 4800},
        settings={"learning_rate": 4e-3},
        without_sequences={"learning_rate": 2e-3, "weights": {"entropy": 0.002}},
        averaging=0.999,
        patience=4000,
    ),
    "mnist": _MNIST,
    "digits": RamTask("GlimpseDigitsClassify-v0", iterations=4000, num_sequences=500, encoder="linear", features=128),
    "cub": _PHOTOGRAPHS,
    "birds-80": replace(
        _PHOTOGRAPHS,
        env="GlimpseFolderClassify-v0",
        settings={"learning_rate": 2e-3, "weights": {"imitation": 0.03}},
        dropout=0.3,
        dataset_options={"mirror": True},
        folder="birds_cropped_80",
    ),
    "birds-eye-ring": replace(
        _BIRDS,
        iterations=4000,
        num_sequences=500,
        dataset_options={"size": 224, "attribute": "eye ring"},
        criterion="cross_entropy",
    ),
    "celeba-hq": replace(
        _BIRDS, env="GlimpseCelebAHQClassify-v0", iterations=30_000, num_sequences=600, criterion="cross_entropy"
    ),
    "mnist-4": _with_glimpses(4),
    "mnist-6": _with_glimpses(6),
    "mnist-8": _RAM_S_MNIST,
}
"""Tasks by name."""


@dataclass(frozen=True)
class RamMethod:
    """How a network is trained."""

    title: str
    """Name in tables."""
    sequences: Literal["oracle", "ram", "hgs", "human"] | None = None
    """Source of the sequences: the oracle, a network trained by RAM with the same seed, hand-crafted glimpses at parts,
    or people's gaze."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of RAM."""


_GUIDED = {"weights": {"entropy": 0.0}}
"""Sequences keep a locator from always looking at the same places; a gain of entropy only blurs what they teach."""

METHODS: dict[str, RamMethod] = {
    "ram": RamMethod("RAM"),
    "ram+": RamMethod("RAM+", settings={"pretraining": 1000}),
    "ws-ram": RamMethod("WS-RAM", settings={"wake_sleep": 4}),
    "ws-ram-cv": RamMethod(
        "WS-RAM, control variates",
        settings={"wake_sleep": 8, "control_variates": True, "exploration": 0.2, "proposal_map": True},
    ),
    "hgs": RamMethod("HGS", "hgs", _GUIDED),
    "ps-human": RamMethod("PS-human gaze", "human", _GUIDED),
    "ps-ram": RamMethod("PS-RAM", "ram", _GUIDED),
    "ps-nogs": RamMethod("PS-NOGS", "oracle", _GUIDED),
    "ps-nogs-steps": RamMethod("PS-NOGS, a classifier a step", "oracle", {**_GUIDED, "every_step": True}),
}
"""Methods by name, in the paper's order."""


@dataclass(frozen=True)
class RamNetwork:
    """How a network differs from the task's own."""

    core: str = "gru"
    """Kind of the core."""
    width: float = 1.0
    """Factor on the width of the glimpse encoder's output."""
    without_sequences: dict[str, Any] = field(default_factory=dict)
    """As in :class:`RamTask`."""

    def policy_kwargs(self, task: RamTask) -> dict[str, Any]:
        """Returns the arguments of :class:`agents.ram.policy.RAMPolicy`."""
        return {
            "posterior": {
                "features": round(task.features * self.width),
                "dropout": task.dropout,
                "input_dropout": task.input_dropout,
            },
            "weight_decay": task.weight_decay,
            "encoder": task.encoder,
            "core": self.core,
            "tokens": task.hidden,
            "hidden": task.hidden,
            "averaging": task.averaging,
        }


NETWORKS: dict[str, RamNetwork] = {
    "gru": RamNetwork(),
    "wide": RamNetwork(width=2.0),
    "narrow": RamNetwork(width=0.5),
    "transformer": RamNetwork(core="transformer", without_sequences={"learning_rate": 5e-4}),
}
"""Networks by name."""


@dataclass(frozen=True)
class RamAxes:
    """The axes of a grid of runs, and the settings that all runs share; flags of scripts/paper_experiment.py."""

    data: tuple[str, ...] = ("birds", "mnist")
    """Data sets: birds, birds-19200 with four times the images, mnist, digits; cub and birds-80, the image folder
    birds_cropped_80, by frozen features; birds-eye-ring and celeba-hq with a binary attribute; mnist-4, mnist-6 and
    mnist-8 in RAM's published setting."""
    methods: tuple[str, ...] = ("ram", "ram+", "ws-ram", "hgs", "ps-human", "ps-ram", "ps-nogs")
    """Methods: ram, ram+, ws-ram, hgs where parts are annotated, ps-human where there is gaze (cub), ps-ram, ps-nogs;
    ws-ram-cv, with control variates; and ps-nogs-steps, which `measure stopping` can stop early."""
    architectures: tuple[str, ...] = ("gru",)
    """Networks: gru, wide and narrow (other widths of its glimpse CNN), transformer."""
    seeds: int = 5
    """Number of seeds, from 0."""
    iterations: int | None = None
    """Training iterations of each run; default the data set's own."""
    num_sequences: int | None = None
    """Number of training images with a sequence, where a method is supervised; default the data set's own."""
    val_images: int = 2000
    """Maximum number of validation images behind each point of the curves."""
    eval_images: int = 10_000
    """Maximum number of test images."""
    root: str | None = None
    """Folder of the data sets; default GLIMPSE_DATA."""
    device: Device = "cpu"
    """Device that networks are trained on; auto takes cuda where there is one, else mps, else cpu. Runs side by side
    can share a GPU."""
