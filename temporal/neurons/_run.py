"""The checked call of a neuron's operator, in one place for functions and layers."""

from typing import Any, NamedTuple

from torch import Tensor

from temporal.kernels._scan import Feedback, NeuronOperator
from temporal.kernels.surrogates import Surrogate

from ._checks import checked_input, checked_knob, checked_lengths, checked_parts, checked_state, checked_truncate

__all__ = ["Neuron", "resets", "run"]


class Neuron(NamedTuple):
    """What runs: an operator and its settings.

    Args:
        owner: the function or class that asks, for messages.
        operator: which one.
        knobs: its parameters by name.
        hard, strict, detach_reset, surrogate: as the operator's.
        rest: where the membrane starts without a state.
        size: shape of per-neuron values where a layer has one; must fit the features.
        truncate: None, or after how many steps gradients end.
        bare: the state is the membrane alone, not a tuple, and is called so in messages.
    """

    owner: str
    operator: NeuronOperator
    knobs: dict[str, float | Tensor]
    hard: bool = False
    strict: bool = False
    detach_reset: bool = True
    surrogate: Surrogate = Surrogate("triangle")
    rest: float = 0.0
    size: tuple[int, ...] | None = None
    truncate: int | None = None
    bare: str = ""


def run(
    neuron: Neuron,
    x: Tensor,
    state: Any,
    lengths: Tensor | None = None,
    *,
    v_sequence: bool,
    feedback: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Any]:
    """Spikes [T, B, *features], the membrane after every step, or nothing, and the last state.

    ``feedback`` are recurrent weights [N, N] and the spikes before the first step [B, N].
    """
    owner, kind = neuron.owner, neuron.operator.family.state
    dtype = checked_input(owner, x, neuron.size)
    lengths = checked_lengths(owner, lengths, x)
    truncate = checked_truncate(owner, neuron.truncate)
    parts = (state,) if neuron.bare else checked_parts(owner, state, kind)
    fields = (neuron.bare,) if neuron.bare else tuple(f"state.{name}" for name in kind._fields)  # type: ignore[attr-defined]
    rests = (neuron.rest,) + (0.0,) * (len(parts) - 1)
    checked = [
        checked_state(owner, field, part, x, dtype, rest)
        for field, part, rest in zip(fields, parts, rests, strict=True)
    ]
    knobs = {name: checked_knob(owner, name, knob, x, dtype) for name, knob in neuron.knobs.items()}
    spikes, membranes, last = neuron.operator(
        x,
        kind(*checked),
        neuron.operator.family.knobs(**knobs),
        hard=neuron.hard,
        strict=neuron.strict,
        detach_reset=neuron.detach_reset,
        surrogate=neuron.surrogate,
        v_sequence=v_sequence,
        feedback=None if feedback is None else Feedback(*(part.to(dtype) for part in feedback)),
        lengths=lengths,
        truncate=truncate,
    )
    return spikes, membranes, last[0] if neuron.bare else last


def resets(
    owner: str, threshold: float | Tensor, reset_by: float | Tensor | None, reset_to: float | Tensor | None
) -> tuple[bool, float | Tensor]:
    """Whether the reset is hard, and the potential that it leads to, or that it subtracts."""
    if reset_by is not None and reset_to is not None:
        raise ValueError(f"{owner}: give reset_by (soft reset) or reset_to (hard reset), not both")
    if reset_to is not None:
        return True, reset_to
    return False, threshold if reset_by is None else reset_by
