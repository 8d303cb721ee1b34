"""The Bayesian-experimental-design oracle, the policies beside it, and the demonstrations they give.

What is handed on here is imported when it is first asked for, as it brings PyTorch.
"""

from typing import TYPE_CHECKING

from glimpse_env.registry import lazy_attributes

if TYPE_CHECKING:
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

__getattr__ = lazy_attributes(
    __name__,
    {
        "POLICIES": "oracles.registry",
        "BOEDOracle": "oracles.boed.oracle",
        "Demonstrations": "oracles.demonstrations",
        "GlimpsePolicy": "oracles.base",
        "OracleConfig": "oracles.boed.oracle",
        "ensure_judge": "oracles.training.judge",
        "generate": "oracles.demonstrations",
        "make_policy": "oracles.registry",
    },
)
