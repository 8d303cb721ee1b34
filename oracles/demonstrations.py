"""Demonstrations: glimpse sequences of a policy, with the oracle's maps, kept as npz beside a JSON manifest."""

import json
import logging
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from glimpse_env.console.names import command
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import (
    cache_folder,
    card_path,
    check_writable,
    digest,
    only_process,
    read_json,
    read_npz,
    whole_file,
    write_npz,
)
from glimpse_env.judge.judge import Judge
from glimpse_env.parallel import Arrays, check_means, make_shards
from glimpse_env.rollout import play
from glimpse_env.threads import at_most_threads
from oracles.amortised.oracle import find_oracle
from oracles.base import GlimpsePolicy
from oracles.manifests import FORMAT, check_manifest
from oracles.registry import (
    POLICIES,
    PolicyConfig,
    can_stop,
    depends_on_network,
    ensure_policy,
    horizon_of,
    make_policy,
    policy_settings,
    priced,
)

logger = logging.getLogger(__name__)

SEQUENCES_PER_SHARD = 250
"""Sequences that a process of a killed run loses, at most."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Images of one fold whose sequences are made by one task; they depend on ``fold``, ``start`` and the seed only."""

    fold: int
    """Index of the fold that all the images are of; -1 for none."""
    start: int
    """Position of the first image among those of the fold."""
    rows: np.ndarray
    """(n,) int64: the images."""

    def __str__(self) -> str:
        return f"{self.fold}-{self.start:06d}"

    @property
    def size(self) -> str:
        """Number and fold of the images, for messages."""
        return f"{len(self.rows)} images of fold {self.fold}"


@dataclass(frozen=True)
class Demonstrations:
    """Sequences of one policy on images of a training split.

    Raises:
        ArtifactError: where the arrays' shapes disagree.
    """

    indices: np.ndarray
    """(N,) int64, images of the training split."""
    locations: np.ndarray
    """(N, T) int64, grid locations in the order they were looked at; -1 from a sequence's stop on."""
    entropies: np.ndarray
    """(N, T) float32 nats, entropy of the judge's posterior after each glimpse; from a stop on that at the end."""
    epe: np.ndarray | None
    """(N, T, L) float16, the criterion expected at every location before each glimpse, lower is better; None for a
    policy that has no map. Of a policy that can stop (N, T, L + 1): the last column is what it expects if it stops, NaN
    where its stops do not follow from the map, and everything behind a stop is NaN."""
    manifest: dict[str, Any]
    """What :func:`manifest_of` returns."""

    def __post_init__(self) -> None:
        shapes_agree = (
            self.locations.ndim == 2
            and self.indices.shape == self.locations.shape[:1]
            and self.entropies.shape == self.locations.shape
            and (self.epe is None or (self.epe.ndim == 3 and self.epe.shape[:2] == self.locations.shape))
        )
        if not shapes_agree:
            raise ArtifactError(
                f"demonstrations disagree in shape: indices {self.indices.shape}, locations {self.locations.shape}, "
                f"entropies {self.entropies.shape}, epe {getattr(self.epe, 'shape', None)}; make them again."
            )
        kinds = {"indices": "i", "locations": "i", "entropies": "f"} | ({} if self.epe is None else {"epe": "f"})
        for name, kind in kinds.items():
            array, least = getattr(self, name), -1 if name == "locations" and self.stops else 0
            if array.dtype.kind != kind or (kind == "i" and array.size and array.min() < least):
                raise ArtifactError(f"demonstrations hold {name} of {array.dtype}, or negative ones; make them again.")
        if ((self.locations >= 0) != (np.arange(self.locations.shape[1]) < self.lengths[:, None])).any():
            raise ArtifactError("demonstrations hold sequences that go on behind a stop; make them again.")
        if np.isnan(self.entropies).any():  # maps may have no number at some locations
            raise ArtifactError("demonstrations hold entropies that are no numbers; make them again.")

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def stops(self) -> bool:
        """Whether their policy could stop."""
        return bool(self.manifest.get("stops", False))

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64: glimpses taken."""
        return (self.locations >= 0).sum(axis=1, dtype=np.int64)

    def save(self, path: str | Path) -> None:
        """Writes ``path`` (npz) and the manifest beside it as ``.json``, which comes last.

        Raises:
            ConfigurationError: if ``path`` itself ends in .json.
        """
        path = Path(path)
        card = card_path(path)
        with whole_file(card) as manifest, whole_file(path) as arrays:
            with arrays.open("wb") as file:
                np.savez_compressed(file, **self._arrays())  # type: ignore[arg-type]
            manifest.write_text(json.dumps(self.manifest, indent=2) + "\n", encoding="utf-8")
            card.unlink(missing_ok=True)  # an old one would pass for the new arrays' until it is replaced

    @classmethod
    def load(cls, path: str | Path) -> "Demonstrations":
        """Returns what :meth:`save` wrote.

        Raises:
            ArtifactError: if a file is missing, damaged or of another format.
        """
        path = Path(path)
        try:
            manifest = read_json(path.parent / f"{path.stem}.json")
            arrays = read_npz(path)
            check_manifest(manifest, len(arrays.get("indices", ())))
            return cls(manifest=manifest, epe=arrays.pop("epe", None), **arrays)
        except (OSError, ArtifactError, TypeError) as error:
            raise ArtifactError(
                f"demonstrations at {path} cannot be read ({error}); make them with `{command('generate_demos')}`."
            ) from error

    def check_fits(self, source: DataSource, judge: Judge) -> None:
        """Checks that they were made on this data set's training images for this judge.

        Raises:
            ArtifactError: if they were not.
        """
        if self.manifest.get("split", "train") != "train":
            raise ArtifactError(
                f"the demonstrations are of images of the split {self.manifest['split']!r}, which nothing may learn "
                "from; give some of the split 'train'."
            )
        for field, ours in (("fingerprint", source.fingerprint), ("judge", judge.identity)):
            if self.manifest[field] != ours:
                raise ArtifactError(
                    f"the demonstrations' {field} is {self.manifest[field]}, this run's is {ours}; "
                    f"make them again with `{command('generate_demos')}`."
                )

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"indices": self.indices, "locations": self.locations, "entropies": self.entropies}
        return arrays if self.epe is None else {**arrays, "epe": self.epe}


def manifest_of(
    name: str, source: DataSource, judge: Judge, num: int, *, seed: int = 0, config: PolicyConfig | None = None
) -> dict[str, Any]:
    """Returns all that determines the demonstrations of policy ``name``: equal manifests, equal bytes.

    Raises:
        ConfigurationError: if there is no such policy.
        OracleNotFoundError: if it is an amortised oracle that is not trained; :func:`ensure_policy` trains it.
    """
    return {
        "format": FORMAT,
        "policy": POLICIES.name_of(name),
        "oracle": policy_settings(name, source, judge, config),
        "dataset": source.name,
        "options": {name: value for name, value in source.options.items() if name != "root"},
        "train_images": source.size("train"),
        "fingerprint": source.fingerprint,
        "judge": judge.identity,
        "scales": judge.card.scales,
        "geometry": {field: getattr(source.geometry, field) for field in ("glimpse_size", "stride", "num_glimpses")},
        **({"zooms": list(source.geometry.zooms)} if len(source.geometry.zooms) > 1 else {}),
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
    config: PolicyConfig | None = None,
    glimpse_cost: float | None = None,
    workers: int = 1,
    ray: str | None = None,
    made: Callable[[int], object] | None = None,
) -> Demonstrations:
    """Makes demonstrations of policy ``name`` on ``num`` training images, on the judge's device, and saves them.

    Finished shards are kept beside ``out`` during the run, and a run that was killed goes on after them. The bytes do
    not depend on which process makes a shard, except that last digits can differ between processors and devices, as a
    mixed cluster may have. Each image is looked at with the network that never saw it, fold by fold.

    This process writes all files. Other processes receive the judge, and the data set as the arguments that make it:
    each finds the images, and keeps the oracle's tables, in the cache (GLIMPSE_CACHE, GLIMPSE_DATA) of the machine it
    runs on. A Ray cluster needs no shared disk, but each node needs this package, and the files of a data set that is
    not drawn.

    Args:
        name, source, judge, seed, config: see :func:`oracles.registry.make_policy`.
        num: images, drawn at random.
        out: the npz to write; the manifest goes beside it.
        glimpse_cost: price of a glimpse in environments whose episodes may stop, for which they are: ``oracle`` is then
            the policy that stops, and a policy that weighs the price has this one, see
            :func:`oracles.registry.priced`.
        workers, ray: processes on this machine, or the address of a Ray cluster; see
            :func:`glimpse_env.parallel.make_shards`.
        made: called with the number of sequences that this call makes; a killed one may have made others. Not called
            where another process makes them meanwhile.

    Raises:
        ConfigurationError: if ``num`` is out of range, there is no such policy, or workers and Ray are both asked for.
        ArtifactError: if a worker's data set is another.
        ShardError: if processes die over a shard again and again.
    """
    check_means(workers, ray)
    train = source.load("train")
    if not 1 <= num <= len(train):
        raise ConfigurationError(f"num={num} must lie in 1..{len(train)}, the number of images of {source.name}/train.")
    name, config = priced(name, source, glimpse_cost, config)
    ensure_policy(name, source, judge, config)
    manifest = _manifest(name, source, judge, num, seed, config, glimpse_cost)
    out = Path(out)
    card_path(out)
    check_writable(out)
    with only_process([out]) as waited:
        finished = _finished(out, manifest) if waited else None
        if finished is None:
            player = _Player(name, source, judge, seed, config)
            finished = _generated(player, train, manifest, out, workers, ray, made)
    return finished


def _finished(path: Path, manifest: dict[str, Any]) -> Demonstrations | None:
    """Returns the demonstrations of a manifest at a path; None where there are none, or damaged ones, which is said."""
    try:
        loaded = Demonstrations.load(path)
    except ArtifactError as error:
        if path.with_suffix(".json").is_file():
            logger.warning("They are made again: %s", error)
        return None
    return loaded if loaded.manifest == json.loads(json.dumps(manifest)) else None


def _generated(
    player: "_Player",
    train: GlimpseDataset,
    manifest: dict[str, Any],
    out: Path,
    workers: int,
    ray: str | None,
    tell: Callable[[int], object] | None,
) -> Demonstrations:
    """Makes the demonstrations of a manifest with ``player``; further arguments are those of :func:`generate`."""
    num, seed, name, source = manifest["num"], player.seed, player.name, player.source
    partial = _partial_folder(out, manifest)
    images = np.random.default_rng([seed, 7]).permutation(len(train))[:num]
    shards = _shards(images, train.folds[images])
    earlier = {shard: _load_finished(partial / f"{shard}.npz", shard) for shard in shards}
    made = {shard: arrays for shard, arrays in earlier.items() if arrays is not None}
    missing = [shard for shard in shards if shard not in made]
    if tell is not None:
        tell(sum(len(shard.rows) for shard in missing))
    if workers > 1:
        with at_most_threads(1):  # what policies put into the cache is computed once, not by every worker
            for shard in missing:
                player.policy(shard)
    with tqdm(
        total=num,
        initial=sum(len(shard.rows) for shard in made),
        desc=f"{source.name}: demonstrations of {name}",
        unit="seq",
    ) as bar:
        gpus = int(player.judge.device.type == "cuda")
        for shard, arrays in make_shards(player, missing, workers=workers, ray=ray, gpus=gpus):
            write_npz(partial / f"{shard}.npz", arrays)
            made[shard] = arrays
            bar.update(len(shard.rows))
    parts = [made[shard] for shard in shards]
    arrays = {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}
    back = np.argsort(np.argsort(train.folds[images], kind="stable"), kind="stable")  # to the order drawn
    arrays = {field: values[back] for field, values in arrays.items()}
    demonstrations = Demonstrations(manifest=manifest, epe=arrays.pop("epe", None), **arrays)
    demonstrations.save(out)
    remove_shards(out, manifest)
    return demonstrations


def demonstrate(
    name: str, source: DataSource, judge: Judge, num: int, *, seed: int = 0, glimpse_cost: float | None = None
) -> Demonstrations:
    """Returns the demonstrations of :func:`generate` from the cache, made and put there where they are missing."""
    name, config = priced(name, source, glimpse_cost)
    ensure_policy(name, source, judge, config)
    manifest = _manifest(name, source, judge, num, seed, config, glimpse_cost)
    path = (
        cache_folder()
        / "demonstrations"
        / f"{source.name}-{manifest['policy'].replace('/', '-')}-{num}-{digest(manifest)}.npz"
    )
    finished = _finished(path, manifest)
    if finished is None:
        return generate(name, source, judge, num, seed=seed, out=path, config=config, glimpse_cost=glimpse_cost)
    remove_shards(path, manifest)
    return finished


def remove_shards(out: Path, manifest: dict[str, Any]) -> None:
    """Removes the shards of finished demonstrations, which a process leaves that dies over their removal."""
    shutil.rmtree(_partial_folder(out, manifest), ignore_errors=True)


def _manifest(
    name: str,
    source: DataSource,
    judge: Judge,
    num: int,
    seed: int,
    config: PolicyConfig | None,
    glimpse_cost: float | None,
) -> dict[str, Any]:
    """Returns :func:`manifest_of`, with what concerns stops where the policy can, or where glimpses have a price."""
    return {
        **manifest_of(name, source, judge, num, seed=seed, config=config),
        **({"stops": True} if can_stop(name, source) else {}),
        **({} if glimpse_cost is None else {"glimpse_cost": glimpse_cost}),
    }


def _partial_folder(out: Path, manifest: dict[str, Any]) -> Path:
    """Returns where the finished shards of demonstrations are until all are."""
    return out.with_name(f".{out.stem}-{digest(manifest)}.partial")


def _shards(images: np.ndarray, folds: np.ndarray) -> list[Shard]:
    """Returns ``images`` (N,) of ``folds`` (N,) as shards of one fold each, in the order of the folds."""
    return [
        Shard(int(fold), start, images[folds == fold][start : start + SEQUENCES_PER_SHARD])
        for fold in np.unique(folds)
        for start in range(0, int((folds == fold).sum()), SEQUENCES_PER_SHARD)
    ]


class _Player:
    """Makes the shards of one run: plays its policy on their images."""

    def __init__(self, name: str, source: DataSource, judge: Judge, seed: int, config: PolicyConfig | None):
        self.name, self.judge, self.seed, self.config = name, judge, seed, config
        self._source: DataSource | None = source
        self._made_by = (type(source), source.options, source.fingerprint)
        self._geometry = source.geometry
        self._policies: dict[int, GlimpsePolicy] = {}
        horizon = horizon_of(name, source, config)
        self._amortised = None if horizon is None else find_oracle(source, judge, horizon)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out data set and policies, which the receiving process makes anew, but not an oracle's networks."""
        return self.__dict__ | {"_source": None, "_policies": {}}

    @property
    def source(self) -> DataSource:
        if self._source is None:
            kind, options, fingerprint = self._made_by
            source = kind(**options)
            if source.fingerprint != fingerprint:
                raise ArtifactError(
                    f"the data set {source.name} has the fingerprint {source.fingerprint} for a worker on "
                    f"{platform.node()}, and {fingerprint} where the run was started; give both the same files."
                )
            source.geometry = self._geometry  # with its scales and zooms
            self._source = source
        return self._source

    def policy(self, shard: Shard) -> GlimpsePolicy:
        """Returns the policy for a shard's images; one that uses its seed is made anew for each, with its own seed."""
        fold = shard.fold if depends_on_network(self.name, self.source, self.config) else -1
        if fold not in self._policies or POLICIES[self.name].seeded:
            own_seed = int(np.random.default_rng([self.seed, shard.fold + 1, shard.start]).integers(2**31))
            network = None if fold == -1 else fold
            self._policies[fold] = (
                make_policy(self.name, self.source, self.judge, network=network, seed=own_seed, config=self.config)
                if self._amortised is None
                else self._amortised.for_fold(network)
            )
        return self._policies[fold]

    def __call__(self, shard: Shard) -> Arrays:
        policy, train = self.policy(shard), self.source.load("train")
        steps, places = self._geometry.num_glimpses, len(self.judge.grid)
        maps: list[np.ndarray] = []

        def keep_map(rows: np.ndarray, t: int, _policy: Any) -> None:
            if policy.last_maps is None:
                return
            if not maps:
                maps.append(np.full((len(shard.rows), steps, places + policy.stops), np.nan, dtype=np.float16))
            maps[0][rows, t, :places] = policy.last_maps.astype(np.float16)
            if policy.weighs_stop:
                maps[0][rows, t, places] = policy.last_stop

        rollouts = play(
            policy,
            train,
            self.judge,
            shard.rows,
            progress=False,
            start=lambda indices: policy.start(train, indices),
            on_step=keep_map,
        )
        arrays = {"indices": shard.rows, "locations": rollouts.locations, "entropies": rollouts.entropy}
        for epe in maps:
            epe[np.arange(steps) > rollouts.lengths[:, None]] = np.nan
            arrays["epe"] = epe
        return arrays


def _load_finished(path: Path, shard: Shard) -> Arrays | None:
    """Returns a shard that an earlier call finished and kept at ``path``; None where there is none."""
    try:
        arrays = read_npz(path)
    except (FileNotFoundError, ArtifactError):
        return None
    # shards may have been cut otherwise then
    return arrays if np.array_equal(arrays.get("indices", ()), shard.rows) else None
