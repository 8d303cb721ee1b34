"""The Bayesian-experimental-design oracle, the policies beside it, and the demonstrations they give."""

from oracles.demonstrations import Demonstrations, generate
from oracles.judging import ensure_judge
from oracles.oracle import BOEDOracle, OracleConfig
from oracles.policies import POLICIES, make_policy
from oracles.policy import GlimpsePolicy

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
