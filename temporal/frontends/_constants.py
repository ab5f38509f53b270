"""Tensors that follow from a layer's arguments: exact in every dtype, on every device, and stored only if they learn."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from ._arguments import working_dtype

__all__ = ["DerivedConstants"]


class DerivedConstants(nn.Module):
    """A module with constants (a window, a filter bank) that are computed from its arguments.

    Each is a non-persistent buffer in the module's dtype. A cast does not round it twice: after `.double()` it is built
    again in float64, and `.half()` leaves it in float32, because spectra are never computed in half precision. Input of
    another dtype than the module's is served with a constant built on the spot: exact, but slower than `.double()`.

    One that is trained starts from the same numbers and is a parameter under the same name, in the state dict.
    """

    _constant_names: tuple[str, ...] = ()

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        """The constant `name` on `device`: in float64, or integers."""
        raise NotImplementedError

    def _register_constants(self, *names: str, trainable: Collection[str] = ()) -> None:
        for name in names:
            value = _rounded(self._build_constant(name, None), torch.get_default_dtype())
            if name in trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value, persistent=False)
                self._constant_names = (*self._constant_names, name)

    def _constant(self, name: str, dtype: torch.dtype) -> Tensor:
        value = self._buffers.get(name)
        if value is None:  # it learns
            return getattr(self, name).to(dtype)
        if value.dtype == dtype:
            return value
        return self._build_constant(name, value.device).to(dtype)

    def _apply(self, fn, recurse=True):
        before = {name: getattr(self, name) for name in self._constant_names}
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = getattr(self, name)
            if new.dtype != old.dtype or old.is_meta != new.is_meta:
                setattr(self, name, _rounded(self._build_constant(name, new.device), new.dtype))
        return self


def _rounded(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(working_dtype(dtype)) if value.is_floating_point() else value
