"""What oracles and judges depend on a data set's name for: one table, with a default for names it does not know."""

from dataclasses import dataclass, field, replace
from typing import Any

from glimpse_env.datasets import make_source
from glimpse_env.datasets.base import DataSource
from glimpse_env.encoding.registry import CONVOLUTIONAL, default_encoder, is_frozen
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.posterior import encoder_plan
from oracles.boed.completion import CompletionConfig
from oracles.boed.criteria import Horizon
from oracles.boed.kernel import KernelConfig
from oracles.boed.oracle import OracleConfig
from oracles.training.plans import JudgePlan, ScorerPlan

MIN_FINE_LOCATIONS = 1001
"""Locations from which on a grid is fine: the embeddings of an image at all of them are many."""
FINE_BANK_SIZE = 2000
"""Images in a bank on a fine grid, at most: 0.6 GB at 2500 locations."""
FINE_VISITED_IMAGES = 300
"""Images per round that the oracle looks at in training a judge on a fine grid, at most."""
FINE_WIDTHS = {"features": 96, "embedding": 64, "hidden": 64}
"""Widths of a judge on a fine grid, at most."""

PAPER_CONFIG = OracleConfig(
    criterion="entropy",
    completion=CompletionConfig(
        match="pixels", effective_samples=25.0, label_weight=0.0, samples=100, short_list=500, coarse=64
    ),
)
"""Harvey et al.: the posterior's expected entropy over 100 of the 500 nearest images by their pixels. The effective
sample size and the bank, training images in place of a GAN's, are this project's."""

_BY_EMBEDDING = CompletionConfig(match="embedding", effective_samples=10.0, label_weight=1.0)
"""Glimpses compared as the judge embeds them, completions weighted by their labels' posterior as well."""


@dataclass(frozen=True)
class Preset:
    """Defaults for one data set; scripts/tune_oracle.py compares configurations on validation images."""

    judge: JudgePlan = field(default_factory=JudgePlan)
    """How its judge is trained."""
    boed: OracleConfig = field(default_factory=lambda: OracleConfig(completion=_BY_EMBEDDING))
    """Configuration of the policy ``boed``."""
    kernel: KernelConfig = field(default_factory=KernelConfig)
    """Configuration of the policy ``kernel``."""
    paper: OracleConfig = PAPER_CONFIG
    """Configuration of the policy ``boed-paper``."""
    oracle: str = "boed"
    """The policy that ``oracle`` is another name of: the best on validation images."""
    stopping: str = "boed-gain"
    """The policy that ``oracle`` is another name of where episodes may stop."""
    greedy: ScorerPlan = field(default_factory=ScorerPlan)
    """How its amortised oracle of horizon ``next`` is trained."""
    zoomed: dict[str, Any] = field(default_factory=dict)
    """Fields of ``judge`` that are others where the data set has zooms."""
    frozen: JudgePlan | None = None
    """How its judge is trained on features of the data set's frozen encoder, where that can be used; None for ``judge``
    everywhere."""
    ahead: ScorerPlan | None = None
    """How its amortised oracle of horizon ``last`` is trained; None for the plan ``greedy``."""
    criterion: str = "log_loss"
    """What its amortised oracles expect."""

    def scorer(self, horizon: Horizon) -> ScorerPlan:
        """Returns how the amortised oracle of a horizon is trained."""
        return self.ahead if horizon == "last" and self.ahead is not None else self.greedy


FROZEN_JUDGE = JudgePlan(
    passes=40,
    rounds=0,
    heldout_images=300,
    batch_size=32,
    weight_decay=0.05,
    embedding=160,
    width=256,
    dropout=0.5,
    input_dropout=0.4,
    label_smoothing=0.05,
)
"""How a judge is trained on frozen features, whose encoder is to be filled in."""

# Of photographs there are few, and none shows what was seen: many completions, weighted by their match alone and looked
# at themselves where the history looked, and their labels, for the judge is often sure and wrong.
_PHOTOGRAPHS = Preset(
    judge=JudgePlan(passes=150, features=144, embedding=160, visited_images=400, weight_decay=0.1, start="birds"),
    frozen=FROZEN_JUDGE,
    boed=OracleConfig(
        "log_loss", replace(_BY_EMBEDDING, effective_samples=100.0, samples=100, label_weight=0.0), history="completion"
    ),
    oracle="kernel",
)

PRESETS: dict[str, Preset] = {
    "birds": Preset(
        judge=JudgePlan(passes=24, visited_images=2000, features=144, embedding=160),
        zoomed={"passes": 4, "rounds": 1, "visited_images": 500, "learning_rate": 1e-3, "start": "birds"},
        oracle="lookahead",
        criterion="entropy",
    ),
    "digits": Preset(
        judge=JudgePlan(passes=30, features=96, embedding=128, visited_images=500),
        oracle="lookahead",
        greedy=ScorerPlan(images=38_400, relative=64),
        ahead=ScorerPlan(images=19_200, histories=4, ahead=6),
    ),
    "signpost": Preset(
        judge=JudgePlan(passes=24, rounds=0, features=32, embedding=64, hidden=128),
        oracle="lookahead",
        greedy=ScorerPlan(images=16_000, locations=9, chunk=2000),
        ahead=ScorerPlan(images=16_000, histories=4, chunk=2000),
    ),
    "needle": Preset(
        judge=JudgePlan(passes=10, rounds=0, batch_size=16, features=16, embedding=32, hidden=32, heldout_images=200),
    ),
    "memory": Preset(
        judge=JudgePlan(
            passes=12,
            rounds=0,
            batch_size=32,
            features=32,
            embedding=64,
            hidden=128,
            heldout_images=200,
        ),
    ),
    "mnist": Preset(
        judge=JudgePlan(passes=6, visited_images=700, features=96, embedding=128),
        # a cluttered digit may lie anywhere: all the images there are, and the completions' labels in place of the
        # judge's entropy
        boed=OracleConfig("log_loss", replace(_BY_EMBEDDING, bank_size=30_000, label_weight=0.5)),
        oracle="lookahead",
        greedy=ScorerPlan(images=57_600, relative=64),
        ahead=ScorerPlan(images=25_600, histories=4, ahead=6),
    ),
    "cub": replace(_PHOTOGRAPHS, greedy=ScorerPlan(images=8000)),
    "cub-full": replace(_PHOTOGRAPHS, judge=replace(_PHOTOGRAPHS.judge, histories=4, visited_images=200)),
    # of a folder of images there may be more classes, for which a head of CUB's width is too narrow
    "folder": replace(
        _PHOTOGRAPHS,
        frozen=replace(FROZEN_JUDGE, embedding=384, hidden=384, dropout=0.4, input_dropout=0.3),
        greedy=ScorerPlan(images=8000),
    ),
    "celeba-hq": replace(
        _PHOTOGRAPHS, judge=JudgePlan(passes=30, visited_images=300, weight_decay=0.1), frozen=None, oracle="boed"
    ),
}
"""By the data set's name; ask :func:`preset_of`, which adapts them to what a data set is like."""


def register_preset(name: str, preset: Preset) -> None:
    """Adds the defaults for a data set of another package.

    Raises:
        ConfigurationError: if the data set has other ones.
    """
    if PRESETS.get(name, preset) != preset:
        raise ConfigurationError(f"preset={name!r} is taken; choose another name for the data set.")
    PRESETS[name] = preset


def preset_of(source: DataSource, encoder: str | None = None) -> Preset:
    """Returns the defaults for a data set, those of :class:`Preset` where its name is unknown.

    ``judge`` is how a judge with ``encoder`` is trained. None is the data set's own, where its preset says how that is
    trained, and the convolutional one on fine grids, of whose locations a frozen encoder would see each alone.

    On a fine grid judges are narrow, so that the embeddings of an image at all locations fit into a bank, 0.3 MB at
    2500 locations; banks are small, the oracle looks at few images in training, and no policy but ``boed`` was tried as
    ``oracle``. Where the judge that ``judge.start`` names has an encoder of other shapes, as with more scales
    or with zooms, ``start`` is None.
    """
    preset, fine = PRESETS.get(source.name, Preset()), len(source.geometry.grid) >= MIN_FINE_LOCATIONS
    if encoder is None:
        encoder = CONVOLUTIONAL if fine or preset.frozen is None else default_encoder(source.name)
    if len(source.geometry.zooms) > 1 and not fine:
        preset = replace(preset, judge=replace(preset.judge, **preset.zoomed))
    if is_frozen(encoder):
        preset = replace(preset, judge=replace(preset.frozen or FROZEN_JUDGE, encoder=encoder))
    if fine:
        judge = preset.judge
        visited = min(judge.visited_images, FINE_VISITED_IMAGES)
        widths = {name: min(getattr(judge, name), width) for name, width in FINE_WIDTHS.items()}
        return replace(
            preset,
            judge=replace(judge, **widths, visited_images=visited, start=None),
            boed=_with_small_bank(preset.boed),
            paper=_with_small_bank(preset.paper),
            oracle="boed",
        )
    if preset.judge.start not in (None, source.name):
        other = make_source(preset.judge.start)
        if _encoder_shapes(source, preset.judge) != _encoder_shapes(other, preset_of(other, CONVOLUTIONAL).judge):
            return replace(preset, judge=replace(preset.judge, start=None))
    return preset


def _with_small_bank(config: OracleConfig) -> OracleConfig:
    size = min(config.completion.bank_size, FINE_BANK_SIZE)
    return replace(config, completion=replace(config.completion, bank_size=size))


def _encoder_shapes(source: DataSource, plan: JudgePlan) -> tuple[Any, ...]:
    """Returns what the shapes of a judge's glimpse encoder depend on."""
    geometry = source.geometry
    kernels = [(kernel, share) for kernel, _, share in encoder_plan(geometry.glimpse_size, geometry.stride)]
    channels = source.image_shape[2] * geometry.scales
    return kernels, channels, plan.features, plan.embedding, geometry.grid.coordinates
