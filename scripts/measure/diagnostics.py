"""Makes a profile of what an agent can and cannot do: its success on each diagnostic beside the known optimum.

python scripts/measure/diagnostics.py best boed
python scripts/measure/diagnostics.py runs/signpost runs/needle runs/memory
"""

import logging
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DeviceFlags):
    """Plays policies and agents on test images of every diagnostic, with the oracle and random glimpses as marks; a run
    that was stopped goes on when called again."""

    subjects: tyro.conf.Positional[tuple[str, ...]] = ("best",)
    """Names of policies, and folders of runs or other agents that score takes. An agent is played in
    the id that it was trained in."""
    env: tuple[str, ...] = ()
    """Environment ids; default all diagnostics."""
    images: int = 500
    """Maximum number of test images of each."""
    trust: bool = False
    """As in score."""
    evaluations: Path | None = None
    """Folder of finished evaluations, which are not played again; default in the cache."""
    out: Path = Path("runs/diagnostics.json")
    """File of the figures; a picture goes beside it."""
    into: Path | None = None
    """Page that the table goes into, between `<!-- table:diagnostics -->` and `<!-- /table:diagnostics -->`."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=1)


def main(args: Args) -> None:
    from agents.reports.diagnostics import draw, table
    from agents.reports.tables import replace_section
    from glimpse_env.datasets.diagnostics.drawn import Diagnostic
    from glimpse_env.datasets.registry import DATASETS
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import write_json
    from glimpse_env.presets import ENV_IDS
    from glimpse_env.versions import versions

    known = [env for env, name in ENV_IDS.items() if name in DATASETS and issubclass(DATASETS[name], Diagnostic)]
    for env in args.env:
        if env not in known:
            raise ConfigurationError(f"--env {env} is no diagnostic; take of {', '.join(known)}.")
    profile, unfit = {}, dict.fromkeys(args.subjects, 0)
    for env in args.env or known:
        profile[env] = one = measured(env, args)
        for what in args.subjects:
            unfit[what] += what not in one["subjects"]
    for what, count in unfit.items():
        if count == len(profile):
            raise ConfigurationError(f"{what} was trained in none of {', '.join(profile)}; name its id with --env.")
    print(table(profile))
    content = {
        "command": command_of(args),
        "ids": profile,
        "versions": versions(),
    }
    write_json(args.out, content)
    note = "Test images, one deterministic episode an image; 95 % Wilson intervals."
    draw(args.out.with_suffix(".png"), profile, title="What it can and cannot do", note=note)
    if args.into is not None:
        replace_section(table(profile), args.into, "table:diagnostics")


def command_of(args: Args) -> str:
    """Returns the command line, in which the subjects are words without a flag."""
    words = shlex.split(cli.command_line("measure/diagnostics", replace(args, subjects=Args.subjects)))
    return shlex.join([*words[:2], *args.subjects, *words[2:]])


def measured(env: str, args: Args) -> dict[str, Any]:
    """Returns optimum, chance and the success of marks and subjects on a diagnostic; agents of other ids are left out.

    ``subjects`` has the name of each that was played.
    """
    from agents.evaluation.comparison import kept_evaluation
    from agents.evaluation.evaluate import BATCH, Evaluation, cached, choose_images, evaluate
    from agents.reports.diagnostics import MARKS
    from agents.sharing.subjects import load_subject
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ArtifactError
    from glimpse_env.files import cache_folder, digest
    from glimpse_env.registration import source_of
    from oracles.registry import POLICIES
    from oracles.training.judge import ensure_judge

    source = source_of(env)
    judge = ensure_judge(source, device=find_device(args.device))
    test = source.load("test")
    images = choose_images(test, args.images)
    folder = cache_folder() / "evaluations" if args.evaluations is None else args.evaluations
    found: dict[str, Evaluation] = {}
    subjects = {}
    for what in (*MARKS, *args.subjects):
        if what in POLICIES:
            logging.info("%s: %s, %d test images", env, what, len(images))
            found[what], subjects[what] = kept_evaluation(what, source, judge, test, images, folder=folder), what
            continue
        try:
            subject = load_subject(what, source, judge, trust=args.trust)
        except ArtifactError as error:
            logging.info("%s: %s is left out: %s", env, what, error)
            continue
        key = digest(subject.origin, judge.identity, test.fingerprint, images, BATCH)
        name = what if subject.name in found else subject.name

        def play(subject: Any = subject, name: str = name) -> Evaluation:
            return evaluate(subject.policy, test, judge, images, name=name, observation=subject.observation)

        found[name], subjects[what] = cached(folder / f"{source.name}-agent-{key}.json", play), name
    return {
        "dataset": {"name": source.name, "fingerprint": source.fingerprint},
        "judge": judge.identity,
        "images": len(images),
        "optimum": source.optimum,  # type: ignore[attr-defined] # a diagnostic
        "chance": 1 / len(source.class_names),
        "subjects": {what: name for what, name in subjects.items() if what in args.subjects},
        "success": {
            name: {"value": one.success_rate, "interval": list(one.interval()), "log_loss": float(one.log_loss[-1])}
            for name, one in found.items()
        },
    }


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
