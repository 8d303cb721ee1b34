"""What a training run shows of itself: a bar over its environment steps, and where its time went."""

from collections.abc import Mapping

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from tqdm.auto import tqdm


class ProgressCallback(BaseCallback):
    """Shows a bar over the environment steps of one chunk, with the recent success rate of training episodes."""

    def __init__(self, title: str, target: int, visible: bool = True):
        super().__init__()
        self.title, self.target, self.visible = title, target, visible

    def _on_training_start(self) -> None:
        begun, hidden = self.model.num_timesteps, not self.visible
        self.bar = tqdm(total=self.target, initial=begun, desc=self.title, unit="step", disable=hidden)

    def _on_step(self) -> bool:
        if self.visible:
            self.bar.update(self.model.num_timesteps - self.bar.n)
        return True

    def _on_rollout_end(self) -> None:
        if self.model.ep_success_buffer:
            self.bar.set_postfix(success=f"{np.mean(self.model.ep_success_buffer):.2f}")

    def _on_training_end(self) -> None:
        self.bar.close()


def format_times(wall_time: Mapping[str, float]) -> str:
    """Returns seconds by stage as lines of text; a stage with a colon in its name is part of the one before it."""
    total = sum(seconds for stage, seconds in wall_time.items() if ":" not in stage)
    lines = []
    for stage, seconds in wall_time.items():
        whole, _, part = stage.partition(": ")
        name, of = (f"  of which {part}", wall_time[whole]) if part else (stage, total)
        lines.append(f"  {name:<30} {seconds:8.1f} s {100 * seconds / max(of, 1e-9):6.1f} %")
    return "\n".join([*lines, f"  {'total':<30} {total:8.1f} s"])
