"""Read the training logs that people have: tables, JSON, text, TensorBoard's event files, folders of tools."""

from scaleinv.analysis.periods.logs.read import LogColumns, read_log

__all__ = ["LogColumns", "read_log"]
