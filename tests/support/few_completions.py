"""BOED that takes a moment, for tests that play it."""

from dataclasses import replace

import pytest

from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import OracleConfig
from oracles.presets import PRESETS


def few_completions(patch: pytest.MonkeyPatch, dataset: str) -> None:
    """Gives the BOED oracle of a data set's preset few completions, from a small bank."""
    few = CompletionConfig(samples=4, short_list=20, effective_samples=2.0, bank_size=100)
    config = OracleConfig(completion=few, first_samples=20)
    patch.setitem(PRESETS, dataset, replace(PRESETS[dataset], boed=config))
