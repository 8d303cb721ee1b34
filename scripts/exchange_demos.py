"""Demonstrations to Minari and back: python scripts/exchange_demos.py --export-from demos.npz"""

from dataclasses import dataclass
from pathlib import Path

from glimpse_env import cli


@dataclass(frozen=True)
class Args:
    """Exports a file of demonstrations as a Minari data set, or imports it back; nothing is lost on the way."""

    export_from: Path | None = None
    """File of demonstrations (.npz) to export."""
    import_to: Path | None = None
    """File (.npz) to write; its manifest goes beside it as .json."""
    id: str | None = None
    """Id of the Minari data set below MINARI_DATASETS_PATH; default of an export e.g. glimpse/birds/oracle-v0."""
    observation: str = "history"
    """Form of the observations in an export: history, glimpse, canvas, embedding or a registered one."""
    root: str | None = None
    """Folder of the data set that is exported; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""


def main(args: Args) -> None:
    from glimpse_env.datasets import make_source
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.judge.judge import find_judge
    from oracles.demonstrations import Demonstrations
    from oracles.exchange.minari import default_id, export_demonstrations, import_demonstrations

    if (args.export_from is None) == (args.import_to is None):
        raise ConfigurationError("name one file: --export-from demos.npz or --import-to demos.npz.")
    if args.export_from is not None:
        demonstrations = Demonstrations.load(args.export_from)
        manifest = demonstrations.manifest
        root = {} if args.root is None else {"root": args.root}
        source = make_source(manifest["dataset"], **manifest["options"], **root).with_scales(manifest["scales"])
        source = source.with_zooms(manifest.get("zooms", [1]))
        judge = find_judge(source)
        name = args.id or default_id(demonstrations)
        folder = export_demonstrations(demonstrations, source, judge, name, observation=args.observation)
        print(f"{len(demonstrations)} episodes in {folder}\nminari.load_dataset({name!r})")
    elif args.import_to is not None:
        if args.id is None:
            raise ConfigurationError("--import-to needs --id, the name of a Minari data set; see `minari list local`.")
        demonstrations = import_demonstrations(args.id)
        demonstrations.save(args.import_to)
        print(f"{len(demonstrations)} sequences of {demonstrations.manifest['policy']} in {args.import_to}")


if __name__ == "__main__":
    cli.run(main, Args)
