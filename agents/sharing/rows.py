"""Rows of the scoreboard: files named by their content, whose claims follow from the results on single images."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.evaluate import Evaluation
from agents.evaluation.statistics import mean_of, wilson_interval
from agents.sharing.subjects import Subject
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import digest, read_json, write_json
from glimpse_env.versions import versions

FORMAT = 1
TEST_IMAGES = 2000
"""Test images of a row, at most: those that :func:`agents.evaluation.evaluate.choose_images` takes."""
BOARDS = "boards.json"
"""File of a scoreboard's folder with what the rows of each id must have been measured on."""
SAME = ("dataset", "fingerprint", "split", "judge", "images", "num_images", "glimpse_cost")
"""Entries of a row that all rows of an id share."""
KEYS = {
    *("format", "env", "name", "author", "origin", "peeks", "seeds", "command", "versions", "results", "summary"),
    *SAME,
}
TOLERANCE = 1e-6
"""Difference of a claimed number from what follows from the results, at most; processors differ in last digits."""
LOSS_DIGITS = 3
"""Decimals of the log-loss of an image, nats."""


def make_row(
    evaluation: Evaluation,
    subject: Subject,
    *,
    env: str,
    name: str,
    author: str,
    seed: int,
    command: str,
    glimpse_cost: float | None = None,
) -> dict[str, Any]:
    """Returns a row as JSON values.

    Args:
        evaluation: of the subject on test images.
        subject: what was scored.
        env: environment id.
        name, author: as its author wants to be called; one line each, the name not empty.
        seed: of the evaluation.
        command: that scores it again.
        glimpse_cost: price of a glimpse where episodes may stop.

    Raises:
        ConfigurationError: if a name is empty or too long.
    """
    _check_words(name, author)
    results = {
        "success": "".join("1" if success else "0" for success in evaluation.outcomes),
        "log_loss": " ".join(f"{abs(loss):.{LOSS_DIGITS}f}" for loss in evaluation.final_log_loss),
    }
    if evaluation.glimpses is not None:
        results["glimpses"] = " ".join(map(str, evaluation.glimpses))
    return {
        "format": FORMAT,
        "env": env,
        "name": name,
        "author": author,
        "origin": subject.origin,
        "peeks": subject.peeks,
        "dataset": evaluation.dataset,
        "fingerprint": evaluation.fingerprint,
        "split": evaluation.split,
        "judge": evaluation.judge,
        "images": evaluation.images,
        "num_images": len(evaluation.outcomes),
        "glimpse_cost": glimpse_cost,
        "seeds": {"training": subject.training_seed, "evaluation": seed},
        "command": command,
        "versions": versions(),
        "results": results,
        "summary": summary_of(results, glimpse_cost),
    }


def _check_words(name: Any, author: Any) -> None:
    """Checks that what the author wrote is short; raises ConfigurationError."""
    for what, text, least in (("name", name, 1), ("author", author, 0)):
        if not isinstance(text, str) or not least <= len(text.strip()) <= 80 or not text.isprintable():
            raise ConfigurationError(f"the {what} {text!r} must be one line of at most 80 characters.")


def summary_of(results: dict[str, str], glimpse_cost: float | None) -> dict[str, Any]:
    """Returns what follows from the results on single images: success with Wilson's interval, log-loss in nats and,
    where glimpses have a price, glimpses and return, with bootstrap intervals over images.

    Raises:
        ArtifactError: if the results are damaged.
    """
    success, losses = outcomes_of(results), numbers_of(results, "log_loss")
    successes = int(success.sum())
    summary: dict[str, Any] = {
        "success": {
            "value": successes / len(success),
            "interval": list(wilson_interval(successes, len(success))),
            "successes": successes,
        },
        "log_loss": mean_of(losses).to_json(),
    }
    if "glimpses" in results:
        glimpses = numbers_of(results, "glimpses")
        summary["glimpses"] = mean_of(glimpses).to_json()
        if glimpse_cost is not None:
            summary["return"] = mean_of(success - glimpse_cost * glimpses).to_json()
    return summary


def outcomes_of(results: dict[str, str]) -> np.ndarray:
    """Returns (N,) bool: whether each image was judged right; raises ArtifactError if the results are damaged."""
    text = results.get("success")
    if not isinstance(text, str) or not re.fullmatch("[01]{2,}", text):
        raise ArtifactError("its results have no success of at least two images, a 0 or 1 each")
    return np.array(list(text)) == "1"


def numbers_of(results: dict[str, str], key: str) -> np.ndarray:
    """Returns (N,) float64 numbers, one an image; raises ArtifactError if the results are damaged."""
    text, count = results.get(key), len(outcomes_of(results))
    if not isinstance(text, str) or not re.fullmatch(r"[0-9.]+( [0-9.]+)*", text):
        raise ArtifactError(f"its results have no {key} in numbers from 0 up")
    try:
        numbers = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise ArtifactError(f"its results have {key} that are no numbers ({error})") from error
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ArtifactError(f"its results have {len(numbers)} {key} of {count} images")
    return numbers


def write_row(row: dict[str, Any], folder: Path) -> Path:
    """Writes a row into a folder, under a name that ends in a digest of its content, and returns its path."""
    path = folder / file_name(row)
    write_json(path, row)
    return path


def file_name(row: dict[str, Any]) -> str:
    """Returns the name of a row's file, like ``GlimpseBirds-v0-my-agent-0123456789abcdef.json``."""
    words = re.sub(r"[^\w]+", "-", f"{row['env']}-{row['name']}", flags=re.ASCII).strip("-")
    return f"{words}-{digest(row)}.json"


def read_boards(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns what the rows of each id must have been measured on; nothing where there is no such file."""
    return read_json(folder / BOARDS) if (folder / BOARDS).is_file() else {}


def open_board(row: dict[str, Any], folder: Path) -> None:
    """Says in a scoreboard's folder that rows of this id are measured on the same as this one."""
    write_json(folder / BOARDS, read_boards(folder) | {row["env"]: {key: row[key] for key in SAME}})


def read_row(path: Path, boards: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Reads a row and computes again what it claims.

    Raises:
        ArtifactError: if its content is not that of its name, a number does not follow from its results, or it was
            measured on something else than the other rows of its id.
    """
    try:
        row = read_json(path)
        if row.get("format") != FORMAT or set(row) != KEYS:
            raise ArtifactError(f"it is no row of format {FORMAT}")
        _check_words(row["name"], row["author"])
        if path.name != file_name(row):
            raise ArtifactError(f"its content is that of {file_name(row)}")
        if row["env"] not in boards:
            raise ArtifactError(
                f"{path.parent} has no board for {row['env']}; score with --new-board to begin one, or check it among "
                "rows that have one"
            )
        board = boards[row["env"]]
        for key in SAME:
            if row[key] != board[key]:
                raise ArtifactError(f"its {key} is {row[key]}, that of the board {board[key]}")
        if len(outcomes_of(row["results"])) != row["num_images"]:
            raise ArtifactError(f"it has results of {len(outcomes_of(row['results']))} images, not {row['num_images']}")
        _compare(row["summary"], summary_of(row["results"], row["glimpse_cost"]), "summary")
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"the row {path} is refused: it is damaged ({error!r}).") from error
    except (ArtifactError, ConfigurationError) as error:
        remedy = "" if "--new-board" in str(error) else "; score again"
        raise ArtifactError(f"the row {path} is refused: {str(error).rstrip('.')}{remedy}.") from error
    return row


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Reads and checks all rows of a scoreboard's folder.

    Raises:
        ArtifactError: naming each row that is refused and why; also if two rows of an id have one name.
    """
    boards, rows, problems = read_boards(folder), [], []
    names: dict[tuple[str, str], Path] = {}
    for path in sorted(path for path in folder.glob("*.json") if path.name != BOARDS):
        try:
            row = read_row(path, boards)
        except ArtifactError as error:
            problems.append(str(error))
            continue
        other = names.setdefault((row["env"], row["name"].casefold()), path)
        if other != path:
            problems.append(f"the rows {other} and {path} have one name; give one another --name.")
        rows.append({**row, "file": path.name})
    if problems:
        raise ArtifactError(" ".join(problems))
    return rows


def _compare(claimed: Any, found: Any, where: str) -> None:
    """Checks that two JSON values are the same but for last digits; raises ArtifactError."""
    if isinstance(found, dict) and isinstance(claimed, dict) and claimed.keys() == found.keys():
        for key in found:
            _compare(claimed[key], found[key], f"{where}.{key}")
    elif isinstance(found, list) and isinstance(claimed, list) and len(claimed) == len(found):
        for k, value in enumerate(found):
            _compare(claimed[k], value, f"{where}[{k}]")
    elif isinstance(found, float) and type(claimed) in (int, float):
        if not math.isclose(claimed, found, rel_tol=0, abs_tol=TOLERANCE):
            raise ArtifactError(f"{where} is {claimed}, and {found} follows from its results")
    elif type(claimed) is not type(found) or claimed != found:
        raise ArtifactError(f"{where} is {claimed!r}, and {found!r} follows from its results")
