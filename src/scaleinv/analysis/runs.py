"""The former place of :mod:`scaleinv.runfolder.read`, kept for one release."""

import warnings

from scaleinv.runfolder.read import Run, Series, SweepRun, folder_kind, load_run, load_sweep, stored_config

__all__ = ["Run", "Series", "SweepRun", "folder_kind", "load_run", "load_sweep", "stored_config"]

warnings.warn("scaleinv.analysis.runs is now scaleinv.runfolder.read", DeprecationWarning, stacklevel=2)
