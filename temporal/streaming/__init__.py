"""Running a trained network on a live signal, with the answers of the whole recording."""

from .files import Decision, stream_file
from .runner import Runner
from .stream import Event, Stream

__all__ = ["Decision", "Event", "Runner", "Stream", "stream_file"]
