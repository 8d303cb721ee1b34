"""What is installed here and found: versions, devices, threads, packages, cache, data sets, extras."""

import os
from dataclasses import asdict
from importlib import metadata
from typing import Any

from glimpse_env.console.cache import KINDS, in_words, usage
from glimpse_env.console.names import pip_extra
from glimpse_env.console.own_packages import NAMES, check_own
from glimpse_env.errors import GlimpseError, ShadowedPackageError
from glimpse_env.files.storage import cache_folder
from glimpse_env.presets import PRESETS
from glimpse_env.versions import versions

EXTRAS = {
    "human": "the window of the game (play)",
    "web": "the game in a browser (play --web)",
    "ray": "work on a Ray cluster (generate-demos --ray, encode-features --ray)",
    "minari": "demonstrations as Minari data sets (exchange-demos)",
    "saliency": "the policy saliency",
    "pretrained": "ImageNet weights of the glimpse encoder efficientnet_lite0",
    "benchmark": "benchmark, tune-agents and inspect",
    "hub": "agents, judges, oracles and demonstrations on the Hugging Face Hub (push, pull)",
    "rivals": "other environments beside ours (measure env-speed)",
    "recipes": "the tools that the page Recipes has a block for",
    "docs": "make docs",
    "release": "make release-check",
    "dev": "make check and make test",
}
"""Extras of the package, and what each adds."""


def examine() -> dict[str, Any]:
    """Returns what is installed here and found, as JSON values.

    Returns:
        ``versions`` by package; ``packages``: the mistake of each of our packages that another one hides, or None;
        ``torch``: ``error``, or ``devices`` and ``threads``; ``environment``: the variables that this package reads;
        ``cache``: ``folder`` and ``kinds`` with ``files`` and ``bytes``; ``datasets`` by name: ``env``, ``found`` and,
        where that is False, ``how`` to get it; ``extras`` by name: ``adds``, ``installed`` and ``missing`` packages.
    """
    return {
        "versions": versions(),
        "packages": {name: _hidden(name) for name in NAMES},
        "torch": _torch(),
        "cores": os.cpu_count(),
        "environment": {
            name: os.environ.get(name)
            for name in ("GLIMPSE_CACHE", "GLIMPSE_DATA", "GLIMPSE_THREADS", "OMP_NUM_THREADS")
        },
        "cache": {"folder": str(cache_folder()), "kinds": {kind: asdict(size) for kind, size in usage().items()}},
        "datasets": {name: _dataset(name) for name, preset in PRESETS.items() if preset.source} | _gaze(),
        "extras": _extras(),
    }


def as_text(report: dict[str, Any]) -> str:
    """Returns what :func:`examine` returned, for people to read."""
    torch, cache = report["torch"], report["cache"]
    lines = ["Versions"] + [f"  {name:18} {version}" for name, version in report["versions"].items()]
    lines += [f"  {name} of glimpse-env is not found: {why}" for name, why in report["packages"].items() if why]
    lines += ["", "Device"]
    if "error" in torch:
        lines += [f"  PyTorch cannot be imported: {torch['error']}"]
    else:
        lines += [f"  {name}" for name in torch["devices"]]
        steps, all_threads = torch["threads"]["steps"], torch["threads"]["all"]
        lines += [
            f"  {report['cores']} cores; threads: {all_threads} of PyTorch's, {steps} for a step of an environment"
        ]
    lines += ["", f"Cache in {cache['folder']}"]
    sizes = {kind: size for kind, size in cache["kinds"].items() if size["files"]}
    lines += [f"  {kind:18} {in_words(size['bytes']):>9}  {KINDS[kind]}" for kind, size in sizes.items()]
    lines += [] if sizes else ["  empty"]
    lines += ["", "Data sets"]
    for name, entry in report["datasets"].items():
        lines += [f"  {name:18} {'found' if entry['found'] else entry['how']}"]
    lines += ["", "Extras"]
    for name, extra in report["extras"].items():
        state = f"lacks {', '.join(extra['missing'])}" if extra["missing"] else "installed"
        lines += [f"  {name:18} {extra['adds']}: {state}"]
    if any(extra["missing"] for extra in report["extras"].values()):
        lines += [f"  To add one, like human: {pip_extra('human')}"]
    return "\n".join(lines)


def _hidden(name: str) -> str | None:
    """Returns why importing one of our packages gives another project's; None where it gives ours."""
    try:
        check_own(name)
    except ShadowedPackageError as error:
        return str(error)
    return None


def _torch() -> dict[str, Any]:
    """Returns devices and threads, or the error with which PyTorch cannot be imported."""
    try:
        import torch

        from glimpse_env.threads import stepping_threads

        devices = [f"cuda: {torch.cuda.get_device_name(k)}" for k in range(torch.cuda.device_count())]
        devices += ["mps"] if torch.backends.mps.is_available() else []
        return {
            "devices": [*devices, "cpu"],
            "threads": {"all": torch.get_num_threads(), "steps": stepping_threads()},
        }
    except (ImportError, OSError, GlimpseError) as error:  # OSError: a library that it loads
        return {"error": f"{type(error).__name__}: {error}"}


def _dataset(name: str) -> dict[str, Any]:
    """Returns whether a data set is found, and else how to get it."""
    entry = {"env": PRESETS[name].env_id, "found": True}
    try:
        from glimpse_env.datasets import make_source

        make_source(name)
    except (GlimpseError, OSError, ImportError) as error:
        return {**entry, "found": False, "how": str(error)}
    return entry


def _gaze() -> dict[str, Any]:
    """Returns the same of the human gaze on CUB-200-2011."""
    entry: dict[str, Any] = {"env": None, "found": True}
    try:
        from glimpse_env.datasets import make_source
        from glimpse_env.datasets.gaze import REMEDY, find_gaze

        source = make_source("cub")
    except (GlimpseError, OSError, ImportError):
        entry |= {"found": False, "how": f"Human gaze goes with cub, which is missing; once it is there, {REMEDY}."}
        return {"cub-gha": entry}
    try:
        find_gaze(source)
    except (GlimpseError, OSError) as error:
        entry |= {"found": False, "how": str(error)}
    return {"cub-gha": entry}


def _extras() -> dict[str, Any]:
    """Returns what each extra adds, and which of its packages are installed and missing here."""
    from packaging.requirements import Requirement  # which PyTorch's and matplotlib's packages bring too

    try:
        requirements = [Requirement(text) for text in metadata.requires("glimpse-env") or []]
    except metadata.PackageNotFoundError:  # a clone on the path of imports
        return {}
    extras = {}
    for name, adds in EXTRAS.items():
        wanted = [
            one
            for one in requirements
            if one.marker and one.marker.evaluate({"extra": name}) and not one.marker.evaluate({"extra": ""})
        ]
        if not wanted:  # an installed version before this extra
            continue
        installed = {one.name: _version(one.name) for one in wanted}
        extras[name] = {
            "adds": adds,
            "installed": {package: version for package, version in installed.items() if version},
            "missing": [package for package, version in installed.items() if not version],
        }
    return extras


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
