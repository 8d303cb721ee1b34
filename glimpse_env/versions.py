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
    """Of Python and the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
