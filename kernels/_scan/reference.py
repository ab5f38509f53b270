"""A family's equations over time, in plain torch: the specification of every other backend.

Nothing is kept for the backward pass but x and the state before every ``every``-th step; the steps in between are computed
again. The work is linear in the number of steps (tensors are unbound once, never indexed under autograd).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..surrogates import Surrogate
from .family import Family, Feedback, Rule

__all__ = ["Reference"]


class Reference:
    """Forward and backward of one family; also what any other backend's two functions must do.

    Args:
        family: the equations.
    """

    def __init__(self, family: Family):
        self.family = family

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
    ) -> tuple[Tensor, Tensor, Any, Any]:
        """All steps.

        Args:
            x: currents [T, B, *features], any strides.
            state: before the first step, each [B, *features], float32, or float64 where x is.
            knobs: of the state's dtype, each a scalar or broadcast against [*features].
            feedback: recurrent weights and the spikes before the first step, or None; with them, features are [N].
            lengths: steps of each sample [B], or None for T. At later steps nothing fires, the state stays and x is not
                looked at.
            rule: how to fire and to reset.
            v_sequence: whether the membranes are wanted.
            every: 0, or distance between checkpoints in steps.
        Returns:
            spikes [T, B, *features] of x's dtype; membranes after reset, likewise, or [0, B, *features]; the last state; the
            state before every ``every``-th step, each [ceil(T / every), B, *features].
        """
        spikes: list[Tensor] = []
        membranes: list[Tensor] = []
        kept: list[Any] = []
        now = tuple(state)
        for t, (current, live) in enumerate(_steps(x, lengths)):
            if every and t % every == 0:
                kept.append(now)
            if feedback is not None:
                sent = spikes[-1] if spikes else feedback.sent
                current = current + _heard(sent, feedback, live)
            _, fired, after = self._step(knobs, now, current, rule)
            if live is not None:
                fired, after = fired & live, _choose(live, after, now)
            now = after
            spikes.append(fired.to(x.dtype))
            if v_sequence:
                membranes.append(now[0] if live is None else torch.where(live, now[0], 0.0))
        if not spikes:  # no step was taken: an operator's result must not share the memory of its input
            now = tuple(part.clone() for part in now)
        none = now[0][None, ...][:0]
        checkpoints = [_stack([c[k] for c in kept], none) for k in range(len(now))]
        return (
            _stack(spikes, x[:0]), _stack(membranes, none), self.family.state(*now), self.family.state(*checkpoints)
        )  # fmt: skip

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
    ) -> tuple[Tensor, Any, Any, Tensor | None]:
        """Gradients for x, the state before the first step, the knobs where ``needs`` says so, else empty, and ``sent``.

        The gradient of the weights is left to the caller: x's, times the spikes one step earlier.

        Args:
            grad_spikes, grad_v_sequence, grad_last: of what forward returned; None where nothing depends on it.
            checkpoints: what forward kept.
            spikes: with feedback, what forward returned.
            truncate: 0, or k: no gradient flows from step t to t - 1 where k divides t.
        """
        surrogate = Surrogate(rule.surrogate, rule.alpha)
        nothing = checkpoints[0].new_zeros(x.shape[1:])
        carry = tuple(nothing if grad is None else grad for grad in grad_last)
        sums = [nothing.clone() if needed else nothing.new_zeros(0) for needed in needs]
        steps = _steps(x, lengths)
        if feedback is not None and spikes is not None:
            sent = [feedback.sent, *spikes.unbind(0)][: len(steps)]
            steps = [(c + _heard(s, feedback, live), live) for s, (c, live) in zip(sent, steps, strict=True)]
        to_sent = nothing
        grad_x: list[Tensor] = []  # last step first
        for start in reversed(range(0, x.shape[0], every)):
            before = tuple(part[start // every] for part in checkpoints)
            block = self._again(steps[start : start + every], before, knobs, rule)
            for t, (before, trace, fired, current, live) in reversed(list(enumerate(block, start))):
                grad_fired = to_sent if grad_spikes is None else to_sent + grad_spikes[t].to(nothing.dtype)
                grad_after = carry
                if grad_v_sequence is not None:
                    grad_after = (carry[0] + grad_v_sequence[t], *carry[1:])
                if live is not None:  # what comes to a step that was not taken ends there
                    grad_fired, grad_after = torch.where(live, grad_fired, 0.0), _choose(live, grad_after, None)
                slope = surrogate(self.family.distance(knobs, trace))
                to_x, to_before, to_knobs = self.family.back(
                    knobs,
                    before,
                    trace,
                    fired,
                    slope,
                    current,
                    grad_fired,
                    grad_after,
                    rule.hard,
                    not rule.detach_reset,
                )
                if live is not None:
                    to_x, to_knobs = torch.where(live, to_x, 0.0), _choose(live, to_knobs, None)
                    to_before = _choose(live, to_before, carry)
                grad_x.append(to_x.to(x.dtype))
                for total, needed, part in zip(sums, needs, to_knobs, strict=True):
                    if needed:
                        total += part
                if feedback is not None:
                    to_sent = to_x @ feedback.weight
                carry = to_before
                if truncate and t and t % truncate == 0:
                    carry = (nothing,) * len(carry) if live is None else _choose(~live, carry, None)
                    to_sent = nothing
        grads = [s.sum_to_size(k.shape) if needed else s for s, k, needed in zip(sums, knobs, needs, strict=True)]
        carry = tuple(part.clone() if part is nothing or not grad_x else part for part in carry)
        return (
            _stack(grad_x[::-1], x[:0]), self.family.state(*carry), self.family.knobs(*grads),
            None if feedback is None else to_sent.clone(),
        )  # fmt: skip

    def _step(self, knobs: Any, before: Any, current: Tensor, rule: Rule) -> tuple[Any, Tensor, Any]:
        """What the step leaves for backward, who fired, the state after it."""
        trace = self.family.charge(knobs, before, current.to(before[0].dtype))
        distance = self.family.distance(knobs, trace)
        fired = distance > 0 if rule.strict else distance >= 0
        return trace, fired, self.family.settle(knobs, before, trace, fired, rule.hard)

    def _again(self, steps: list, state: Any, knobs: Any, rule: Rule) -> list:
        """The steps of one block, from the state before it."""
        block = []
        for current, live in steps:
            trace, fired, after = self._step(knobs, state, current, rule)
            block.append((state, trace, fired, current.to(state[0].dtype), live))
            state = after if live is None else _choose(live, after, state)
        return block


def _steps(x: Tensor, lengths: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
    """For each step the currents, 0 where a sample has ended, and which samples have not (None: all)."""
    if lengths is None:
        return [(current, None) for current in x.unbind(0)]
    ends = lengths.reshape(-1, *[1] * (x.dim() - 2))
    return [(torch.where(t < ends, current, 0.0), t < ends) for t, current in enumerate(x.unbind(0))]


def _heard(sent: Tensor, feedback: Feedback, live: Tensor | None) -> Tensor:
    """What the neurons hear of their own spikes; nothing where a sample has ended."""
    heard = sent.to(feedback.weight.dtype) @ feedback.weight.t()
    return heard if live is None else torch.where(live, heard, 0.0)


def _choose(live: Tensor, parts: Any, others: Any) -> Any:
    """``parts`` of the samples that go on, and of the rest ``others``, or 0."""
    return tuple(torch.where(live, p, 0.0 if others is None else others[k]) for k, p in enumerate(parts))


def _stack(steps: list[Tensor], none: Tensor) -> Tensor:
    return torch.stack(steps) if steps else none.clone(memory_format=torch.contiguous_format)
