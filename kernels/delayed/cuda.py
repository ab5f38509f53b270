"""Only the live taps of every synapse, and shifts of whole neurons, on a GPU: the calls of the kernels in ``_triton.py``.

A multiply-add a synapse, row and live tap, forward, for the inputs' gradient, and for the kernel's, from which weight, delay
and sigma get theirs in closed form. What is loaded serves all live taps of a synapse: one tap is bound by the first-level
cache (at a fourth of the arithmetic's rate), six by the arithmetic. Shifts take all lags, and are bound by memory.
"""

from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from .._launch import Launch, announce
from ._live import gradients, shares
from ._triton import correlate_kernel, gather_kernel, shift_correlate_kernel, shift_kernel

__all__ = [
    "backward",
    "forward",
    "plan_backward",
    "plan_forward",
    "plan_shift",
    "plan_shift_backward",
    "shift",
    "shift_backward",
]

_COUNTS = (1, 2, 3, 4, 6, 8)  # live taps that kernels are compiled for; more are groups of up to 8
_MOST, _STEPS, _LANES, _OUTS = 8, 8, 32, 16
_OPTIONS = {"num_warps": 4, "maxnreg": 255}
_NEURONS = 128
_SHIFT_OPTIONS = {"num_warps": 1, "maxnreg": 255}
_PROGRAMS = 1024  # that keep a GPU busy while sums are divided among them

announce("the delays'", gather_kernel, correlate_kernel, shift_kernel, shift_correlate_kernel)


def forward(history: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, kernel: str, count: int):
    """The currents [T, B, O], with at least `count` live taps a synapse."""
    out, launch = plan_forward(history, weight, delay, sigma, max_delay, kernel, count)
    launch.run(history.device)
    return out.permute(1, 2, 0).contiguous()


def backward(
    grad: Tensor,
    history: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    max_delay: int,
    kernel: str,
    count: int,
    needs: tuple[bool, bool],
):
    """The gradients of history and of (weight, delay, sigma), None where none is needed."""
    rest = (weight, delay, sigma, max_delay, kernel, count)
    of_history, sums, launches = plan_backward(grad, history, *rest, needs)
    for launch in launches:
        launch.run(history.device)
    parameters: tuple[Tensor | None, ...] = (None, None, None)
    if sums is not None:
        first, share = _synapses(delay, sigma, max_delay, kernel, count)
        inputs, synapses = history.shape[2], share.shape[2]
        of_groups = sums.sum(0).view(inputs, synapses, -1, sums.shape[2], weight.shape[0]).permute(4, 0, 1, 2, 3)
        of_taps = _ungrouped(of_groups, share.shape[3])
        given = (_by_pair(weight), _by_pair(delay), sigma, first, share, max_delay, kernel)
        of_weight, of_delay, of_sigma = gradients(of_taps, *given)
        parameters = of_weight.reshape(weight.shape), of_delay.reshape(delay.shape), of_sigma
    return None if of_history is None else of_history.permute(1, 2, 0).contiguous(), parameters


def plan_forward(
    history: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, kernel: str, count: int
) -> tuple[Tensor, Launch]:
    """The currents, [O, T, B], still empty, and the call that fills them."""
    first, share = _synapses(delay, sigma, max_delay, kernel, count)
    value = _grouped(_by_pair(weight).unsqueeze(-1) * share).flatten(2, 3).permute(1, 2, 3, 0)
    shift = (max_delay - _firsts(first, share)).flatten(2).permute(1, 2, 0)
    return _gathered(_rows(history), value, shift, len(history) - max_delay, 0)


def plan_backward(
    grad: Tensor, history: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, kernel: str, count: int,
    needs: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None, list[Launch]]:  # fmt: skip
    """The gradients of the history, [I, max_delay + T, B], and of the taps, [parts, entries, taps, O], and the calls."""
    first, share = _synapses(delay, sigma, max_delay, kernel, count)
    of_history = sums = None
    launches, rows = [], _rows(grad)
    if needs[0]:
        # An input's gradient comes from the steps after it: the same sum, over outputs, with the taps turned round.
        value = _grouped(_by_pair(weight).unsqueeze(-1) * share).flip(4).flatten(2, 3).permute(0, 2, 3, 1)
        shift = _firsts(first, share).flatten(2).permute(0, 2, 1) + (value.shape[2] - 1)
        of_history, launch = _gathered(rows, value, shift, len(history), max_delay)
        launches.append(launch)
    if needs[1]:
        shift = (max_delay - _firsts(first, share)).flatten(2).permute(1, 2, 0)
        sums, launch = _correlated(rows, _rows(history), shift, _group(share.shape[3]))
        launches.append(launch)
    return of_history, sums, launches


def _gathered(source: Tensor, value: Tensor, shift: Tensor, steps: int, offset: int) -> tuple[Tensor, Launch]:
    """Rows of [from, synapses, taps, to] weighted and shifted, [to, steps, B]."""
    (inner, given, batch), (_, synapses, taps, outputs) = source.shape, value.shape
    out = source.new_empty(outputs, steps, batch)
    constants, blocks = _layout(batch, synapses, taps, steps)
    arguments: dict[str, Any] = {
        "out": out, "source": source, "values": value.contiguous(), "shifts": shift.to(torch.int32).contiguous(),
        "outputs": outputs, "entries": inner * synapses, "steps": steps, "given": given, "offset": offset,
    }  # fmt: skip
    return out, Launch(gather_kernel, blocks * triton.cdiv(outputs, _OUTS), arguments, constants, _OPTIONS)


def _correlated(grads: Tensor, source: Tensor, shift: Tensor, taps: int) -> tuple[Tensor, Launch]:
    """The products of rows of gradients and shifted rows of the source, [parts, from synapses, taps, to]."""
    (outputs, steps, batch), (inner, given, _), synapses = grads.shape, source.shape, shift.shape[1]
    constants, blocks = _layout(batch, synapses, taps, steps)
    entries, at_once = inner * synapses, max(1, 2 // taps)
    programs = triton.cdiv(entries, at_once) * triton.cdiv(outputs, _OUTS)
    parts = max(1, min(blocks, _PROGRAMS // programs))
    sums = source.new_empty(parts, entries, taps, outputs)
    arguments: dict[str, Any] = {
        "sums": sums, "grads": grads, "source": source, "shifts": shift.to(torch.int32).contiguous(),
        "outputs": outputs, "entries": entries, "steps": steps, "given": given, "blocks_of_rows": blocks, "parts": parts,
    }  # fmt: skip
    return sums, Launch(correlate_kernel, programs * parts, arguments, constants | {"ENTRIES": at_once}, _OPTIONS)


def _layout(batch: int, synapses: int, taps: int, steps: int) -> tuple[dict[str, Any], int]:
    """What the kernels of synapses know when they are compiled, and how many blocks of rows there are."""
    samples = min(_LANES, triton.next_power_of_2(batch))
    constants = {
        "BATCH": batch,  # known, so that whole rows are read and written in wide accesses
        "SYNAPSES": synapses, "TAPS": taps, "SAMPLES": samples, "LANES": _LANES, "STEPS": _STEPS, "OUTS": _OUTS,
    }  # fmt: skip
    return constants, triton.cdiv(batch, samples) * triton.cdiv(steps, _LANES // samples * _STEPS)


def _synapses(delay: Tensor, sigma: Tensor, max_delay: int, kernel: str, count: int) -> tuple[Tensor, Tensor]:
    return shares(_by_pair(delay), sigma, max_delay, kernel, _compiled_for(count, max_delay))


def _compiled_for(count: int, max_delay: int) -> int:
    """A number of taps, of a few only: each is a compilation."""
    return min(max_delay + 1, next((n for n in _COUNTS if n >= count), triton.cdiv(count, _MOST) * _MOST))


def _group(count: int) -> int:
    """Taps of a group: `count`, or as many groups of equal size as there must be."""
    return triton.cdiv(count, triton.cdiv(count, _MOST))


def _starts(count: int) -> list[int]:
    """Where each group begins. The last one overlaps the one before, rather than reach beyond the window."""
    size = _group(count)
    return [min(start, count - size) for start in range(0, count, size)]


def _grouped(taps: Tensor) -> Tensor:
    """[*, count] -> [*, groups, taps of a group], of which 0 are those that belong to the group before."""
    count, size = taps.shape[-1], _group(taps.shape[-1])
    parts = []
    for number, start in enumerate(_starts(count)):
        part, twice = taps[..., start : start + size], number * size - start
        parts.append(F.pad(part[..., twice:], (twice, 0)) if twice else part)
    return torch.stack(parts, -2)


def _ungrouped(groups: Tensor, count: int) -> Tensor:
    """[*, groups, taps of a group] -> [*, count]."""
    size = groups.shape[-1]
    parts = [groups[..., n, n * size - start :] for n, start in enumerate(_starts(count))]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _firsts(first: Tensor, share: Tensor) -> Tensor:
    """The first lag of each group, [*, groups]."""
    return torch.stack([first + start for start in _starts(share.shape[-1])], -1)


def _by_pair(tensor: Tensor) -> Tensor:
    """[O, I] or [O, I, synapses] -> [O, I, synapses]."""
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(-1)


def _rows(signal: Tensor) -> Tensor:
    """[T, B, N] -> [N, T, B]."""
    return signal.permute(2, 0, 1).contiguous()


# --- whole neurons ---


def shift(history: Tensor, share: Tensor) -> Tensor:
    """``reference.delayed_shift``: each neuron's own signal, spread over its own lags, [T, B, N]."""
    out, launch = plan_shift(history, share)
    launch.run(history.device)
    return out


def shift_backward(grad: Tensor, history: Tensor, share: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """The gradients of history and share; one that is not wanted has no elements."""
    of_history, sums, launches = plan_shift_backward(grad, history, share, needs)
    for launch in launches:
        launch.run(history.device)
    none = grad.new_empty(0)
    return none if of_history is None else of_history, none if sums is None else sums.sum(0).t().contiguous()


def plan_shift(history: Tensor, share: Tensor) -> tuple[Tensor, Launch]:
    """The shifted signals, still empty, and the call that fills them."""
    past = share.shape[1] - 1
    return _shifted(history.contiguous(), share.t().contiguous(), len(history) - past, past)


def plan_shift_backward(
    grad: Tensor, history: Tensor, share: Tensor, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None, list[Launch]]:
    """The gradients of the history and of the shares, [parts, lags, N], and the calls."""
    grad = grad.contiguous()
    (steps, batch, neurons), lags = grad.shape, share.shape[1]
    of_history = sums = None
    launches = []
    if needs[0]:
        # A step's gradient comes from itself and the steps after it: the same sum, with the lags turned round.
        of_history, launch = _shifted(grad, share.flip(1).t().contiguous(), len(history), 0)
        launches.append(launch)
    if needs[1]:
        pieces, blocks = triton.cdiv(steps, _STEPS) * batch, triton.cdiv(neurons, _NEURONS)
        programs = blocks * triton.cdiv(lags, _group(lags))
        parts = max(1, min(pieces, _PROGRAMS // programs))
        sums = grad.new_empty(parts, lags, neurons)
        arguments: dict[str, Any] = {
            "sums": sums, "grads": grad, "source": history.contiguous(), "batch": batch, "steps": steps,
            "given": len(history), "start": lags - 1, "lags": lags, "pieces": pieces, "parts": parts,
        }  # fmt: skip
        constants = {"neurons": neurons, "TAPS": _group(lags), "STEPS": _STEPS, "NEURONS": _NEURONS}
        launches.append(Launch(shift_correlate_kernel, programs * parts, arguments, constants, _SHIFT_OPTIONS))
    return of_history, sums, launches


def _shifted(source: Tensor, values: Tensor, steps: int, start: int) -> tuple[Tensor, Launch]:
    """Of values [lags, N], the first of which meets the step ``start``."""
    (given, batch, neurons), lags = source.shape, len(values)
    out = source.new_empty(steps, batch, neurons)
    arguments: dict[str, Any] = {
        "out": out, "source": source, "values": values, "batch": batch, "steps": steps, "given": given, "start": start,
        "lags": lags,
    }  # fmt: skip
    constants = {
        "neurons": neurons,  # known, so that whole rows are read and written in wide accesses
        "TAPS": _group(lags), "STEPS": _STEPS, "NEURONS": _NEURONS,
    }  # fmt: skip
    programs = triton.cdiv(steps, _STEPS) * batch * triton.cdiv(neurons, _NEURONS)
    return out, Launch(shift_kernel, programs, arguments, constants, _SHIFT_OPTIONS)
