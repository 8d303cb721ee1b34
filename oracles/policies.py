"""The reference policies by name."""

from dataclasses import replace

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge import Judge
from oracles.baselines import ClairvoyantPolicy, FixedPolicy, HandCraftedPolicy, RandomPolicy, best_fixed, centre_out
from oracles.completion import CompletionConfig
from oracles.oracle import BOEDOracle, OracleConfig
from oracles.policy import GlimpsePolicy

POLICIES = ("random", "centre", "fixed", "hgs", "oracle", "clairvoyant")
"""All that :func:`make_policy` knows. ``hgs`` peeks at part annotations, ``clairvoyant`` at image and label."""


def default_oracle_config(source: DataSource) -> OracleConfig:
    """The configuration for a data set: glimpses compared as the judge embeds them, completions weighted by their
    labels' posterior as well. On photographs, where the judge is often sure and wrong, the completions' labels count in
    place of its entropy. scripts/tune_oracle.py compares configurations on validation images."""
    completion = CompletionConfig(match="embedding", effective_samples=10.0, label_weight=1.0)
    if source.name in ("cub", "cub-full", "folder"):
        return OracleConfig("log_loss", replace(completion, effective_samples=30.0))
    return OracleConfig(completion=completion)


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
        config: of the oracle; None for the data set's default.

    Raises:
        ConfigurationError: if there is no such policy or it needs parts that the data set lacks.
    """
    num_glimpses = source.geometry.num_glimpses
    if name == "random":
        return RandomPolicy(judge.grid, seed)
    if name == "centre":
        return FixedPolicy(judge.grid, centre_out(judge.grid, num_glimpses))
    if name == "fixed":
        return FixedPolicy(judge.grid, best_fixed(source.load("train"), judge, num_glimpses))
    if name == "hgs":
        if not source.part_names:
            raise ConfigurationError(f"data set {source.name!r} has no parts: hand-crafted glimpses need them.")
        return HandCraftedPolicy(judge.grid, num_glimpses, seed)
    if name == "oracle":
        return BOEDOracle(source.load("train"), judge, config or default_oracle_config(source), network=network)
    if name == "clairvoyant":
        return ClairvoyantPolicy(judge, num_glimpses)
    raise ConfigurationError(f"policy {name!r} must be one of {', '.join(POLICIES)}.")
