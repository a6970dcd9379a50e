"""The former place of :mod:`scaleinv.monitor.callbacks.huggingface`, kept for one release."""

import warnings

from scaleinv.monitor.callbacks.huggingface import MonitorCallback

__all__ = ["MonitorCallback"]

warnings.warn(
    "scaleinv.monitor.huggingface is now scaleinv.monitor.callbacks.huggingface", DeprecationWarning, stacklevel=2
)
