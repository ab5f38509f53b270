"""The networks that have a name, as plain data with a ``build`` method. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import nn

    from temporal.layers import Sequential

__all__ = ["GRU", "DelayedLIF"]

DELAYS = ("learned", "random", "none")
NEURONS = ("lif", "parametric-lif", "adlif", "adlif-euler")
RECURRENT = ("none", "axon", "synapse")
SEVERAL = ("synapse", "axon", "dendrite")  # may have several synapses a pair of neurons


@dataclass(frozen=True, kw_only=True)
class DelayedLIF:
    """Spiking network whose synapses learn their delays.

    layers x [DelayedLinear - BatchNorm - neurons - Dropout], then DelayedLinear - LI

    Args:
        hidden: neurons a hidden layer.
        layers: number of hidden layers.
        max_delay: the longest delay, in steps.
        tau: membrane time constant of the hidden neurons, in steps, > 1.
        readout_tau: time constant of the leaky readout, in steps, > 1.
        surrogate: gradient of a spike, a name of :mod:`temporal.kernels.surrogates`.
        dropout: probability of silencing a hidden neuron for a whole recording.
        per: what has a delay of its own, as for :class:`temporal.delays.DelayedLinear`: "synapse", "axon", "dendrite",
            "additive" or "group".
        kernel: how a delay is spread while it learns: "gaussian", "triangle", "rounded" or "spectral".
        synapses: synapses a pair of neurons, for per="synapse", "axon" or "dendrite"; these share the delays of their axon
            or dendrite, which has as many.
        groups: copies of an axon, for per="group".
        delays: "learned"; "random", whole steps drawn once and kept; or "none": every synapse acts at once. The last two
            are the controls of what learning delays buys.
        neuron: "lif", "parametric-lif" (a time constant a layer is learned), "adlif" (adaptation, symplectic) or
            "adlif-euler".
        tau_max: with a number, each hidden neuron learns a time constant of its own, at first log-uniform in tau ..
            tau_max, > tau.
        adaptation: time constant of an adaptive neuron's adaptation, in steps, > 1; it and its strengths are learned.
        recurrent: delays between the neurons of a hidden layer: "none" (no such synapses), "axon" or "synapse".
        recurrent_min_delay, recurrent_max_delay: the shortest and the longest of these, in steps, >= 1. The steps of the
            shortest run at once: 10 is a tenth of the calls of 1.
    Raises:
        ValueError: by `build`, an unknown name or a number out of range.
    References:
        Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning delays in spiking neural networks using dilated
        convolutions with learnable spacings", 2023.

    Example:
        >>> from temporal.models import DelayedLIF
        >>> net = DelayedLIF(hidden=32, layers=1, max_delay=5).build(inputs=40, classes=10)
        >>> [type(layer).__name__ for layer in net]
        ['DelayedLinear', 'BatchNorm', 'LIF', 'Dropout', 'DelayedLinear', 'LI']
    """

    kind: ClassVar[str] = "delayed-lif"
    hidden: int = 128
    layers: int = 2
    max_delay: int = 24
    tau: float = 2.0
    readout_tau: float = 2.0
    surrogate: str = "atan(5.0)"
    dropout: float = 0.3
    per: str = "synapse"
    kernel: str = "gaussian"
    synapses: int = 1
    groups: int = 4
    delays: str = "learned"
    neuron: str = "lif"
    tau_max: float | None = None
    adaptation: float = 15.0
    recurrent: str = "none"
    recurrent_min_delay: int = 1
    recurrent_max_delay: int = 24

    def build(self, inputs: int, classes: int) -> Sequential:
        from temporal.layers import BatchNorm, Dropout, Sequential
        from temporal.neurons import LI

        self._check()
        net = Sequential()
        for width in [inputs] + [self.hidden] * (self.layers - 1):
            net.append(self._synapses(width, self.hidden))
            net.append(BatchNorm(self.hidden))
            net.append(self._hears(self._neuron()))
            net.append(Dropout(self.dropout))
        net.append(self._synapses(self.hidden, classes))
        net.append(LI(self.readout_tau))
        return net

    @property
    def _kernel(self) -> str:
        """Delays that do not learn are whole steps from the start."""
        return self.kernel if self.delays == "learned" else "rounded"

    def _synapses(self, inputs: int, outputs: int) -> nn.Module:
        from temporal.delays import DelayedLinear

        if self.delays == "none":
            return DelayedLinear(inputs, outputs, 0, kernel="rounded", learn_delays=False)
        more: dict[str, Any] = {"synapses": self.synapses} if self.per in SEVERAL else {}
        more |= {"groups": self.groups} if self.per == "group" else {}
        return DelayedLinear(
            inputs,
            outputs,
            self.max_delay,
            per=self.per,
            kernel=self._kernel,
            learn_delays=self.delays == "learned",
            **more,
        )

    def _neuron(self) -> nn.Module:
        from temporal.neurons import LIF, AdLIF, ParametricLIF

        each = None if self.tau_max is None else self.hidden
        tau = self.tau if self.tau_max is None else self._spread(self.tau, self.tau_max)
        if self.neuron == "lif":
            return LIF(tau, surrogate=self.surrogate, size=each, trainable=("tau",) if each else ())
        if self.neuron == "parametric-lif":
            return ParametricLIF(tau, surrogate=self.surrogate, size=each)
        return AdLIF(
            tau,
            self.adaptation,
            a=0.5,
            b=1.0,
            symplectic=self.neuron == "adlif",
            surrogate=self.surrogate,
            size=self.hidden,
            trainable=("tau", "tau_adaptation", "a", "b"),
        )

    def _hears(self, neuron: nn.Module) -> nn.Module:
        if self.recurrent == "none":
            return neuron
        from temporal.delays import RecurrentDelays

        return RecurrentDelays(
            neuron,
            self.hidden,
            self.recurrent_max_delay,
            min_delay=self.recurrent_min_delay,
            per=self.recurrent,
            kernel=self._kernel,
            gain=0.5,
            learn_delays=self.delays == "learned",
        )

    def _spread(self, low: float, high: float) -> Any:
        import torch

        return low * (high / low) ** torch.rand(self.hidden)

    def _check(self) -> None:
        if self.layers < 1:
            raise ValueError(f"DelayedLIF: layers={self.layers}; at least 1 hidden layer is right")
        for name, allowed in (("delays", DELAYS), ("neuron", NEURONS), ("recurrent", RECURRENT)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"DelayedLIF: {name}={getattr(self, name)!r}; {', '.join(allowed)} are known")
        if self.tau_max is not None and not self.tau_max > self.tau > 1:
            raise ValueError(f"DelayedLIF: tau_max={self.tau_max} must be above tau={self.tau}, and that above 1 step")
        if self.delays == "none" and self.recurrent != "none":
            raise ValueError(
                f"DelayedLIF: recurrent={self.recurrent!r} has delays, which delays='none' leaves out; recurrent='none' "
                "is right"
            )


@dataclass(frozen=True, kw_only=True)
class GRU:
    """The recurrent network that everybody knows, to compare with: gated recurrent units, and a linear readout.

    nn.GRU - Dropout - Linear

    Args:
        hidden: units a layer; two layers of 256 on 40 bands and 40 classes have 0.64 million parameters.
        layers: number of layers.
        dropout: probability of dropping a unit, between the layers a step and after the last for a whole recording.

    Example:
        >>> from temporal.models import GRU
        >>> net = GRU(hidden=256, layers=2).build(inputs=40, classes=40)
        >>> sum(p.numel() for p in net.parameters())
        633896
    """

    kind: ClassVar[str] = "gru"
    hidden: int = 256
    layers: int = 2
    dropout: float = 0.3

    def build(self, inputs: int, classes: int) -> Sequential:
        from torch import nn

        from temporal.layers import Dropout, Sequential

        if self.layers < 1:
            raise ValueError(f"GRU: layers={self.layers}; at least 1 is right")
        between = self.dropout if self.layers > 1 else 0.0  # torch warns about a dropout that has no place
        return Sequential(
            nn.GRU(inputs, self.hidden, self.layers, dropout=between),
            Dropout(self.dropout),
            nn.Linear(self.hidden, classes),
        )
