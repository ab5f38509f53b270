"""Layers in a row whose backward pass computes them again, block by block of steps, instead of keeping what they held.

A chain of layers with states can be taken over time in pieces. So the forward pass keeps nothing but the chain's input and
its states at the start of every block; the backward pass goes through the blocks from the last to the first, runs each
again with gradients, and hands the gradient of its first state on to the block before. The last block is kept as it is,
since it comes first. What is held at any moment is one block's; a second forward pass is what it costs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ._protocol import Role

__all__ = ["Chain", "chains", "run_chain"]

# Of a block: at 128 the calls themselves still cost a tenth of a training step (3 layers of 256 neurons, 16 samples).
_STEPS = 256
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
        """Gradients of a state between two blocks: none for layers whose truncation ends there, of samples that go on."""
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


class _Block:
    """A block run with gradients, cut off from what is before and after it."""

    def __init__(self, call: _Call, start: int, x: Tensor, leaves: Sequence[Tensor], needs_x: bool):
        self.x = x[start : start + call.steps].detach().requires_grad_(needs_x)
        self.leaves = [leaf.detach().requires_grad_(leaf.is_floating_point()) for leaf in leaves]
        with torch.enable_grad():
            self.y, self.ends = call.block(start, self.x, self.leaves)

    def grads(self, grad_y: Tensor, grad_ends: Sequence[Any], parameters: Sequence[Tensor]) -> list[Any]:
        """Of x, where it is wanted, of the state before it, and of the parameters."""
        wanted = [*([self.x] if self.x.requires_grad else []), *self.leaves, *parameters]
        reached = [
            (out, grad)
            for out, grad in zip((self.y, *self.ends), (grad_y, *grad_ends), strict=True)
            if grad is not None and out.requires_grad
        ]
        if not reached:
            return [None] * len(wanted)
        outs, seeds = zip(*reached, strict=True)
        return list(torch.autograd.grad(outs, wanted, seeds, allow_unused=True))


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *tensors: Tensor) -> Any:
        leaves: Sequence[Tensor] = tensors[: call.starts]
        outputs: list[Tensor] = []
        kept: list[Tensor] = []
        ctx.kept = []  # how many tensors each block's first state has
        last = (max(1, x.shape[0]) - 1) // call.steps * call.steps
        for start in range(0, last, call.steps):
            ctx.kept.append(len(leaves))
            kept += leaves
            y, leaves = call.block(start, x[start : start + call.steps], leaves)
            outputs.append(y)
        ctx.kept.append(len(leaves))
        ctx.last = _Block(call, last, x, leaves, ctx.needs_input_grad[1])
        ctx.save_for_backward(x, *kept, *leaves, *tensors[call.starts :])
        ctx.call = call
        given = {t.untyped_storage().data_ptr() for t in (x, *tensors)}
        ends = [end.detach() for end in ctx.last.ends]
        ends = [
            end.clone() if end.untyped_storage().data_ptr() in given else end for end in ends
        ]  # that no step changed
        return torch.cat([*outputs, ctx.last.y.detach()]), *ends

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor, *grad_ends: Tensor) -> Any:
        call: _Call = ctx.call
        x, *saved = ctx.saved_tensors
        place = len(saved) - call.parameters
        parameters = saved[place:]
        totals: list[Tensor | None] = [None] * len(parameters)
        needs_x = ctx.needs_input_grad[1]
        grad_x: list[Tensor] = []  # last block first
        carry: list[Any] = list(grad_ends)
        block, ctx.last = ctx.last, None  # whose graph serves once; a second backward pass computes it again as well
        for n in reversed(range(len(ctx.kept))):
            start = n * call.steps
            place -= ctx.kept[n]
            if block is None:
                with torch.autocast(**call.autocast):
                    block = _Block(call, start, x, saved[place : place + ctx.kept[n]], needs_x)
            grads = block.grads(grad_y[start : start + call.steps], carry, parameters)
            if needs_x:
                first = grads.pop(0)
                grad_x.append(torch.zeros_like(block.x) if first is None else first)
            carry = grads[: ctx.kept[n]]
            for k, grad in enumerate(grads[ctx.kept[n] :]):
                total = totals[k]
                totals[k] = grad if total is None else total if grad is None else total.add_(grad)
            if n:
                carry = call.cut(start, carry)
            block = None
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
