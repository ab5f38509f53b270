"""A recording through a stream, as if it were live."""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor

from temporal.layers import Model

from .stream import Event, Stream

__all__ = ["Decision", "stream_file"]


class Decision(NamedTuple):
    """What a whole recording was recognised as."""

    label: str
    score: float  # the softmax of the whole recording's logits, at the label


def stream_file(
    model: Model,
    path: str | os.PathLike,
    chunk: float = 0.02,
    *,
    window: float = 1.0,
    threshold: float = 0.5,
    refractory: float = 0.5,
) -> Iterator[Event | Decision]:
    """Play a recording to a model, chunk by chunk: its events as they come, and last the decision over all of it.

    The recording is read as the data sets read it: channels averaged, and resampled as a whole before it is cut. So the
    decision is that of evaluation, `model(wave[None])[0].softmax(0)`, up to the order of sums.

    Args:
        model: with a front end that streams.
        path: WAV, FLAC, or whatever else libsndfile reads.
        chunk: seconds, > 0; rounded to whole samples, at least one. The answers do not depend on it.
        window, threshold, refractory: as in :class:`Stream`.
    Returns:
        An iterator over each :class:`Event`, with one :class:`Decision` at its end. Arguments and file are checked at
        once, before the first is asked for.
    Raises:
        AudioError: a file that is missing, damaged, or holds NaN; the message names it.
        ValueError: chunk out of range, a model without a front end, and the errors of :class:`Stream`.

    Example:
        >>> from temporal.streaming import Event, stream_file
        >>> def hear(model, path):
        ...     for heard in stream_file(model, path):
        ...         if isinstance(heard, Event):
        ...             print(f"{heard.start:.2f} s to {heard.end:.2f} s: {heard.label} ({heard.score:.2f})")
        ...         else:
        ...             print(f"file: {heard.label} {heard.score:.6f}")
    """
    from temporal.datasets import read_audio

    if not 0 < chunk < float("inf"):
        raise ValueError(f"stream_file: chunk={chunk} must be a positive number of seconds")
    if model.frontend is None or model.sample_rate is None:
        raise ValueError(
            "stream_file: the model was trained on steps, such as spikes, and has no front end that hears sound; push its "
            "steps into a Stream, or convert recordings (temporal spikes) and evaluate them (temporal evaluate)"
        )
    stream = Stream(model, window=window, threshold=threshold, refractory=refractory)
    wave = read_audio(path, int(model.sample_rate)).wave
    return _play(stream, wave.split(max(1, round(chunk * model.sample_rate))))


def _play(stream: Stream, chunks: Iterable[Tensor]) -> Iterator[Event | Decision]:
    for chunk in chunks:
        yield from stream.push(chunk)
    yield from stream.finish()
    if stream.whole is not None:  # there is a front end, so there is one
        scores = stream.whole.softmax(0)
        best = int(scores.argmax())
        yield Decision(stream.labels[best], float(scores[best]))
