"""Pictures of runs and networks: pure functions of data that return a matplotlib figure."""

from .confusion import confusion_matrix
from .curves import learning_curve
from .rasters import raster
from .spikes import record_spikes
from .style import save

__all__ = ["confusion_matrix", "learning_curve", "raster", "record_spikes", "save"]
