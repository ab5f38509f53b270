"""A neuron with several states over time as one torch operator: its schema, fake kernel and autograd.

``torch.ops.temporal.NAME_forward`` and ``NAME_backward`` are opaque to the compiler, as lif's are, and hand each other
nothing but checkpoints of the states. They take tensors one by one; backends get them in groups, named by the neuron.
"""

from typing import Any

import torch
from torch import Tensor

from ._dispatch import Backends
from .surrogates import Surrogate

__all__ = ["NeuronOperator"]

_STEPS_PER_CHECKPOINT = 16  # 1/16 of the states is stored for backward, which computes the rest again


class NeuronOperator:
    """The operator of one kind of neuron.

    A backend is a module with two functions, where ``state`` and ``knobs`` are instances of the two types:

        forward(x, state, knobs, hard, strict, v_sequence, every) -> spikes, v_sequence, last state, checkpoints
        backward(grad_spikes, grad_v_sequence, grad_last, x, checkpoints, knobs, hard, strict, detach_reset, surrogate,
                 alpha, every, needs) -> grad x, grad state, grad knobs

    Args:
        name: of the operator.
        state, knobs: NamedTuples of tensors. ``v``, the membrane, is the first of the state; the shape of every other
            ends with v's.
        backends: what runs it.
    """

    def __init__(self, name: str, state: type[tuple], knobs: type[tuple], backends: Backends):
        self.name = name
        self.state = state
        self.knobs = knobs
        self.backends = backends
        self.states: int = len(state._fields)  # type: ignore[attr-defined]
        self.inputs: int = 1 + self.states + len(knobs._fields)  # type: ignore[attr-defined]
        self.library = self._register()  # the operators live as long as this
        self.run = getattr(torch.ops.temporal, f"{name}_forward").default
        self.run_backward = getattr(torch.ops.temporal, f"{name}_backward").default

    def __call__(
        self,
        x: Tensor,
        state: Any,
        knobs: Any,
        *,
        hard: bool,
        strict: bool,
        detach_reset: bool,
        surrogate: Surrogate,
        v_sequence: bool,
    ) -> tuple[Tensor, Tensor, Any]:
        """Run the neuron over all steps. The caller has checked the arguments.

        Args:
            x: current [T, B, *features], any strides; float64, float32, bfloat16 or float16.
            state: before the first step, float32, or float64 where x is.
            knobs: of the state's dtype, each a scalar or broadcast against [*features].
            hard, strict, detach_reset, surrogate, v_sequence: as for ``temporal.kernels.lif.lif``.
        Returns:
            spikes [T, B, *features] of x's dtype; membranes after reset [T, B, *features], or nothing [0, B, *features];
            the last state.
        """
        inputs = (x, *state, *knobs)
        learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        every = _STEPS_PER_CHECKPOINT if learns else 0
        rule = (hard, strict, detach_reset, surrogate.name, surrogate.alpha)
        spikes, membranes, *rest = self.run(*inputs, *rule, v_sequence, every)
        return spikes, membranes, self.state(*rest[: self.states])

    def _forward(self, *arguments):
        x, *tensors = arguments[: self.inputs]
        hard, strict, _, _, _, v_sequence, every = arguments[self.inputs :]
        state, knobs = self.state(*tensors[: self.states]), self.knobs(*tensors[self.states :])
        run = self.backends.choose(x).forward
        spikes, membranes, last, checkpoints = run(x, state, knobs, hard, strict, v_sequence, every)
        return spikes, membranes, *last, *checkpoints

    def _forward_shapes(self, *arguments):
        x, *state = arguments[: 1 + self.states]
        *_, v_sequence, every = arguments
        blocks = (x.shape[0] + every - 1) // every if every else 0
        return (
            x.new_empty(x.shape),
            state[0].new_empty((x.shape[0] if v_sequence else 0, *x.shape[1:])),
            *(s.new_empty(s.shape) for s in state),
            *(s.new_empty((blocks, *s.shape)) for s in state),
        )

    def _backward(self, grad_spikes, grad_v_sequence, *arguments):
        grad_last, (x, *rest) = self.state(*arguments[: self.states]), arguments[self.states :]
        checkpoints = self.state(*rest[: self.states])
        knobs, rule = self.knobs(*rest[self.states : self.inputs - 1]), rest[self.inputs - 1 :]
        run = self.backends.choose(x).backward
        grad_x, state, knobs = run(grad_spikes, grad_v_sequence, grad_last, x, checkpoints, knobs, *rule)
        return grad_x, *state, *knobs

    def _backward_shapes(self, grad_spikes, grad_v_sequence, *arguments):
        x, *rest = arguments[self.states :]
        checkpoints, knobs = rest[: self.states], rest[self.states : self.inputs - 1]
        grads = [k.new_empty(k.shape if needed else 0) for k, needed in zip(knobs, rest[-1], strict=True)]
        return x.new_empty(x.shape), *(c.new_empty(c.shape[1:]) for c in checkpoints), *grads

    def _keep(self, ctx, inputs, output):
        ctx.set_materialize_grads(False)  # an output that nobody used costs no tensor of zeros
        knobs = inputs[1 + self.states : self.inputs]
        ctx.save_for_backward(inputs[0], *output[2 + self.states :], *knobs)
        *rule, ctx.v_sequence, every = inputs[self.inputs :]
        ctx.rule = (*rule, every)

    def _differentiate(self, ctx, grad_spikes, grad_v_sequence, *grads):
        if not ctx.rule[-1]:
            raise RuntimeError(
                f"temporal::{self.name}_forward: every=0 keeps nothing for a backward pass; give every >= 1"
            )
        if not ctx.v_sequence:
            grad_v_sequence = None  # of an output without elements
        needs = ctx.needs_input_grad[1 + self.states : self.inputs]
        saved = (*ctx.saved_tensors, *ctx.rule, needs)
        results = self.run_backward(grad_spikes, grad_v_sequence, *grads[: self.states], *saved)
        first = 1 + self.states
        knobs = [grad if needed else None for grad, needed in zip(results[first:], needs, strict=True)]
        return *results[:first], *knobs, *[None] * 7

    def _refuse_second_derivative(self, ctx, *grads):
        raise RuntimeError(
            f"{self.name}: a surrogate gradient has no derivative of its own (double backward); detach the first "
            "gradient, or call autograd.grad without create_graph"
        )

    def _register(self) -> torch.library.Library:
        state, knobs = self.state._fields, self.knobs._fields  # type: ignore[attr-defined]
        rule = "bool hard, bool strict, bool detach_reset, str surrogate, float alpha"
        of_knobs = ", ".join(f"Tensor {name}" for name in knobs)
        of_state = ", ".join(f"Tensor {name}" for name in state)
        grads = ", ".join(f"Tensor? grad_{name}" for name in ("spikes", "v_sequence", *state))
        saved = ", ".join(f"Tensor {name}_checkpoints" for name in state)
        forward = f"forward(Tensor x, {of_state}, {of_knobs}, {rule}, bool v_sequence, int every) -> "
        backward = f"backward({grads}, Tensor x, {saved}, {of_knobs}, {rule}, int every, bool[] needs) -> "
        library = torch.library.Library("temporal", "FRAGMENT")
        for schema, results, run, shapes, autograd, keep in (
            (forward, 2 + 2 * len(state), self._forward, self._forward_shapes, self._differentiate, self._keep),
            (backward, self.inputs, self._backward, self._backward_shapes, self._refuse_second_derivative, None),
        ):
            schema = f"{self.name}_{schema}({', '.join(['Tensor'] * results)})"
            name = f"temporal::{schema.partition('(')[0]}"
            library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
            library.impl(name, run, "CompositeExplicitAutograd")
            torch.library.register_fake(name, shapes, lib=library)
            torch.library.register_autograd(name, autograd, setup_context=keep, lib=library)
        return library
