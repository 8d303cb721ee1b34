"""The Bayesian-experimental-design oracle, the policies beside it, and the demonstrations they give."""

from oracles.base import GlimpsePolicy
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.demonstrations import Demonstrations, generate
from oracles.registry import POLICIES, make_policy
from oracles.training.judge import ensure_judge

__all__ = [
    "POLICIES",
    "BOEDOracle",
    "Demonstrations",
    "GlimpsePolicy",
    "OracleConfig",
    "ensure_judge",
    "generate",
    "make_policy",
]
