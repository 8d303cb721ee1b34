"""Lists what lies in the cache, or clears it.

python scripts/cache.py list
python scripts/cache.py clear features embeddings
"""

import sys
from dataclasses import dataclass
from typing import Literal

import tyro

from glimpse_env import cli


@dataclass(frozen=True)
class Args:
    """Lists the kinds of things in the cache (GLIMPSE_CACHE, else the per-user cache folder) and their sizes, or
    removes kinds. All of it can be made or fetched again; run nothing else meanwhile."""

    action: tyro.conf.Positional[Literal["list", "clear"]]
    """What to do."""
    kinds: tyro.conf.Positional[tuple[str, ...]] = ()
    """Kinds to clear, as listed; none are all but data, judges and oracles, which take long to get again."""
    yes: bool = False
    """Clear without asking."""


def main(args: Args) -> None:
    from glimpse_env.console.cache import KINDS, clear, clearable, in_words, usage
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import cache_folder

    sizes = usage()
    chosen = list(KINDS) if args.action == "list" else clearable(args.kinds)
    print(f"{cache_folder()}")
    for kind in chosen:
        print(f"  {kind:16} {in_words(sizes[kind].bytes):>9} {sizes[kind].files:7} files  {KINDS[kind]}")
    if args.action == "list":
        return
    if not chosen:
        print("Nothing to clear.")
        return
    if not args.yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("nothing is cleared where nobody can be asked; say --yes.")
        if input("Remove these? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was removed.")
            return
    freed = sum(sizes[kind].bytes for kind in clear(args.kinds))
    print(f"Removed {in_words(freed)}.")


if __name__ == "__main__":
    cli.run(main, Args, goes_on=None)
