"""Measure any training loop: ``monitor = Monitor(model, optimizer)``, then train as before."""

from scaleinv.monitor.monitor import Monitor
from scaleinv.monitor.quantities import QUANTITIES
from scaleinv.monitor.records import Alert

__all__ = ["QUANTITIES", "Alert", "Monitor"]
