"""Trained agents that come with the package: a folder for each environment id, as `glimpse push` writes one."""

from pathlib import Path

FOLDER = Path(__file__).parent


def shipped_ids() -> list[str]:
    """Returns the environment ids that a trained agent comes with the package for."""
    return sorted(path.parent.name for path in FOLDER.glob("*/model.json"))


def shipped_agent(env_id: str) -> Path | None:
    """Returns the folder of the agent for an environment id: model, settings, figures; None where there is none."""
    return FOLDER / env_id if env_id in shipped_ids() else None
