"""The Bayesian-experimental-design oracle, the policies beside it, and the demonstrations they give.

What is handed on here is imported when it is first asked for, as it brings PyTorch.
"""

from typing import TYPE_CHECKING

from glimpse_env.registry import lazy_attributes

if TYPE_CHECKING:
    from oracles.base import GlimpsePolicy
    from oracles.boed.criteria import register_criterion
    from oracles.boed.oracle import BOEDOracle, OracleConfig
    from oracles.demonstrations import Demonstrations, generate
    from oracles.presets import Preset, register_preset
    from oracles.registry import POLICIES, make_policy, register_policy
    from oracles.training.judge import ensure_judge

__all__ = [
    "POLICIES",
    "BOEDOracle",
    "Demonstrations",
    "GlimpsePolicy",
    "OracleConfig",
    "Preset",
    "ensure_judge",
    "generate",
    "make_policy",
    "register_criterion",
    "register_policy",
    "register_preset",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "POLICIES": "oracles.registry",
        "BOEDOracle": "oracles.boed.oracle",
        "Demonstrations": "oracles.demonstrations",
        "GlimpsePolicy": "oracles.base",
        "OracleConfig": "oracles.boed.oracle",
        "Preset": "oracles.presets",
        "ensure_judge": "oracles.training.judge",
        "generate": "oracles.demonstrations",
        "make_policy": "oracles.registry",
        "register_criterion": "oracles.boed.criteria",
        "register_policy": "oracles.registry",
        "register_preset": "oracles.presets",
    },
)
