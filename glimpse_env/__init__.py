"""Hard visual attention as Gymnasium environments; importing this registers their ids."""

from gymnasium.envs.registration import register

from glimpse_env.env import GlimpseEnv
from glimpse_env.presets import CLASSIFY_IDS, DEFAULT_SCALES, ENV_IDS, FLAT
from glimpse_env.vector_env import GlimpseVectorEnv

__all__ = ["CLASSIFY_IDS", "ENV_IDS", "GlimpseEnv", "GlimpseVectorEnv"]

for _id, _dataset in (ENV_IDS | CLASSIFY_IDS).items():
    _flat = "flat_" if _dataset in FLAT else ""  # takes the data set's arguments as its own
    register(
        id=_id,
        entry_point=f"glimpse_env.registration:make_{_flat}env",
        vector_entry_point=f"glimpse_env.registration:make_{_flat}vector_env",
        kwargs={"dataset": _dataset}
        | ({"scales": DEFAULT_SCALES[_dataset]} if _dataset in DEFAULT_SCALES else {})
        | ({"task": "classify"} if _id in CLASSIFY_IDS else {}),
    )
