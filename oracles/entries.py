"""Entries of the registry of policies that are made of no other policy."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from glimpse_env.datasets import DATASETS, make_source
from glimpse_env.datasets.base import DataSource
from glimpse_env.datasets.gaze import CUBGaze, gaze_identity
from glimpse_env.encoding.features import glimpse_features
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge, rows_for_network
from oracles.amortised.oracle import find_oracle
from oracles.base import GlimpsePolicy
from oracles.baselines import (
    ClairvoyantPolicy,
    FixedPolicy,
    HandCraftedPolicy,
    RandomPolicy,
    best_fixed,
    centre_out,
    coarse_to_fine,
    fitted_images,
)
from oracles.boed.anytime import AnytimeConfig, AnytimeOracle
from oracles.boed.criteria import Horizon
from oracles.boed.further import FurtherImages
from oracles.boed.kernel import KernelConfig, KernelOracle
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.diagnostics import BEST, best_unavailable
from oracles.human import HumanPolicy, human_unavailable
from oracles.presets import preset_of
from oracles.rivals.aaco import AACO, AACOConfig
from oracles.rivals.dime import DIMETrainer
from oracles.rivals.gdfs import GDFSTrainer
from oracles.rivals.learned import RivalTrainer, ensure_rival, find_rival
from oracles.saliency import MISSING, SaliencyPolicy, saliency_installed
from oracles.stopping import StopConfig
from oracles.training.scorer import ensure_oracle

PolicyConfig = OracleConfig | KernelConfig | AnytimeConfig | StopConfig | AACOConfig
"""Configurations of the policies that have one."""

HORIZONS: dict[str, Horizon] = {"amortised": "next", "lookahead": "last"}
"""Horizons of the amortised oracles, by the policies' names."""

LEARNED_RIVALS: dict[str, type[RivalTrainer]] = {one.name: one for one in (GDFSTrainer, DIMETrainer)}
"""What trains the networks of the rivals that have some, by the policies' names."""


class PolicyFactory(Protocol):
    """Makes a policy for images of a data set; the arguments are those of :func:`make_policy`."""

    def __call__(
        self,
        source: DataSource,
        judge: Judge,
        *,
        network: int | None = None,
        seed: int = 0,
        config: PolicyConfig | None = None,
    ) -> GlimpsePolicy: ...


@dataclass(frozen=True)
class PolicyEntry:
    """What a policy's name stands for."""

    factory: PolicyFactory
    peeks: bool = False
    """Whether it may see more of an image than glimpses and locations."""
    seeded: bool = True
    """Whether its choices may depend on the seed: such a policy is made anew for every part of the demonstrations."""
    stops: bool = False
    """Whether it may stop, for which its episodes need the action to stop."""
    by_network: bool = True
    """Whether its choices may depend on the network that it may ask, see :func:`make_policy`: such a policy is made
    anew for each fold of training images."""
    unavailable: Callable[[DataSource], str | None] = lambda source: None
    """Says in a sentence what keeps it from images of a data set; None where nothing does."""
    settings: Callable[[DataSource, Judge, PolicyConfig | None], dict[str, Any] | None] = lambda *_: None
    """What its choices depend on beside data set, judge and seed, as JSON values; see :func:`policy_settings`."""


def _random(source: DataSource, judge: Judge, *, seed: int = 0, **_: Any) -> GlimpsePolicy:
    return RandomPolicy(judge.grid, seed)


def _centre(source: DataSource, judge: Judge, **_: Any) -> GlimpsePolicy:
    return FixedPolicy(judge.grid, centre_out(judge.grid, source.geometry.num_glimpses))


def _coarse_to_fine(source: DataSource, judge: Judge, **_: Any) -> GlimpsePolicy:
    return FixedPolicy(judge.grid, coarse_to_fine(judge.grid, source.geometry.num_glimpses))


def _best(source: DataSource, judge: Judge, **_: Any) -> GlimpsePolicy:
    return BEST[source.name](judge.grid)


def _saliency(source: DataSource, judge: Judge, **_: Any) -> GlimpsePolicy:
    return SaliencyPolicy(judge.grid, source.geometry.num_glimpses)


def _fixed(source: DataSource, judge: Judge, **_: Any) -> GlimpsePolicy:
    return FixedPolicy(judge.grid, best_fixed(source.load("train"), judge, source.geometry.num_glimpses))


def _fixed_settings(source: DataSource, judge: Judge, _: PolicyConfig | None) -> dict[str, Any] | None:
    images = len(fitted_images(source.load("train"), judge))
    return None if images == source.size("train") else {"random_part": images}


def _hand_crafted(source: DataSource, judge: Judge, *, seed: int = 0, **_: Any) -> GlimpsePolicy:
    return HandCraftedPolicy(judge.grid, source.geometry.num_glimpses, seed)


def _human(source: DataSource, judge: Judge, **_: Any) -> GlimpsePolicy:
    return HumanPolicy(CUBGaze(source), judge.grid, source.geometry.num_glimpses)


def _boed(
    source: DataSource, judge: Judge, *, network: int | None = None, config: PolicyConfig | None = None, **_: Any
) -> GlimpsePolicy:
    return BOEDOracle(source.load("train"), judge, _boed_config(source, config), network=network)


def _boed_config(source: DataSource, config: PolicyConfig | None) -> OracleConfig:
    config = preset_of(source).boed if config is None else config
    if not isinstance(config, OracleConfig):
        raise ConfigurationError(f"policy='boed' takes an OracleConfig, not {config}.")
    return config


def _boed_settings(source: DataSource, judge: Judge, config: OracleConfig) -> dict[str, Any]:
    """Returns the configuration, and whether banks hold a random part of the images: once it was their first part."""
    folds, size = source.load("train").folds, config.completion.bank_size
    is_part = any(len(rows_for_network(k, folds)) > size for k in range(len(judge.networks)))
    return {**asdict(config), **({"random_part": size} if is_part else {})}


def _boed_paper(source: DataSource, judge: Judge, *, network: int | None = None, **_: Any) -> GlimpsePolicy:
    return BOEDOracle(source.load("train"), judge, preset_of(source).paper, network=network)


def _kernel(source: DataSource, judge: Judge, *, config: PolicyConfig | None = None, **_: Any) -> GlimpsePolicy:
    config = _kernel_config(source, config)
    train, further = source.load("train"), None
    if config.further is not None:
        other = _further_source(source, config.further)
        frozen = None if judge.frozen is None else glimpse_features(other, judge.card.config.encoder)
        further = FurtherImages(other.load("train"), frozen, judge, train.class_names, config.further_images)
    return KernelOracle(train, judge, config, further)


def _further_source(source: DataSource, further: str) -> DataSource:
    """Returns the data set, or image folder, whose images are regressed over beside those of ``source``."""
    if further in DATASETS:
        return make_source(further)
    geometry = source.geometry
    return make_source(
        "folder",
        root=further,
        size=geometry.image_size,
        glimpse_size=geometry.glimpse_size,
        stride=geometry.stride,
        num_glimpses=geometry.num_glimpses,
        mirror=source.mirror_symmetric,
    )


def _kernel_config(source: DataSource, config: PolicyConfig | None) -> KernelConfig:
    config = preset_of(source).kernel if config is None else config
    if not isinstance(config, KernelConfig):
        raise ConfigurationError(f"policy='kernel' takes a KernelConfig, not {config}.")
    return replace(config, mirrored=config.mirrored and source.mirror_symmetric)


def _kernel_settings(source: DataSource, _: Judge, config: PolicyConfig | None) -> dict[str, Any]:
    settings = asdict(_kernel_config(source, config))
    for name in ("mirrored", "further", "predicted"):
        if not settings[name]:
            del settings[name]  # as in files from before there was such a setting
    if "further" not in settings:
        del settings["further_ridge"], settings["further_images"]
    else:
        settings["further"] = _further_source(source, settings["further"]).fingerprint
    return settings


def _amortised(horizon: Horizon) -> PolicyEntry:
    def make(source: DataSource, judge: Judge, *, network: int | None = None, **_: Any) -> GlimpsePolicy:
        return ensure_oracle(source, judge, horizon, network=network)

    return PolicyEntry(
        make,
        seeded=False,
        settings=lambda source, judge, _: {"weights": find_oracle(source, judge, horizon).identity},
    )


def _learned(trainer: type[RivalTrainer]) -> PolicyEntry:
    def make(source: DataSource, judge: Judge, *, network: int | None = None, **_: Any) -> GlimpsePolicy:
        return ensure_rival(trainer, source, judge, network=network)

    return PolicyEntry(
        make,
        seeded=False,
        settings=lambda source, judge, _: {"weights": find_rival(trainer, source, judge).identity},
    )


def _anytime(
    source: DataSource, judge: Judge, *, network: int | None = None, config: PolicyConfig | None = None, **_: Any
) -> GlimpsePolicy:
    return AnytimeOracle(source.load("train"), judge, _anytime_config(source, config), network=network)


def _anytime_config(source: DataSource, config: PolicyConfig | None) -> AnytimeConfig:
    config = AnytimeConfig(oracle=preset_of(source).boed) if config is None else config
    if not isinstance(config, AnytimeConfig):
        raise ConfigurationError(f"policy='boed-anytime' takes an AnytimeConfig, not {config}.")
    return config


def _anytime_settings(source: DataSource, judge: Judge, config: PolicyConfig | None) -> dict[str, Any]:
    config = _anytime_config(source, config)
    return {**asdict(config), "oracle": _boed_settings(source, judge, config.oracle)}


def _aaco(
    source: DataSource, judge: Judge, *, network: int | None = None, config: PolicyConfig | None = None, **_: Any
) -> GlimpsePolicy:
    return AACO(source.load("train"), judge, _aaco_config(config), network=network)


def _aaco_config(config: PolicyConfig | None) -> AACOConfig:
    config = AACOConfig() if config is None else config
    if not isinstance(config, AACOConfig):
        raise ConfigurationError(f"policy='rivals/aaco' takes an AACOConfig, not {config}.")
    return config


def _clairvoyant(source: DataSource, judge: Judge, **_: Any) -> GlimpsePolicy:
    return ClairvoyantPolicy(judge, source.geometry.num_glimpses)


DIRECT: dict[str, PolicyEntry] = {
    "random": PolicyEntry(_random),
    "centre": PolicyEntry(_centre, seeded=False, by_network=False),
    "coarse-to-fine": PolicyEntry(
        _coarse_to_fine,
        seeded=False,
        by_network=False,
        unavailable=lambda source: (
            None
            if len(source.geometry.zooms) > 1
            else f"policy 'coarse-to-fine' needs zooms, and {source.name!r} is looked at with none."
        ),
    ),
    "best": PolicyEntry(_best, seeded=False, by_network=False, unavailable=best_unavailable),
    "saliency": PolicyEntry(
        _saliency, peeks=True, seeded=False, unavailable=lambda source: None if saliency_installed() else MISSING
    ),
    "fixed": PolicyEntry(_fixed, seeded=False, by_network=False, settings=_fixed_settings),
    "hgs": PolicyEntry(
        _hand_crafted,
        peeks=True,
        unavailable=lambda source: (
            None if source.part_names else f"data set {source.name!r} has no parts: hand-crafted glimpses need them."
        ),
    ),
    "human": PolicyEntry(
        _human,
        peeks=True,
        seeded=False,
        unavailable=human_unavailable,
        settings=lambda source, judge, _: {"gaze": gaze_identity(source)},
    ),
    "boed-paper": PolicyEntry(
        _boed_paper,
        seeded=False,
        settings=lambda source, judge, _: _boed_settings(source, judge, preset_of(source).paper),
    ),
    "boed": PolicyEntry(
        _boed,
        seeded=False,
        settings=lambda source, judge, config: _boed_settings(source, judge, _boed_config(source, config)),
    ),
    "kernel": PolicyEntry(_kernel, seeded=False, by_network=False, settings=_kernel_settings),
    **{name: _amortised(horizon) for name, horizon in HORIZONS.items()},
    "clairvoyant": PolicyEntry(_clairvoyant, peeks=True, seeded=False),
    "rivals/aaco": PolicyEntry(
        _aaco, seeded=False, settings=lambda source, judge, config: asdict(_aaco_config(config))
    ),
    **{name: _learned(trainer) for name, trainer in LEARNED_RIVALS.items()},
    "boed-anytime": PolicyEntry(_anytime, seeded=False, stops=True, settings=_anytime_settings),
}
"""Policies by name; see :data:`oracles.registry.POLICIES`."""
