"""The policies by name, to which other packages add theirs."""

from dataclasses import replace
from typing import Any

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.presets import glimpse_cost
from glimpse_env.registry import Registry
from oracles.base import GlimpsePolicy
from oracles.boed.anytime import AnytimeConfig
from oracles.boed.criteria import Horizon
from oracles.boed.kernel import KernelConfig
from oracles.boed.oracle import OracleConfig
from oracles.entries import DIRECT, HORIZONS, LEARNED_RIVALS, PolicyConfig, PolicyEntry, PolicyFactory
from oracles.induction import RECORDING, Induction, recorded_episodes
from oracles.presets import preset_of
from oracles.rivals.learned import ensure_rival
from oracles.stopping import CLAIRVOYANT_STOP, PRICED, STOPPING, ClairvoyantStop, StopConfig, StoppingPolicy
from oracles.training.scorer import ensure_oracle

REFERENCES = ("random", "centre", "fixed", "hgs", "human", "oracle", "clairvoyant")
"""Policies that a run of scripts/train_agent.py sets its agent beside, where the data set supports them."""


ANYTIME_REFERENCES = (
    *("random", "fixed", "coarse-to-fine", "boed", "fixed-length", "boed-entropy", "boed-confidence", "oracle"),
    "boed-clairvoyant-stop",
)
"""The same where episodes may stop: policies that take all glimpses, and those that stop."""


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


POLICIES: Registry[PolicyEntry] = Registry(
    "policy",
    {
        **DIRECT,
        "oracle": PolicyEntry(_oracle, seeded=False),
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
