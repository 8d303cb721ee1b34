"""The folder of a training run: settings in ``config.json`` and progress in ``checkpoint/state.json``."""

import os
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agents.experiments.grid import refuse_other_settings
from agents.presets import DAGGER, DEMONSTRATORS, Args, budget_of
from agents.recording import is_agent
from agents.registry import algorithm_of, architecture_of, names_code, runs_code, short_name
from glimpse_env.checks import conforms, content_of
from glimpse_env.cli import command_line
from glimpse_env.datasets.base import DataSource
from glimpse_env.encoding.registry import is_frozen
from glimpse_env.errors import (
    ArtifactError,
    ConfigurationError,
    DatasetNotFoundError,
    JudgeNotFoundError,
    UntrustedFileError,
)
from glimpse_env.files import digest, read_json, write_json
from glimpse_env.judge.judge import find_judge
from glimpse_env.registration import source_of
from glimpse_env.versions import versions
from oracles.exchange.published import cropped_cub, is_published
from oracles.presets import preset_of
from oracles.registry import unavailable_reason

FORMAT = 1
PATHS = frozenset({"algo", "demos", "root", "out", "resume"})
"""Settings that are or may be paths, which can be written in many ways."""
OF_THE_COMMAND = frozenset({"resume", "root", "device", "trust"})
"""Settings that a command that goes on with a run may give: its own, and where the run's data are now."""
_METRICS: dict[str, Any] = {"env": str, "dataset": dict[str, Any], "policies": dict[str, dict], "gap_closed": dict}
_POLICY: dict[str, Any] = {"success_rate": float, "interval": list[float] | None, "num_images": int}
_GAP: dict[str, Any] = {"value": float | None, "interval": list[float] | None}
"""Types of what tables take from the metrics of a run, of each policy in it, and of the gap it closed."""
CODE = ("env", "algo", "architecture", "observation")
"""Settings that may name a Python file or a module, whose code runs when they are looked up."""


@dataclass(frozen=True)
class CurvePoint:
    """The agent on validation images, at some point of its training."""

    env_steps: int
    """Environment steps so far."""
    success: float
    """Share of the images that are judged right after the last glimpse."""
    log_loss: float
    """Log-loss of the label after the last glimpse, a mean over images, nats."""
    seconds: float
    """Wall time of training so far: cloning, the critic's warm-up and fine-tuning, without validations."""
    glimpses: float | None = None
    """Glimpses taken, a mean over images; None where each episode takes T."""
    returned: float | None = None
    """Success less the price of the glimpses, a mean over images; None where they have none."""

    @property
    def score(self) -> float:
        """What weights are selected by: the return where glimpses have a price, else success."""
        return self.success if self.returned is None else self.returned

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values of the fields that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class State:
    """How far a run has come; written with every checkpoint."""

    chunk: int | None = None
    """Chunks of fine-tuning done; None until cloning is."""
    selected: int = 0
    """Environment steps after which the score on validation images was highest, the latest of equals."""
    curve: list[CurvePoint] = field(default_factory=list)
    """Validations after cloning and after each chunk of fine-tuning."""
    identity: dict[str, str] = field(default_factory=dict)
    """Identities of the algorithm, the judge and the demonstrations that the run began with."""
    cloning: dict[str, Any] | None = None
    """Figures of cloning; None without."""
    wall_time: dict[str, float] = field(default_factory=dict)
    """Seconds by stage; a colon in a name separates a stage from a part of it."""

    @property
    def kept_as_cloned(self) -> bool:
        """Whether no weights of fine-tuning did better on validation images than the cloned ones."""
        return self.cloning is not None and bool(self.curve) and self.selected == self.curve[0].env_steps

    @classmethod
    def load(cls, path: Path) -> "State":
        """Reads the state at ``path``; a fresh one where there is no file.

        Raises:
            ArtifactError: if the file cannot be read.
        """
        if not path.is_file():
            return cls()
        try:
            content = read_json(path)
            points = content.pop("curve", [])
            if not isinstance(points, list):
                raise ArtifactError(f"curve is {repr(points)[:80]}")
            numbers = {name: content.get(name) for name in ("chunk", "selected")}
            if wrong := [name for name, value in numbers.items() if isinstance(value, int) and value < 0]:
                raise ArtifactError(f"{wrong[0]} is {numbers[wrong[0]]}")
            state = cls(**content_of(cls, content), curve=[CurvePoint(**content_of(CurvePoint, one)) for one in points])
        except ArtifactError as error:
            raise ArtifactError(f"{path} cannot be read ({error}); start the run again in another folder.") from error
        return state


def begin_run(args: Args) -> tuple[Args, DataSource]:
    """Writes the settings of a new run into its folder.

    Returns:
        The settings with all defaults resolved, and the data set.

    Raises:
        ConfigurationError: if the folder holds a run already, or the data set lacks what the settings need.
    """
    out = args.folder
    resume = command_line("train_agent", resuming(args, out))
    if (out / "metrics.json").exists():
        raise ConfigurationError(f"{out} holds a finished run; choose another --out or --seed, or move it away.")
    if (out / "config.json").exists():
        raise ConfigurationError(f"{out} holds an unfinished run; go on with `{resume}` or choose another --out.")
    source = source_of(args.env, args.root, args.dataset_options, args.scales, args.zooms)
    reason = unavailable_reason(args.demos, source) if args.demos in DEMONSTRATORS else None
    if reason is not None:
        raise ConfigurationError(f"--demos {args.demos}: {reason}")
    if args.demos not in (*DEMONSTRATORS, DAGGER, "none") and not is_agent(args.demos) and is_published(args.demos):
        cropped_cub(source)  # said now, not once a judge has been trained
    budget = budget_of(source.name)
    free = args.architecture is None and algorithm_of(args.algo).core is None
    resolved = vars(args) | {
        "architecture": architecture_of(args.algo, budget.architecture if free else args.architecture),
        "out": out,
    }
    if args.num_demos is None and (args.demos in (*DEMONSTRATORS, DAGGER) or is_agent(args.demos)):
        resolved["num_demos"] = min(budget.num_demos, source.size("train"))
    if args.timesteps is None:
        resolved["timesteps"] = budget.timesteps
    if args.observation is None:
        resolved["observation"] = "features" if _reads_features(source) else "history"
    if args.reward is None:
        resolved["reward"] = "information" if args.glimpse_cost is None else "classification"
    if args.target_temperature is None:
        resolved["target_temperature"] = budget.temperature
    # absolute paths, as the run may be resumed from another folder
    if args.root is not None:
        resolved["root"] = os.path.abspath(os.path.expanduser(args.root))
    if args.demos not in (*DEMONSTRATORS, DAGGER, "none"):
        resolved["demos"] = os.path.abspath(args.demos)
    if Path(args.algo).suffix == ".py":
        resolved["algo"] = os.path.abspath(args.algo)
    del resolved["trust"]
    config = {
        "format": FORMAT,
        "args": {name: str(value) if isinstance(value, Path) else value for name, value in resolved.items()},
        "command": args.command,
        "dataset": source.name,
        "fingerprint": source.fingerprint,
        "versions": versions(),
    }
    write_json(out / "config.json", config)
    return Args(**resolved, trust=args.trust), source


def _reads_features(source: DataSource) -> bool:
    """Returns whether the judge of a data set, or the one to be trained, reads frozen features."""
    try:
        return find_judge(source).frozen is not None
    except JudgeNotFoundError:
        return is_frozen(preset_of(source).judge.encoder)


def resuming(args: Args, out: Path) -> Args:
    """Returns the settings of the command that goes on with the run of ``args`` in ``out``: what names code is given
    again."""
    again = {name: value for name in CODE if names_code(value := getattr(args, name))}
    return Args(resume=out, device=args.device, trust=args.trust, **again)


def read_run(folder: Path, given: Args) -> tuple[Args, DataSource, str]:
    """Reads the settings of the run in a folder, which may be somebody else's.

    Args:
        folder: the folder.
        given: the settings of the command. A Python file that the run names as its algorithm, and modules, are run
            only where these name them too, or this process has run them already. Their ``root`` is where the data set
            is now, and the run is then written to have it there.

    Returns:
        The settings, the data set, and the command that began the run.

    Raises:
        ConfigurationError: if there is no run.
        UntrustedFileError: if the run names code that the command does not.
        ArtifactError: if its settings cannot be read, or its data set has changed.
    """
    path = folder / "config.json"
    try:
        config = read_json(path)
        before = config["args"].get("root")
        if given.root is not None:
            config["args"]["root"] = os.path.abspath(os.path.expanduser(given.root))
        own = {**config["args"], "out": folder, "resume": None, "device": given.device, "trust": given.trust}
        own |= {name: _settled(folder, name, own.get(name), getattr(given, name)) for name in CODE if name in own}
        own |= {"zooms": tuple(own["zooms"])} if own.get("zooms") is not None else {}
        args = Args(**content_of(Args, own))
        name, fingerprint, command = config["dataset"], config["fingerprint"], config["command"]
        if not isinstance(command, str):
            raise ArtifactError(f"command is {repr(command)[:80]}")
    except FileNotFoundError as error:
        raise ConfigurationError(f"{folder} holds no run (no config.json); start one without --resume.") from error
    except UntrustedFileError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read ({error!r}); start the run again in another folder.") from error
    moved = "if the data moved, name the new folder with --root"
    try:
        source = source_of(args.env, args.root, args.dataset_options, args.scales, args.zooms)
        found = source.name, source.fingerprint
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(f"{folder} cannot go on: {str(error).rstrip('.')}; {moved}.") from error
    if found != (name, fingerprint):
        raise ArtifactError(
            f"{folder} was begun on data set {name} {fingerprint}; {args.env} now finds {source.name} "
            f"{source.fingerprint}. Bring the data back or start a run of its own; {moved}."
        )
    if args.root != before:
        write_json(path, config)
    return args, source, command


def _settled(folder: Path, name: str, own: str | None, given: str | None) -> str | None:
    """Returns the setting ``name`` of a run: the one ``given`` with the command if that names the same code, which may
    have moved, else its ``own``.

    Raises:
        UntrustedFileError: if the run names code that the command does not.
    """
    if own is None or not names_code(own):
        return own
    if given is not None and names_code(given) and short_name(given) == short_name(own):
        return given
    if runs_code(own):
        raise UntrustedFileError(
            f"{folder}/config.json names {own} as its {name}, and no code is run because a file names it; if you trust "
            f"it, add --{name} {shlex.quote(own)}."
        )
    return own


def resume_run(args: Args) -> tuple[Args, DataSource, str]:
    """Reads the unfinished run in ``args.resume``; see :func:`read_run`.

    Raises:
        ConfigurationError: also if the run is finished, or others than :data:`OF_THE_COMMAND` are given beside
            ``resume``, code that the run names apart.
    """
    assert args.resume is not None
    given = [
        name
        for name, value in vars(args).items()
        if name not in OF_THE_COMMAND and value != getattr(Args, name) and not (name in CODE and names_code(value))
    ]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigurationError(f"--resume takes its settings from {args.resume}/config.json; leave out {flags}.")
    if (args.resume / "metrics.json").exists() and (args.resume / "config.json").exists():
        raise ConfigurationError(f"{args.resume} holds a finished run; there is nothing to go on with.")
    return read_run(args.resume, args)


def refuse_other_args(args: Args) -> None:
    """Raises ConfigurationError if the run in ``args.out`` was begun with other settings; paths are not compared."""
    assert args.out is not None
    path = args.out / "config.json"
    if path.is_file():
        wanted = {name: value for name, value in vars(args).items() if name not in PATHS | OF_THE_COMMAND}
        for name in ("target_temperature", "observation", "reward"):
            if wanted[name] is None:  # a run takes its data set's when it begins
                del wanted[name]
        begun = read_json(path).get("args")
        if not isinstance(begun, dict):
            raise ArtifactError(f"{path} holds no settings; choose another --out.")
        known = {name: begun.get(name, getattr(Args, name)) for name in wanted}  # a setting may have come later
        refuse_other_settings(args.out, known, wanted)


def read_metrics(folder: Path) -> dict[str, Any]:
    """Returns the metrics of the finished run in a folder.

    Raises:
        ArtifactError: if there are none, or what all have is missing or of another kind.
    """
    try:
        metrics = read_json(folder / "metrics.json")
        for name, kind in _METRICS.items():
            if not conforms(metrics.get(name), kind):
                raise ArtifactError(f"its {name} is {repr(metrics.get(name))[:80]}")
        for name, one in {**metrics["policies"], "gap_closed": metrics["gap_closed"]}.items():
            kinds = _GAP if name == "gap_closed" else _POLICY
            wrong = [key for key, kind in kinds.items() if key not in one or not conforms(one[key], kind)]
            if wrong or (one["interval"] is not None and len(one["interval"]) != 2):
                raise ArtifactError(f"{(*wrong, 'interval')[0]} of its {name} is missing or of another kind")
        if not metrics["policies"] or not isinstance(metrics["dataset"].get("fingerprint"), str):
            raise ArtifactError("it lacks policies, or its data set's fingerprint")
    except (OSError, ArtifactError) as error:
        raise ArtifactError(
            f"{folder} holds no finished run ({error}); go on with --resume, or leave it out."
        ) from error
    return metrics


def steps_done(folder: Path) -> int:
    """Returns the environment steps that the run in ``folder`` has done; raises ArtifactError as :meth:`State.load`."""
    curve = State.load(folder / "checkpoint" / "state.json").curve
    return curve[-1].env_steps if curve else 0


def algorithm_identity(algo: str) -> str:
    """Returns what tells algorithms apart: a registered name, or of a file its name with a digest of its content.

    Files with the same name in different folders differ, and so does a file from what it was before a change; modules
    that it imports are not looked at.
    """
    path = Path(algo)
    return f"{path.stem}-{digest(path.read_bytes())[:8]}" if path.suffix == ".py" else short_name(algo)


def title_of(args: Args, source: DataSource) -> str:
    """Returns the title of a run's pictures and tables."""
    algo, demos = short_name(args.algo).upper(), Path(args.demos).stem
    return f"{args.env} · data set {source.name} · {algo}, demonstrations: {demos}"
