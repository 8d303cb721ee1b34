"""The policies by name."""

from dataclasses import asdict, replace
from typing import Any

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from oracles.base import GlimpsePolicy
from oracles.baselines import ClairvoyantPolicy, FixedPolicy, HandCraftedPolicy, RandomPolicy, best_fixed, centre_out
from oracles.boed.completion import CompletionConfig
from oracles.boed.criteria import Horizon
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.saliency import MISSING, SaliencyPolicy, saliency_installed
from oracles.training.scorer import ensure_oracle

POLICIES = (
    "random",
    "centre",
    "saliency",
    "fixed",
    "hgs",
    "boed-paper",
    "boed",
    "amortised",
    "lookahead",
    "oracle",
    "clairvoyant",
)
"""All that :func:`make_policy` knows. ``boed`` and ``boed-paper`` are :class:`BOEDOracle` as
:func:`default_oracle_config` and :data:`PAPER_CONFIG` have it, ``amortised`` and ``lookahead`` :class:`AmortisedOracle`
with the horizons of :data:`HORIZONS`; ``oracle`` is what :func:`default_oracle` names."""

HORIZONS: dict[str, Horizon] = {"amortised": "next", "lookahead": "last"}
"""Of the amortised oracles."""

_DEFAULT_ORACLES = {"birds": "lookahead", "digits": "lookahead", "mnist": "lookahead"}
"""Data sets on whose validation images another one than ``boed`` does best."""

REFERENCES = ("random", "centre", "fixed", "hgs", "oracle", "clairvoyant")
"""Those that a run of scripts/train_agent.py sets its agent beside."""

PEEKING = ("saliency", "hgs", "clairvoyant")
"""Those that may see more of an image than glimpses and locations: ``saliency`` all its pixels, ``hgs`` its part
annotations, ``clairvoyant`` its pixels and its label."""

PAPER_CONFIG = OracleConfig(
    criterion="entropy",
    completion=CompletionConfig(
        match="pixels", effective_samples=25.0, label_weight=0.0, samples=100, short_list=500, coarse=64
    ),
)
"""Harvey et al.: the posterior's expected entropy over 100 of the 500 nearest images by their pixels. The effective
sample size and the bank, training images in place of a GAN's, are this project's."""


FINE_GRID = 1000
"""Locations above which a grid is fine: the embeddings of an image at all of them are many."""
FINE_BANK = 2000
"""Images in a bank on a fine grid, 0.6 GB at 2500 locations."""


def has_fine_grid(source: DataSource) -> bool:
    """Whether a data set has so many locations that judges are narrow and banks small by default."""
    return len(source.geometry.grid) > FINE_GRID


def default_oracle_config(source: DataSource) -> OracleConfig:
    """The configuration for a data set: glimpses compared as the judge embeds them, completions weighted by their
    labels' posterior as well. A cluttered digit may lie anywhere: all the images there are, and the completions' labels
    in place of the judge's entropy. Of photographs there are few, and none shows what was seen: many completions,
    weighted by their match alone and looked at themselves where the history looked, and their labels, for the judge is
    often sure and wrong. On a fine grid the bank is small. scripts/tune_oracle.py compares configurations on validation
    images."""
    completion = CompletionConfig(match="embedding", effective_samples=10.0, label_weight=1.0)
    if has_fine_grid(source):
        completion = replace(completion, bank_size=FINE_BANK)
    if source.name in ("cub", "cub-full", "folder", "celeba-hq"):
        wide = replace(completion, effective_samples=100.0, samples=100, label_weight=0.0)
        return OracleConfig("log_loss", wide, history="completion")
    if source.name == "mnist":
        return OracleConfig("log_loss", replace(completion, bank_size=30_000, label_weight=0.5))
    return OracleConfig(completion=completion)


def default_oracle(source: DataSource) -> str:
    """The policy that ``oracle`` is another name of: the best on a data set's validation images. On a fine grid no
    other than ``boed`` was tried."""
    return "boed" if has_fine_grid(source) else _DEFAULT_ORACLES.get(source.name, "boed")


def horizon_of(name: str, source: DataSource, config: OracleConfig | None = None) -> Horizon | None:
    """How far the policy called ``name`` looks ahead, where it is an amortised oracle; else None."""
    return HORIZONS.get(_resolved(name, source, config))


def policy_settings(
    name: str, source: DataSource, judge: Judge, config: OracleConfig | None = None
) -> dict[str, Any] | None:
    """What the choices of the policy called ``name`` depend on beside data set, judge and seed, as JSON values.

    Args:
        name, source, judge, config: see :func:`make_policy`.

    Returns:
        None for a policy that is no oracle.
    """
    name = _resolved(name, source, config)
    if name in HORIZONS:
        return {"policy": name, "weights": ensure_oracle(source, judge, HORIZONS[name]).identity}
    if name not in ("boed", "boed-paper"):
        return None
    return {"policy": name, **asdict(_config(name, source, config))}


def _resolved(name: str, source: DataSource, config: OracleConfig | None = None) -> str:
    """``name``, that of the default oracle in its place; a configuration asks for BOED."""
    if name != "oracle":
        return name
    return default_oracle(source) if config is None else "boed"


def paper_config(source: DataSource) -> OracleConfig:
    """:data:`PAPER_CONFIG`, its bank small on a fine grid."""
    if not has_fine_grid(source):
        return PAPER_CONFIG
    return replace(PAPER_CONFIG, completion=replace(PAPER_CONFIG.completion, bank_size=FINE_BANK))


def _config(name: str, source: DataSource, config: OracleConfig | None) -> OracleConfig:
    return paper_config(source) if name == "boed-paper" else config or default_oracle_config(source)


def why_not(name: str, source: DataSource) -> str | None:
    """What keeps the policy called ``name`` from images of a data set, as a sentence; None where nothing does."""
    if name not in POLICIES:
        return f"policy {name!r} must be one of {', '.join(POLICIES)}."
    if name == "hgs" and not source.part_names:
        return f"data set {source.name!r} has no parts: hand-crafted glimpses need them."
    if name == "saliency" and not saliency_installed():
        return MISSING
    return None


def make_policy(
    name: str,
    source: DataSource,
    judge: Judge,
    *,
    network: int | None = None,
    seed: int = 0,
    config: OracleConfig | None = None,
) -> GlimpsePolicy:
    """The policy called ``name`` for images of a data set.

    Args:
        name: one of :data:`POLICIES`.
        source: the data set.
        judge: of that data set.
        network: the fold whose images the oracle is to look at; None for images no network was trained on.
        seed: of what is random in the policy.
        config: of ``boed``, which ``oracle`` then is; None for the data set's default.

    Raises:
        ConfigurationError: if there is no such policy, or :func:`why_not` tells what it lacks.
    """
    reason = why_not(name, source)
    if reason is not None:
        raise ConfigurationError(reason)
    name = _resolved(name, source, config)
    num_glimpses = source.geometry.num_glimpses
    if name == "random":
        return RandomPolicy(judge.grid, seed)
    if name == "centre":
        return FixedPolicy(judge.grid, centre_out(judge.grid, num_glimpses))
    if name == "saliency":
        return SaliencyPolicy(judge.grid, num_glimpses)
    if name == "fixed":
        return FixedPolicy(judge.grid, best_fixed(source.load("train"), judge, num_glimpses))
    if name == "hgs":
        return HandCraftedPolicy(judge.grid, num_glimpses, seed)
    if name in ("boed", "boed-paper"):
        return BOEDOracle(source.load("train"), judge, _config(name, source, config), network=network)
    if name in HORIZONS:
        return ensure_oracle(source, judge, HORIZONS[name], network=network)
    return ClairvoyantPolicy(judge, num_glimpses)
