"""The commands that are killed and stopped, each a few seconds of work on tiny data."""

import json
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.soak.runs import Ended, Running

PHOTOS = "photos"
"""Name of the folder of images below that of all work."""
_OPTIONS = {"size": 20, "glimpse_size": 12, "stride": 4, "num_glimpses": 3}


@dataclass(frozen=True)
class Command:
    """A command line, relative to its working folder."""

    name: str
    """Name in figures and folders."""
    title: str
    """Name in tables."""
    script: str
    """Name of the script."""
    words: tuple[str, ...]
    """Its command line."""
    start: str | None = None
    """Command whose finished cache it starts with; None for none."""
    kept: tuple[str, ...] = ("*",)
    """Folders of that cache which it starts with."""
    resumes: str | None = None
    """Folder of a run that is resumed by name; None where the same command line goes on."""

    def again(self, folder: Path) -> Sequence[str]:
        """Returns the command line that goes on with what is in a working folder."""
        if self.resumes is not None and (folder / self.resumes / "config.json").is_file():
            return ("--resume", self.resumes)
        return self.words


def commands(base: Path) -> dict[str, Command]:
    """Returns the commands by name; their images are below ``base``, see :func:`write_photos`."""
    data = ("--env", "GlimpseFolder-v0", "--root", str(base / PHOTOS), "--dataset-options", json.dumps(_OPTIONS))
    few = "--seeds 1 --val-images 20 --eval-images 20 --workers 1"
    demos = (*data, "--policy", "boed", "--num", "15", "--out", "demos.npz")
    agent = "--demos random --num-demos 15 --clone-passes 2 --timesteps 512 --warm-up 128 --validations 2 --out run"
    benchmark = "--envs GlimpseDigits-v0 --algos a2c --demos random --architectures mlp --timesteps 640"
    benchmark += " --num-demos 20 --validations 2 --against random --observation history --out benchmark"
    paper = "--data digits --methods ps-nogs --iterations 4 --num-sequences 20 --out paper"
    drawn = ("arrays", "embeddings")
    made = [
        Command("judge", "judge training", "train_judge", (*data, "--passes", "2", "--rounds", "1")),
        Command("oracle", "amortised oracle", "train_oracle", (*data, "--images", "64"), "judge"),
        Command("demos", "demonstrations, 1 worker", "generate_demos", demos, "judge"),
        Command("demos-2", "demonstrations, 2 workers", "generate_demos", (*demos, "--workers", "2"), "judge"),
        Command("agent", "agent training", "train_agent", (*data, *agent.split()), "judge", resumes="run"),
        Command("benchmark", "benchmark", "benchmark", (*benchmark.split(), *few.split()), "digits", drawn),
        Command("paper", "paper's experiment", "paper_experiment", (*paper.split(), *few.split()), "digits", drawn),
        # draws the digits and computes the tables that two others begin with
        Command("digits", "drawn digits", "benchmark", (*benchmark.split(), *few.split())),
    ]
    return {command.name: command for command in made}


NAMES = ("judge", "oracle", "demos", "demos-2", "agent", "benchmark", "paper")
"""Names of the commands that are killed and stopped."""


class World:
    """A folder with images, and a working folder for each run of a command."""

    def __init__(self, base: Path) -> None:
        self.base, self.commands = base, commands(base)
        self._alone: dict[str, Ended] = {}

    def folder(self, name: str, case: str) -> Path:
        """Makes a working folder for a run, with the cache that its command starts with."""
        command, folder = self.commands[name], self.base / name / case
        folder.mkdir(parents=True)
        if command.start is not None:
            for pattern in command.kept:
                for path in (self.base / command.start / "alone" / "cache").glob(pattern):
                    shutil.copytree(path, folder / "cache" / path.name)
        return folder

    def begin(
        self,
        name: str,
        folder: Path,
        edge: int = -1,
        number: signal.Signals = signal.SIGKILL,
        words: Sequence[str] | None = None,
    ) -> Running:
        """Begins a command in a folder, with other ``words`` if asked to, or goes on with what is there; see
        :class:`Running`."""
        command = self.commands[name]
        return Running(command.script, words or command.again(folder), folder, edge, number)

    def alone(self, name: str) -> Ended:
        """Runs a command without a fault, after those that it starts with, once.

        Raises:
            RuntimeError: if it fails.
        """
        if name in self._alone:
            return self._alone[name]
        start = self.commands[name].start
        if start is not None:
            self.alone(start)
        ended = self.begin(name, self.folder(name, "alone")).end()
        if ended.code != 0 or ended.faults:
            raise RuntimeError(f"{name} ended with {ended.code}, {ended.faults}:\n{ended.printed[-4000:]}")
        self._alone[name] = ended
        return ended


def write_photos(base: Path) -> None:
    """Writes 24 images of 32 x 32 in three classes below ``base``."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in range(3):
        folder = base / PHOTOS / f"class-{label}"
        folder.mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(50 * label, 50 * label + 90, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
