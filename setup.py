"""What pyproject.toml cannot say: ``scripts`` is installed under a name that no other project has."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        # with the folders of data
        *find_namespace_packages(include=["glimpse_env*", "oracles*", "agents*"], exclude=["*.__pycache__*"]),
        "glimpse_commands",
        "glimpse_commands.measure",
        "glimpse_commands.share",
    ],
    package_dir={"glimpse_commands": "scripts"},
)
