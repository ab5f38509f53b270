"""A cochlea: from any recording to the spikes that SHD and SSC consist of."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from temporal.kernels.cochlea import BACKENDS, HIGHEST, PRESETS, Ear, blocks, keys, start

from ._arguments import choice, positive_int, read_waveform, real
from ._cochlea import CochleaState, Shape, advance, begin, flat, frames_of
from ._framing import Count, check_count
from ._stage import FrontEnd

__all__ = ["Cochlea"]

_LONGEST = 1 << 18  # samples up to which a recording is heard as a circle where nothing else is said
_SHORTEST = 1e-3  # seconds
_RAMPS: dict[str, float | None] = {"lauscher": None, "article": 0.03}


class Cochlea(FrontEnd):
    """The model that made SHD and SSC, fast: membrane, hair cells, nerve fibres, and bushy cells that spike.

    1. The recording is scaled to a root mean square of 0.3 and faded in and out.
    2. A wave travels along the basilar membrane (Sieroka et al. 2006): u = Re(IFFT(V X)), at half the sample rate.
    3. Each place moves a hair cell, which releases transmitter with probability p = h c (Meddis 1988):
       q += y (M - q) - k q + x w,  c += k q - (l + r) c,  w += r c - x w,  k = g (u + A) / (u + A + B).
    4. 40 fibres a place release with probability p each, at most once a millisecond.
    5. A bushy cell, v = e v + s sum(I), hears them: it fires at v = 1, and then not for a millisecond.

    Channel 0 is the base (the highest frequencies), the last one the apex. Step m lies at m / (sample_rate // 2) seconds.

    Noise. The same samples give the same spikes for a seed, whatever the batch, the threads, the chunks or zeros after the
    end; recordings that differ have independent noise from where they do. Another `seed` (it may be set at any time, say
    each epoch) is another draw. `temporal.kernels.cochlea.noise` says how.

    As the converter does it, responses come *before* their cause, those of the apex by 0.2 s, and so does its latency in
    a stream: it multiplies the FFT by a transfer function made for the other sign of time. SHD and SSC are like that.

    Spikes have no gradient; membrane and probability have one, through the torch reference. Everything is computed in
    float32.

    Args:
        sample_rate: of the recordings, in Hz, whole, up to 96000, and at least 11025 (preset "lauscher") or 36000
        ("article").
        channels: places along the membrane, >= 1; 700 as in SHD and SSC.
        preset: constants of the hair cell: "lauscher", the converter's own, or "article", those of Cramer et al. The
            article's need steps shorter than 1 / 18000 s: below 36 kHz Euler's method makes them oscillate, so they are
            refused there; resample the recording, or take "lauscher". They also set the ramps' default.
        membrane: "travelling_wave", or "gammatone": a light, causal filter bank with the same best frequencies and gains
            (places that hear best above 90 % of the Nyquist frequency hear nothing).
        output: "spikes" (0 or 1), "probability" (of a release, a fibre and step) or "membrane" (velocity).
        seed: of the noise, a whole number.
        circular: True is the converter's way: the recording is a circle, whose end wraps around into its beginning, and its
            k steps are even over it, each (k - 1) / k of two samples. False is overlap-save: each place's response cut to
            0.2 s ahead and 0.06 s back, no wrapping, a step for exactly two samples, block by block, in memory that does
            not grow with the recording. So the two drift apart by one step until the recording's end, and fire about as
            often. None: True up to 2^18 samples, False for longer ones (and for gammatone filters, always).
        gain: what samples are multiplied by, > 0. None: 0.3 over the recording's root mean square (silence stays silence). A
            stream needs a number, since it cannot know: 0.3 over the level to be expected, such as 0.3 / 0.05.
        ramp: seconds of the Hann ramps at the beginning and the end, >= 0; where a recording is shorter than both, they
            are multiplied. None is the preset's: 0.03 for "article", half the recording each for "lauscher". A stream
            needs a number: it holds back so much, as it may be the end.
    Shape:
        wave: [..., samples], at least 1 ms.  Returns [..., channels, steps], `.frames(samples)` = samples // 2 + 1 steps.
    Raises:
        TypeError: the waveform is not a floating point tensor (16 bit integers: divide by 32768).
        ValueError: an argument out of range; samples that are NaN or infinite (on other devices than the CPU their
        recordings'
            outputs are NaN instead, to wait for nothing); a recording that is empty or shorter than 1 ms; `stream`
            without `circular=False`, `gain` and `ramp`.
    References:
        Cramer, Stradmann, Schemmel, Zenke 2020, arXiv:1910.07407. Its converter, LAUSCHER: membrane within 1e-6, probability
        within 3e-6 of their peaks, spikes by their statistics.
    Example:
        >>> import torch
        >>> from temporal.frontends import Cochlea
        >>> cochlea = Cochlea(16000, channels=64)
        >>> wave = torch.sin(torch.arange(4000) * 0.4)
        >>> cochlea(wave).shape, cochlea.frames(4000)
        (torch.Size([64, 2001]), 2001)
        >>> times, units = cochlea.events(wave)
        >>> bool((times.diff() >= 0).all()), len(times) == int(cochlea(wave).sum())
        (True, True)
    """

    hop_length = 2
    pad_mode = "constant"
    sample_rate: int

    def __init__(
        self,
        sample_rate: float,
        *,
        channels: int = 700,
        preset: Literal["lauscher", "article"] = "lauscher",
        membrane: Literal["travelling_wave", "gammatone"] = "travelling_wave",
        output: Literal["spikes", "probability", "membrane"] = "spikes",
        seed: int = 0,
        circular: bool | None = None,
        gain: float | None = None,
        ramp: float | None = None,
    ) -> None:
        super().__init__()
        self.preset = choice("Cochlea", "preset", preset, PRESETS)
        self.membrane = choice("Cochlea", "membrane", membrane, ("travelling_wave", "gammatone"))
        self.output = choice("Cochlea", "output", output, ("spikes", "probability", "membrane"))
        self.sample_rate = _check_rate(sample_rate, self.preset)
        self.channels = positive_int("Cochlea", "channels", channels, "channels")
        if self.channels > 1 << 15:
            raise ValueError(f"Cochlea: channels={channels} is more than 32768")
        self.seed = _check_seed(seed)
        if circular and self.membrane == "gammatone":
            raise ValueError("Cochlea: circular=True is of the travelling wave; gammatone filters do not wrap around")
        self.circular = False if self.membrane == "gammatone" else circular
        self.gain = None if gain is None else real("Cochlea", "gain", gain, above=0)
        self.ramp = _RAMPS[self.preset] if ramp is None else real("Cochlea", "ramp", ramp, unit="s")
        if self.ramp is not None and self.ramp < 0:
            raise ValueError(f"Cochlea: ramp={ramp} s is negative; 0 is no ramp")
        self._ear = Ear(self.sample_rate, self.channels, self.preset, self.membrane)

    def extra_repr(self) -> str:
        return (
            f"{self.sample_rate}, channels={self.channels}, preset={self.preset!r}, membrane={self.membrane!r}, "
            f"output={self.output!r}, seed={self.seed}, circular={self.circular}, gain={self.gain}, ramp={self.ramp}"
        )

    @property
    def latency(self) -> int:  # type: ignore[override]
        """Samples: step t is complete when `2 t + latency` samples have been read, and with a travelling wave no
        earlier than the rest of its block. (That of overlap-save; as a circle, a recording is heard as a whole.)
        """
        held = self._shape.ramp or 0
        if self.membrane == "gammatone":
            return 1 + held
        cut = blocks(self.sample_rate)
        return cut.block + cut.ahead + held

    def frames(self, samples: Count) -> Count:
        """Steps that so many samples give: samples // 2 + 1, and none for none."""
        return frames_of(check_count("Cochlea", samples))

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[..., samples] -> [..., channels, steps].

        ``lengths`` ([...], in samples): each recording is heard as if it were alone and ended there; beyond its steps there
        are zeros. Without them, a recording's level and ramps are those of all its samples, padding included.
        """
        wave = self._read(wave)
        recordings = flat(wave)
        shape = (*wave.shape[:-1], self.channels, int(self.frames(wave.shape[-1])))
        if lengths is None:
            self._check_length(wave.shape[-1])
            return self._whole(recordings).reshape(shape)
        counts = _check_lengths(lengths, wave).tolist()
        out = wave.new_zeros((len(recordings), *shape[-2:]))
        for count in sorted(set(counts)):
            self._check_length(count)
            chosen = [index for index, other in enumerate(counts) if other == count]
            out[chosen, :, : int(self.frames(count))] = self._whole(recordings[chosen, :count])
        return out.reshape(shape)

    @torch.no_grad()
    def events(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """The spikes of one recording [samples], sorted by time: (times [N] in seconds, float64; units [N], int16).

        That is what files of SHD's kind hold. Whatever `output` is.
        """
        wave = self._read(wave)
        if wave.dim() != 1:
            raise ValueError(f"Cochlea: events hears one recording at a time, [samples]; this is {list(wave.shape)}")
        self._check_length(wave.shape[0])
        if wave.device.type != "cpu" and not bool(torch.isfinite(wave).all()):
            raise ValueError("Cochlea: the waveform holds NaN or infinite samples")
        if self._as_circle(wave.shape[0]):
            found = self._circle(wave[None], "events")
        else:
            last = int(self.frames(wave.shape[0]))
            found = [events[0] for _, _, events, _ in self._pieces(*self._all_of(wave[None]), "events")]
            found = [tuple(part[steps < last] for part in (steps, units)) for steps, units in found]
        steps, units = (torch.cat(part) for part in zip(*found, strict=True))
        return steps.double() / self._ear.rate, units.to(torch.int16)

    @property
    def stream_obstacle(self) -> str | None:
        """Why the layer cannot stream and which variant can; None when it streams."""
        if self.circular is not False:
            return f"circular={self.circular} wraps the recording's end around into its beginning; use circular=False"
        if self.gain is None:
            return "gain=None needs the level of the whole recording; give a number, such as gain=0.3 / 0.05"
        if self.ramp is None:
            return "ramp=None fades over half of the whole recording; give seconds, ramp=0 for none"
        return None

    def stream(self, chunk: Tensor, state: CochleaState | None = None) -> tuple[Tensor, CochleaState]:
        """The steps that are complete now, bit for bit those of the whole: block by block with a travelling wave."""
        self._check_streams()
        chunk = self._read(chunk)
        if state is None:
            state = self._start(chunk)
        elif state.samples.shape[:-1] != chunk.shape[:-1]:
            raise ValueError(
                f"Cochlea: a chunk {list(chunk.shape)} does not continue a stream of "
                f"{[*state.samples.shape[:-1], '...']}; start a new stream with state=None"
            )
        state = state._replace(samples=torch.cat((state.samples, chunk), -1))
        out, state = self._drain(state, None)
        # A copy, because a view would keep the chunk alive.
        return out, state._replace(samples=state.samples.clone())

    def flush(self, state: CochleaState) -> tuple[Tensor, None]:
        """The steps up to the recording's end."""
        self._check_streams()
        if state is None:
            raise ValueError("Cochlea: flush needs the state that stream returned; nothing has been streamed yet")
        self._check_length(state.read)
        return self._drain(state, state.read)[0], None

    @property
    def _shape(self) -> Shape:
        return Shape(self.gain, None if self.ramp is None else round(self.ramp * self.sample_rate))

    def _as_circle(self, samples: int) -> bool:
        return samples <= _LONGEST if self.circular is None else self.circular

    def _backend(self, wave: Tensor) -> Any:
        return BACKENDS.choose(wave.device, torch.is_grad_enabled() and wave.requires_grad)

    def _read(self, wave: Tensor) -> Tensor:
        wave = read_waveform("Cochlea", wave).float()
        if wave.device.type == "cpu" and not bool(torch.isfinite(wave).all()):
            bad = (~torch.isfinite(flat(wave))).any(1).nonzero().flatten().tolist()
            where = f" (recordings {bad} of the batch)" if wave.dim() > 1 else ""
            raise ValueError(f"Cochlea: the waveform holds NaN or infinite samples{where}")
        return wave

    def _check_length(self, samples: int) -> None:
        least = math.ceil(_SHORTEST * self.sample_rate)
        if samples < least:
            what = "is empty" if samples == 0 else f"has {samples} samples"
            raise ValueError(f"Cochlea: the recording {what}; at {self.sample_rate} Hz {least} (1 ms) are the least")

    def _whole(self, wave: Tensor) -> Tensor:
        """[recordings, samples] of one length -> [recordings, channels, steps]."""
        steps = int(self.frames(wave.shape[-1]))
        if not len(wave):
            return wave.new_zeros((0, self.channels, steps))
        if self._as_circle(wave.shape[-1]):
            out = self._circle(wave, self.output)
        else:
            out = wave.new_zeros((len(wave), self.channels, steps))
            for first, count, part, _ in self._pieces(*self._all_of(wave), self.output):
                out[..., first : first + count] = part[..., :count]
        if wave.device.type != "cpu":  # there NaN was not looked for, and what follows would make a silence of it
            out = out.masked_fill(~torch.isfinite(wave).all(-1)[:, None, None], torch.nan)
        return out

    def _circle(self, wave: Tensor, output: str) -> Any:
        noise, _ = keys(wave.detach(), self.seed)
        shaped = self._shape.of(wave).part(wave, 0, wave.shape[-1])
        return self._backend(wave).circular(self._ear, shaped, noise, output)

    def _all_of(self, wave: Tensor) -> tuple[CochleaState, Shape, int]:
        """A stream in which the whole recordings have come."""
        state = self._start(wave)._replace(samples=wave)
        return state, self._shape.of(wave), wave.shape[-1]

    def _start(self, wave: Tensor) -> CochleaState:
        return begin(wave, start(self._ear, wave.shape[:-1].numel(), wave.detach()))

    def _pieces(
        self, state: CochleaState, shape: Shape, total: int | None, output: str
    ) -> Iterator[tuple[int, int, Any, CochleaState]]:
        """What is complete, piece by piece: first step, count, result, and the state after it."""
        backend = self._backend(state.samples)
        kernel = backend.gammatone if self.membrane == "gammatone" else backend.linear
        while True:
            piece, state = advance(self._ear, state, shape, self.seed, total)
            if piece is None:
                return
            if len(piece.samples):
                result, cells = kernel(self._ear, piece.samples, piece.keys, state.cells, piece.first, output)
                state = state._replace(cells=cells)
            else:
                result = state.cells.new_zeros((0, self.channels, piece.steps))
            yield piece.first, piece.steps, result, state

    def _drain(self, state: CochleaState, total: int | None) -> tuple[Tensor, CochleaState]:
        leading = state.samples.shape[:-1]
        parts = [state.cells.new_zeros((leading.numel(), self.channels, 0))]
        for _, count, part, after in self._pieces(state, self._shape, total, self.output):
            parts.append(part[..., :count])
            state = after
        out = torch.cat(parts, -1)
        return out.reshape(*leading, self.channels, out.shape[-1]), state


def _check_rate(sample_rate: float, preset: str) -> int:
    rate = real("Cochlea", "sample_rate", sample_rate, above=0, unit="Hz")
    if not rate.is_integer():
        raise ValueError(f"Cochlea: sample_rate={rate:g} Hz is not whole; resample the recording")
    if rate > 2 * HIGHEST:
        raise ValueError(f"Cochlea: sample_rate={rate:g} Hz is above {2 * HIGHEST:g} Hz; resample the recording")
    lowest = PRESETS[preset].lowest_rate
    if rate < lowest:
        cell = PRESETS[preset]
        worth = 2 * (cell.l + cell.r) / rate
        why = "is unstable" if worth >= 2 else "oscillates, and small differences of the sound grow"
        hint = ', or preset="lauscher"' if preset == "article" and rate >= PRESETS["lauscher"].lowest_rate else ""
        raise ValueError(
            f'Cochlea: preset="{preset}" at sample_rate={rate:g} Hz: its steps of 2 / {rate:g} s are too long for the hair '
            f"cell's rates, Euler's method {why} ((l + r) dt = {worth:.2f}); use {lowest} Hz or more (resample the "
            f"recording){hint}"
        )
    return int(rate)


def _check_seed(seed: int) -> int:
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"Cochlea: seed={seed!r} is not a whole number")
    return int(seed)


def _check_lengths(lengths: Tensor, wave: Tensor) -> Tensor:
    if not isinstance(lengths, Tensor) or lengths.is_floating_point() or lengths.shape != wave.shape[:-1]:
        came = f"{list(lengths.shape)} of {lengths.dtype}" if isinstance(lengths, Tensor) else type(lengths).__name__
        raise ValueError(f"Cochlea: lengths came as {came}; give integers of shape {list(wave.shape[:-1])}")
    if lengths.numel() and int(lengths.max()) > wave.shape[-1]:
        raise ValueError(f"Cochlea: lengths reach {int(lengths.max())}, but there are {wave.shape[-1]} samples")
    return lengths.reshape(-1)
