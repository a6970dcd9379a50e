"""Write the numbers of a :class:`~scaleinv.Monitor` somewhere besides memory.

Names are stable: ``loss``, ``GROUP/QUANTITY`` with ``total`` first; trackers get them under ``scaleinv/``. A sink
that raises is dropped with one warning; training goes on.
"""

from scaleinv.monitor.sinks.base import Call, Lines, Sink, Tracker
from scaleinv.monitor.sinks.folder import RunFolder, to_parquet
from scaleinv.monitor.sinks.trackers import MLflow, TensorBoard, Trackio, Wandb

__all__ = ["Call", "Lines", "MLflow", "RunFolder", "Sink", "TensorBoard", "Tracker", "Trackio", "Wandb", "to_parquet"]
