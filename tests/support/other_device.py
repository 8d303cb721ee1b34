"""A device that is none: its tensors say they are elsewhere, compute on the CPU, and refuse to meet those of the CPU.

It finds what a GPU would: tensors made on the wrong device, indices that were not moved, numpy arrays of what is not on
the CPU. As on CUDA, scalars and the indices of ``tensor[...]`` may be on the CPU.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

OTHER = torch.device("meta")
"""The device; PyTorch's own meta device has no values, which :class:`OtherDevice` gives it."""
MAY_MIX = ("aten.index.", "aten.index_put", "aten._index_put_impl_", "aten.copy_.", "aten._to_copy.", "aten.to.")
"""Operators whose tensors may be on different devices."""


class Elsewhere(torch.Tensor):
    """A tensor on :data:`OTHER`, whose values are ``inside``."""

    inside: torch.Tensor

    @staticmethod
    def __new__(cls, inside: torch.Tensor) -> "Elsewhere":
        self: Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]  # private, as modes are
            cls,
            inside.shape,
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=OTHER,
        )
        self.inside = inside.detach()
        return self

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operator, args, kwargs or {})

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert a tensor of another device to numpy; use Tensor.cpu() first.")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.inside.tolist()


class OtherDevice(TorchDispatchMode):
    """Gives :data:`OTHER` values while it is entered."""

    def __enter__(self) -> "OtherDevice":
        self._maker = _Maker()
        self._maker.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._maker.__exit__(*error)

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operator, args, kwargs or {})


class _Maker(TorchFunctionMode):
    """Makes on the CPU, and then moves, what PyTorch would make on its own meta device past any dispatch."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            args = (args[0], _as_tensors(args[1]), *args[2:])
        return function(*args, **kwargs)


def _as_tensors(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    return torch.tensor(index, dtype=torch.int64) if isinstance(index, list) else index


def _computed(operator: Any, args: Any, kwargs: Any) -> Any:
    given, _ = tree_flatten((args, kwargs))
    tensors = [one for one in given if isinstance(one, torch.Tensor)]
    away = any(isinstance(one, Elsewhere) for one in tensors)
    home = any(not isinstance(one, Elsewhere) and one.ndim > 0 for one in tensors)
    name = str(operator)
    if away and home and not name.startswith(MAY_MIX):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} was given two.")
    if name.startswith(MAY_MIX[:3]) and away and not isinstance(args[0], Elsewhere):
        raise RuntimeError(f"{name}: indices on another device than the CPU do not fit a tensor on the CPU.")
    device = next((one for one in given if isinstance(one, torch.device)), None)
    inner_args, inner_kwargs = tree_map_only(Elsewhere, lambda one: one.inside, (args, kwargs))
    inner_args, inner_kwargs = tree_map_only(torch.device, lambda _: torch.device("cpu"), (inner_args, inner_kwargs))
    if device == OTHER and isinstance(inner_kwargs.get("pin_memory"), bool):
        inner_kwargs["pin_memory"] = False
    with torch.inference_mode(False), torch.no_grad():  # of what was made outside, that mode can make no view
        result = operator(*inner_args, **inner_kwargs)
        if operator._schema.is_mutable and operator._schema.name.endswith("_"):
            return args[0]
        if "out" in kwargs:
            return kwargs["out"]
        goes_there = away if device is None else device == OTHER
        if away and not goes_there:  # to the CPU, where a copy is a copy
            return tree_map_only(torch.Tensor, torch.clone, result)
        return tree_map_only(torch.Tensor, Elsewhere, result) if goes_there else result
