"""Downloads what was pushed to the Hub: python scripts/share/pull.py someone/their-agent --out runs/theirs"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from glimpse_env import cli


@dataclass(frozen=True)
class Args:
    """Downloads an agent, judge, oracle or demonstrations from the Hugging Face Hub; no code of theirs is run."""

    repo: tyro.conf.Positional[str]
    """Repository on the Hub, owner/name."""
    out: Path | None = None
    """Folder to write; default runs/name."""
    revision: str | None = None
    """Branch, tag or commit; default the main branch."""


def main(args: Args) -> None:
    from agents.sharing.hub import pull

    out = args.out or Path("runs") / args.repo.rpartition("/")[2]
    bundle, left_out = pull(args.repo, out, revision=args.revision)
    if left_out:
        print(f"Left out, as no file of ours has such a name: {', '.join(map(ascii, left_out))}")
    print(f"{bundle.kind}: {bundle.main}")


if __name__ == "__main__":
    cli.run(main, Args)
