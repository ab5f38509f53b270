"""Networks of other libraries, in ours; and ours, for hardware."""

from .dcls import from_dcls, from_snn_delays
from .integers import HardwareCost, IntegerDelays, hardware_cost, integer_delays, save_integers

__all__ = [
    "HardwareCost",
    "IntegerDelays",
    "from_dcls",
    "from_snn_delays",
    "hardware_cost",
    "integer_delays",
    "save_integers",
]
