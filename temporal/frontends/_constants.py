"""Tensors that follow from a layer's arguments: exact in every dtype, on every device, and never stored."""

import torch
from torch import Tensor, nn

from ._arguments import working_dtype

__all__ = ["DerivedConstants"]


class DerivedConstants(nn.Module):
    """A module with constants (a window, a filter bank) that are computed from its arguments.

    Each is a non-persistent buffer in the module's dtype. A cast does not round it twice: after `.double()` it is built
    again in float64, and `.half()` leaves it in float32, because spectra are never computed in half precision. Input of
    another dtype than the module's is served with a constant built on the spot: exact, but slower than `.double()`.
    """

    _constant_names: tuple[str, ...] = ()

    def _build_constant(self, name: str, device: torch.device | None) -> Tensor:
        """The constant `name` in float64 on `device`."""
        raise NotImplementedError

    def _register_constants(self, *names: str) -> None:
        self._constant_names = (*self._constant_names, *names)
        for name in names:
            value = self._build_constant(name, None).to(working_dtype(torch.get_default_dtype()))
            self.register_buffer(name, value, persistent=False)

    def _constant(self, name: str, dtype: torch.dtype) -> Tensor:
        value = getattr(self, name)
        return value if value.dtype == dtype else self._build_constant(name, value.device).to(dtype)

    def _apply(self, fn, recurse=True):
        before = {name: getattr(self, name) for name in self._constant_names}
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = getattr(self, name)
            if new.dtype != old.dtype or old.is_meta != new.is_meta:
                exact = self._build_constant(name, new.device)
                setattr(self, name, exact.to(working_dtype(new.dtype)))
        return self
