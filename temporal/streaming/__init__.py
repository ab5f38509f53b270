"""Running a trained network on a live signal, with the answers of the whole recording."""

from .files import FileStream, stream_file
from .stream import Event, Stream

__all__ = ["Event", "FileStream", "Stream", "stream_file"]
