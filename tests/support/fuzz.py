"""How many random cases are tried."""

import os

from hypothesis import HealthCheck, settings

FUZZ = settings(
    derandomize=True,
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_CASES", "100")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
"""``FUZZ_CASES=2000 python -m pytest tests/glimpse_env/datasets`` tries that many of each kind."""
