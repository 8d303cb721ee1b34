"""The page of what is passed on, README.md of a repository on the Hugging Face Hub, made from its cards and figures."""

from collections.abc import Iterator
from typing import Any

from agents.evaluation.evaluate import TITLES
from agents.reports.tables import MISSING, markdown_table, percent, plain
from agents.sharing.bundle import Bundle, without_folders
from glimpse_env.errors import ArtifactError
from glimpse_env.presets import env_of

TAGS = ("glimpse-env", "hard-attention", "gymnasium")
"""Tags of all pages on the Hub."""
WHAT = {
    "agent": "An agent that chooses where to look next at an image of which it sees glimpses only",
    "judge": "A judge: networks that tell classes from glimpses and their places",
    "oracle": "An amortised oracle: networks that score where the next glimpse is worth most",
    "demonstrations": "Demonstrations: where a policy looked at training images, glimpse by glimpse",
}
USE = {
    "agent": 'import agents\n\nmodel = agents.load_agent("{out}")',
    "judge": 'import gymnasium as gym\nimport glimpse_env\n\nenv = gym.make("{env}", judge="{out}/judge.safetensors")',
    "oracle": "from oracles.amortised.oracle import AmortisedOracle\n\n"
    'oracle = AmortisedOracle.load("{out}/oracle.safetensors")',
    "demonstrations": "from oracles.demonstrations import Demonstrations\n\n"
    'demonstrations = Demonstrations.load("{out}/demonstrations.npz")',
}


def model_card(bundle: Bundle, repo: str) -> str:
    """Returns the page of a bundle as Markdown, with what the Hub reads in front.

    Args:
        bundle: what is passed on.
        repo: name on the Hub, ``"owner/name"``.

    Raises:
        ArtifactError: if its figures are damaged.
    """
    from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

    try:
        facts, metrics = dict(_facts(bundle)), bundle.read("metrics.json")
        env = str(facts.get("environment") or env_of(facts["data set"]))
        out = f"runs/{repo.rpartition('/')[2]}"
        pull = f"glimpse pull {repo} --out {out}" + (f"\nglimpse watch {env} --agent {out}" if metrics else "")
        parts = [f"# {plain(repo.rpartition('/')[2])}", f"{WHAT[bundle.kind]}, made by glimpse-env."]
        parts += [f"![{_alternative(bundle, name)}]({name})" for name in bundle.pictures[:1]]
        if metrics:
            parts += ["## Results", _results(metrics), _protocol(metrics)]
        parts += ["## What it is", markdown_table([["", ""], *([key, plain(text)] for key, text in facts.items())])]
        parts += ["## Use", f"```bash\n{pull}\n```", f"```python\n{USE[bundle.kind].format(out=out, env=env)}\n```"]
        parts += ["Nothing in these files is unpickled or run when they are pulled and read."]
        if bundle.kind == "demonstrations":
            data: Any = DatasetCardData(tags=list(TAGS), pretty_name=repo.rpartition("/")[2])
        else:
            tags = [*TAGS, *(["reinforcement-learning", "stable-baselines3"] if bundle.kind == "agent" else [])]
            named: dict[str, Any] = {}
            if metrics:
                success = EvalResult(
                    task_type="reinforcement-learning",
                    dataset_type=env,
                    dataset_name=env,
                    metric_type="success_rate",
                    metric_value=float(metrics["policies"]["agent"]["success_rate"]),
                )
                named = {"model_name": repo.rpartition("/")[2], "eval_results": [success]}
            data = ModelCardData(tags=tags, **named)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactError(f"the figures in {bundle.folder} are damaged ({error!r}); make them again.") from error
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _alternative(bundle: Bundle, name: str) -> str:
    return "Episodes of the agent beside other policies" if name == "episodes.png" else "Validation success in training"


def _results(metrics: dict[str, Any]) -> str:
    rows = [["policy", "success on test images"]]
    for name, one in metrics["policies"].items():
        title = plain(TITLES.get(name, name))
        success = percent(float(one["success_rate"]), [float(end) for end in one["interval"]])
        rows.append([f"**{title}**" if name == "agent" else title, success])
    gap = metrics.get("gap_closed")
    if gap:
        rows.append(["agent, of the way from random to oracle", percent(gap["value"], gap["interval"], 0)])
    return markdown_table(rows, "lr")


def _protocol(metrics: dict[str, Any]) -> str:
    count = int(metrics["policies"]["agent"]["num_images"])
    return (
        f"{count} test images, one deterministic episode each, judged by networks that were trained on none of them; "
        f"95 % intervals over images. One seed, {int(metrics['seed'])}."
    )


def _facts(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Yields what a table says of a bundle: names and values as plain text."""
    if bundle.kind == "agent":
        metrics, args = bundle.read("metrics.json"), bundle.read("config.json").get("args", {})
        card = bundle.read("model.json")
        yield "environment", str(metrics.get("env", args.get("env", MISSING)))
        if metrics:
            yield "data set", f"{metrics['dataset']['name']}, fingerprint {metrics['dataset']['fingerprint']}"
            yield "judge", str(metrics["judge"]["identity"])
            taught = metrics.get("demonstrations")
            yield "demonstrations", f"{taught['num']} of {taught['policy']}" if taught else "none"
        else:
            yield "data set", str(bundle.read("config.json").get("dataset", MISSING))
        yield "algorithm", str(card["algo"])
        yield "architecture", str(card["architecture"])
        yield "seed", str(metrics.get("seed", args.get("seed", MISSING)))
        yield "weights", str(card["weights"])
        yield "command", without_folders(str(metrics.get("command", bundle.read("config.json").get("command", ""))))
        yield "versions", _versions(metrics.get("versions", {}))
        return
    card = bundle.read(f"{bundle.main.stem}.json")
    yield "data set", str(card["dataset"])
    yield "fingerprint", str(card["fingerprint"])
    if bundle.kind == "demonstrations":
        yield "policy", str(card["policy"])
        yield "number", str(card["num"])
    for key in ("judge", "horizon", "criterion", "scales", "seed"):
        if key in card:
            yield key, str(card[key])
    for key, values in card.get("scores", {}).items():
        yield key.replace("_", " "), f"{float(values[-1]):.3f} after the last glimpse, on held-out images"
    if card.get("command"):
        yield "command", without_folders(str(card["command"]))


def _versions(numbers: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items()) or MISSING
