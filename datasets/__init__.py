"""Data sets: recordings and spike trains with the splits their users need.

The import name is ``temporal.datasets``. The plain name ``datasets`` belongs to a Hugging Face library.
"""

if __name__ == "datasets":
    # Imported from the checkout's root, where this folder hides the Hugging Face package of the same name: give way to it.
    # Raising here instead would break every library that looks for that package, transformers among them.
    import importlib.machinery
    import importlib.util
    import os
    import sys

    _root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    _elsewhere = [p for p in sys.path if os.path.realpath(p or os.getcwd()) != _root]
    _spec = importlib.machinery.PathFinder.find_spec("datasets", _elsewhere)
    if _spec is None or _spec.loader is None:
        raise ModuleNotFoundError(f"No module named {__name__!r} (this project's is temporal.datasets)", name=__name__)
    sys.modules["datasets"] = _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)
else:
    from ._download import DownloadError
    from ._events_file import Events, EventsError
    from ._events_writer import EventsWriter, write_events
    from .acoustics import Equalize, Reverb
    from .audio import Audio, AudioError, AudioHeader, read_audio, read_header
    from .augment import BandMask, TimeMask, TimeShift
    from .background import BackgroundNoise
    from .batching import Batch, BucketSampler, collate, generator_for, generators_for
    from .binning import Binning
    from .conversion import Conversion, convert_folder
    from .folder import AudioFolder, Recording
    from .heard import spikes_of_folder
    from .noise import Noise
    from .speech_commands import SpeechCommands
    from .spike_augment import Blend, ChannelMask, ChannelShift, SpikeDrop, SpikeJitter, StepMask, StepShift
    from .spikes import SHD, SSC, SpikeBatch, SpikeRecording, collate_spikes
    from .spoken_digits import SpokenDigits
    from .stretch import Gain, Stretch

    __all__ = [
        "SHD",
        "SSC",
        "Audio",
        "AudioError",
        "AudioFolder",
        "AudioHeader",
        "BackgroundNoise",
        "BandMask",
        "Batch",
        "Binning",
        "Blend",
        "BucketSampler",
        "ChannelMask",
        "ChannelShift",
        "Conversion",
        "DownloadError",
        "Equalize",
        "Events",
        "EventsError",
        "EventsWriter",
        "Gain",
        "Noise",
        "Recording",
        "Reverb",
        "SpeechCommands",
        "SpikeBatch",
        "SpikeDrop",
        "SpikeJitter",
        "SpikeRecording",
        "SpokenDigits",
        "StepMask",
        "StepShift",
        "Stretch",
        "TimeMask",
        "TimeShift",
        "collate",
        "collate_spikes",
        "convert_folder",
        "generator_for",
        "generators_for",
        "read_audio",
        "read_header",
        "spikes_of_folder",
        "write_events",
    ]
