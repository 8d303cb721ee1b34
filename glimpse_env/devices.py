"""Where tensors are: names of devices, and what fits on one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from glimpse_env.checks import one_of
from glimpse_env.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda", "mps"]
"""Names of devices; ``auto`` is cuda where there is one, else mps, else cpu."""


def find_device(name: str) -> torch.device:
    """Returns the device called ``name``, one of :data:`Device`.

    Raises:
        ConfigurationError: if there is no such name, or PyTorch finds no such device here.
    """
    import torch  # takes seconds, and importing this package does without

    one_of("device", name, get_args(Device))
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise ConfigurationError(
            f'device={name!r} is not available to PyTorch {torch.__version__} here; take device="cpu", or "auto" for '
            "the best there is."
        )
    return torch.device(name)


def free_bytes(device: torch.device) -> int:
    """Returns the free memory of a device as far as it may be filled with what could stay elsewhere: 0 but for CUDA."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def resident(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Returns a large tensor on the device where it takes at most half of the free memory there; else as it is, for
    callers who move the parts that they need."""
    return tensor.to(device) if 2 * tensor.nbytes <= free_bytes(device) else tensor
