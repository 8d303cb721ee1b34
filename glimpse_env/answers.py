"""The answers of agents that name the class themselves."""

import numpy as np

from glimpse_env.judge.assessment import Assessment

LEAST_PROBABILITY = 1e-4
"""Smallest probability in a log-loss reward, which therefore is at least log(1e-4), about -9.2."""


def classes_named(answers: np.ndarray) -> np.ndarray:
    """Returns the classes (B,) int64 that ``answers`` name: classes (B,), or (B, classes) numbers, the largest."""
    return np.array(answers if answers.ndim == 1 else answers.argmax(axis=1))


def judge_answers(answers: np.ndarray, labels: np.ndarray, reward: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Compares final answers with the labels.

    Args:
        answers: (B,) classes, or (B, classes) numbers in [-1, 1], which stand for probabilities.
        labels: (B,) int64.
        reward: ``"classification"`` or ``"log_loss"``, which needs numbers.

    Returns:
        The rewards (B,) float64; and the info of the end: ``is_success``, ``label`` and, of numbers, ``log_loss``.
    """
    success = classes_named(answers) == labels
    info = {"is_success": success, "label": labels}
    if answers.ndim == 2:
        info["log_loss"] = Assessment.of(_probabilities(answers), labels).log_loss
    if reward == "log_loss":
        return -np.minimum(info["log_loss"], -np.log(LEAST_PROBABILITY)), info
    return success.astype(np.float64), info


def _probabilities(numbers: np.ndarray) -> np.ndarray:
    """Turns numbers in [-1, 1], (B, classes), into probabilities, float64; uniform where all are -1."""
    weights = numbers.astype(np.float64) + 1.0
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1.0 / weights.shape[1])
