"""Versions of Python and the packages that results depend on."""

import platform
from importlib import metadata

PACKAGES = (
    "glimpse-env",
    "gymnasium",
    "stable-baselines3",
    "torch",
    "numpy",
    "scipy",
    "safetensors",
    "pillow",
    "matplotlib",
)


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results depend on, by name."""
    numbers = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            numbers[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            numbers[package] = "not installed"
    return numbers
