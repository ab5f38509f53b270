"""A recording through a stream, as if it were live."""

import os
from collections.abc import Iterator

from torch import Tensor

from temporal.layers import Model

from .stream import Event, Stream

__all__ = ["FileStream", "stream_file"]


def stream_file(
    model: Model,
    path: str | os.PathLike,
    chunk: float = 0.02,
    *,
    window: float = 1.0,
    threshold: float = 0.5,
    refractory: float = 0.5,
) -> "FileStream":
    """Play a recording to a model, chunk by chunk: its events as they come, and then the decision over all of it.

    The recording is read as the data sets read it: channels averaged, and resampled as a whole before it is cut. So the
    decision is that of evaluation, `model(wave[None])[0].softmax(0)`, up to the order of sums.

    Args:
        model: with a front end that streams.
        path: WAV, FLAC, or whatever else libsndfile reads.
        chunk: seconds, > 0; rounded to whole samples, at least one. The answers do not depend on it.
        window, threshold, refractory: as in :class:`Stream`.
    Returns:
        An iterator over the events, which holds the decision at its end. Arguments and file are checked at once.
    Raises:
        AudioError: a file that is missing, damaged, or holds NaN; the message names it.
        ValueError: chunk out of range, a model without a front end, and the errors of :class:`Stream`.

    Example:
        >>> from temporal.streaming import stream_file
        >>> def hear(model, path):
        ...     heard = stream_file(model, path)
        ...     for label, score, start, end in heard:
        ...         print(f"{start:.2f} s to {end:.2f} s: {label} ({score:.2f})")
        ...     print(f"file: {heard.label} {heard.score:.6f}")
    """
    from temporal.datasets import read_audio

    if not 0 < chunk < float("inf"):
        raise ValueError(f"stream_file: chunk={chunk} must be a positive number of seconds")
    stream = Stream(model, window=window, threshold=threshold, refractory=refractory)
    if model.frontend is None or model.sample_rate is None:
        raise ValueError("stream_file: the model has no front end for recordings; push its steps into a Stream instead")
    audio = read_audio(path, int(model.sample_rate))
    pieces = audio.wave.split(max(1, round(chunk * model.sample_rate)))
    return FileStream(stream, pieces, audio.remarks)


class FileStream(Iterator[Event]):
    """The events of a recording, one after the other; once they are through, the decision over the whole.

    Args:
        stream: a fresh one.
        pieces: the recording's samples, in chunks.
        messages: what was done to them before.
    Attributes:
        messages: what a reader should know of the recording: channels averaged, resampled.
    """

    def __init__(self, stream: Stream, pieces: tuple[Tensor, ...], messages: list[str]) -> None:
        self.messages = messages
        self._stream = stream
        self._events = self._play(pieces)

    def __next__(self) -> Event:
        return next(self._events)

    @property
    def scores(self) -> dict[str, float]:
        """{label: score} over the whole recording: the softmax of its logits."""
        whole = self._stream.whole
        if whole is None:
            raise RuntimeError("FileStream: the recording is not through yet: take all events first, then the decision")
        return dict(zip(self._stream.labels, whole.softmax(0).tolist(), strict=True))

    @property
    def label(self) -> str:
        """What the whole recording was recognised as."""
        scores = self.scores
        return max(scores, key=scores.__getitem__)

    @property
    def score(self) -> float:
        """The score of :attr:`label`, 0..1."""
        return self.scores[self.label]

    def _play(self, pieces: tuple[Tensor, ...]) -> Iterator[Event]:
        for piece in pieces:
            yield from self._stream.push(piece)
        yield from self._stream.finish()
