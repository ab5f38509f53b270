"""Layers in a row whose backward pass computes them again, block by block of steps, instead of keeping what they held.

A chain of layers with states can be taken over time in pieces. So the forward pass keeps nothing but the chain's input and
its states at the start of every block; the backward pass goes through the blocks from the last to the first, runs each
again with gradients, and hands the gradient of its first state on to the block before. What is held at any moment is one
block's; a second forward pass is what it costs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ._protocol import Role

__all__ = ["Chain", "chains", "run_chain"]

_STEPS = 128  # of a block: long enough for matrix products and kernels to be efficient, short beside what is worth it
_MOST_STEPS = 1024  # to which a block may grow to hold whole truncations
# Layers without a state that treat every step by itself, always alike.
_BY_STEP = (
    nn.Linear, nn.Identity, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.LayerNorm,
    nn.RMSNorm,
)  # fmt: skip

Run = Callable[[Tensor, tuple, Tensor | None], tuple[Tensor, tuple]]


class Chain(NamedTuple):
    """Layers first..stop of a list, to be computed again in blocks of so many steps (0: not at all)."""

    first: int
    stop: int
    steps: int


def chains(layers: Sequence[nn.Module], roles: Sequence[Role]) -> list[Chain]:
    """The list in chains: the longest that end in a layer with ``memory="recompute"``, and what lies between them."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return [Chain(0, len(layers), 0)]
    parts: list[Chain] = []
    first = 0
    while first < len(layers):
        last = first
        while last < len(layers) and _can_be_computed_again(layers[last], roles[last]):
            last += 1
        asked = [n for n in range(first, last) if _asks(layers[n])]
        stop = asked[-1] + 1 if asked else max(last, first + 1)
        # Alone, a neuron's kernel does so already, with less to keep.
        steps = _block(layers[first:stop]) if asked and stop - first > 1 else 0
        parts.append(Chain(first, stop, steps))
        first = stop
    return parts


def run_chain(
    layers: Sequence[nn.Module], steps: int, run: Run, x: Tensor, state: tuple, lengths: Tensor | None
) -> tuple[Tensor, tuple]:
    """``run(x, state, lengths)``, keeping next to nothing for its backward pass."""
    parameters = list({id(p): p for layer in layers for p in layer.parameters() if p.requires_grad}.values())
    starts, structure = _flatten(state)
    truncated = [getattr(layer, "truncate", None) is not None for layer in layers]
    call = _Call(run, steps, lengths, structure, len(starts), len(parameters), truncated, _autocast(x))
    y, *ends = _Again.apply(call, x, *starts, *parameters)
    return y, call.ended.unflatten(ends)


class _Call:
    """What one run of a chain is about, beside the tensors that gradients flow to."""

    def __init__(self, run, steps, lengths, structure, starts, parameters, truncated, autocast):
        self.run: Run = run
        self.steps: int = steps
        self.lengths: Tensor | None = lengths
        self.structure: _Structure = structure  # of the first state
        self.ended: _Structure = structure  # of a later state
        self.starts: int = starts
        self.parameters: int = parameters
        self.truncated: list[bool] = truncated
        self.autocast: dict[str, Any] = autocast

    def block(self, start: int, x: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run the steps of one block from a state."""
        state = (self.ended if start else self.structure).unflatten(leaves)
        lengths = None if self.lengths is None else (self.lengths - start).clamp(0, x.shape[0])
        y, state = self.run(x, state, lengths)
        ends, self.ended = _flatten(state)
        return y, ends

    def cut(self, start: int, grads: list[Any]) -> list[Any]:
        """Gradients of a state between two blocks: none for the layers whose truncation ends there, of samples that go on."""
        owners = zip(self.ended.owners, grads, strict=True)
        return [self._ended_only(start, grad) if self.truncated[owner] else grad for owner, grad in owners]

    def _ended_only(self, start: int, grad: Tensor | None) -> Tensor | None:
        if self.lengths is None or grad is None:
            return None
        ended = (self.lengths <= start).reshape(-1, *[1] * (grad.dim() - 1))
        return torch.where(ended, grad, 0.0)


class _Structure(NamedTuple):
    """How the tensors of a state lie in it."""

    tree: pytree.TreeSpec
    filled: list[bool]  # which of the tree's leaves are tensors; the others are None
    owners: list[int]  # the layer of each tensor

    def unflatten(self, tensors: Sequence[Tensor]) -> tuple:
        """The state with these tensors."""
        rest = iter(tensors)
        return pytree.tree_unflatten([next(rest) if filled else None for filled in self.filled], self.tree)


def _flatten(state: tuple) -> tuple[list[Tensor], _Structure]:
    leaves, tree = pytree.tree_flatten(state)
    filled = [leaf is not None for leaf in leaves]
    owners = [n for n, part in enumerate(state) for leaf in pytree.tree_leaves(part) if leaf is not None]
    return [leaf for leaf in leaves if leaf is not None], _Structure(tree, filled, owners)


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *tensors: Tensor) -> Any:
        leaves: Sequence[Tensor] = tensors[: call.starts]
        outputs, kept = [], []
        for start in range(0, max(1, x.shape[0]), call.steps):
            kept.append(len(leaves))
            ctx.kept = [*getattr(ctx, "kept", []), *leaves]
            y, leaves = call.block(start, x[start : start + call.steps], leaves)
            outputs.append(y)
        ctx.save_for_backward(x, *ctx.kept, *tensors[call.starts :])
        ctx.kept, ctx.call = kept, call
        given = {id(t) for t in (x, *tensors)}
        ends = [leaf.clone() if id(leaf) in given else leaf for leaf in leaves]  # a state that no step changed
        return torch.cat(outputs), *ends

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor, *grad_ends: Tensor) -> Any:
        call: _Call = ctx.call
        x, *saved = ctx.saved_tensors
        parameters = saved[len(saved) - call.parameters :]
        totals: list[Tensor | None] = [None] * len(parameters)
        needs_x = ctx.needs_input_grad[1]
        grad_x: list[Tensor] = []  # last block first
        carry: list[Any] = list(grad_ends)
        place = len(saved) - call.parameters
        for n in reversed(range(len(ctx.kept))):
            start = n * call.steps
            piece = x[start : start + call.steps].detach().requires_grad_(needs_x)
            place -= ctx.kept[n]
            leaves = [leaf.detach().requires_grad_() for leaf in saved[place : place + ctx.kept[n]]]
            with torch.enable_grad(), torch.autocast(**call.autocast):
                y, ends = call.block(start, piece, leaves)
            reached = [
                (out, grad)
                for out, grad in zip((y, *ends), (grad_y[start : start + call.steps], *carry), strict=True)
                if grad is not None and out.requires_grad
            ]
            wanted = [*([piece] if needs_x else []), *leaves, *parameters]
            grads: list[Any] = [None] * len(wanted)
            if reached:
                outs, seeds = zip(*reached, strict=True)
                grads = list(torch.autograd.grad(outs, wanted, seeds, allow_unused=True))
            if needs_x:
                first = grads.pop(0)
                grad_x.append(torch.zeros_like(piece) if first is None else first)
            carry = grads[: len(leaves)]
            for k, grad in enumerate(grads[len(leaves) :]):
                totals[k] = grad if totals[k] is None else totals[k] if grad is None else totals[k].add_(grad)  # type: ignore[union-attr]
            if n:
                carry = call.cut(start, carry)
        return None, torch.cat(grad_x[::-1]) if needs_x else None, *carry, *totals


def _asks(layer: nn.Module) -> bool:
    return getattr(layer, "memory", None) == "recompute"


def _can_be_computed_again(layer: nn.Module, role: Role) -> bool:
    """Whether a layer can be taken over time in pieces, twice, with the same result and no other effect."""
    if role.state != "state" and not isinstance(layer, _BY_STEP):
        return False
    for part in layer.modules():
        # Hooks would be called more than once; in training, batch norm looks at all steps at once, dropout draws anew.
        if part._forward_hooks or part._forward_pre_hooks:
            return False
        if part.training and (hasattr(part, "running_mean") or "Dropout" in type(part).__name__):
            return False
    return True


def _block(layers: Sequence[nn.Module]) -> int:
    """Steps of a block: a multiple of every truncation, so that they end where they would; 0 if that is too many."""
    whole = math.lcm(*(k for layer in layers if (k := getattr(layer, "truncate", None)) is not None), 1)
    steps = max(1, _STEPS // whole) * whole
    return steps if steps <= _MOST_STEPS else 0


def _autocast(x: Tensor) -> dict[str, Any]:
    """How to enter again the autocast that is on now."""
    device = x.device.type
    return {
        "device_type": device,
        "dtype": torch.get_autocast_dtype(device),
        "enabled": torch.is_autocast_enabled(device),
        "cache_enabled": torch.is_autocast_cache_enabled(),
    }
