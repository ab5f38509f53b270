"""Layers of dcls, and networks of the repository SNN-delays that trains them, from their weights."""

from __future__ import annotations

import math
import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from temporal.delays import DelayedLinear
from temporal.layers import BatchNorm, Dropout, Sequential
from temporal.neurons import LI, LIF, ParametricLIF

__all__ = ["from_dcls", "from_snn_delays"]

_VERSIONS = ("gauss", "max", "v1")


def from_dcls(
    source: nn.Module | Mapping[str, Tensor], *, taps: int | None = None, version: str | None = None, prefix: str = ""
) -> DelayedLinear:
    """A `DelayedLinear` with the weights, delays and width of a trained `Dcls1d`.

    delay = taps - 1 - taps // 2 - P,   sigma = |SIG| + 0.27 ("gauss"), (1 + |SIG|) / sqrt(6) ("max", SIG = 0 for "v1")

    so that the layer's output equals `dcls(pad(x, (taps - 1, 0)))`. Where dcls errs, this does not follow: with an even
    number of taps its positions reach one tap beyond the end, where the synapse vanishes ("v1", "max"); here such a delay
    is the nearest one that exists, 0.

    Args:
        source: a `Dcls1d` module, or its state dict.
        taps: its `dilated_kernel_size`; a module knows it.
        version: "gauss", "max" or "v1"; a module knows it; of a state dict "gauss" is taken where there is a SIG, else "v1".
        prefix: of the layer's names in the state dict, such as "model.0.".

    Returns:
        The layer, with max_delay = taps - 1, one delay a synapse and as many synapses a pair as dcls had (`kernel_count`).

    Raises:
        KeyError: a state dict without `weight` and `P` under the prefix.
        ValueError: shapes that do not fit, groups, positions that leave the range, widths that differ among synapses, a
            version that has no equal here ("v0").
        TypeError: a source that is neither.

    References:
        Khalfaoui-Hassani, Pellegrini, Masquelier, "Dilated convolution with learnable spacings", ICLR 2023; dcls 0.1.1.

    Example:
        >>> import torch
        >>> state = {"weight": torch.ones(2, 3, 1), "P": torch.full((1, 2, 3, 1), -2.0), "SIG": torch.zeros(1, 2, 3, 1)}
        >>> layer = from_dcls(state, taps=9)
        >>> layer.max_delay, layer.delay[0, 0].item(), round(layer.sigma.item(), 2)
        (8, 6.0, 0.27)
    """
    if isinstance(source, nn.Module):
        taps = taps if taps is not None else _size(getattr(source, "dilated_kernel_size", None))
        version = version if version is not None else getattr(source, "version", None)
        state: Mapping[str, Tensor] = source.state_dict()
    elif isinstance(source, Mapping):
        state = source
    else:
        raise TypeError(f"from_dcls: source must be a Dcls1d or its state dict, got {type(source).__name__}")
    weight, positions, widths = _tensors(state, prefix)
    if taps is None:
        raise ValueError("from_dcls: taps, the layer's dilated_kernel_size, is not in a state dict; give taps=")
    version = version or ("gauss" if widths is not None else "v1")
    if version not in _VERSIONS:
        raise ValueError(f"from_dcls: version={version!r} is not one of {', '.join(map(repr, _VERSIONS))}")
    out, inputs, synapses = weight.shape
    layer = DelayedLinear(
        inputs,
        out,
        taps - 1,
        synapses=synapses,
        kernel="gaussian" if version == "gauss" else "triangle",
        bias=prefix + "bias" in state,
    ).to(weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight if synapses > 1 else weight[:, :, 0])
        delay = _delays(positions[0], taps, prefix)
        layer.delay.copy_(delay if synapses > 1 else delay[:, :, 0])
        if layer.bias is not None:
            layer.bias.copy_(state[prefix + "bias"])
    layer.set_sigma(_sigma(version, widths, prefix))
    return layer


def from_snn_delays(
    source: str | os.PathLike | Mapping[str, Tensor],
    *,
    taps: int,
    tau: float = 2.0,
    dropout: float = 0.0,
    surrogate: str = "atan(5.0)",
    version: str | None = None,
) -> Sequential:
    """The network of a checkpoint of SNN-delays: delays, batch norm, LIF neurons, and a readout that never fires.

    Its state dict numbers all modules in one row: `model.0` is a `Dcls1d`, followed, in hidden layers, by a batch norm (if
    it has one), a neuron and a dropout. What of that has no tensors (time constant, dropout) is not in the file.

    Its layers pad the end of what they get by half the taps, so the sequence grows with every layer; here the input is
    given the steps of all layers at once, `Model(..., tail=layers * (taps // 2))`.

    Args:
        source: the file that `torch.save` wrote, or its state dict. Only tensors are read: no code in it is executed.
        taps: `max_delay` of the configuration, made odd: 25 for SHD, 31 for SSC and GSC.
        tau: membrane time constant in steps, > 1 (`init_tau`): 1.005 for SHD, 1.5 for the others; the neurons that learned
            it ("plif") have their own in the file.
        dropout: its `dropout_p`.
        surrogate: gradient of a spike, for training on.
        version: its `DCLSversion`, "gauss", "max" or "v1"; "gauss" where the file has widths, else "v1".

    Returns:
        [DelayedLinear - BatchNorm - LIF - Dropout] of every hidden layer, DelayedLinear, LI.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be read, or that is of another layout.

    References:
        Hammouamri, Khalfaoui-Hassani, Masquelier, "Learning delays in spiking neural networks using dilated
        convolutions with learnable spacings", ICLR 2024.

    Example:
        >>> import torch
        >>> def dcls(out, inputs):
        ...     return {"weight": torch.zeros(out, inputs, 1), "P": torch.zeros(1, out, inputs, 1)}
        >>> state = {f"model.0.{name}": value for name, value in dcls(4, 3).items()}
        >>> state |= {f"model.3.{name}": value for name, value in dcls(2, 4).items()}
        >>> [type(layer).__name__ for layer in from_snn_delays(state, taps=5)]
        ['DelayedLinear', 'LIF', 'Dropout', 'DelayedLinear', 'LI']
    """
    state = source if isinstance(source, Mapping) else _read(source)
    at = sorted({int(found[1]) for name in state if (found := re.fullmatch(r"model\.(\d+)\.P", name))})
    if not at:
        raise ValueError(
            "from_snn_delays: no layer with delays: names like 'model.0.P' are right, these are "
            f"{', '.join(sorted(map(str, state))[:4]) or 'none'}"
        )
    network, width = Sequential(), 0
    for number, after in zip(at, [*at[1:], None], strict=True):
        layer = from_dcls(state, taps=taps, version=version, prefix=f"model.{number}.")
        if len(network) and layer.in_features != width:
            raise ValueError(
                f"from_snn_delays: model.{number} has {layer.in_features} inputs, the layer before {width}"
            )
        network.append(layer)
        width = layer.out_features
        if (norm := _batch_norm(state, f"model.{number + 1}.", width)) is not None:
            network.append(norm.to(layer.weight.dtype))
        learned = _time_constant(state, range(number + 1, number + 3 if after is None else after))
        if after is None:
            network.append(LI(tau if learned is None else learned))
        else:
            network.append(
                LIF(tau, surrogate=surrogate) if learned is None else ParametricLIF(learned, surrogate=surrogate)
            )
            network.append(Dropout(dropout))
    return network.to(layer.weight.dtype)


def _read(file: str | os.PathLike) -> Mapping[str, Tensor]:
    if not os.path.isfile(file):
        raise FileNotFoundError(f"{os.fspath(file)}: no such file")
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{os.fspath(file)}: not a file of tensors ({reason})") from None
    if not isinstance(stored, Mapping):
        raise ValueError(f"{os.fspath(file)}: holds {type(stored).__name__}; a state dict is right")
    return stored


def _tensors(state: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor, Tensor | None]:
    missing = [prefix + name for name in ("weight", "P") if not isinstance(state.get(prefix + name), Tensor)]
    if missing:
        raise KeyError(f"from_dcls: the state dict has no {' and no '.join(missing)}; a Dcls1d has weight, P and SIG")
    weight, positions, widths = state[prefix + "weight"], state[prefix + "P"], state.get(prefix + "SIG")
    for name, tensor in (("P", positions), ("SIG", widths)):
        if tensor is not None and (weight.ndim != 3 or tensor.shape != (1, *weight.shape)):
            raise ValueError(
                f"from_dcls: {prefix}{name} has shape {list(tensor.shape)}; for {prefix}weight {list(weight.shape)} of a "
                f"Dcls1d [1, out, in, synapses] is right"
            )
        if tensor is not None and not torch.isfinite(tensor).all():
            raise ValueError(f"from_dcls: {prefix}{name} holds NaN or infinite values")
    return weight, positions, widths


def _delays(positions: Tensor, taps: int, prefix: str) -> Tensor:
    """Centred positions as delays in steps; with an even number of taps the last position lies beyond the first step."""
    largest = taps // 2
    worst = positions.abs().max().item() if positions.numel() else 0.0
    if worst > largest + 1e-6:
        raise ValueError(f"from_dcls: {prefix}P reaches {worst:g}; {taps} taps allow -{largest} .. {largest}")
    return (taps - 1 - largest - positions).clamp(0, taps - 1)


def _sigma(version: str, widths: Tensor | None, prefix: str) -> float:
    if version == "v1" or widths is None:
        return 1 / math.sqrt(6)
    low, high = widths.abs().min().item(), widths.abs().max().item()
    if high - low > 1e-6 * max(1.0, high):
        raise ValueError(
            f"from_dcls: {prefix}SIG runs from {low:g} to {high:g} among the synapses; DelayedLinear has one width, so "
            "only a layer with one is taken over"
        )
    return high + 0.27 if version == "gauss" else (1 + high) / math.sqrt(6)


def _batch_norm(state: Mapping[str, Tensor], prefix: str, features: int) -> BatchNorm | None:
    names = ("weight", "bias", "running_mean", "running_var")
    if prefix + "running_mean" not in state:
        return None
    norm = BatchNorm(features)
    with torch.no_grad():
        for name in names:
            value, own = state.get(prefix + name), getattr(norm, name)
            if value is None or value.shape != own.shape:
                came = "nothing" if value is None else f"shape {list(value.shape)}"
                raise ValueError(f"from_snn_delays: {prefix}{name}: {came}; [{features}] is right")
            own.copy_(value)
    return norm


def _time_constant(state: Mapping[str, Tensor], places: range) -> float | None:
    """What a ParametricLIFNode of SpikingJelly learned: 1/tau = sigmoid(w)."""
    for place in places:
        value = state.get(f"model.{place}.w")
        if value is not None:
            return 1 / float(value.double().sigmoid())
    return None


def _size(value: Any) -> int | None:
    if value is None:
        raise TypeError("from_dcls: source has no dilated_kernel_size: is it a Dcls1d?")
    sizes = value if isinstance(value, (tuple, list)) else (value,)
    if len(sizes) != 1:
        raise ValueError(f"from_dcls: dilated_kernel_size={tuple(sizes)} has {len(sizes)} axes; a Dcls1d has one")
    return int(sizes[0])
