"""Hard visual attention as Gymnasium environments; importing this registers their ids.

The classes are imported when they are first asked for, as they bring PyTorch.
"""

from typing import TYPE_CHECKING

from glimpse_env.ids import register_dataset, register_own_ids
from glimpse_env.presets import ANYTIME_IDS, CLASSIFY_IDS, ENV_IDS
from glimpse_env.registry import lazy_attributes

if TYPE_CHECKING:
    from glimpse_env.encoding.registry import register_encoder
    from glimpse_env.env import GlimpseEnv
    from glimpse_env.sensing.observations import register_observation
    from glimpse_env.vector_env import GlimpseVectorEnv

__all__ = [
    "ANYTIME_IDS",
    "CLASSIFY_IDS",
    "ENV_IDS",
    "GlimpseEnv",
    "GlimpseVectorEnv",
    "register_dataset",
    "register_encoder",
    "register_observation",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "GlimpseEnv": "glimpse_env.env",
        "GlimpseVectorEnv": "glimpse_env.vector_env",
        "register_encoder": "glimpse_env.encoding.registry",
        "register_observation": "glimpse_env.sensing.observations",
    },
)

register_own_ids()
