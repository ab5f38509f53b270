"""How the operators of delays are made known to torch: one forward, and one backward that tells which gradients it needs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

__all__ = ["Pass", "register"]


class Pass(NamedTuple):
    """One direction of an operator."""

    run: Callable[..., Any]
    shapes: Callable[..., Any]  # the fake kernel
    differentiate: Callable[..., Any]
    keep: Callable[..., None] | None = None


def register(name: str, given: str, gradients: int, forward: Pass, backward: Pass) -> torch.library.Library:
    """Define ``temporal::NAME`` and ``temporal::NAME_backward``.

    Args:
        name: of the operator.
        given: the schema of what it is given.
        gradients: how many tensors its backward returns.
        forward, backward: what they do; the backward is given the gradient first and, last, which gradients are needed.
    Returns:
        The library, with which the operators live and end.
    """
    library = torch.library.Library("temporal", "FRAGMENT")
    results = ", ".join(["Tensor"] * gradients)
    for full, schema, one in (
        (name, f"({given}) -> Tensor", forward),
        (f"{name}_backward", f"(Tensor grad, {given}, bool[] needs) -> ({results})", backward),
    ):
        library.define(full + schema, tags=(torch.Tag.pt2_compliant_tag,))
        library.impl(full, one.run, "CompositeExplicitAutograd")
        torch.library.register_fake(f"temporal::{full}", one.shapes, lib=library)
        torch.library.register_autograd(f"temporal::{full}", one.differentiate, setup_context=one.keep, lib=library)
    return library
