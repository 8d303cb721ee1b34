"""Settings of a measurement of the oracle's cost, which are a command's flags too, so that importing them is cheap."""

from dataclasses import dataclass
from typing import Any

from glimpse_env.cli import check_least
from glimpse_env.errors import ConfigurationError


@dataclass(frozen=True)
class CostSettings:
    """Numbers that the figures depend on.

    Raises:
        ConfigurationError: if one is below 1.
    """

    banks: tuple[int, ...] = (1000, 3000, 10_000, 30_000, 100_000)
    """Sizes of the bank, in images."""
    pixels_up_to: int = 30_000
    """Largest bank that pixels are compared in: without the coarse search they take seconds a sequence in a larger
    one."""
    drawn: int = 10_000
    """Number of birds that are drawn; images of a bank beyond them are copies, moved, mirrored and with noise."""
    sequences: int = 32
    """Number of sequences in a turn, played as one batch."""
    rounds: int = 3
    """Number of turns, of which the median counts."""
    samples: int = 100
    """Number of completions of a history."""
    short_list: int = 500
    """Number of nearest images that the completions are weighted among."""
    coarse: int = 64
    """Number of principal components of the coarse search."""
    threads: int = 2
    """Number of torch's threads."""
    passes: int = 512
    """Number of passes of the masked-image CNN that are measured; a whole sequence is scaled from these."""
    recall_sequences: int = 8
    """Number of sequences whose histories the coarse search's recall is measured on."""
    recall_dimensions: tuple[int, ...] = (16, 32, 64, 128)
    """Numbers of principal components whose recall is compared."""
    recall_keep: tuple[int, ...] = (1, 2, 4)
    """Numbers of entries kept by the coarse search whose recall is compared, in multiples of short_list."""

    def __post_init__(self) -> None:
        if not self.banks:
            raise ConfigurationError("--banks must be one or more sizes.")
        check_least(self, **{**dict.fromkeys(CostSettings.__dataclass_fields__, 1), "pixels_up_to": 0})

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as JSON values."""
        values = ((name, getattr(self, name)) for name in CostSettings.__dataclass_fields__)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


QUICK: dict[str, Any] = {
    "banks": (60, 100),
    "drawn": 60,
    "sequences": 3,
    "rounds": 1,
    "samples": 6,
    "short_list": 20,
    "coarse": 6,
    "passes": 4,
    "recall_sequences": 1,
    "recall_dimensions": (4, 8),
    "recall_keep": (1, 2),
}
"""Numbers so small that a measurement takes seconds."""
