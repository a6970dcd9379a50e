"""Measure any training loop: ``monitor = Monitor(model, optimizer)``, then train as before."""

from __future__ import annotations

from scaleinv.monitor.alerts import Alert
from scaleinv.monitor.monitor import Monitor
from scaleinv.monitor.quantities import QUANTITIES

__all__ = ["QUANTITIES", "Alert", "Monitor"]
