"""What pyproject.toml cannot say: ``scripts`` is installed under a name that no other project has."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["glimpse_env*", "oracles*", "agents*"]),
        "glimpse_commands",
        "glimpse_commands.measure",
    ],
    package_dir={"glimpse_commands": "scripts"},
)
