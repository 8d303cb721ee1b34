"""Demonstrations of the toy problem by processes that come to grief; as a script, so that tests can kill the driver."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from oracles import demonstrations
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import OracleConfig
from tests.support.toy_problem import ToyJudge, ToySource

CONFIG = OracleConfig(completion=CompletionConfig(bandwidth=1e-2, samples=24, short_list=24))
SHARD = 4
"""Images in a shard."""


class TroubledJudge(ToyJudge):
    """The toy judge; in processes other than the one that made it, it has trouble in the middle of a shard.

    Args:
        bullets: each file in this folder is taken away once, and kills the process that took it.
        lasts: questions after which a process gets stuck for good.
    """

    def __init__(self, bullets: Path, lasts: int = 1000):
        super().__init__()
        self.driver, self.bullets, self.lasts, self.asked = os.getpid(), bullets, lasts, 0

    def probabilities(
        self, glimpses: np.ndarray, corners: np.ndarray, counts: np.ndarray, folds: np.ndarray
    ) -> np.ndarray:
        if os.getpid() != self.driver:
            for bullet in self.bullets.iterdir():
                bullet.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            self.asked += 1
            if self.asked > self.lasts:
                time.sleep(1000)
        return super().probabilities(glimpses, corners, counts, folds)


def loaded(folder: Path, bullets: int) -> Path:
    """A folder with as many bullets."""
    folder.mkdir(parents=True)
    for number in range(bullets):
        (folder / str(number)).touch()
    return folder


def main(out: str, name: str, bullets: str, lasts: str, workers: str, ray: str) -> None:
    demonstrations.SEQUENCES_PER_SHARD = SHARD
    judge = TroubledJudge(Path(bullets), int(lasts))
    source = ToySource()
    demonstrations.generate(name, source, judge, 20, out=out, config=CONFIG, workers=int(workers), ray=ray or None)


if __name__ == "__main__":
    main(*sys.argv[1:])
