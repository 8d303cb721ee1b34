"""The policies by name, to which other packages add theirs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from glimpse_env.datasets import DATASETS, make_source
from glimpse_env.datasets.base import DataSource
from glimpse_env.datasets.gaze import CUBGaze, gaze_identity
from glimpse_env.encoding.features import glimpse_features
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge, rows_for_network
from glimpse_env.presets import glimpse_cost
from glimpse_env.registry import Registry
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
from oracles.human import HumanPolicy, human_unavailable
from oracles.induction import RECORDING, Induction, recorded_episodes
from oracles.presets import preset_of
from oracles.rivals.aaco import AACO, AACOConfig
from oracles.rivals.dime import DIMETrainer
from oracles.rivals.gdfs import GDFSTrainer
from oracles.rivals.learned import RivalTrainer, ensure_rival, find_rival
from oracles.saliency import MISSING, SaliencyPolicy, saliency_installed
from oracles.stopping import CLAIRVOYANT_STOP, PRICED, STOPPING, ClairvoyantStop, StopConfig, StoppingPolicy
from oracles.training.scorer import ensure_oracle

PolicyConfig = OracleConfig | KernelConfig | AnytimeConfig | StopConfig | AACOConfig
"""Configurations of the policies that have one."""

HORIZONS: dict[str, Horizon] = {"amortised": "next", "lookahead": "last"}
"""Horizons of the amortised oracles, by the policies' names."""

LEARNED_RIVALS: dict[str, type[RivalTrainer]] = {one.name: one for one in (GDFSTrainer, DIMETrainer)}
"""What trains the networks of the rivals that have some, by the policies' names."""

REFERENCES = ("random", "centre", "fixed", "hgs", "human", "oracle", "clairvoyant")
"""Policies that a run of scripts/train_agent.py sets its agent beside, where the data set supports them."""


ANYTIME_REFERENCES = (
    *("random", "fixed", "coarse-to-fine", "boed", "fixed-length", "boed-entropy", "boed-confidence", "oracle"),
    "boed-clairvoyant-stop",
)
"""The same where episodes may stop: policies that take all glimpses, and those that stop."""


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


def _stopping(name: str, peeks: bool = False) -> PolicyEntry:
    """Returns the entry of a policy of :data:`oracles.stopping.STOPPING`."""
    kind = STOPPING[name]

    def looking(source: DataSource, config: PolicyConfig | None) -> OracleConfig | KernelConfig | None:
        if not isinstance(config, StopConfig | None):
            raise ConfigurationError(f"policy={name!r} takes a StopConfig, not {config}.")
        if kind.policy != "boed" or (config is not None and config.config is not None):
            return None if config is None else config.config
        preset = preset_of(source).boed
        return replace(preset, criterion=kind.criterion or preset.criterion)

    def threshold(source: DataSource, config: PolicyConfig | None) -> float:
        given = config.threshold if isinstance(config, StopConfig) else None
        return kind.threshold(source.geometry.num_glimpses) if given is None else given

    def make(source: DataSource, judge: Judge, *, config: PolicyConfig | None = None, **further: Any) -> GlimpsePolicy:
        policy = make_policy(kind.policy, source, judge, config=looking(source, config), **further)
        if peeks:
            return ClairvoyantStop(policy, judge, threshold(source, config))
        network = further.get("network")
        return StoppingPolicy(policy, judge, kind.rule, threshold(source, config), network=network)

    def settings(source: DataSource, judge: Judge, config: PolicyConfig | None) -> dict[str, Any]:
        looks = policy_settings(kind.policy, source, judge, looking(source, config))
        return {"threshold": threshold(source, config), "looks": looks or {"policy": kind.policy}}

    return PolicyEntry(make, peeks, seeded=False, stops=True, settings=settings)


def _induction_config(source: DataSource, config: PolicyConfig | None) -> tuple[float, PolicyConfig | None]:
    """Returns the cost of a glimpse and the configuration of the oracle that looks."""
    if not isinstance(config, StopConfig | None):
        raise ConfigurationError(f"policy='oracle-stop' takes a StopConfig, not {config}.")
    config = config or StopConfig()
    cost = glimpse_cost(source.name) if config.threshold is None else config.threshold
    return cost, config.config


def _induction(
    source: DataSource, judge: Judge, *, network: int | None = None, config: PolicyConfig | None = None, **_: Any
) -> GlimpsePolicy:
    cost, looks = _induction_config(source, config)

    def looking(network: int | None) -> GlimpsePolicy:
        return make_policy("oracle", source, judge, network=network, config=looks)

    recorded = recorded_episodes(source, judge, looking, policy_settings("oracle", source, judge, looks))
    return StoppingPolicy(looking(network), judge, Induction(recorded, cost), cost, network=network)


def _induction_settings(source: DataSource, judge: Judge, config: PolicyConfig | None) -> dict[str, Any]:
    cost, looks = _induction_config(source, config)
    return {"threshold": cost, "looks": policy_settings("oracle", source, judge, looks), **RECORDING}


def _oracle(source: DataSource, judge: Judge, *, config: PolicyConfig | None = None, **further: Any) -> GlimpsePolicy:
    return make_policy(resolved("oracle", source, config), source, judge, config=config, **further)


def _clairvoyant(source: DataSource, judge: Judge, **_: Any) -> GlimpsePolicy:
    return ClairvoyantPolicy(judge, source.geometry.num_glimpses)


POLICIES: Registry[PolicyEntry] = Registry(
    "policy",
    {
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
        "saliency": PolicyEntry(
            _saliency, peeks=True, seeded=False, unavailable=lambda source: None if saliency_installed() else MISSING
        ),
        "fixed": PolicyEntry(_fixed, seeded=False, by_network=False, settings=_fixed_settings),
        "hgs": PolicyEntry(
            _hand_crafted,
            peeks=True,
            unavailable=lambda source: (
                None
                if source.part_names
                else f"data set {source.name!r} has no parts: hand-crafted glimpses need them."
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
        "oracle": PolicyEntry(_oracle, seeded=False),
        "clairvoyant": PolicyEntry(_clairvoyant, peeks=True, seeded=False),
        "rivals/aaco": PolicyEntry(
            _aaco, seeded=False, settings=lambda source, judge, config: asdict(_aaco_config(config))
        ),
        **{name: _learned(trainer) for name, trainer in LEARNED_RIVALS.items()},
        "boed-anytime": PolicyEntry(_anytime, seeded=False, stops=True, settings=_anytime_settings),
        "oracle-stop": PolicyEntry(_induction, seeded=False, stops=True, settings=_induction_settings),
        **{name: _stopping(name, peeks=kind.rule == CLAIRVOYANT_STOP) for name, kind in STOPPING.items()},
    },
)
"""All that :func:`make_policy` knows. ``boed`` and ``boed-paper`` are :class:`BOEDOracle` as the data set's preset has
it, ``kernel`` is :class:`KernelOracle`, ``amortised`` and ``lookahead`` the amortised oracles of the horizons in
:data:`HORIZONS`; ``oracle`` is the policy that the preset names. ``saliency`` sees all pixels of an image, ``hgs`` its
part annotations, ``human`` where people looked who saw it whole, ``clairvoyant`` its pixels and its label. Methods of
others, each in a module of :mod:`oracles.rivals`, have names that begin with ``rivals/``. Those that may stop are
``boed-anytime``, :class:`AnytimeOracle`, ``oracle-stop``, which looks as ``oracle`` does and stops by
:class:`oracles.induction.Induction`, and those of :data:`oracles.stopping.STOPPING`, of which ``boed-clairvoyant-stop``
knows what it would see and the label."""


def register_policy(name: str, factory: PolicyFactory, peeks: bool = False, **further: Any) -> None:
    """Adds a policy, which :func:`make_policy`, demonstrations and comparisons then take.

    Args:
        name: a word. Other processes, as workers that make demonstrations, know it as ``"module:name"`` where importing
            ``module`` adds it.
        factory, peeks: see :class:`PolicyEntry`.
        further: its other fields, ``seeded``, ``by_network``, ``unavailable`` and ``settings``.

    Raises:
        ConfigurationError: if the name is taken.
    """
    POLICIES.add(name, PolicyEntry(factory, peeks, **further))


def make_policy(
    name: str,
    source: DataSource,
    judge: Judge,
    *,
    network: int | None = None,
    seed: int = 0,
    config: PolicyConfig | None = None,
) -> GlimpsePolicy:
    """Returns the policy called ``name`` for images of a data set; an amortised oracle that is missing is trained.

    Args:
        name: one of :data:`POLICIES`; ``"module:name"`` imports the module first.
        source: the data set.
        judge: of that data set.
        network: the fold whose images the oracle is to look at; None for images no network was trained on.
        seed: of what is random in the policy.
        config: of ``boed`` or ``kernel``, which ``oracle`` then is, or of a policy that may stop; None for the data
            set's default.

    Raises:
        ConfigurationError: if there is no such policy, or :func:`unavailable_reason` says what it lacks.
    """
    reason = unavailable_reason(name, source)
    if reason is not None:
        raise ConfigurationError(reason)
    return POLICIES[name].factory(source, judge, network=network, seed=seed, config=config)


def unavailable_reason(name: str, source: DataSource) -> str | None:
    """Returns what keeps the policy called ``name`` from images of a data set, as a sentence; None where nothing does.

    Raises:
        ConfigurationError: if there is no such policy.
    """
    return POLICIES[name].unavailable(source)


def peeks(name: str) -> bool:
    """Returns whether the policy called ``name`` may see more of an image than glimpses and locations; False where
    there is no such policy."""
    name = name.rpartition(":")[2]
    return name in POLICIES and POLICIES[name].peeks


def resolved(name: str, source: DataSource, config: PolicyConfig | None = None) -> str:
    """Returns ``name``, or the preset's policy where it is ``oracle``; a configuration asks for the one it is of."""
    if name != "oracle":
        return name
    if config is None:
        return preset_of(source).oracle
    return "kernel" if isinstance(config, KernelConfig) else "boed"


def priced(
    name: str, source: DataSource, glimpse_cost: float | None, config: PolicyConfig | None = None
) -> tuple[str, PolicyConfig | None]:
    """Returns what a policy's name stands for in environments whose episodes may stop.

    Args:
        name: of the policy; ``oracle`` is the one that the preset names as ``stopping``.
        source: the data set.
        glimpse_cost: price of a glimpse, in expected success; None where episodes cannot stop.
        config: asks for its own price; None for that of the environment.

    Returns:
        Name and configuration, the same where episodes cannot stop or the policy does not weigh the price.
    """
    if glimpse_cost is None or config is not None:
        return name, config
    name = preset_of(source).stopping if name == "oracle" else name
    if name == "boed-anytime":
        return name, AnytimeConfig(cost=glimpse_cost, oracle=preset_of(source).boed)
    return name, StopConfig(glimpse_cost) if name in PRICED else None


def can_stop(name: str, source: DataSource) -> bool:
    """Returns whether the policy called ``name`` may stop."""
    return POLICIES[resolved(name, source)].stops


def depends_on_network(name: str, source: DataSource, config: PolicyConfig | None = None) -> bool:
    """Returns whether the policy called ``name`` has to be made anew for each fold of training images."""
    return POLICIES[resolved(name, source, config)].by_network


def horizon_of(name: str, source: DataSource, config: PolicyConfig | None = None) -> Horizon | None:
    """Returns how far the policy called ``name`` looks ahead, where it is an amortised oracle; else None."""
    return HORIZONS.get(resolved(name, source, config))


def ensure_policy(name: str, source: DataSource, judge: Judge, config: PolicyConfig | None = None) -> None:
    """Trains the amortised oracle that a policy is, or looks as, or a rival's networks, where there is none: tens of
    minutes."""
    if POLICIES.name_of(name) in LEARNED_RIVALS:
        ensure_rival(LEARNED_RIVALS[POLICIES.name_of(name)], source, judge)
    if POLICIES.name_of(name) == "oracle-stop":
        name, config = "oracle", _induction_config(source, config)[1]
    horizon = horizon_of(name, source, config)
    if horizon is not None:
        ensure_oracle(source, judge, horizon)


def policy_settings(
    name: str, source: DataSource, judge: Judge, config: PolicyConfig | None = None
) -> dict[str, Any] | None:
    """Returns what the choices of the policy called ``name`` depend on beside data set, judge and seed, as JSON values.

    Args:
        name, source, judge, config: see :func:`make_policy`.

    Returns:
        None where the choices depend on nothing else.

    Raises:
        OracleNotFoundError: if it is an amortised oracle that is not trained; :func:`ensure_policy` trains it.
    """
    name = resolved(name, source, config)
    settings = POLICIES[name].settings(source, judge, config)
    return None if settings is None else {"policy": name, **settings}
