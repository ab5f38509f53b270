"""Networks of other libraries, in ours."""

from .dcls import from_dcls, from_snn_delays

__all__ = ["from_dcls", "from_snn_delays"]
