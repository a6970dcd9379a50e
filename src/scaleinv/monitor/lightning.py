"""The former place of :mod:`scaleinv.monitor.callbacks.lightning`, kept for one release."""

import warnings

from scaleinv.monitor.callbacks.lightning import MonitorCallback

__all__ = ["MonitorCallback"]

warnings.warn(
    "scaleinv.monitor.lightning is now scaleinv.monitor.callbacks.lightning", DeprecationWarning, stacklevel=2
)
