"""A model's front end, network and readout, each with its state: a signal piece by piece in, the network's outputs out."""

import copy
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from temporal.delays import DelayedLinear
from temporal.layers import Model, to_steps
from temporal.layers._protocol import call, role

from ._flat import Flat, flatten, rebuild
from .runner import Runner

__all__ = ["Run"]

_RUNNER = "runner."  # begins the names of a Runner's state in that of a Run


class Run:
    """One pass of a model over one signal that comes in pieces. All of it belongs under ``torch.inference_mode``.

    Args:
        model: is copied, and the copy is put in evaluation mode.
        engine: "dense", the network's own layers; "event", a `Runner` that decides by itself where to multiply; "auto", a
            `Runner` where it has all of the layers and the model is in float32 on the CPU, else the layers.
    Attributes:
        engine: the one that runs, "dense" or "event".
        like: an empty tensor in the dtype and on the device of the model.
        features: the shape of one step [*features], known from the front end or from the first piece.
        classes: of the network's output; 0 until `features` is known.
        hop, ahead: of the front end, samples from step to step and of look-ahead, which behind a `Resample` need not be
            whole numbers; 1 and 0 without one.
    """

    def __init__(self, model: Model, engine: str = "dense") -> None:
        if role(model.readout).state is None:
            kind = type(model.readout).__name__
            raise TypeError(f"Stream: the readout {kind} takes no state, so it cannot go on from chunk to chunk")
        self._model = _frozen(model)
        self._role = role(model.network)
        tensors = (t for t in chain(model.parameters(), model.buffers()) if t.is_floating_point())
        first = next(tensors, torch.zeros(0))
        self.like = first.new_zeros(0)
        self.features: tuple[int, ...] | None = None
        self.classes = 0
        self._runner = None if engine == "dense" else _runner(model.network, engine, self.like)
        self.engine = "dense" if self._runner is None else "event"
        self._frontend: Any = None  # the states
        self._network: Any = None
        self._readout: Any = None
        self._network_like: Any = None  # the states after one step, for their shapes
        self._readout_like: Any = None
        self.hop: int | Fraction = 1
        self.ahead: int | Fraction = 0
        self._front = _checked(self._model.frontend)
        if self._front is not None:
            self.hop, self.ahead = self._front.hop_length, self._front.latency
            frames, self._frontend = self._front.stream(self.like.new_zeros(1, 0))
            self.prepare(tuple(to_steps(frames).shape[2:]))

    @property
    def readout(self) -> nn.Module:
        return self._model.readout

    def prepare(self, features: tuple[int, ...]) -> None:
        """Learn what one step looks like, and try the network on one."""
        if self.features is not None:
            if features != self.features:
                raise ValueError(
                    f"Stream: a step of shape {list(features)} came, this stream's have {list(self.features)}"
                )
            return
        step = self.like.new_zeros(1, 1, *features)
        y, self._network_like = call(self._model.network, step, None, None, self._role)
        if y.ndim != 3 or y.shape[:2] != (1, 1):
            raise ValueError(
                f"Stream: the network turns {list(step.shape)} into {list(y.shape)}; [1, 1, classes] is right"
            )
        labels = self._model.labels
        if labels is not None and len(labels) != y.shape[2]:
            raise ValueError(f"Stream: the model has {len(labels)} labels for {y.shape[2]} classes")
        _, self._readout_like = self.readout(y)
        self.features, self.classes = features, y.shape[2]

    def advance(self, piece: Tensor) -> Tensor:
        """piece: [samples], or [T, *features] without a front end.  Returns the outputs [steps, classes] that are new."""
        piece = piece.to(self.like)
        if self._front is None:
            return self._through(piece.unsqueeze(1))
        frames, self._frontend = self._front.stream(piece.unsqueeze(0), self._frontend)
        return self._through(to_steps(frames))

    def end(self) -> tuple[Tensor, Tensor | None]:
        """End the signal.

        Returns:
            The outputs [steps, classes] of what was still in the front end, and of the model's tail; and the logits
            [classes] of the whole, None if no step ever said how many there are.
        """
        outputs = []
        if self._front is not None:
            frames, self._frontend = self._front.flush(self._frontend)
            outputs.append(self._through(to_steps(frames)))
        if self.features is None:
            return self.like.new_zeros(0, 0), None
        outputs.append(self._through(self.like.new_zeros(self._model.tail, 1, *self.features)))
        logits, _ = self.readout(self.like.new_zeros(0, 1, self.classes), self._readout)
        return torch.cat(outputs), logits[0]

    def state(self) -> Flat:
        """What another run of the same model needs to go on, flat."""
        flat = flatten("features", self.features)
        for name in ("frontend", "network", "readout"):
            flat |= flatten(name, getattr(self, f"_{name}"))
        if self._runner is not None:
            flat |= {f"{_RUNNER}{name}": value for name, value in self._runner.state_dict().items()}
        return flat

    def load(self, flat: Mapping[str, Any]) -> None:
        """Take over the state that another run gave."""
        features: list[int] = []
        while f"features.{len(features)}" in flat:
            features.append(int(flat[f"features.{len(features)}"]))
        if features or self._front is not None:
            self.prepare(tuple(features))
        device = self.like.device
        of_runner = {name.removeprefix(_RUNNER): value for name, value in flat.items() if name.startswith(_RUNNER)}
        if bool(of_runner) != (self._runner is not None):
            raise ValueError(
                "Stream.load_state_dict: the state is of the other engine: build both streams with the same engine"
            )
        network = rebuild("network", flat, self._network_like, same_shape=True, device=device)
        readout = rebuild("readout", flat, self._readout_like, same_shape=True, device=device)
        frontend = rebuild("frontend", flat, self._frontend, same_shape=False, device=device)
        if self._runner is not None:
            try:
                self._runner.load_state_dict(of_runner)
            except ValueError as problem:
                raise ValueError(str(problem).replace("Runner.", "Stream.")) from None
        self._network, self._readout, self._frontend = network, readout, frontend

    def _through(self, x: Tensor) -> Tensor:
        """x: [T, 1, *features].  Returns the network's outputs [T, classes], and keeps the readout up to date."""
        if x.shape[0] == 0:
            return self.like.new_zeros(0, self.classes)
        if self._runner is not None:
            y = self._runner.run(x).to(self.like)
        else:
            y, self._network = call(self._model.network, x, self._network, None, self._role)
        _, self._readout = self.readout(y, self._readout)
        return y[:, 0]


def _runner(network: nn.Module, engine: str, like: Tensor) -> Runner | None:
    """Of a copy in evaluation mode: batch normalisation is folded into weights as they are."""
    runs_on_events = like.dtype == torch.float32 and like.device.type == "cpu"
    if engine == "auto" and not runs_on_events:
        return None
    try:
        return Runner(copy.deepcopy(network).eval())
    except (TypeError, ValueError) as problem:  # a layer that it does not have, delays that are no whole steps
        if engine == "auto":
            return None
        raise type(problem)(str(problem).replace("Runner:", "Stream:", 1)) from None


def _checked(frontend: nn.Module | None) -> Any:
    """The front end, if it has what a stream calls (which nn.Module does not declare, hence Any)."""
    for name in () if frontend is None else ("stream", "flush", "hop_length", "latency"):
        if not hasattr(frontend, name):
            raise TypeError(f"Stream: the front end {type(frontend).__name__} cannot stream: it has no {name}")
    return frontend


def _frozen(model: Model) -> Model:
    """A copy in evaluation mode, in which what follows from the weights alone is worked out once, not in every chunk."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for layer in model.modules():
        if isinstance(layer, DelayedLinear):
            layer.effective_kernel = _constant(layer.effective_kernel())  # type: ignore[method-assign]
    return model


def _constant(value: Tensor) -> Callable[[], Tensor]:
    return lambda: value
