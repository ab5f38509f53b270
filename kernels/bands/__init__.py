"""From spectra to spectrograms: powers, their sums in the bands of a filter bank and the logarithm, in one pass."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .._dispatch import Backends
from . import reference
from ._plan import plan

__all__ = ["bands", "magnitude", "spans", "spectrogram", "step_of"]


def spans(bank: Tensor) -> Tensor:
    """Where the rows of a filter bank are not 0: the first bin and the one behind the last, at least one bin.

    It is made where the bank is, without waiting for the device, and kept beside it: a layer registers it as a second
    buffer, so that both move together.

    Args:
        bank: [bands, bins].
    Shape:
        Returns int32 [bands, 2].

    >>> import torch
    >>> spans(torch.tensor([[0.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]])).tolist()
    [[1, 3], [0, 1]]
    """
    there = (bank != 0).to(torch.int8)
    empty = there.amax(1) == 0
    first = there.argmax(1)
    stop = torch.where(empty, 1, bank.shape[1] - there.flip(1).argmax(1))
    return torch.stack((first, stop), 1).to(torch.int32)


def bands(
    spectra: Tensor, bank: Tensor, *, spans: Tensor | None = None, power: float = 2.0, log: float | None = None
) -> Tensor:
    """Powers of spectra summed in the bands of a filter bank.

    B[m, t] = sum_k bank[m, k] |X[t, k]| ** power,  or with `log` the natural logarithm of (that + log)

    The gradient is 0 where a spectrum is 0. Autocast is the caller's business: no sum here may be taken in half precision.

    Args:
        spectra: [..., frames, bins], complex64 or complex128.
        bank: [bands, bins], float32 or float64 as the spectra. Gradients flow to it, too.
        spans: what `spans(bank)` says, for a bank whose rows are mostly 0. Without it all bins are summed.
        power: exponent of the magnitude, > 0.
        log: offset within the logarithm, >= 0, or None for no logarithm.
    Shape:
        Returns [..., bands, frames].

    >>> import torch
    >>> bands(torch.tensor([[3 + 4j, 1j]]), torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    tensor([[25.],
            [27.]])
    """
    return _run("bands", spectra, (bank,), spectra, bank, spans, power, log)


def magnitude(spectra: Tensor, *, power: float = 1.0, log: float | None = None) -> Tensor:
    """|X[t, k]| ** power at [k, t], with gradient 0 where X is 0; with `log` the natural logarithm of (that + log).

    Args:
        spectra: [..., frames, bins], complex64 or complex128.
        power: exponent of the magnitude, > 0.
        log: offset within the logarithm, >= 0, or None for no logarithm.
    Shape:
        Returns [..., bins, frames].

    >>> import torch
    >>> magnitude(torch.tensor([[3 + 4j, 1j]]))
    tensor([[5.],
            [1.]])
    """
    return _run("bands", spectra, (), spectra, None, None, power, log)


def spectrogram(
    wave: Tensor,
    window: Tensor,
    bank: Tensor | None,
    hop_length: int,
    *,
    spans: Tensor | None = None,
    left: int = 0,
    right: int = 0,
    power: float = 2.0,
    log: float | None = None,
) -> Tensor:
    """The whole way from a signal to its spectrogram: `bands(rfft(frame(wave)))`, or `magnitude` without a bank.

    Args:
        wave: [..., samples], float32 or float64.
        window: [n_fft], of the same dtype.
        bank: [bands, n_fft // 2 + 1], of the same dtype, or None for the bins themselves.
        hop_length: samples from one frame to the next, >= 1.
        spans, power, log: as for `bands`.
        left, right: as for `temporal.kernels.framing.frame`.
    Shape:
        Returns [..., bands or bins, frames].

    >>> import torch
    >>> spectrogram(torch.ones(2, 8), torch.ones(4), None, 2, left=2, right=2)[0]
    tensor([[ 4., 16., 16., 16.,  4.],
            [ 2.,  0.,  0.,  0.,  2.],
            [ 0.,  0.,  0.,  0.,  0.]])
    """
    if wave.device.type == "cuda":  # torch's own FFT; what comes after it is fused
        spectra = reference.spectra(wave, window, hop_length, left, right)
        return _run("bands", spectra, (bank,), spectra, bank, spans, power, log)
    given = (wave, window, bank, spans, hop_length, left, right, power, log)
    return _run("spectrogram", wave, (window, bank), *given)


def step_of(
    window: Tensor, bank: Tensor | None, hop_length: int, *, spans: Tensor | None, power: float, log: float | None
) -> Any:
    """A function for a stream's next frames, which saves most of the way to `spectrogram`; None where there is none.

    frames, kept, start = step(kept, chunk, start)

    with the frames that begin at start, start + hop_length, ... of the samples kept and the chunk behind them; the samples
    that later frames need, and where in them the next frame begins. It returns None where the ordinary way must be taken:
    it gives no gradient, is for one signal and few frames (see `_step.py`), and computes in float32 on the CPU. The numbers
    are those of `spectrogram` to the last bit. Writing into the constants is seen.

    Args:
        window, bank, hop_length, spans, power, log: as for `spectrogram`.
    Shape:
        kept: [..., k] and chunk: [..., n] samples, leading dimensions all 1.  start: an int >= 0.
        Returns ([..., bands or bins, frames], [..., k], start).

    >>> import torch
    >>> step = step_of(torch.ones(4), None, 2, spans=None, power=2.0, log=None)
    >>> step(torch.ones(2), torch.ones(3), 0)
    (tensor([[16.],
            [ 0.],
            [ 0.]]), tensor([1., 1., 1.]), 0)
    """
    constants = [constant for constant in (window, bank, spans) if constant is not None]
    if any(constant.requires_grad or not constant.is_contiguous() for constant in constants):
        return None
    if _spectrogram_cpu_refuses(window, window, bank, spans, hop_length, 0, 0, power, log) is not None:
        return None
    from ._step import Step

    return Step(window, bank, spans, hop_length, power, log)


def _run(name: str, x: Tensor, constants: tuple[Tensor | None, ...], *given: Any) -> Tensor:
    """By the plain form, by a backend itself, or by the operator: in this order of what is possible.

    Plain: what is exported, what learns more than its input, and on a GPU what the compiler will fuse by itself. A backend
    itself: where no gradient is wanted, since a step of a stream takes less time than the operator's way there.
    """
    if torch.compiler.is_exporting():
        return getattr(reference, name)(*given)
    grads = torch.is_grad_enabled()
    learned = grads and any(constant is not None and constant.requires_grad for constant in constants)
    if torch.compiler.is_compiling():
        if learned or x.device.type != "cpu":
            return getattr(reference, name)(*given)
        return getattr(torch.ops.temporal, name)(*given)
    if torch._C._are_functorch_transforms_active():  # which follow torch's own operations only
        return getattr(reference, name)(*given)
    backend = _BACKENDS[name].choose(*given, learned)
    if backend is reference or (type(x) is Tensor and not (grads and x.requires_grad)):
        return getattr(backend, name)(*given)
    return getattr(torch.ops.temporal, name)(*given)


def _bands_cpu_refuses(spectra, bank, spans, power, log, learned=False) -> str | None:
    if spectra.device.type != "cpu":
        return f"needs a CPU tensor, spectra are on {spectra.device}"
    return _refused(spectra.dtype, torch.complex64, power, learned)


def _bands_cuda_refuses(spectra, bank, spans, power, log, learned=False) -> str | None:
    if spectra.device.type != "cuda":
        return f"needs a CUDA tensor, spectra are on {spectra.device}"
    if bank is None or spans is None:
        return "needs a bank with its spans"
    if find_spec("triton") is None:
        return "needs the package triton, which is not installed"
    return _refused(spectra.dtype, torch.complex64, power, learned)


def _spectrogram_cpu_refuses(wave, window, bank, spans, hop, left, right, power, log, learned=False) -> str | None:
    if wave.device.type != "cpu":
        return f"needs a CPU tensor, wave is on {wave.device}"
    if plan(window.shape[0]) is None:
        return f"takes even n_fft of factors 2, 3 and 5, not {window.shape[0]}"
    return _refused(wave.dtype, torch.float32, power, learned)


def _refused(dtype: torch.dtype, own: torch.dtype, power: float, learned: bool) -> str | None:
    if dtype != own:
        return f"computes in {own}, not {dtype}"
    if power not in (1, 2):
        return f"has powers 1 and 2, not {power:g}"
    return "gives no gradient of window or bank" if learned else None


_BACKENDS = {
    "bands": Backends(
        "bands", __name__, cuda=_bands_cuda_refuses, cpu=_bands_cpu_refuses, reference=lambda *given: None
    ),
    "spectrogram": Backends("spectrogram", __name__, cpu=_spectrogram_cpu_refuses, reference=lambda *given: None),
}


def _bands_shape(spectra, bank, spans, power, log):
    rows = spectra.shape[-1] if bank is None else bank.shape[0]
    return spectra.new_empty((*spectra.shape[:-2], rows, spectra.shape[-2]), dtype=spectra.dtype.to_real())


def _spectrogram_shape(wave, window, bank, spans, hop_length, left, right, power, log):
    rows = window.shape[0] // 2 + 1 if bank is None else bank.shape[0]
    frames = 1 + (left + wave.shape[-1] + right - window.shape[0]) // hop_length
    return wave.new_empty((*wave.shape[:-1], rows, frames if frames > 0 else 0))


def _register(name: str, schema: str, constants: int, shape: Any) -> None:
    """The operator and that of its backward pass, which has the same arguments behind the gradient."""

    def forward(*given):
        return getattr(_BACKENDS[name].choose(*given), name)(*given).contiguous()

    def backward(grad, *given):
        return getattr(_BACKENDS[name].choose(*given), f"{name}_backward")(grad, *given).contiguous()

    def keep(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:constants])
        ctx.rest = inputs[constants:]

    def differentiate(ctx, grad):
        given = (*ctx.saved_tensors, *ctx.rest)
        return getattr(torch.ops.temporal, f"{name}_backward")(grad, *given), *[None] * (len(given) - 1)

    def refuse(ctx, grad):
        raise RuntimeError(f"{name}: no second derivatives here; use float64, or temporal.kernels.use('reference')")

    for full, arguments, run, fake, gradient, keeps in (
        (name, schema, forward, shape, differentiate, keep),
        (f"{name}_backward", f"Tensor grad, {schema}", backward, lambda grad, x, *rest: x.new_empty(x.shape), refuse, None),
    ):  # fmt: skip
        _LIBRARY.define(f"{full}({arguments}) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(full, run, "CompositeExplicitAutograd")
        torch.library.register_fake(f"temporal::{full}", fake, lib=_LIBRARY)
        torch.library.register_autograd(f"temporal::{full}", gradient, setup_context=keeps, lib=_LIBRARY)


_LIBRARY = torch.library.Library("temporal", "FRAGMENT")  # the operators live as long as this
_register("bands", "Tensor spectra, Tensor? bank, Tensor? spans, float power, float? log", 3, _bands_shape)
_register(
    "spectrogram",
    "Tensor wave, Tensor window, Tensor? bank, Tensor? spans, int hop_length, SymInt left, SymInt right, float power, "
    "float? log",
    4,
    _spectrogram_shape,
)
