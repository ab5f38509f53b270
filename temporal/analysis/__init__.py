"""Pictures and measures of runs and networks: pure functions of data; what is drawn is a matplotlib figure."""

from .activity import Activity, LayerActivity, SynapseActivity, measure_activity
from .arms import accuracy_against_cost, accuracy_by_arm
from .comparison import compare_curves
from .confusion import confusion_matrix
from .curves import learning_curve
from .delays import DelayCounts, count_delays, delay_histograms
from .groups import accuracy_by_group
from .intervals import wilson_interval
from .page import Page, Picture, Section, Table, Text, render_page
from .rasters import raster
from .rates import firing_rates
from .spikes import record_spikes
from .style import save

__all__ = [
    "Activity",
    "DelayCounts",
    "LayerActivity",
    "Page",
    "Picture",
    "Section",
    "SynapseActivity",
    "Table",
    "Text",
    "accuracy_against_cost",
    "accuracy_by_arm",
    "accuracy_by_group",
    "compare_curves",
    "confusion_matrix",
    "count_delays",
    "delay_histograms",
    "firing_rates",
    "learning_curve",
    "measure_activity",
    "raster",
    "record_spikes",
    "render_page",
    "save",
    "wilson_interval",
]
