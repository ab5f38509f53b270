"""A list of layers over time, with their states threaded through."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from ._protocol import Role, call, role
from ._recompute import chains, run_chain

# Modules that read axis 1 as channels (or flatten from it): on [T, B, *features] that axis is the batch.
_WRONG_AXIS = {
    nn.modules.batchnorm._NormBase: "temporal.BatchNorm, which counts valid steps only",
    nn.modules.conv._ConvNd: (
        "temporal.convolution.CausalConv1d, or a layer of temporal.delays, to convolve over time "
        "(CausalConv1d.from_conv1d(conv) takes the weights over), or temporal.TimeDistributed(conv) to convolve each step's "
        "features"
    ),
    nn.modules.pooling._MaxPoolNd: "temporal.TimeDistributed(pool)",
    nn.modules.pooling._AvgPoolNd: "temporal.TimeDistributed(pool)",
    nn.modules.pooling._AdaptiveMaxPoolNd: "temporal.TimeDistributed(pool)",
    nn.modules.pooling._AdaptiveAvgPoolNd: "temporal.TimeDistributed(pool)",
    nn.GroupNorm: "temporal.TimeDistributed(norm)",
    nn.Flatten: "temporal.TimeDistributed(nn.Flatten())",
}


class Sequential(nn.Sequential):
    """Layers applied in order to [T, B, *features], stateful and plain ones mixed.

    Behaves like :class:`torch.nn.Sequential` (slices, names, ``OrderedDict``, ``append``), and besides threads the state
    of every layer that has one and hands ``lengths`` to every layer whose ``forward`` names it. Layers of neurons with
    ``memory="recompute"``, and the layers before them that can be, are computed again in the backward pass, block by block
    of steps: memory then hardly depends on the number of steps. What cannot be and stays as it is: batch norm and dropout in
    training, what is no layer by step, layers with hooks; and all of it under ``torch.compile``.

    Shape:
        x: [T, B, *features].  Returns (y [T, B, *features], state), a tuple with one entry a layer (``None`` for a
        layer without memory). ``lengths``: [B], steps.
    Raises:
        TypeError: a layer that would read the batch axis as channels (``nn.BatchNorm*``, ``nn.Conv*``, pooling,
            ``nn.Flatten``), or a recurrent layer of torch.nn with ``batch_first=True`` or ``bidirectional=True``.
        ValueError: a state that is not one entry a layer.

    Example:
        >>> import torch
        >>> from temporal import Sequential
        >>> net = Sequential(torch.nn.Linear(3, 4), torch.nn.GRU(4, 2))
        >>> x = torch.randn(5, 1, 3)
        >>> whole, _ = net(x)
        >>> first, state = net(x[:2])
        >>> rest, _ = net(x[2:], state)
        >>> torch.allclose(whole, torch.cat([first, rest]), atol=1e-6)
        True
    """

    _roles: tuple[Role, ...]

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self._refresh()

    def forward(self, x: Tensor, state: tuple | None = None, lengths: Tensor | None = None) -> tuple[Tensor, tuple]:  # type: ignore[override]
        if state is None:
            state = (None,) * len(self._roles)
        elif not isinstance(state, tuple) or len(state) != len(self._roles):
            got = f"{len(state)} entries" if isinstance(state, tuple) else type(state).__name__
            raise ValueError(f"Sequential: state must be a tuple of {len(self._roles)} entries, one a layer, got {got}")
        layers = tuple(self._modules.values())
        if not any(getattr(layer, "memory", None) == "recompute" for layer in layers):
            return self._run(slice(None), x, state, lengths)
        states: tuple = ()
        for first, stop, steps in chains(layers, self._roles):  # type: ignore[arg-type]
            run = partial(self._run, slice(first, stop))
            if steps:
                x, new = run_chain(layers[first:stop], steps, run, x, state[first:stop], lengths)  # type: ignore[arg-type]
            else:
                x, new = run(x, state[first:stop], lengths)
            states += new
        return x, states

    def _run(self, part: slice, x: Tensor, state: tuple, lengths: Tensor | None) -> tuple[Tensor, tuple]:
        """Some of the layers, one after the other."""
        states = []
        for layer, layer_role, layer_state in zip(
            tuple(self._modules.values())[part], self._roles[part], state, strict=True
        ):
            x, new = call(layer, x, layer_state, lengths, layer_role)  # type: ignore[arg-type]
            states.append(new)
        return x, tuple(states)

    # nn.Sequential changes its list through these four doors; the roles follow each.

    def add_module(self, name: str, module: nn.Module | None) -> None:
        super().add_module(name, module)
        self._refresh()

    def insert(self, index: int, module: nn.Module) -> "Sequential":
        super().insert(index, module)
        self._refresh()
        return self

    def __setitem__(self, index: int, module: nn.Module) -> None:
        super().__setitem__(index, module)
        self._refresh()

    def __delitem__(self, index: slice | int) -> None:
        super().__delitem__(index)
        self._refresh()

    def _refresh(self) -> None:
        for name, layer in self._modules.items():
            _refuse_wrong_axis(name, layer)
        self._roles = tuple(role(layer) for layer in self._modules.values() if layer is not None)


def _refuse_wrong_axis(name: str, layer: nn.Module | None) -> None:
    if not isinstance(layer, nn.Module):
        raise TypeError(f"Sequential: layer {name} is {type(layer).__name__}, not a module")
    kind = type(layer).__name__
    if isinstance(layer, nn.Sequential) and not isinstance(layer, Sequential):
        for child_name, child in layer.named_children():
            _refuse_wrong_axis(f"{name}.{child_name}", child)
            if role(child).state is not None:
                raise TypeError(
                    f"Sequential: layer {name} is an nn.Sequential that holds {type(child).__name__}, a layer with a "
                    "state, which nn.Sequential cannot thread: use temporal.Sequential inside, too"
                )
    for wrong, right in _WRONG_AXIS.items():
        if isinstance(layer, wrong):
            raise TypeError(f"Sequential: layer {name}, {kind}, would read the batch axis of [T, B, ...]: use {right}")
    if isinstance(layer, nn.RNNBase):
        for option in ("batch_first", "bidirectional"):
            if getattr(layer, option):
                why = "the input is time first" if option == "batch_first" else "the future is not there in a stream"
                raise TypeError(f"Sequential: layer {name}, {kind}({option}=True): {why}: use {option}=False")
