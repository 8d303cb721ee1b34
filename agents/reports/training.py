"""Pictures of a finished training run, drawn from what it left in its folder."""

import json
from pathlib import Path

from agents.evaluation.evaluate import Evaluation
from agents.evaluation.recordings import load_recordings
from agents.experiments.run_folder import read_run, title_of
from agents.reports import episodes as figures
from glimpse_env.errors import ArtifactError


def draw_run(folder: Path) -> list[Path]:
    """Draws ``learning_curve.png`` and ``episodes.png`` from a run's ``metrics.json`` and ``recordings.npz``.

    Returns:
        The paths of the pictures.

    Raises:
        ArtifactError: if the run is not finished or its files cannot be read.
    """
    args, source, _ = read_run(folder)
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        evaluations = {name: Evaluation.from_json(entry) for name, entry in metrics["policies"].items()}
        curve = [(point["env_steps"], point["success"]) for point in metrics["curve"]]
        selection = metrics["selection"]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{folder} holds no finished run ({error!r}); go on with it first.") from error
    paths, title = [folder / "learning_curve.png", folder / "episodes.png"], title_of(args, source)
    figures.learning_curve(
        paths[0],
        curve,
        evaluations,
        selected=selection["env_steps"],
        validation_images=selection["validation_images"],
        title=title,
    )
    recordings = load_recordings(folder / "recordings.npz")
    figures.episodes(paths[1], recordings, source.load("test"), title=title)
    return paths
