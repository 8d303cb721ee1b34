"""The benchmark: a grid of agents on environments, with their test scores beside random and oracle policies."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.evaluation.comparison import kept_evaluation
from agents.evaluation.evaluate import Evaluation, choose_images
from agents.evaluation.results import METHOD_COLUMNS
from agents.evaluation.statistics import Estimate, mean_of
from agents.experiments.benchmark_grid import RECORDED, AgentCell, BenchmarkGrid
from agents.experiments.grid import GridRunner
from agents.experiments.run_folder import refuse_other_args, steps_done
from agents.experiments.run_inputs import NUM_ENVS
from agents.experiments.train import Experiment
from agents.recording import record_agent
from glimpse_env.checks import content_of
from glimpse_env.datasets.base import PUBLIC_SPLITS, DataSource
from glimpse_env.devices import find_device
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import read_json, write_json
from glimpse_env.judge.judge import Judge
from glimpse_env.presets import anytime_options
from glimpse_env.registration import source_of
from oracles.demonstrations import Demonstrations, generate, remove_shards
from oracles.registry import priced
from oracles.training.judge import ensure_judge

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Reference:
    """Success of the reference policies on an environment, or their return where glimpses have a price, by which scores
    are normalised."""

    random: dict[str, float]
    """That of the random policy by split."""
    oracle: dict[str, float]
    """That of the oracle by split."""
    images: dict[str, int]
    """Number of images by split."""
    num_glimpses: int
    """Glimpses an episode."""
    making_s: dict[str, float] = field(default_factory=dict)
    """Seconds to make one demonstration, by demonstrator."""
    fingerprint: str = ""
    """Fingerprint of the data set."""
    judge: str = ""
    """Identity of the judge."""


class Benchmark(GridRunner[AgentCell]):
    """Runs a grid of agents; see :class:`GridRunner`."""

    grid: BenchmarkGrid
    unit = "step"

    @cached_property
    def sources(self) -> dict[str, DataSource]:
        """Data sets by environment."""
        return {env: source_of(env, self.grid.root) for env in self.grid.envs}

    @cached_property
    def judges(self) -> dict[str, Judge]:
        """Judges by environment; trained where there is none."""
        device = find_device(self.grid.device)
        return {env: ensure_judge(source, device=device) for env, source in self.sources.items()}

    def prepare(self) -> dict[str, Reference]:
        """Makes what all cells of an environment share: judge, tables, demonstrations, references.

        Returns:
            References by environment, which ``references.json`` keeps.

        Raises:
            ConfigurationError: if more demonstrations are asked for than an environment has training images.
        """
        wanted = max(self.grid.num_demos) if set(self.grid.demos) != {"none"} else 0
        for env, source in self.sources.items():
            if wanted > source.size("train"):
                raise ConfigurationError(
                    f"--num-demos {wanted} is more than the {source.size('train')} training images of {env}; "
                    "ask for fewer."
                )
        path = self.out / "references.json"
        kept = read_json(path) if path.is_file() else {}
        references = {env: Reference(**content_of(Reference, entry)) for env, entry in kept.items()}
        for env, source in self.sources.items():
            judge = self.judges[env]
            known = references.get(env)
            wanted_for = (self._images(source), source.fingerprint, judge.identity)
            if known is None or (known.images, known.fingerprint, known.judge) != wanted_for:
                references[env] = self._reference(env, known.making_s if known else {})
            if self.grid.observation != "history":
                for split in PUBLIC_SPLITS:
                    EpisodeBatch(source.load(split), judge, 1, observation=self.grid.observation)
            for demos in self.grid.demos:
                if demos not in ("none", RECORDED):
                    self._demonstrate(env, demos, references[env])
                write_json(path, {env: asdict(entry) for env, entry in references.items()})
        return references

    def needs(self, cell: AgentCell) -> AgentCell | None:
        if cell.demos != RECORDED:
            return None
        return replace(cell, demos="none", num_demos=0, variant=self.grid.variant_without_demos)

    def budget(self, cell: AgentCell) -> int:
        return self.grid.timesteps

    def done(self, cell: AgentCell) -> int:
        return steps_done(self.folder(cell))

    def claim(self, cell: AgentCell) -> None:
        refuse_other_args(self.grid.settings(cell, self.out))

    def make(self, cell: AgentCell) -> dict[str, Any]:
        needed = self.needs(cell)
        if needed is not None:
            self._record(needed, self.grid.demonstrations_path(cell, self.out))
        experiment = Experiment.opened(self.grid.settings(cell, self.out))
        experiment.train()
        test = experiment.test()
        experiment.log_hparams(test.success_rate)
        return {
            "cell": asdict(cell),
            "curve": [point.to_json() for point in experiment.state.curve],
            "selected": experiment.state.selected,
            "test": test.to_json(),
            "cloning": experiment.state.cloning,
            "wall_time_s": experiment.state.wall_time,
            "num_envs": NUM_ENVS,
        }

    def results(self) -> "DataFrame":
        """Returns a row for each evaluation of a finished cell; see :data:`agents.evaluation.results.COLUMNS`.

        Raises:
            ArtifactError: if no cell is finished, or one was tested on other data or by another judge than the present.
        """
        import pandas  # an optional package

        references = self.prepare()
        finished = self.finished_results()
        for cell, result in finished.items():
            for name in ("fingerprint", "judge"):
                theirs, ours = result["test"][name], getattr(references[cell.env], name)
                if theirs != ours:
                    raise ArtifactError(
                        f"{self.folder(cell)} was tested with {name} {theirs}, not {ours}; choose another --out."
                    )
        return pandas.DataFrame(
            [row for cell, result in finished.items() for row in _rows(cell, result, references[cell.env])]
        )

    def against(self, name: str) -> dict[str, dict[str, Any]]:
        """Compares the method that is best on validation images with a policy, image by image on test images.

        Args:
            name: one of :data:`oracles.registry.POLICIES`.

        Returns:
            By environment the best method, its success averaged over seeds, and differences with their intervals; where
            glimpses have a price returns take the place of success.
        """
        frame, finished = self.results(), self.finished_results()
        compared = {}
        for env, source in self.sources.items():
            curves = frame[(frame.env == env) & (frame.split == "val")]
            best = curves.groupby([*METHOD_COLUMNS, "seed"]).success.max().groupby([*METHOD_COLUMNS]).mean().idxmax()
            tested = [
                Evaluation.from_json(result["test"])
                for cell, result in finished.items()
                if cell.env == env and cell.method == best
            ]
            test = source.load("test")
            indices = choose_images(test, self.grid.eval_images)
            price = price_of(env)
            own, config = priced(name, source, price)
            theirs = kept_evaluation(own, source, self.judges[env], test, indices, config=config)
            if any(one.images != theirs.images or one.judge != theirs.judge for one in tested):
                raise ArtifactError(f"{name} and the agents on {env} were tested on other images; run the grid anew.")
            ours = np.mean([one.returns(price or 0.0) for one in tested], axis=0)
            difference: Estimate = mean_of(ours - theirs.returns(price or 0.0))
            log_loss = np.mean([one.final_log_loss for one in tested], axis=0) - theirs.final_log_loss
            compared[env] = {
                "method": {**dict(zip(METHOD_COLUMNS, best, strict=True)), "num_demos": int(best[3])},
                "seeds": len(tested),
                "success": float(ours.mean()),
                "reference": name,
                "reference_success": float(theirs.returns(price or 0.0).mean()),
                "difference": difference.to_json(),
                "log_loss_difference": mean_of(log_loss).to_json(),
                "images": len(indices),
            }
        return compared

    def _images(self, source: DataSource) -> dict[str, int]:
        """Returns the number of images that agents are evaluated on by split."""
        return {
            "val": min(self.grid.val_images, source.size("val")),
            "test": min(self.grid.eval_images, source.size("test")),
        }

    def _reference(self, env: str, making_s: dict[str, float]) -> Reference:
        source, judge, price = self.sources[env], self.judges[env], price_of(env)
        success: dict[str, dict[str, float]] = {"random": {}, "oracle": {}}
        images = self._images(source)
        for split, count in images.items():
            dataset = source.load(split)  # type: ignore[arg-type]
            indices = choose_images(dataset, count)
            for name, by_split in success.items():
                own, config = priced(name, source, price)
                evaluation = kept_evaluation(own, source, judge, dataset, indices, config=config)
                by_split[split] = float(evaluation.returns(price or 0.0).mean())
        return Reference(
            **success,
            images=images,
            num_glimpses=source.geometry.num_glimpses,
            making_s=making_s,
            fingerprint=source.fingerprint,
            judge=judge.identity,
        )

    def _demonstrate(self, env: str, demos: str, reference: Reference) -> None:
        source, judge = self.sources[env], self.judges[env]
        cell = AgentCell(env, "", "", demos, 0, "default", 0)
        path = self.grid.demonstrations_path(cell, self.out)
        if path.with_suffix(".json").is_file():
            found = Demonstrations.load(path)
            found.check_fits(source, judge)
            remove_shards(path, found.manifest)
            if demos in reference.making_s:  # else a process died before it wrote that down
                return
        num, price = max(self.grid.num_demos), price_of(env)
        for _ in range(2):  # where a killed process made all of them nobody knows how long that took
            made: list[int] = []
            began = time.perf_counter()
            generate(demos, source, judge, num, out=path, glimpse_cost=price, made=made.append)
            reference.making_s[demos] = (time.perf_counter() - began) / (sum(made) or num)
            if made != [0]:
                break

    def _record(self, teacher: AgentCell, path: Path) -> None:
        """Records the agent of a finished cell as demonstrations at ``path``, unless they are there."""
        if not path.with_suffix(".json").is_file():
            agent, source = self.folder(teacher) / "model.zip", self.sources[teacher.env]
            num = max(self.grid.num_demos)
            record_agent(agent, source, self.judges[teacher.env], num, seed=teacher.seed).save(path)


def price_of(env: str) -> float | None:
    """Returns the price of a glimpse in an environment; None where episodes cannot stop."""
    return anytime_options(env).get("glimpse_cost")


def _rows(cell: AgentCell, content: Mapping[str, Any], reference: Reference) -> Iterator[dict[str, Any]]:
    """Yields the evaluations of a finished cell as rows of the results.

    Where glimpses have a price ``success`` holds the return, which is what is compared, and ``judged_right`` and
    ``glimpses`` what it is made of.
    """
    price = price_of(cell.env)
    demo_steps = cell.num_demos * reference.num_glimpses
    shared = asdict(cell) | {
        "cell": cell.name,
        "demo_steps": demo_steps,
        "making_s": reference.making_s.get(cell.demos, 0.0) * cell.num_demos,
    }
    selected = next(point for point in content["curve"] if point["env_steps"] == content["selected"])
    test = Evaluation.from_json(content["test"])
    tested = {**selected, "success": test.success_rate, "log_loss": content["test"]["log_loss"][-1]}
    if price is not None:
        tested |= {"glimpses": test.mean_glimpses, "returned": float(test.returns(price).mean())}
    for split, point in [*(("val", point) for point in content["curve"]), ("test", tested)]:
        random, oracle = reference.random[split], reference.oracle[split]
        score = point["success"] if price is None else point["returned"]
        parts = {} if price is None else {"judged_right": point["success"], "glimpses": point["glimpses"]}
        yield {
            **shared,
            "split": split,
            "env_steps": point["env_steps"],
            "total_steps": point["env_steps"] + demo_steps,
            "wall_s": point["seconds"],
            "success": score,
            **parts,
            "log_loss": point["log_loss"],
            "random": random,
            "oracle": oracle,
            "normalised": (score - random) / (oracle - random) if oracle != random else float("nan"),
            "images": reference.images[split],
        }
