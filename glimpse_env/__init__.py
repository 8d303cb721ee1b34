"""Hard visual attention as Gymnasium environments; importing this registers their ids."""

from gymnasium.envs.registration import register

from glimpse_env.env import GlimpseEnv
from glimpse_env.vector_env import GlimpseVectorEnv

__all__ = ["ENV_IDS", "GlimpseEnv", "GlimpseVectorEnv"]

ENV_IDS = {
    "GlimpseCUB-v0": "auto",
    "GlimpseBirds-v0": "birds",
    "GlimpseMNIST-v0": "mnist",
    "GlimpseDigits-v0": "digits",
}
"""The ids, and the data set of each as :func:`glimpse_env.registration.find_source` names it."""

for _id, _dataset in ENV_IDS.items():
    register(
        id=_id,
        entry_point="glimpse_env.registration:make_env",
        vector_entry_point="glimpse_env.registration:make_vector_env",
        kwargs={"dataset": _dataset},
    )
