"""Demonstrations: glimpse sequences of a policy, with the oracle's maps, kept as npz beside a JSON manifest."""

import json
import shutil
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import digest, whole_file, write_json
from glimpse_env.judge import Judge
from glimpse_env.rollout import play
from oracles.oracle import OracleConfig
from oracles.policies import default_oracle_config, make_policy

FORMAT = 1
CHUNK = 250
"""Sequences between two saves of an unfinished run."""


@dataclass(frozen=True)
class Demonstrations:
    """Sequences of one policy on images of a training split.

    Raises:
        ArtifactError: where the arrays' shapes disagree.
    """

    indices: np.ndarray
    """(N,) int64: images of the training split."""
    locations: np.ndarray
    """(N, T) int64: grid locations in the order they were looked at."""
    entropies: np.ndarray
    """(N, T) float32: of the judge's posterior after each glimpse, in nats."""
    epe: np.ndarray | None
    """(N, T, L) float16: the criterion expected at every location before each glimpse, lower is better; None for a
    policy that has no map."""
    manifest: dict[str, Any]
    """Policy, its configuration, seed, format, and the fingerprints of data set and judge."""

    def __post_init__(self) -> None:
        count, steps = self.locations.shape
        shapes_agree = self.indices.shape == (count,) and self.entropies.shape == (count, steps)
        if not shapes_agree or (self.epe is not None and self.epe.shape[:2] != (count, steps)):
            raise ArtifactError(
                f"demonstrations disagree in shape: indices {self.indices.shape}, locations {self.locations.shape}, "
                f"entropies {self.entropies.shape}, epe {getattr(self.epe, 'shape', None)}; make them again."
            )

    def __len__(self) -> int:
        return len(self.indices)

    def save(self, path: str | Path) -> None:
        """Writes ``path`` (npz) and the manifest beside it as ``.json``."""
        path = Path(path)
        _save_arrays(path, self._arrays())
        write_json(path.with_suffix(".json"), self.manifest)

    @classmethod
    def load(cls, path: str | Path) -> "Demonstrations":
        """Reads what :meth:`save` wrote.

        Raises:
            ArtifactError: if a file is missing, damaged or of another format.
        """
        path = Path(path)
        try:
            manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            arrays = _load_arrays(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ArtifactError(
                f"demonstrations at {path} cannot be read ({error}); make them with scripts/generate_demos.py."
            ) from error
        if manifest.get("format") != FORMAT:
            raise ArtifactError(f"demonstrations at {path} have format {manifest.get('format')}, not {FORMAT}.")
        return cls(manifest=manifest, epe=arrays.pop("epe", None), **arrays)

    def check_fits(self, source: DataSource, judge: Judge) -> None:
        """Raises ArtifactError unless they were made on this data set for this judge."""
        for field, ours in (("fingerprint", source.fingerprint), ("judge", judge.identity)):
            if self.manifest[field] != ours:
                raise ArtifactError(
                    f"the demonstrations' {field} is {self.manifest[field]}, this run's is {ours}; "
                    "make them again with scripts/generate_demos.py."
                )

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"indices": self.indices, "locations": self.locations, "entropies": self.entropies}
        return arrays if self.epe is None else {**arrays, "epe": self.epe}


def manifest_of(
    name: str, source: DataSource, judge: Judge, num: int, *, seed: int = 0, config: OracleConfig | None = None
) -> dict[str, Any]:
    """All that determines the demonstrations of policy ``name``; equal manifests, equal bytes."""
    oracle = asdict(config or default_oracle_config(source)) if name == "oracle" else None
    return {
        "format": FORMAT,
        "policy": name,
        "oracle": oracle,
        "dataset": source.name,
        "options": {name: value for name, value in source.options.items() if name != "root"},
        "train_images": source.size("train"),
        "fingerprint": source.fingerprint,
        "judge": judge.identity,
        "scales": judge.card.scales,
        "geometry": asdict(source.geometry),
        "num": num,
        "seed": seed,
    }


def generate(
    name: str,
    source: DataSource,
    judge: Judge,
    num: int,
    *,
    out: str | Path,
    seed: int = 0,
    config: OracleConfig | None = None,
) -> Demonstrations:
    """Demonstrations of policy ``name`` on ``num`` training images, saved at ``out``.

    Finished chunks are kept beside ``out`` while it runs; a run that was killed goes on behind them and ends with the
    same bytes as one that was not. Each image is looked at with the network that never saw it, fold by fold.

    Raises:
        ConfigurationError: if more images are asked for than the training split has.
    """
    train = source.load("train")
    if not 1 <= num <= len(train):
        raise ConfigurationError(f"num={num} must lie in 1..{len(train)}, the images of {source.name}/train.")
    manifest = manifest_of(name, source, judge, num, seed=seed, config=config)
    out = Path(out)
    partial = out.with_name(f".{out.stem}-{digest(manifest)}.partial")
    chosen = np.random.default_rng([seed, 7]).permutation(len(train))[:num]
    order = chosen[np.argsort(train.folds[chosen], kind="stable")]
    made: dict[int, Any] = {}
    parts = []
    with tqdm(total=num, desc=f"{source.name}: demonstrations of {name}", unit="seq") as bar:
        for fold in np.unique(train.folds[order]):
            rows = order[train.folds[order] == fold]
            for start in range(0, len(rows), CHUNK):
                chunk = rows[start : start + CHUNK]
                path = partial / f"{fold}-{start:06d}.npz"
                if not path.is_file():
                    # a policy of its own for each chunk's seed, so that where a run stopped leaves no trace
                    if fold not in made or name in ("random", "hgs"):
                        network = None if fold == -1 else int(fold)
                        own_seed = int(np.random.default_rng([seed, int(fold) + 1, start]).integers(2**31))
                        made[fold] = make_policy(name, source, judge, network=network, seed=own_seed, config=config)
                    _save_arrays(path, _play(made[fold], train, judge, source, chunk))
                parts.append(_load_arrays(path))
                bar.update(len(chunk))
    arrays = {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}
    back = np.argsort(np.argsort(train.folds[chosen], kind="stable"), kind="stable")  # to the order chosen
    arrays = {field: values[back] for field, values in arrays.items()}
    demonstrations = Demonstrations(manifest=manifest, epe=arrays.pop("epe", None), **arrays)
    demonstrations.save(out)
    shutil.rmtree(partial, ignore_errors=True)
    return demonstrations


def _play(policy: Any, train: Any, judge: Judge, source: DataSource, rows: np.ndarray) -> dict[str, np.ndarray]:
    maps: dict[int, list[np.ndarray]] = {}

    def keep(_rows: np.ndarray, t: int, policy: Any) -> None:
        if policy.last_maps is not None:
            maps.setdefault(t, []).append(policy.last_maps.astype(np.float16))

    rollouts = play(
        policy,
        train,
        judge,
        source.geometry,
        rows,
        scales=judge.card.scales,
        progress=False,
        start=lambda indices: policy.start(train, indices),
        on_step=keep,
    )
    arrays = {"indices": rows, "locations": rollouts.locations, "entropies": rollouts.entropy}
    if maps:
        arrays["epe"] = np.stack([np.concatenate(maps[t]) for t in sorted(maps)], axis=1)
    return arrays


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {field: archive[field] for field in archive.files}
