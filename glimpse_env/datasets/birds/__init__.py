"""Drawn birds: their colours and outlines are in the JSON files beside the code that paints them."""

import json
from importlib import resources
from typing import Any


def read_table(name: str) -> Any:
    """Returns the content of ``name.json`` in this folder."""
    return json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
