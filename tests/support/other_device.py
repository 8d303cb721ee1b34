"""A device that is none: its tensors say they are elsewhere, compute on the CPU, and refuse to meet those of the CPU.

It finds what a GPU would: tensors made on the wrong device, indices that were not moved, numpy arrays of what is not on
the CPU. As on CUDA, scalars and the indices of ``tensor[...]`` may be on the CPU.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

OTHER = torch.device("meta")
"""The device; PyTorch's own meta device has no values, which :class:`OtherDevice` gives it."""
MAY_MIX = (
    *("aten.index.", "aten.index_put", "aten._index_put_impl_"),
    *("aten.copy_.", "aten._to_copy.", "aten.to."),
    "aten._pack_padded_sequence",  # lengths are on the CPU
)
"""Operators whose tensors may be on different devices."""


class Elsewhere(torch.Tensor):
    """A tensor on :data:`OTHER`, whose values are ``inside``."""

    inside: torch.Tensor

    @staticmethod
    def __new__(cls, inside: torch.Tensor) -> "Elsewhere":
        self: Elsewhere = torch.Tensor._make_wrapper_subclass(
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
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]  # as PyTorch documents it
        return _computed(operator, args, kwargs or {})

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert a tensor of another device to numpy; use Tensor.cpu() first.")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.inside.tolist()

    def __tensor_flatten__(self) -> Any:
        """With these two, a parameter that ``Module.to`` moves stays the same object, as it does on CUDA."""
        return ["inside"], None

    @staticmethod
    def __tensor_unflatten__(parts: Any, *_: Any) -> "Elsewhere":
        return Elsewhere(parts["inside"])

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inside.__reduce_ex__(protocol)  # as what torch.load(map_location="cpu") reads


class _Generator(torch.Generator):
    """A generator of either device, whose numbers are the CPU's."""

    where: torch.device

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        self: _Generator = super().__new__(cls, "cpu")  # type: ignore[call-arg]  # missing in its types
        self.where = torch.device(device)
        return self

    def __init__(self, device: Any = "cpu"):
        pass


class OtherDevice(TorchDispatchMode):
    """Gives :data:`OTHER` values while it is entered."""

    def __enter__(self) -> "OtherDevice":
        self._maker = _Maker()
        self._maker.__enter__()
        self._generator, torch.Generator = torch.Generator, _Generator  # type: ignore[misc]
        self._onednn = torch.backends.mkldnn.set_flags(False)  # its LSTM is none of the other device's
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._maker.__exit__(*error)
        torch.Generator = self._generator  # type: ignore[misc]
        torch.backends.mkldnn.set_flags(*self._onednn)

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
    given = [*_leaves(args), *_leaves(list(kwargs.values()))]
    tensors = [one for one in given if isinstance(one, torch.Tensor)]
    device = next((one for one in given if isinstance(one, torch.device)), None)
    away = any(isinstance(one, Elsewhere) for one in tensors)
    if not away and device != OTHER:
        return operator(*args, **kwargs)
    name = str(operator)
    home = any(not isinstance(one, Elsewhere) and one.ndim > 0 for one in tensors)
    if away and home and not name.startswith(MAY_MIX):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} was given two.")
    if name.startswith(MAY_MIX[:3]) and not isinstance(args[0], Elsewhere):
        raise RuntimeError(f"{name}: indices on another device than the CPU do not fit a tensor on the CPU.")
    generator = next((one for one in given if isinstance(one, torch.Generator)), None)
    if generator is not None and getattr(generator, "where", None) != OTHER:
        raise RuntimeError(f"{name}: expected a generator of the same device.")
    inner = {key: _inside(value) for key, value in kwargs.items()}
    if inner.get("pin_memory") is not None:
        inner["pin_memory"] = False
    with torch.inference_mode(False), torch.no_grad():  # of what was made outside, that mode can make no view
        result = operator(*_inside(args), **inner)
        if torch.Tag.inplace_view in operator.tags:
            with no_dispatch():  # the shape outside changes too
                operator(*args, **kwargs)
        if operator._schema.is_mutable and operator._schema.name.endswith("_"):
            return args[0] if operator._schema.returns else None
        if "out" in kwargs:
            return kwargs["out"]
        if device is not None and device != OTHER:  # to the CPU, where a copy is a copy
            return result.clone()
        if name.startswith("aten._pack_padded_sequence."):
            return Elsewhere(result[0]), result[1]  # batch sizes stay on the CPU
        return tree_map_only(torch.Tensor, Elsewhere, result)


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _leaves(value)
        else:
            yield value


def _inside(value: Any) -> Any:
    """Returns arguments with the values of tensors, on the CPU."""
    if isinstance(value, Elsewhere):
        return value.inside
    if isinstance(value, (tuple, list)):
        return type(value)(map(_inside, value))
    return torch.device("cpu") if isinstance(value, torch.device) else value
