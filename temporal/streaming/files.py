"""A recording through a stream, as if it were live."""

import os
from collections.abc import Iterator
from typing import NamedTuple

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
    decision is that of evaluation, `softmax(model(wave[None])[0])`, up to the order of sums.

    Args:
        model: with a front end that streams.
        path: WAV, FLAC, or whatever else libsndfile reads.
        chunk: seconds, > 0; rounded to whole samples, at least one. The answers do not depend on it.
        window, threshold, refractory: as in :class:`Stream`.
    Returns:
        An iterator over :class:`Event`, with one :class:`Decision` at its end. Arguments and file are checked at once,
        before the first is asked for.
    Raises:
        AudioError: a file that is missing, damaged, or holds NaN; the message names it.
        ValueError: chunk out of range, a model without a front end, and the errors of :class:`Stream`.

    Example:
        >>> from temporal.streaming import Event, stream_file
        >>> def hear(model, path):
        ...     for heard in stream_file(model, path):
        ...         match heard:
        ...             case Event(label, score, start, end):
        ...                 print(f"{start:.2f} s to {end:.2f} s: {label} ({score:.2f})")
        ...             case _:
        ...                 print(f"file: {heard.label} {heard.score:.4f}")
    """
    from temporal.datasets import read_audio

    if not 0 < chunk < float("inf"):
        raise ValueError(f"stream_file: chunk={chunk} must be a positive number of seconds")
    stream = Stream(model, window=window, threshold=threshold, refractory=refractory)
    if model.frontend is None or model.sample_rate is None:
        raise ValueError("stream_file: the model has no front end for recordings; push its steps into a Stream instead")
    wave = read_audio(path, model.sample_rate).wave
    pieces = wave.split(max(1, round(chunk * model.sample_rate)))
    return _play(stream, pieces)


def _play(stream: Stream, pieces) -> Iterator[Event | Decision]:
    for piece in pieces:
        yield from stream.push(piece)
    yield from stream.finish()
    scores = stream.whole.softmax(0)  # type: ignore[union-attr]
    best = int(scores.argmax())
    yield Decision(stream.labels[best], float(scores[best]))
