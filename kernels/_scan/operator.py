"""A family of neurons over time as one torch operator: its schema, fake kernel, autograd and choice of backend.

``torch.ops.temporal.NAME_forward`` and ``NAME_backward`` are opaque to the compiler, so a compiled network costs the same
compile time for any number of steps. The backend is chosen when they run, by :mod:`temporal.kernels`' rule; forward and
backward hand each other nothing but checkpoints of the state, so every backend can continue what another began. The
operators take tensors one by one; backends get them in the family's groups.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .._dispatch import Backends
from ..surrogates import Surrogate
from .family import Family, Feedback, Rule

__all__ = ["NeuronOperator", "steps_per_checkpoint"]

_MOST_RECURRENT = 16_384  # neurons: a block of the compiled loops; the weights are a gigabyte
_RULE = "bool hard, bool strict, bool detach_reset, str surrogate, float alpha"
_RULE_SIZE = len(Rule._fields)


def steps_per_checkpoint(family: Family, device_type: str) -> int:
    """1/16 of a state is stored for backward, which computes the rest again; on a GPU that also holds for several states.

    There memory is what limits the speed, and steps are cheap to compute again.
    """
    return 32 if device_type == "cuda" and len(family.state._fields) > 1 else 16  # type: ignore[attr-defined]


class NeuronOperator:
    """The operator of one family.

    A backend is a module of the family's package with two functions, ``forward`` and ``backward``, of the signatures of
    :class:`temporal.kernels._scan.reference.Reference`, and a reason to refuse below.

    Args:
        family: its equations.
        package: where its backends are.
    """

    def __init__(self, family: Family, package: str):
        self.family = family
        self.name = family.name
        self.backends = Backends(family.name, package, cuda=_cuda_refuses, cpu=_cpu_refuses, reference=_takes_anything)
        self.states: int = len(family.state._fields)  # type: ignore[attr-defined]
        self.inputs: int = 1 + self.states + len(family.knobs._fields)  # type: ignore[attr-defined]
        self.library = self._register()  # the operators live as long as this
        self.run = getattr(torch.ops.temporal, f"{self.name}_forward").default
        self.run_backward = getattr(torch.ops.temporal, f"{self.name}_backward").default

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
        feedback: Feedback | None = None,
        lengths: Tensor | None = None,
        truncate: int = 0,
    ) -> tuple[Tensor, Tensor, Any]:
        """Run the neuron over all steps. The caller has checked the arguments (``temporal.neurons.functional``).

        Args:
            x: current [T, B, *features], any strides; float64, float32, bfloat16 or float16.
            state: before the first step, each [B, *features], float32, or float64 where x is.
            knobs: of the state's dtype, each a scalar or broadcast against [*features].
            hard: reset to ``reset``; otherwise subtract it.
            strict: fire above the threshold only, not on it.
            detach_reset: no gradient flows through the spike into the reset.
            surrogate: the slope of the spike in the backward pass.
            v_sequence: also return the membrane after every step; without it that result is empty, and costs nothing.
            feedback: recurrent weights and the spikes before the first step; features must then be [N].
            lengths: steps of each sample, int64 [B]; None is T.
            truncate: 0, or k: no gradient flows from step t to t - 1 where k divides t.
        Returns:
            spikes [T, B, *features] of x's dtype; membranes after reset [T, B, *features], or nothing [0, B, *features];
            the last state.
        """
        inputs = (x, *state, *knobs, *(feedback or (None, None)))
        learns = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs)
        every = steps_per_checkpoint(self.family, x.device.type) if learns else 0
        rule = (hard, strict, detach_reset, surrogate.name, surrogate.alpha)
        spikes, membranes, *rest = self.run(*inputs, lengths, *rule, v_sequence, every, truncate)
        return spikes, membranes, self.family.state(*rest[: self.states])

    def _forward(self, *arguments):
        x, *tensors = arguments[: self.inputs]
        weight, sent, lengths, *rule, v_sequence, every, _ = arguments[self.inputs :]
        state, knobs = self.family.state(*tensors[: self.states]), self.family.knobs(*tensors[self.states :])
        spikes, membranes, last, checkpoints = self.backends.choose(x, weight).forward(
            x, state, knobs, _feedback(weight, sent), lengths, Rule(*rule), v_sequence, every
        )
        return spikes, membranes, *last, *checkpoints

    def _forward_shapes(self, *arguments):
        x, *state = arguments[: 1 + self.states]
        *_, v_sequence, every, _ = arguments
        blocks = (x.shape[0] + every - 1) // every if every else 0
        return (
            x.new_empty(x.shape),
            state[0].new_empty((x.shape[0] if v_sequence else 0, *x.shape[1:])),
            *(s.new_empty(s.shape) for s in state),
            *(s.new_empty((blocks, *s.shape)) for s in state),
        )

    def _backward(self, grad_spikes, grad_v_sequence, *arguments):
        grad_last, (x, *rest) = self.family.state(*arguments[: self.states]), arguments[self.states :]
        checkpoints, knobs = rest[: self.states], rest[self.states : self.inputs - 1]
        weight, sent, spikes, lengths, *rule, every, truncate, needs = rest[self.inputs - 1 :]
        grad_x, state, grad_knobs, grad_sent = self.backends.choose(x, weight).backward(
            grad_spikes, grad_v_sequence, grad_last, x, self.family.state(*checkpoints), self.family.knobs(*knobs),
            _feedback(weight, sent), spikes, lengths, Rule(*rule), every, truncate, needs,
        )  # fmt: skip
        if weight is None:
            return grad_x, *state, *grad_knobs, x.new_empty(0), x.new_empty(0)
        return grad_x, *state, *grad_knobs, _grad_weight(grad_x, spikes, weight, sent), grad_sent

    def _backward_shapes(self, grad_spikes, grad_v_sequence, *arguments):
        x, *rest = arguments[self.states :]
        checkpoints, knobs = rest[: self.states], rest[self.states : self.inputs - 1]
        grads = [k.new_empty(k.shape if needed else 0) for k, needed in zip(knobs, rest[-1], strict=True)]
        feedback = (x if t is None else t for t in rest[self.inputs - 1 : self.inputs + 1])
        grads += [t.new_empty(0 if t is x else t.shape) for t in feedback]
        return x.new_empty(x.shape), *(c.new_empty(c.shape[1:]) for c in checkpoints), *grads

    def _keep(self, ctx, inputs, output):
        ctx.set_materialize_grads(False)  # an output that nobody used costs no tensor of zeros
        knobs = inputs[1 + self.states : self.inputs]
        weight, sent, lengths, *rule, ctx.v_sequence, every, truncate = inputs[self.inputs :]
        spikes = None if weight is None else output[0]
        ctx.save_for_backward(inputs[0], *output[2 + self.states :], *knobs, weight, sent, spikes, lengths)
        ctx.rule = (*rule, every, truncate)

    def _differentiate(self, ctx, grad_spikes, grad_v_sequence, *grads):
        if not ctx.rule[_RULE_SIZE]:
            raise RuntimeError(
                f"temporal::{self.name}_forward: every=0 keeps nothing for a backward pass; give every >= 1"
            )
        if not ctx.v_sequence:
            grad_v_sequence = None  # of an output without elements
        first, last = 1 + self.states, self.inputs
        needs = ctx.needs_input_grad[first:last]
        saved = (*ctx.saved_tensors, *ctx.rule, needs)
        results = self.run_backward(grad_spikes, grad_v_sequence, *grads[: self.states], *saved)
        needs = ctx.needs_input_grad[first : last + 2]
        more = [grad if needed else None for grad, needed in zip(results[first:], needs, strict=True)]
        return *results[:first], *more, *[None] * (4 + _RULE_SIZE)

    def _refuse_second_derivative(self, ctx, *grads):
        raise RuntimeError(
            f"{self.name}: a surrogate gradient has no derivative of its own (double backward); detach the first "
            "gradient, or call autograd.grad without create_graph"
        )

    def _register(self) -> torch.library.Library:
        state, knobs = self.family.state._fields, self.family.knobs._fields  # type: ignore[attr-defined]
        of_knobs = ", ".join(f"Tensor {name}" for name in knobs)
        of_state = ", ".join(f"Tensor {name}" for name in state)
        grads = ", ".join(f"Tensor? grad_{name}" for name in ("spikes", "v_sequence", *state))
        saved = ", ".join(f"Tensor {name}_checkpoints" for name in state)
        inputs = f"{of_knobs}, Tensor? weight, Tensor? sent"
        rule = f"Tensor? lengths, {_RULE}"
        forward = f"forward(Tensor x, {of_state}, {inputs}, {rule}, bool v_sequence, int every, int truncate) -> "
        backward = f"backward({grads}, Tensor x, {saved}, {inputs}, Tensor? spikes, {rule}, int every, int truncate, "
        backward += "bool[] needs) -> "
        library = torch.library.Library("temporal", "FRAGMENT")
        for schema, results, run, shapes, autograd, keep in (
            (forward, 2 + 2 * len(state), self._forward, self._forward_shapes, self._differentiate, self._keep),
            (backward, self.inputs + 2, self._backward, self._backward_shapes, self._refuse_second_derivative, None),
        ):
            schema = f"{self.name}_{schema}({', '.join(['Tensor'] * results)})"
            name = f"temporal::{schema.partition('(')[0]}"
            library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
            library.impl(name, run, "CompositeExplicitAutograd")
            torch.library.register_fake(name, shapes, lib=library)
            torch.library.register_autograd(name, autograd, setup_context=keep, lib=library)
        return library


def _feedback(weight: Tensor | None, sent: Tensor | None) -> Feedback | None:
    return None if weight is None or sent is None else Feedback(weight, sent)


def _grad_weight(grad_x: Tensor, spikes: Tensor, weight: Tensor, sent: Tensor) -> Tensor:
    """The sum over steps and samples of what a neuron's current is to get, times what another had sent a step before."""
    if not grad_x.numel():
        return torch.zeros_like(weight)
    size, dtype = weight.shape[0], weight.dtype
    later, before = grad_x[1:].reshape(-1, size).to(dtype), spikes[:-1].reshape(-1, size).to(dtype)
    return torch.addmm(later.t() @ before, grad_x[0].to(dtype).t(), sent)


def _cuda_refuses(x: Tensor, weight: Tensor | None) -> str | None:
    if x.device.type != "cuda":
        return f"needs a CUDA tensor, x is on {x.device}"
    if x.dtype == torch.float64:
        return "computes in float32, x is float64"
    if weight is not None:
        return "has no recurrent weights"
    return None if find_spec("triton") else "needs the package triton, which is not installed"


def _cpu_refuses(x: Tensor, weight: Tensor | None) -> str | None:
    if x.device.type != "cpu":
        return f"needs a CPU tensor, x is on {x.device}"
    if weight is not None and weight.shape[0] > _MOST_RECURRENT:
        return f"takes up to {_MOST_RECURRENT} recurrent neurons, here are {weight.shape[0]}"
    return "computes in float32, x is float64" if x.dtype == torch.float64 else None


def _takes_anything(x: Tensor, weight: Tensor | None) -> None:
    return None
