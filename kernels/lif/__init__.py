"""The leaky integrate-and-fire neuron over time, as one operator; ``reference.py`` states the mathematics.

``torch.ops.temporal.lif_forward`` and ``lif_backward`` are opaque to the compiler, so a compiled network costs the same
compile time for any number of steps. The backend is chosen when they run, by :mod:`temporal.kernels`' rule; forward and
backward hand each other nothing but checkpoints of the membrane, so every backend can continue what another began.

A backend is a module of this package with two functions, ``forward`` and ``backward``, of the signatures in
``reference.py``, and an entry in ``_BACKENDS``.
"""

import torch
from torch import Tensor

from .._dispatch import Backends
from ..surrogates import Surrogate

__all__ = ["lif"]

_STEPS_PER_CHECKPOINT = 16  # 1/16 of a membrane is stored for backward, which computes the rest again


def _cpu_refuses(x: Tensor) -> str | None:
    if x.device.type != "cpu":
        return f"needs a CPU tensor, x is on {x.device}"
    return "computes in float32, x is float64" if x.dtype == torch.float64 else None


def _reference_refuses(x: Tensor) -> None:
    return None


_BACKENDS = Backends("lif", __name__, cpu=_cpu_refuses, reference=_reference_refuses)


def lif(
    x: Tensor,
    v: Tensor,
    decay: Tensor,
    gain: Tensor,
    bias: Tensor,
    threshold: Tensor,
    reset: Tensor,
    *,
    hard: bool,
    strict: bool,
    detach_reset: bool,
    surrogate: Surrogate,
    v_sequence: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the neuron over all steps. The caller has checked the arguments (``temporal.neurons.functional``).

    Args:
        x: current [T, B, *features], any strides; float64, float32, bfloat16 or float16.
        v: membrane before the first step [B, *features], float32, or float64 where x is.
        decay, gain, bias, threshold, reset: of v's dtype, each a scalar or broadcast against [*features].
        hard: reset to ``reset``; otherwise subtract it.
        strict: fire above the threshold only, not on it.
        detach_reset: no gradient flows through the spike into the reset.
        surrogate: the slope of the spike in the backward pass.
        v_sequence: also return the membrane after every step; without it that result is empty, and costs nothing.
    Returns:
        spikes [T, B, *features] of x's dtype; membranes after reset [T, B, *features] and the last one [B, *features].
    """
    inputs = (x, v, decay, gain, bias, threshold, reset)
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    every = _STEPS_PER_CHECKPOINT if learns else 0
    rule = (hard, strict, detach_reset, surrogate.name, surrogate.alpha)
    return torch.ops.temporal.lif_forward.default(*inputs, *rule, v_sequence, every)[:3]


def _forward(
    x, v, decay, gain, bias, threshold, reset, hard, strict, detach_reset, surrogate, alpha, v_sequence, every
):
    backend = _BACKENDS.choose(x)
    return backend.forward(x, v, decay, gain, bias, threshold, reset, hard, strict, v_sequence, every)


def _forward_shapes(
    x, v, decay, gain, bias, threshold, reset, hard, strict, detach_reset, surrogate, alpha, v_sequence, every
):
    blocks = (x.shape[0] + every - 1) // every if every else 0
    return (
        x.new_empty(x.shape),
        v.new_empty((x.shape[0] if v_sequence else 0, *v.shape)),
        v.new_empty(v.shape),
        v.new_empty((blocks, *v.shape)),
    )


def _backward(grad_spikes, grad_v_sequence, grad_v_last, x, *rest):
    return _BACKENDS.choose(x).backward(grad_spikes, grad_v_sequence, grad_v_last, x, *rest)


def _backward_shapes(
    grad_spikes, grad_v_sequence, grad_v_last, x, checkpoints, decay, gain, bias, threshold, reset,
    hard, strict, detach_reset, surrogate, alpha, every, needs,
):  # fmt: skip
    parameters = (decay, gain, bias, threshold, reset)
    grads = [p.new_empty(p.shape if needed else 0) for p, needed in zip(parameters, needs, strict=True)]
    return x.new_empty(x.shape), checkpoints.new_empty(x.shape[1:]), *grads


def _keep(ctx, inputs, output):
    x, _, *parameters, hard, strict, detach_reset, surrogate, alpha, v_sequence, every = inputs
    ctx.set_materialize_grads(False)  # an output that nobody used costs no tensor of zeros
    ctx.save_for_backward(x, output[3], *parameters)
    ctx.rule = (hard, strict, detach_reset, surrogate, alpha, every)
    ctx.v_sequence = v_sequence


def _differentiate(ctx, grad_spikes, grad_v_sequence, grad_v_last, _):
    x, checkpoints, *parameters = ctx.saved_tensors
    every = ctx.rule[-1]
    if not every:
        raise RuntimeError("temporal::lif_forward: every=0 keeps nothing for a backward pass; give every >= 1")
    if not ctx.v_sequence:
        grad_v_sequence = None  # of an output without elements
    needs = ctx.needs_input_grad[2:7]
    grad_x, grad_v, *grads = torch.ops.temporal.lif_backward.default(
        grad_spikes, grad_v_sequence, grad_v_last, x, checkpoints, *parameters, *ctx.rule, needs
    )
    grads = [grad if needed else None for grad, needed in zip(grads, needs, strict=True)]
    return grad_x, grad_v, *grads, *[None] * 7


def _refuse_second_derivative(ctx, *grads):
    raise RuntimeError(
        "lif: a surrogate gradient has no derivative of its own (double backward); detach the first gradient, or call "
        "autograd.grad without create_graph"
    )


def _register() -> torch.library.Library:
    knobs = "Tensor decay, Tensor gain, Tensor bias, Tensor threshold, Tensor reset, bool hard, bool strict"
    slope = "bool detach_reset, str surrogate, float alpha"
    library = torch.library.Library("temporal", "FRAGMENT")
    forward = f"lif_forward(Tensor x, Tensor v, {knobs}, {slope}, bool v_sequence, int every) -> {_tensors(4)}"
    grads = "Tensor? grad_spikes, Tensor? grad_v_sequence, Tensor? grad_v_last"
    saved = f"Tensor x, Tensor checkpoints, {knobs}, {slope}, int every"
    backward = f"lif_backward({grads}, {saved}, bool[] needs) -> {_tensors(7)}"
    for schema, run, shapes, autograd, keep in (
        (forward, _forward, _forward_shapes, _differentiate, _keep),
        (backward, _backward, _backward_shapes, _refuse_second_derivative, None),
    ):
        name = f"temporal::{schema.partition('(')[0]}"
        library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        library.impl(name, run, "CompositeExplicitAutograd")
        torch.library.register_fake(name, shapes, lib=library)
        torch.library.register_autograd(name, autograd, setup_context=keep, lib=library)
    return library


def _tensors(count: int) -> str:
    return f"({', '.join(['Tensor'] * count)})"


_LIBRARY = _register()  # the operators live as long as this
