"""What is passed on of an agent, a judge, an oracle or demonstrations: files that run no code, in a folder."""

import json
import logging
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents.saving import copy_agent, read_agent
from agents.shipped import shipped_agent
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import read_json, read_npz, write_json
from glimpse_env.judge.judge import Judge
from oracles.amortised.oracle import AmortisedOracle
from oracles.demonstrations import Demonstrations

logger = logging.getLogger(__name__)

Kind = Literal["agent", "judge", "oracle", "demonstrations"]
MAIN: dict[Kind, str] = {
    "agent": "model.json",
    "judge": "judge.safetensors",
    "oracle": "oracle.safetensors",
    "demonstrations": "demonstrations.npz",
}
"""Name of the file that a bundle of each kind has, and no other."""
PICTURES = ("episodes.png", "learning_curve.png")
"""Pictures of a run that go with its agent."""
SUFFIXES = (".safetensors", ".json", ".npz", ".png", ".gif", ".md")
"""Suffixes of the files that bundles have: reading them runs no code."""
PER_IMAGE = ("outcomes", "final_log_loss", "final_entropy", "glimpses")
"""Entries of an evaluation with a value an image, which only the agent's keeps."""


@dataclass(frozen=True)
class Bundle:
    """A folder that is passed on."""

    kind: Kind
    folder: Path

    @property
    def main(self) -> Path:
        """The file to load: the folder itself for an agent."""
        return self.folder if self.kind == "agent" else self.folder / MAIN[self.kind]

    @property
    def pictures(self) -> list[str]:
        """Names of the pictures in the folder, the first one shows episodes."""
        names = [path.name for path in self.folder.iterdir() if path.suffix in (".png", ".gif")]
        return sorted(names, key=lambda name: (name not in PICTURES, name != PICTURES[0], name))

    def read(self, name: str) -> dict[str, Any]:
        """Returns the JSON object in a file of the folder; an empty one where there is no such file."""
        path = self.folder / name
        return read_json(path) if path.is_file() else {}

    def check(self) -> None:
        """Checks that the files can be read and belong to each other; no code is run for it.

        Raises:
            GlimpseError: if not.
        """
        for path in self.folder.glob("*.npz"):
            read_npz(path)
        for path in self.folder.glob("*.json"):
            read_json(path)
        _READERS[self.kind](self.main)


_READERS: dict[Kind, Callable[[Path], Any]] = {
    "agent": lambda folder: read_agent(folder / MAIN["agent"]),  # makes no model: its card may name code
    "judge": Judge.load,
    "oracle": AmortisedOracle.load,
    "demonstrations": Demonstrations.load,
}


def open_bundle(folder: Path, name: str | None = None) -> Bundle:
    """Returns the bundle in a folder, which messages call by ``name``, by default its path.

    Raises:
        ArtifactError: if it holds none, or several.
    """
    kinds = [kind for kind, name in MAIN.items() if (folder / name).is_file()]
    if len(kinds) != 1:
        raise ArtifactError(
            f"{name or folder} holds {' and '.join(kinds) or 'nothing'} where one of {', '.join(MAIN.values())} should "
            "be; take what `glimpse push` made."
        )
    return Bundle(kinds[0], folder)


def write_bundle(what: str | Path, folder: Path, *, pictures: bool = True) -> Bundle:
    """Writes what is passed on into a folder that is there.

    Of a run these are its agent without the state of its optimisers and without SB3's zip, ``config.json``,
    ``metrics.json`` with values of single images for the agent only, and pictures. Folders of this machine are taken
    out of settings and commands; cards of judges and oracles stay as they are, as their identity depends on them.

    Args:
        what: folder of a run or a file of its agent, an environment id that an agent comes with the package for, the
            .safetensors of a judge or an oracle, or the .npz of demonstrations.
        folder: where to write.
        pictures: whether pictures of a run go with it.

    Raises:
        ConfigurationError: if ``what`` is nothing of these.
        ArtifactError: if its files are damaged or do not belong to each other.
    """
    path = shipped_agent(str(what)) if not Path(what).exists() else Path(what)
    if path is None or not path.exists():
        raise ConfigurationError(
            f"there is nothing at {what}; name a folder of a run, a .safetensors or .npz file, or an id that an agent "
            "comes with the package for."
        )
    kind = kind_of(path)
    if kind == "agent":
        run = path if path.is_dir() else path.parent
        copy_agent(path, folder / MAIN[kind])
        for name, clean in (("config.json", _clean_config), ("metrics.json", _clean_metrics)):
            if (run / name).is_file():
                write_json(folder / name, clean(read_json(run / name)))
        for name in PICTURES if pictures else ():
            if (run / name).is_file():
                shutil.copyfile(run / name, folder / name)
    else:
        _READERS[kind](path)
        card = path.with_suffix(".json")
        shutil.copyfile(path, folder / MAIN[kind])
        shutil.copyfile(card, (folder / MAIN[kind]).with_suffix(".json"))
        if any(Path(word).is_absolute() for word in _words(read_json(card).get("command"))):
            logger.warning("The command in %s names a folder of this machine, and goes with it.", card)
    return Bundle(kind, folder)


def kind_of(path: Path) -> Kind:
    """Returns what a folder or file holds, by its names and card.

    Raises:
        ConfigurationError: if it is nothing that is passed on.
        ArtifactError: if its card cannot be read.
    """
    if path.is_dir() and (path / MAIN["agent"]).is_file():
        return "agent"
    if path.suffix == ".npz":
        return "demonstrations"
    if path.is_file() and path.suffix in (".safetensors", ".json"):
        card = read_json(path.with_suffix(".json")) if path.with_suffix(".json").is_file() else {}
        for kind, key in (("agent", "algo"), ("oracle", "horizon"), ("judge", "temperatures")):
            if key in card:
                return kind  # type: ignore[return-value]
    raise ConfigurationError(
        f"{path} is neither the folder of a run nor a judge, an oracle or demonstrations with a card beside them; an "
        "agent in a zip alone is not passed on: agents.save_agent brings it over."
    )


def without_folders(command: str) -> str:
    """Returns a command line in which absolute paths are cut to their last name.

    >>> without_folders("python scripts/train_judge.py --root /data/photos")
    'python scripts/train_judge.py --root photos'
    """
    return shlex.join(_name_of(word) for word in _words(command))


def _words(command: Any) -> list[str]:
    try:
        return shlex.split(command) if isinstance(command, str) else []
    except ValueError:  # a quote that does not end
        return command.split()


def _name_of(word: Any) -> Any:
    return Path(word).name if isinstance(word, str) and (word.startswith("~") or Path(word).is_absolute()) else word


def _clean_config(config: dict[str, Any]) -> dict[str, Any]:
    args = config.get("args")
    cleaned = {name: _name_of(value) for name, value in args.items()} if isinstance(args, dict) else args
    if isinstance(cleaned, dict):
        cleaned |= {"root": None}
    return {**config, "args": cleaned, "command": without_folders(config.get("command", ""))}


def _clean_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    try:
        cleaned = json.loads(json.dumps(metrics))
        cleaned["command"] = without_folders(metrics["command"])
        cleaned["judge"]["command"] = without_folders(metrics["judge"]["command"])
        for name, entry in cleaned["policies"].items():
            for key in PER_IMAGE if name != "agent" else ():
                entry.pop(key, None)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"metrics.json is none of a finished run ({error!r}); go on with the run first.") from error
    return cleaned
