"""Read any folder this package wrote, as the right object."""

from pathlib import Path

from scaleinv.runfolder.read import Run, folder_kind, load_run
from scaleinv.studies.results import Sweep, load_results


def load(folder: str | Path) -> Run | Sweep:
    """Read a run folder (of the lab or of a Monitor) as a :class:`~scaleinv.runfolder.read.Run`, a sweep's as a Sweep.

    A sweep that has not ended has the runs that there are. UserError for a folder that is neither, or that holds a
    damaged file.
    """
    return load_results(folder) if folder_kind(folder) == "sweep" else load_run(folder)
