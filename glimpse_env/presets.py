"""The ids of the environments, and what each stands for."""

ENV_IDS = {
    "GlimpseCUB-v0": "auto",
    "GlimpseCUBFull-v0": "cub-full",
    "GlimpseCelebAHQ-v0": "celeba-hq",
    "GlimpseBirds-v0": "birds",
    "GlimpseMNIST-v0": "mnist",
    "GlimpseDigits-v0": "digits",
    "GlimpseFolder-v0": "folder",
}
"""The ids, and the data set of each as :func:`glimpse_env.registration.find_source` names it."""

CLASSIFY_IDS = {env_id.replace("-v0", "Classify-v0"): dataset for env_id, dataset in ENV_IDS.items()}
"""The ids of the same environments without a judge, in which the agent names the class."""

FLAT = ("celeba-hq", "folder")
"""Data sets whose arguments their environments take as their own, beside ``dataset_options``."""

DEFAULT_SCALES = {"cub-full": 2}
"""Concentric windows of a glimpse in the environments of a data set, where they are not 1."""
