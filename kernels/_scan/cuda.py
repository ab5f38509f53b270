"""A family's equations over time on a GPU: compiled by Triton, fused over all steps.

The same signatures and results as ``reference.py``, but for recurrent weights, which it does not have. Bytes a neuron-step,
float32, as ``cpu.py``'s; spikes can be packed, 32 to a word (benchmarks/KERNELS.md counts them all). 16-bit numbers are read
and written as such; states and sums are float32.

What is read where it lies: a sequence whose rows [B, *features] are contiguous, whatever lies between two steps (a slice of
steps or of the batch, a row expanded over time). Anything else is copied once. A thread reads and writes 16 bytes of a row
at a time (4 neurons, 8 of 16 bits) where the neurons of a batch, the distance of two steps and, with lengths or with a knob
a neuron, the features are multiples of 4 (8); else as many neurons as divide them all, down to 1: right, still coalesced,
with more instructions. Backward in 16 bits takes 4 neurons, 8 bytes, where 8 would not fit its registers (``_fit``).

Nothing waits for the GPU: only knobs that are numbers on the host are looked at.
"""

import math
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
import triton
from torch import Tensor

from .._launch import WARP, Launch, announce
from . import _triton
from .family import Family, Feedback, Rule

__all__ = ["Fused"]

_MOST = 2**31 - 2**16  # neurons of a row: their numbers have 32 bits, also of those that only fill up a program
_PIECE = 16  # steps of the forward pass whose loads are under way together
_SPAN = 8  # the same of the backward pass, at most; where they must be fewer, steps that share a starting point
_REGISTERS = 240  # of 255 a thread, what the estimate below may fill
_FIXED = 36  # registers for addresses and temporaries


announce("the neurons'", _triton.forward_kernel, _triton.backward_kernel)


class Fused:
    """Forward and backward of one family.

    Args:
        family: the equations.
    """

    def __init__(self, family: Family):
        self.family = family
        names = ("CHARGE", "DISTANCE", "SETTLE", "BACK")
        functions = (family.charge, family.distance, family.settle, family.back)
        self.equations = dict(zip(names, map(_on_device, functions), strict=True))

    def forward(
        self,
        x: Tensor,
        state: Any,
        knobs: Any,
        feedback: Feedback | None,
        lengths: Tensor | None,
        rule: Rule,
        v_sequence: bool,
        every: int,
        *,
        packed: bool = False,
    ) -> tuple[Tensor, Tensor, Any, Any]:
        """``Reference.forward``; ``packed`` gives spikes as bits, int32 [T, ceil(B * features / 32)].

        Neuron 32 k + j of the flat [B, *features] is bit j of word k; bits beyond the last neuron are 0.
        """
        _refuse(self.family.name, x, feedback)
        results, launch = self.plan_forward(x, state, knobs, lengths, rule, v_sequence, every, packed=packed)
        if launch is None:  # no step, or no neuron
            for last, first in zip(results[2], state, strict=True):
                last.copy_(first)
        else:
            launch.run(x.device)
        return results

    def backward(
        self,
        grad_spikes: Tensor | None,
        grad_v_sequence: Tensor | None,
        grad_last: Any,
        x: Tensor,
        checkpoints: Any,
        knobs: Any,
        feedback: Feedback | None,
        spikes: Tensor | None,
        lengths: Tensor | None,
        rule: Rule,
        every: int,
        truncate: int,
        needs: Sequence[bool],
    ) -> tuple[Tensor, Any, Any, None]:
        """``Reference.backward``."""
        _refuse(self.family.name, x, feedback)
        (grad_x, grad_state, sums), launch = self.plan_backward(
            grad_spikes, grad_v_sequence, grad_last, x, checkpoints, knobs, lengths, rule, every, truncate, needs
        )
        if launch is None:
            for grad, arrived in zip(grad_state, grad_last, strict=True):
                grad.zero_() if arrived is None else grad.copy_(arrived)
        else:
            launch.run(x.device)
        return grad_x, grad_state, self.family.knobs(*map(_sum_to_knob, sums, knobs, [x.shape[1:]] * len(knobs))), None

    def plan_forward(
        self, x, state, knobs, lengths, rule, v_sequence, every, *, packed=False
    ) -> tuple[tuple[Tensor, Tensor, Any, Any], Launch | None]:
        """The results, still empty, and the call that fills them, if there is anything to do."""
        steps, shape = x.shape[0], x.shape[1:]
        neurons = shape.numel()
        spikes = x.new_empty((steps, -(-neurons // 32)), dtype=torch.int32) if packed else x.new_empty(x.shape)
        membranes = state[0].new_empty((steps if v_sequence else 0, *shape))
        last = self.family.state(*(s.new_empty(shape) for s in state))
        blocks = -(-steps // every) if every else 0
        checkpoints = self.family.state(*(s.new_empty((blocks, *shape)) for s in state))
        results = (spikes, membranes, last, checkpoints)
        if not steps or not neurons:
            return results, None
        x, stride = _rows(x)
        values, kinds = _knobs(knobs, shape[1:])
        unit, full = _unit(x, shape, lengths, kinds, stride)
        arguments = {
            "x": x,
            "state": tuple(s.contiguous() for s in state),
            "knobs": values,
            "lengths": lengths,
            "spikes": spikes.view(torch.uint8) if packed else spikes,
            "v_sequence": membranes if v_sequence else None,
            "last": tuple(last),
            "checkpoints": tuple(checkpoints) if every else None,
            "steps": steps,
            "units": neurons // unit,
            "x_units": stride // unit,
            "features": shape[1:].numel(),
        }
        constants = {
            **{name: self.equations[name] for name in ("CHARGE", "DISTANCE", "SETTLE")},
            "KINDS": kinds,
            "HARD": rule.hard,
            "STRICT": rule.strict,
            "PACKED": packed,
            "EVERY": every,
            "PIECE": _divisor(every, _PIECE) if every else _PIECE,
            "UNIT": unit,
            "BLOCK": full * WARP,
        }
        return results, Launch(_triton.forward_kernel, -(-neurons // (full * WARP)), arguments, constants)

    def plan_backward(
        self, grad_spikes, grad_v_sequence, grad_last, x, checkpoints, knobs, lengths, rule, every, truncate, needs
    ) -> tuple[tuple[Tensor, Any, list], Launch | None]:
        """The results, still empty (of the knobs, what is still to be summed), and the call that fills them."""
        steps, shape = x.shape[0], x.shape[1:]
        neurons = shape.numel()
        grad_x = x.new_empty(x.shape)
        grad_state = self.family.state(*(c.new_empty(shape) for c in checkpoints))
        if not steps or not neurons:
            sums = [c.new_zeros(neurons) if needed else None for c, needed in zip(knobs, needs, strict=True)]
            return (grad_x, grad_state, sums), None
        x, x_stride = _rows(x)
        grad_spikes, s_stride = (None, 0) if grad_spikes is None else _rows(grad_spikes)
        grad_v_sequence, v_stride = (None, 0) if grad_v_sequence is None else _rows(grad_v_sequence)
        values, kinds = _knobs(knobs, shape[1:])
        unit, full = _unit(x, shape, lengths, kinds, x_stride, s_stride, v_stride)
        wanted = tuple(0 if not needed else 1 if k.numel() == 1 else 2 for k, needed in zip(knobs, needs, strict=True))
        full, piece = _fit(full, x.element_size(), len(grad_state), kinds, wanted, grad_v_sequence is not None, every)
        unit = min(unit, full)
        programs = -(-neurons // (full * WARP))
        sums = [None if not w else checkpoints[0].new_empty(programs if w == 1 else neurons) for w in wanted]
        arguments = {
            "grad_spikes": grad_spikes,
            "grad_v_sequence": grad_v_sequence,
            "grad_last": tuple(None if grad is None else grad.contiguous() for grad in grad_last),
            "x": x,
            "checkpoints": tuple(c.contiguous() for c in checkpoints),
            "knobs": values,
            "lengths": lengths,
            "grad_x": grad_x,
            "grad_state": tuple(grad_state),
            "grad_knobs": tuple(sums),
            "steps": steps,
            "units": neurons // unit,
            "x_units": x_stride // unit,
            "s_units": s_stride // unit,
            "v_units": v_stride // unit,
            "features": shape[1:].numel(),
            "truncate": truncate,
            "alpha": float(rule.alpha),
        }
        constants = {
            **self.equations,
            "KINDS": kinds,
            "NEEDS": wanted,
            "HARD": rule.hard,
            "STRICT": rule.strict,
            "ATTACHED": not rule.detach_reset,
            "SURROGATE": rule.surrogate,
            "TRUNCATE": truncate > 0,
            "EVERY": every,
            "SPAN": next(d for d in range(piece, every + 1, piece) if every % d == 0 and d >= min(_SPAN, every)),
            "PIECE": piece,
            "UNIT": unit,
            "BLOCK": full * WARP,
        }
        return (grad_x, grad_state, sums), Launch(_triton.backward_kernel, programs, arguments, constants)


def _refuse(name: str, x: Tensor, feedback: Feedback | None) -> None:
    if feedback is not None:
        raise NotImplementedError(f"{name}: backend 'cuda' has no recurrent weights; use: reference")
    if x.shape[1:].numel() > _MOST:
        raise ValueError(f"{name}: x of shape {list(x.shape)} has {x.shape[1:].numel()} neurons; the most is {_MOST}")


_device_functions: dict[Callable, Any] = {}


def _on_device(function: Any) -> Any:
    """An equation of a family as Triton compiles it, with those that it calls; ``torch.where`` is Triton's there."""
    if function not in _device_functions:
        names = function.__globals__ | {"torch": triton.language}
        for name in function.__code__.co_names:
            if isinstance(called := names.get(name), FunctionType):
                names[name] = _on_device(called)
        _device_functions[function] = triton.jit(FunctionType(function.__code__, names, function.__name__))
    return _device_functions[function]


def _rows(sequence: Tensor) -> tuple[Tensor, int]:
    """A sequence whose rows are contiguous, and the distance of two rows in elements, which the kernels hold in 32 bits."""
    if not sequence[0].is_contiguous() or sequence.stride(0) > _MOST:
        sequence = sequence.contiguous()
    return sequence, sequence.stride(0) if len(sequence) > 1 else sequence.numel()


def _knobs(knobs: Sequence[Tensor], features: torch.Size) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """What the kernels get for each knob, and of which kind it is."""
    values: list[Any] = []
    kinds = []
    for knob in knobs:
        if knob.numel() != 1:
            kinds.append("row")
            values.append(knob.detach().expand(features).contiguous())
        elif knob.dim() == 0 and knob.device.type == "cpu":
            kinds.append("number")
            values.append(knob.item())
        else:
            kinds.append("element")
            values.append(knob.detach())
    return tuple(values), tuple(kinds)


def _unit(x: Tensor, shape: torch.Size, lengths: Tensor | None, kinds: Sequence[str], *strides: int) -> tuple[int, int]:
    """How many neurons a thread reads at a time, and how many would be 16 bytes of x."""
    full = 16 // x.element_size()
    by_feature = lengths is not None or "row" in kinds
    return math.gcd(full, shape.numel(), *strides, shape[1:].numel() if by_feature else 0), full


def _fit(full: int, size: int, states: int, kinds, wanted, membranes: bool, every: int) -> tuple[int, int]:
    """Neurons a thread and steps a piece of the backward kernel, so that all of it fits the registers of a thread.

    The estimate was fitted to what the compiler takes, and the tests of the compiled code watch it. For the whole run, a
    neuron has its knobs, sums with what is on its way to them, state and gradients of the state; a step has the membrane,
    the rest of the state, the gradients of the spike (not yet converted) and of the membrane and, where knobs learn, the
    membrane before and x. Fewer neurons a thread are the last resort, since they make narrower loads.
    """
    learns = any(wanted)

    def registers(unit: int, piece: int) -> int:
        words = unit * size // 4
        whole = kinds.count("element") + unit * (kinds.count("row") + 3 * sum(w > 0 for w in wanted) + 2 * states)
        step = unit * (states + 2 * learns + 2 * membranes) + words
        return _FIXED + whole + piece * step

    for unit in (full, 4):
        for piece in (_SPAN, _SPAN // 2):
            piece = _divisor(every, piece)
            if registers(unit, piece) <= _REGISTERS:
                return unit, piece
    return 4, _divisor(every, 2)


def _divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is not above ``most``."""
    return next(d for d in range(most, 0, -1) if number % d == 0)


def _sum_to_knob(sums: Tensor | None, knob: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of a knob from its addends: one a program, or one a neuron."""
    if sums is None:
        return knob.new_empty(0)
    return sums.sum().reshape(knob.shape) if knob.numel() == 1 else sums.view(shape).sum_to_size(knob.shape)
