"""Pictures and measures of runs and networks: pure functions of data; what is drawn is a matplotlib figure."""

from .activity import Activity, LayerActivity, SynapseActivity, measure_activity
from .confusion import confusion_matrix
from .curves import learning_curve
from .delays import DelayCounts, count_delays, delay_histograms
from .rasters import raster
from .spikes import record_spikes
from .style import save

__all__ = [
    "Activity",
    "DelayCounts",
    "LayerActivity",
    "SynapseActivity",
    "confusion_matrix",
    "count_delays",
    "delay_histograms",
    "learning_curve",
    "measure_activity",
    "raster",
    "record_spikes",
    "save",
]
