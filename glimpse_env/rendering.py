"""Pictures of episodes, and the window that shows them."""

import numpy as np
from PIL import Image

from glimpse_env.episodes import EpisodeBatch


def draw_batch(batch: EpisodeBatch) -> list[np.ndarray]:
    return [np.asarray(Image.fromarray(np.zeros((384, 640, 3), np.uint8))) for _ in range(len(batch))]


class Window:
    def __init__(self, title, fps):
        pass
    def show(self, frame):
        pass
    def close(self):
        pass
