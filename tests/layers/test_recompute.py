"""Layers that are computed again in the backward pass, against the same layers that keep what they need."""

import itertools

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import temporal
from temporal.delays import DelayedLinear
from temporal.layers import _recompute
from temporal.neurons import ALIF, LI, LIF, CubaLIF, Recurrent

STEPS = 2 * _recompute._STEPS + 30  # two whole blocks and a part
# float64; sums over time are added up block by block.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}


def network(memory, truncate=None, seed=1, dtype=torch.float64):
    torch.manual_seed(seed)
    return temporal.Sequential(
        nn.Linear(6, 8),
        LIF(3.0, memory=memory, truncate=truncate),
        DelayedLinear(8, 8, 5),
        Recurrent(ALIF(memory=memory), 8),
        nn.Linear(8, 5),
        CubaLIF(memory=memory, size=5, trainable=("tau",)),
        LI(3.0),
    ).to(dtype)


def currents(steps=STEPS, dtype=torch.float64):
    return (torch.randn(steps, 3, 6, generator=torch.Generator().manual_seed(3), dtype=dtype) * 3).requires_grad_()


def tensors(state):
    return [leaf for leaf in pytree.tree_leaves(state) if leaf is not None]


def results(net, x, state=None, lengths=None):
    """Everything that comes out, and the gradient of a mixture of all of it for everything that goes in."""
    y, end = net(x, state, lengths)
    loss = (y * torch.arange(y.numel()).view_as(y).cos()).sum() + sum(t.sin().sum() for t in tensors(end))
    return [y, *tensors(end)], torch.autograd.grad(
        loss, [x, *net.parameters(), *tensors(state)], materialize_grads=True
    )


def assert_same(make, *arguments):
    saved, again = (results(make(memory), *arguments) for memory in ("save", "recompute"))
    torch.testing.assert_close(again[0], saved[0], rtol=0, atol=0)
    torch.testing.assert_close(again[1], saved[1], **CLOSE)
    assert saved[1][0].abs().sum() > 0


@pytest.mark.parametrize("lengths", [None, torch.tensor([STEPS, 40, 0])], ids=["whole", "lengths"])
@pytest.mark.parametrize("truncate", [None, 32, 50, 300])
@pytest.mark.parametrize("steps", [1, _recompute._STEPS, STEPS])
def test_equals_what_is_saved(steps, truncate, lengths):
    lengths = None if lengths is None else lengths.clamp(max=steps)
    assert_same(lambda memory: network(memory, truncate), currents(steps), None, lengths)


def test_from_a_state_with_gradients():
    _, state = network("save")(currents(20))
    state = pytree.tree_map(lambda t: t if t is None else t.detach().requires_grad_(), state)
    assert_same(network, currents(), state)


def test_no_step_leaves_the_state_as_it_is():
    _, state = network("save")(currents(20))
    state = pytree.tree_map(lambda t: t if t is None else t.detach().requires_grad_(), state)
    y, end = network("recompute")(currents(0), state)
    assert y.shape == (0, 3, 5)
    for before, after in zip(tensors(state), tensors(end), strict=True):
        assert torch.equal(before, after) and (before.numel() == 0 or before.data_ptr() != after.data_ptr())


def kept_elements(net, x):
    """Numbers that wait for the backward pass, those of x and of the parameters aside."""
    known = {t.untyped_storage().data_ptr() for t in (x, *net.parameters())}
    kept = {}

    def pack(t):
        storage = t.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes() // t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y, _ = net(x)
    y.sum().backward()
    return sum(kept.values())


def test_what_is_kept_hardly_grows_with_the_steps():
    def net(memory):
        return temporal.Sequential(nn.Linear(6, 8), LIF(memory=memory), nn.Linear(8, 8), LIF(memory=memory))

    def kept(memory, blocks):
        return kept_elements(net(memory), currents(blocks * _recompute._STEPS, torch.float32))

    states = 2 * 3 * 8  # of two layers, at the start of each block
    assert kept("recompute", 7) - kept("recompute", 3) <= 4 * states
    assert kept("save", 7) - kept("save", 3) > 4 * 100 * states


def test_a_graph_that_is_used_twice():
    x, net = currents(), network("recompute")
    y, _ = net(x)
    first, second = (torch.autograd.grad(y.sum(), [x, *net.parameters()], retain_graph=True) for _ in range(2))
    torch.testing.assert_close(first, second, **CLOSE)


def test_batch_norm_and_dropout_in_training_and_hooks_stand_between():
    def parts(*middle, training=True):
        layers = [nn.Linear(4, 4), *middle, nn.Linear(4, 4), LIF(memory="recompute")]
        net = temporal.Sequential(*layers).train(training)
        return [tuple(chain) for chain in _recompute.chains(list(net), net._roles)]

    whole = [(0, 4, _recompute._STEPS)]
    apart = [(0, 2, 0), (2, 4, _recompute._STEPS)]
    for layer in (temporal.BatchNorm(4), temporal.Dropout(0.5), nn.Dropout(0.5)):
        # A layer without a rule for pieces stays out when it does nothing, too: only what is known is taken apart.
        assert parts(layer) in ([(0, 1, 0), (1, 2, 0), (2, 4, _recompute._STEPS)], apart), layer
    assert parts(nn.ReLU()) == whole
    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda *_: None)
    assert parts(hooked) != whole
    with torch.no_grad():
        assert parts(nn.ReLU()) == [(0, 4, 0)]


def test_a_neuron_alone_is_left_to_its_kernel():
    net = temporal.Sequential(LIF(memory="recompute"), LI())
    assert [tuple(c) for c in _recompute.chains(list(net), net._roles)] == [(0, 1, 0), (1, 2, 0)]


def test_truncations_that_no_block_can_hold():
    layers = [nn.Linear(4, 4), LIF(memory="recompute", truncate=1000), LIF(memory="recompute", truncate=999)]
    net = temporal.Sequential(*layers)
    assert [tuple(c) for c in _recompute.chains(layers, net._roles)] == [(0, 3, 0)]
    assert_same(lambda memory: network(memory, truncate=333), currents(700))


def test_autocast_is_entered_again():
    x = torch.randn(STEPS, 3, 6, requires_grad=True)
    for memory in ("save", "recompute"):
        net = network(memory, dtype=torch.float32)[:2]
        with torch.autocast("cpu", torch.bfloat16):
            y, _ = net(x)
        assert y.dtype == torch.bfloat16
        y.float().sum().backward()  # outside of it
        if memory == "save":
            saved = net[0].weight.grad
        else:
            # Each block's weight gradient is rounded to bfloat16 (2^-8 of it) before the sum.
            torch.testing.assert_close(net[0].weight.grad, saved, rtol=0.02, atol=0.02 * saved.abs().max().item())


def test_streams_in_chunks_with_gradients_across():
    net, x = network("recompute"), currents(STEPS)
    whole = results(net, x)
    state, parts = None, []
    for start, stop in itertools.pairwise([0, 1, 270, 271, STEPS]):
        y, state = net(x[start:stop], state)
        parts.append(y)
    y = torch.cat(parts)
    loss = (y * torch.arange(y.numel()).view_as(y).cos()).sum() + sum(t.sin().sum() for t in tensors(state))
    torch.testing.assert_close([y, *tensors(state)], whole[0], **CLOSE)
    torch.testing.assert_close(torch.autograd.grad(loss, [x, *net.parameters()]), whole[1], **CLOSE)


def test_second_derivative_is_refused():
    x = currents(10)
    y, _ = network("recompute")(x)
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("memory", ["keep", None])
def test_refuses_an_unknown_way(memory):
    with pytest.raises(ValueError, match=rf"LIF: memory={memory!r} is unknown; known: 'save', 'recompute'"):
        LIF(memory=memory)
