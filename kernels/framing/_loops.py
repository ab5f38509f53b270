"""The compiled loops of ``cpu.py``: serial, without the interpreter's lock."""

import numba

__all__ = ["frame", "overlap_add"]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def frame(wave, samples, window, hop, left, frames, out, first, stop):
    """Frames first .. stop of all signals."""
    n_fft = window.size
    for number in range(first, stop):
        item, start = number // frames, number % frames * hop - left
        low = min(max(0, -start), n_fft)
        high = max(low, min(n_fft, samples - start))
        to, source = out[number * n_fft :], wave[item * samples + max(start, 0) :]
        for n in range(low):
            to[n] = 0
        inner, weights = to[low:], window[low:]
        for n in range(high - low):
            inner[n] = source[n] * weights[n]
        for n in range(high, n_fft):
            to[n] = 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def overlap_add(frames, count, window, hop, left, samples, out, first, stop):
    """Signals first .. stop."""
    n_fft = window.size
    for item in range(first, stop):
        signal = out[item * samples : (item + 1) * samples]
        for s in range(samples):
            signal[s] = 0
        for t in range(count):
            start = t * hop - left
            low = min(max(0, -start), n_fft)
            high = min(n_fft, samples - start)
            to, source = signal[max(start, 0) :], frames[(item * count + t) * n_fft + low :]
            weights = window[low:]
            for n in range(high - low):
                to[n] += source[n] * weights[n]
