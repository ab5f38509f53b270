"""Running a trained network on a live signal, with the answers of the whole recording."""

from .agreement import Agreement, compare_engines
from .files import Decision, stream_file
from .runner import Runner
from .stream import Event, Stream

__all__ = ["Agreement", "Decision", "Event", "Runner", "Stream", "compare_engines", "stream_file"]
