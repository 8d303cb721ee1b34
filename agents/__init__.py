"""Agents that choose glimpses: Stable-Baselines3 algorithms, RAM, demonstrations for them, and their benchmark.

Importing this package imports neither torch nor stable_baselines3.
"""

from typing import TYPE_CHECKING

from agents.registry import Algorithm, make_model, register_algorithm, register_architecture
from glimpse_env.console.own_packages import check_own
from glimpse_env.registry import lazy_attributes

if TYPE_CHECKING:
    from agents.saving import load_agent, save_agent
    from agents.vec_env import GlimpseVecEnv

__all__ = [
    "Algorithm",
    "GlimpseVecEnv",
    "load_agent",
    "make_model",
    "register_algorithm",
    "register_architecture",
    "save_agent",
]

check_own("oracles")  # which most of this package needs

__getattr__ = lazy_attributes(
    __name__, {"GlimpseVecEnv": "agents.vec_env", "load_agent": "agents.saving", "save_agent": "agents.saving"}
)
