"""The policies by name."""

from dataclasses import replace

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge import Judge
from oracles.baselines import ClairvoyantPolicy, FixedPolicy, HandCraftedPolicy, RandomPolicy, best_fixed, centre_out
from oracles.completion import CompletionConfig
from oracles.oracle import BOEDOracle, OracleConfig
from oracles.policy import GlimpsePolicy
from oracles.saliency import MISSING, SaliencyPolicy, saliency_installed

POLICIES = ("random", "centre", "saliency", "fixed", "hgs", "boed-paper", "boed", "oracle", "clairvoyant")
"""All that :func:`make_policy` knows. ``boed`` and ``boed-paper`` are :class:`BOEDOracle` as
:func:`default_oracle_config` and :data:`PAPER_CONFIG` have it; ``oracle`` is :data:`DEFAULT_ORACLE`."""

DEFAULT_ORACLE = "boed"
"""The policy that ``oracle`` is another name of."""

REFERENCES = ("random", "centre", "fixed", "hgs", "oracle", "clairvoyant")
"""Those that a run of scripts/train_agent.py sets its agent beside."""

PEEKING = ("saliency", "hgs", "clairvoyant")
"""Those that may see more of an image than glimpses and locations: ``saliency`` all its pixels, ``hgs`` its part
annotations, ``clairvoyant`` its pixels and its label."""

PAPER_CONFIG = OracleConfig(
    criterion="entropy",
    completion=CompletionConfig(
        match="pixels", effective_samples=25.0, label_weight=0.0, samples=100, short_list=500, bank_size=10_000
    ),
)
"""Harvey et al.: the posterior's expected entropy over 100 of the 500 nearest images by their pixels. The effective
sample size and the bank, training images in place of a GAN's, are this project's."""


def default_oracle_config(source: DataSource) -> OracleConfig:
    """The configuration for a data set: glimpses compared as the judge embeds them, completions weighted by their
    labels' posterior as well. On photographs, where the judge is often sure and wrong, the completions' labels count in
    place of its entropy. scripts/tune_oracle.py compares configurations on validation images."""
    completion = CompletionConfig(match="embedding", effective_samples=10.0, label_weight=1.0)
    if source.name in ("cub", "cub-full", "folder"):
        return OracleConfig("log_loss", replace(completion, effective_samples=30.0))
    return OracleConfig(completion=completion)


def oracle_config(name: str, source: DataSource) -> OracleConfig | None:
    """What the policy called ``name`` is configured with on a data set; None for one that is no oracle."""
    configs = {"boed": default_oracle_config(source), "boed-paper": PAPER_CONFIG}
    return configs.get(DEFAULT_ORACLE if name == "oracle" else name)


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
        config: of ``boed``; None for the data set's default.

    Raises:
        ConfigurationError: if there is no such policy, or :func:`why_not` tells what it lacks.
    """
    reason = why_not(name, source)
    if reason is not None:
        raise ConfigurationError(reason)
    if name == "oracle":
        name = DEFAULT_ORACLE
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
    if name == "boed-paper":
        return BOEDOracle(source.load("train"), judge, PAPER_CONFIG, network=network)
    if name == "boed":
        return BOEDOracle(source.load("train"), judge, config or default_oracle_config(source), network=network)
    return ClairvoyantPolicy(judge, num_glimpses)
