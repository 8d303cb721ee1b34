"""Uploads an agent, judge, oracle or demonstrations to the Hub: python scripts/share/push.py runs/mine me/my-agent"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from glimpse_env import cli


@dataclass(frozen=True)
class Args:
    """Uploads what runs no code when it is read, with a page made from its figures, to the Hugging Face Hub."""

    what: tyro.conf.Positional[str]
    """Folder of a run or a file of its agent, an id that an agent comes with the package for, the .safetensors of a
    judge or an amortised oracle, or the .npz of demonstrations."""
    repo: tyro.conf.Positional[str]
    """Repository on the Hub, owner/name; made where there is none."""
    private: bool = False
    """Whether a new repository is private."""
    message: str | None = None
    """Message of the commit."""
    out: Path | None = None
    """Folder to write what would be uploaded into; nothing is uploaded then."""
    pictures: bool = True
    """Whether pictures of a run go with its agent."""


def main(args: Args) -> None:
    from agents.sharing.hub import push, with_page
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import whole_folder

    if args.out is None:
        print(push(args.what, args.repo, private=args.private, message=args.message, pictures=args.pictures))
        return
    if args.out.exists():
        raise ConfigurationError(f"--out {args.out} is there already; take another folder, or move it away.")
    with whole_folder(args.out) as folder:
        with_page(args.what, folder, args.repo, pictures=args.pictures)
    print(args.out)


if __name__ == "__main__":
    cli.run(main, Args)
