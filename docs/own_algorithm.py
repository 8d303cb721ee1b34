"""An algorithm of one's own in the benchmark: python scripts/benchmark.py --algos ppo docs/own_algorithm.py

The file sets ALGORITHM, and its name is the name in tables. Demonstrations, resuming and reports come with that.
"""

from typing import Any

import torch

from agents.algorithms.on_policy import GlimpsePPO
from agents.algorithms.policies import GlimpseHistoryPolicy
from agents.registry import Algorithm


class SignPPO(GlimpsePPO):
    """PPO that only believes the sign of an advantage."""

    def collect_rollouts(self, env: Any, callback: Any, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        continues = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        rollout_buffer.advantages[...] = torch.sign(torch.from_numpy(rollout_buffer.advantages)).numpy()
        return continues


ALGORITHM = Algorithm(
    model=SignPPO,
    policy=GlimpseHistoryPolicy,
    rollout=4096,
    minibatch=1024,
    hyperparameters={"gamma": 1.0, "learning_rate": 3e-4, "n_epochs": 4, "normalize_advantage": False},
)
