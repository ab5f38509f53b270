"""A trained network one step at a time, in microseconds: on events where there are few, as products where there are many."""

import copy
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from temporal.delays import DelayedConv1d, DelayedLinear, RecurrentDelays
from temporal.kernels.delayed import delayed_product
from temporal.kernels.events import engine
from temporal.layers import Model
from temporal.layers._protocol import call, role

from ._dense import Product, pays
from ._flat import Flat, flatten, rebuild
from ._stages import quantised, stages_of

__all__ = ["Runner"]

_ENGINES = ("auto", "dense", "event")
_WEIGHTS = ("float32", "int8")
_EVENTS = 1 << 17  # that a piece of a sequence has at most: bounds the memory, and keeps its lists in the caches
_MEMORY = 100  # steps over which the activity is averaged

Array = TypeVar("Array", Tensor, np.ndarray)


class Runner:
    """Run a network step by step, or in chunks of any length; the answers do not depend on where the chunks are cut.

    Where delays are whole steps and few neurons fire, a network need not multiply: a spike adds its synapses' weights to
    what its targets will receive when their delays have passed. So the time of a step follows the number of spikes, and
    hardly depends on the longest delay. This is the same network: with weights whose sums are exact in float32 (a grid of
    2^-10, partial sums under 16) it fires spike for spike as the layers do, with any others the first difference of a neuron
    lies within 1e-5 of its threshold.

    Inputs may be spikes, counts, or any real numbers: what is not zero is an event with a value. Batch normalisation is
    folded into the weights before it. The runner works on a copy of the network, in evaluation mode; later changes to the
    network do not reach it. It is one signal's, or one batch's: for another call :meth:`reset`.

    Args:
        network: a layer or a ``temporal.Sequential`` of them: ``DelayedLinear`` with rounded delays, ``nn.Linear``,
            ``BatchNorm``, dropout, the neurons of :mod:`temporal.neurons`, and ``Recurrent`` and ``RecurrentDelays`` around
            them.
        engine: "event", float32 on the CPU; "auto", the same, but layers many of whose inputs are active compute a chunk's
            currents as a product, by a measured rule: from about 80 % on with 25 lags of delay, 33 % without delays, and
            never in a single step; "dense", the network's own layers, whatever they are, in their dtype and on their
            device. The states of "auto" and "event" are the same.
        weights: "float32", or "int8" with a scale for each neuron: a quarter of the memory, not for "dense".
        readout: of :mod:`temporal.layers`, whose logits of all steps so far are then in ``logits``.
    Attributes:
        logits: [B, classes], with a readout and after the first step; else None.
        activity: {layer: share of its inputs that were not zero}, over the last hundred steps or so. Empty for "dense".
        quantisation_error: {layer: |w - w_int8| / |w|}, root mean squares over its weights. Empty for "float32".
        steps: taken since the start, or the last reset.
    Raises:
        TypeError: a Model (give its network, and its readout beside it), a layer that the engine does not have.
        ValueError: an unknown engine; int8 weights with "dense"; delays that are no whole steps (the message names
            ``round_()``); batch normalisation in training mode; layers whose sizes do not fit.

    Example:
        >>> import torch, temporal
        >>> from temporal.delays import DelayedLinear
        >>> from temporal.neurons import LI, LIF
        >>> from temporal.streaming import Runner
        >>> hidden, last = DelayedLinear(40, 64, 24).round_(), DelayedLinear(64, 10, 24).round_()
        >>> network = temporal.Sequential(hidden, LIF(), last, LI())
        >>> runner = Runner(network)
        >>> x = (torch.rand(100, 1, 40) < 0.05).float()
        >>> for features in x:
        ...     output = runner.step(features)
        >>> output.shape, bool((output - network(x)[0][-1]).abs().max() < 1e-3)
        (torch.Size([1, 10]), True)
    """

    def __init__(
        self,
        network: nn.Module,
        engine: Literal["auto", "dense", "event"] = "auto",
        *,
        weights: Literal["float32", "int8"] = "float32",
        readout: nn.Module | None = None,
    ) -> None:
        if isinstance(network, Model) or not isinstance(network, nn.Module):
            hint = "Runner(model.network, readout=model.readout)" if isinstance(network, Model) else "an nn.Module"
            raise TypeError(f"Runner: network is {type(network).__name__}; {hint} is right")
        if engine not in _ENGINES:
            raise ValueError(f"Runner: engine={engine!r} is unknown; known: {', '.join(map(repr, _ENGINES))}")
        if weights not in _WEIGHTS:
            raise ValueError(f"Runner: weights={weights!r} is unknown; known: {', '.join(map(repr, _WEIGHTS))}")
        if engine == "dense" and weights != "float32":
            raise ValueError(
                "Runner: weights='int8' is for the event engine, the dense one has the layers' own weights"
            )
        if readout is not None and role(readout).state is None:
            raise TypeError(
                f"Runner: the readout {type(readout).__name__} takes no state, so it cannot go on from a step"
            )
        self.engine, self.weights = engine, weights
        self._readout = copy.deepcopy(readout).eval() if readout is not None else None
        self._runs: Any = _Layers(network) if engine == "dense" else _Stages(network, engine == "auto", weights)
        self.reset()

    @property
    def activity(self) -> dict[str, float]:
        return self._runs.activity()

    @property
    def quantisation_error(self) -> dict[str, float]:
        return dict(self._runs.errors)

    def reset(self) -> None:
        """Start anew, from rest, with a batch of any size."""
        self._runs.reset()
        self._batch: int | None = None
        self._units = 0
        self._readout_state: Any = None
        self.logits: Tensor | None = None
        self.steps = 0

    def step(self, features: Array) -> Array:
        """One step.

        Args:
            features: of this step; a tensor, or an array (then so is the output).
        Shape:
            features: [B, units].  Returns [B, classes], what the network's last layer emits.
        Raises:
            TypeError: neither tensor nor array, or numbers that are not real.
            ValueError: another shape than before, NaN or infinite numbers. The runner is as before then.
        """
        return self._take("step", features, 2)

    def run(self, x: Array) -> Array:
        """All steps of a chunk, which may be none.

        Args:
            x: a tensor, or an array (then so is the output).
        Shape:
            x: [T, B, units].  Returns [T, B, classes].
        Raises:
            TypeError, ValueError: as :meth:`step`.
        """
        return self._take("run", x, 3)

    def state_dict(self) -> Flat:
        """Everything that another runner of the same network needs to go on from here.

        Returns:
            A flat dictionary of tensors and plain numbers, independent of this runner; what `torch.save` makes of it,
            `torch.load(..., weights_only=True)` reads.
        """
        flat: Flat = {"steps": self.steps, "batch": -1 if self._batch is None else self._batch, "units": self._units}
        return flat | flatten("readout", self._readout_state) | flatten(self._runs.key, self._runs.state())

    def load_state_dict(self, state: Mapping[str, Tensor | int | float]) -> None:
        """Go on where the runner that gave ``state`` stopped, with the same answers.

        Raises:
            ValueError: the state of another network, or of the other kind of engine. This runner is unchanged then.
        """
        missing = [name for name in ("batch", "steps", "units") if name not in state]
        if missing:
            raise ValueError(
                f"Runner.load_state_dict: the state has no {', '.join(missing)}: it is no whole state_dict"
            )
        batch = int(state["batch"])
        if batch >= 0 and not any(name.startswith(f"{self._runs.key}.") for name in state):
            raise ValueError(f"Runner.load_state_dict: the state is of the other kind of engine than {self.engine!r}")
        self._runs.load(state, None if batch < 0 else batch)
        self._batch, self._units = None if batch < 0 else batch, int(state["units"])
        readout = rebuild("readout", state, None, same_shape=False, device=torch.device("cpu"))
        self._readout_state, self.logits, self.steps = readout, None, int(state["steps"])
        if readout is not None and self._readout is not None:
            with torch.inference_mode():
                self.logits, _ = self._readout(readout.new_zeros(0, *readout.shape), readout)

    def _take(self, method: str, given: Array, axes: int) -> Array:
        is_array = isinstance(given, np.ndarray)
        x = _checked(method, given, axes, self._runs.dtype)
        if axes == 2:
            x = x[None]
        batch, units = x.shape[1:]
        if self._runs.inputs not in (None, units):
            raise ValueError(f"Runner.{method}: {units} units came, but the network takes {self._runs.inputs}")
        if self._batch not in (None, batch):
            raise ValueError(
                f"Runner.{method}: a batch of {batch} came, but this runner goes on with one of {self._batch}; for another "
                "signal call reset()"
            )
        self._runs.check(method, x)
        y = self._runs.advance(x)
        self._batch, self._units = batch, units
        self.steps += len(x)
        if self._readout is not None:
            with torch.inference_mode():
                outputs = y if isinstance(y, Tensor) else torch.from_numpy(y)
                self.logits, self._readout_state = self._readout(outputs, self._readout_state)
        y = y[0] if axes == 2 else y
        if is_array:
            return y.cpu().numpy() if isinstance(y, Tensor) else y  # type: ignore[return-value]
        return y if isinstance(y, Tensor) else torch.from_numpy(y)  # type: ignore[return-value]


class _Stages:
    """The network as stages of the event engine, some of whose currents may come from products."""

    key, dtype = "events", np.float32

    def __init__(self, network: nn.Module, may_multiply: bool, weights: str):
        named = stages_of(network)
        self.errors: dict[str, float] = {}
        if weights == "int8":
            for name, stage in named.items():
                named[name], self.errors[name] = quantised(stage)
        self._names, self._stages = list(named), list(named.values())
        self.inputs = self._stages[0].inputs
        self._piece = max(1, _EVENTS // max(max(stage.inputs, stage.size) for stage in self._stages))
        self._may_multiply = may_multiply
        self._products: dict[int, Product] = {}
        self._engine: Any = None

    def reset(self) -> None:
        if self._engine is not None:
            self._engine.clear()
        self._activity: np.ndarray | None = None

    def activity(self) -> dict[str, float]:
        return {} if self._activity is None else dict(zip(self._names, self._activity.tolist(), strict=True))

    def check(self, method: str, x: np.ndarray) -> None:
        """Refuse what is not finite."""
        if self._engine is None or self._engine.batch != x.shape[1]:
            self._engine = engine(self._stages, x.shape[1])
        place = self._engine.first_unsound(x)
        if place >= 0:
            step, sample, unit = np.unravel_index(place, x.shape)
            raise ValueError(
                f"Runner.{method}: NaN or infinite at step {step} of the chunk, sample {sample}, unit {unit}; nothing of it "
                "was taken: repair it and give it again"
            )

    def advance(self, x: np.ndarray) -> np.ndarray:
        if len(x) <= self._piece:
            return self._advance(x)
        return np.concatenate([self._advance(x[k : k + self._piece]) for k in range(0, len(x), self._piece)])

    def state(self) -> Any:
        if self._engine is None:  # nothing came yet
            return None
        activity = torch.zeros(0) if self._activity is None else torch.from_numpy(self._activity.copy())
        parts = [tuple(map(torch.from_numpy, stage.values())) for stage in self._engine.state()]
        return (activity, *parts)

    def load(self, flat: Mapping[str, Any], batch: int | None) -> None:
        if batch is None:
            self.reset()
            return
        fresh = engine(self._stages, batch)
        like = fresh.state()
        states = []
        for number, stage in enumerate(like, start=1):
            names = [f"{self.key}.{number}.{k}" for k in range(len(stage))]
            missing = [name for name in names if name not in flat]
            tensors = [flat[name] for name in names if not missing]
            fits = [tuple(t.shape) == part.shape for t, part in zip(tensors, stage.values(), strict=False)]
            if missing or not all(fits):
                raise ValueError(
                    f"Runner.load_state_dict: stage {self._names[number - 1]} does not fit: another network's state"
                )
            states.append({name: tensor.numpy() for name, tensor in zip(stage, tensors, strict=True)})
        if f"{self.key}.{len(like) + 1}.0" in flat:
            raise ValueError(
                f"Runner.load_state_dict: the state has more than {len(like)} stages: another network's state"
            )
        fresh.load(states)
        activity = flat[f"{self.key}.0"].numpy().copy()
        self._engine, self._activity = fresh, activity if len(activity) else None

    def _advance(self, x: np.ndarray) -> np.ndarray:
        steps, batch = x.shape[:2]
        products = self._which_multiply(x) if self._may_multiply and steps * batch > 1 else []
        if not products:
            y, counts = self._engine.advance(x)
        else:
            y, counts = self._in_parts(x, products)
        if steps * batch:
            self._remember(counts / [steps * batch * stage.inputs for stage in self._stages], steps)
        return y

    def _which_multiply(self, x: np.ndarray) -> list[int]:
        """By what the stages saw of late; the first sees x."""
        steps, batch = x.shape[:2]
        activity = np.zeros(len(self._stages)) if self._activity is None else self._activity.copy()
        if pays(self._stages[0], steps, batch, 1.0):
            activity[0] = np.count_nonzero(x) / max(1, x.size)
        return [k for k, stage in enumerate(self._stages) if pays(stage, steps, batch, activity[k])]

    def _in_parts(self, x: np.ndarray, products: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """A call for the stages from one product to the next."""
        edges = sorted({0, *products, len(self._stages)})
        counts = []
        for begin, end in pairwise(edges):
            if begin not in products:
                x, seen = self._engine.advance(x, begin, end)
            else:
                if begin not in self._products:
                    self._products[begin] = Product(self._stages[begin])
                active = np.count_nonzero(x)
                x, seen = self._engine.advance(x[:, :, :0], begin, end, self._products[begin](x))
                seen[0] = active
            counts.append(seen)
        return x, np.concatenate(counts)

    def _remember(self, seen: np.ndarray, steps: int) -> None:
        if self._activity is None:
            self._activity = seen
        else:
            self._activity = self._activity + (seen - self._activity) * (1 - math.exp(-steps / _MEMORY))


class _Layers:
    """The network's own layers."""

    key = "layers"
    inputs = None

    def __init__(self, network: nn.Module):
        self._network = _prepared(copy.deepcopy(network).eval().requires_grad_(False))
        self._role = role(self._network)
        first = next((p for p in [*network.parameters(), *network.buffers()] if p.is_floating_point()), torch.zeros(0))
        self._like = first.detach().new_zeros(0)
        self.dtype = np.float64 if self._like.dtype == torch.float64 else np.float32
        self.errors: dict[str, float] = {}

    def reset(self) -> None:
        self._state: Any = None

    def activity(self) -> dict[str, float]:
        return {}

    def check(self, method: str, x: np.ndarray) -> None:
        if not np.isfinite(x).all():
            raise ValueError(
                f"Runner.{method}: NaN or infinite numbers came; nothing was taken: repair them and give them again"
            )

    @torch.inference_mode()
    def advance(self, x: np.ndarray) -> Tensor:
        y, self._state = call(self._network, torch.from_numpy(x).to(self._like), self._state, None, self._role)
        return y

    def state(self) -> Any:
        return self._state

    @torch.inference_mode()
    def load(self, flat: Mapping[str, Any], batch: int | None) -> None:
        if batch is None:
            self.reset()
            return
        step = self._like.new_zeros(1, batch, int(flat["units"]))
        _, like = call(self._network, step, None, None, self._role)
        try:
            self._state = rebuild(self.key, flat, like, same_shape=True, device=self._like.device)
        except ValueError as problem:
            raise ValueError(str(problem).replace("Stream.", "Runner.")) from None


class _Prepared(nn.Module):
    """A layer of delayed synapses with the kernel that it has, which it would make anew at every step."""

    def __init__(self, layer: DelayedLinear):
        super().__init__()
        self.layer, self.kernel = layer, layer.effective_kernel()

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if state is None:
            state = x.new_zeros(self.layer.max_delay, x.shape[1], self.layer.in_features)
        history = torch.cat([state, x])
        return delayed_product(history, self.kernel, self.layer.bias), history[len(x) :].clone()


def _prepared(network: nn.Module) -> nn.Module:
    """Of axons and dendrites the layer itself is the faster one."""
    if isinstance(network, DelayedLinear):
        return network if network.per in ("axon", "dendrite") else _Prepared(network)
    for parent in list(network.modules()):
        if isinstance(parent, DelayedConv1d | RecurrentDelays):  # uses more of it than its call
            continue
        for name, layer in list(parent.named_children()):
            if isinstance(layer, DelayedLinear) and layer.per not in ("axon", "dendrite"):
                parent._modules[name] = _Prepared(layer)
    return network


def _checked(method: str, given: Any, axes: int, dtype: type[np.floating]) -> np.ndarray:
    """What the user gave as a contiguous array."""
    if isinstance(given, Tensor):
        if given.is_complex():
            raise TypeError(f"Runner.{method}: features are {given.dtype}; real numbers are right")
        given = given.detach()
        if given.dtype in (torch.bfloat16, torch.float16) or given.device.type != "cpu":
            given = given.to("cpu", torch.float32 if given.dtype != torch.float64 else torch.float64)
        array = given.numpy()
    elif isinstance(given, np.ndarray):
        array = given
        if array.dtype.kind not in "fiub":
            raise TypeError(f"Runner.{method}: features hold {array.dtype}; real numbers are right")
    else:
        raise TypeError(f"Runner.{method}: features are {type(given).__name__}; a tensor or a NumPy array is right")
    if array.ndim != axes:
        right = "[B, units]" if axes == 2 else "[T, B, units], time first,"
        raise ValueError(f"Runner.{method}: features have shape {list(array.shape)}; {right} is right")
    return np.ascontiguousarray(array, dtype)
