"""Read the weights a run left on the disk, and rebuild the network they belong to."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.lab.build import Setup, build
from scaleinv.lab.config import RunConfig, read_config
from scaleinv.lab.data import Dataset
from scaleinv.lab.memory import keep_freed_memory
from scaleinv.lab.problem import Problem
from scaleinv.lab.recipe import source_of
from scaleinv.lab.start import find_start, read_start
from scaleinv.runfolder.checkpoint import DamagedCheckpoint, load_weights
from scaleinv.runfolder.layout import kept_epochs

__all__ = ["fresh", "kept_epochs", "read_weights", "rebuild"]


def read_weights(folder: str | Path, epoch: int | None = None) -> dict[str, Tensor]:
    """Read the state dict of the network after ``epoch`` (``None``: the last one).

    Raises :class:`UserError` where the run has not ended, or has not kept that epoch (``keep_every``).
    """
    start = find_start(folder if epoch is None else f"{folder}@{epoch}")
    return read_start(start.file, start.checksum)


def rebuild(
    folder: str | Path, epoch: int | None = None, *, data_dir: Path | None = None, device: str = "cpu"
) -> Setup:
    """Rebuild the network of a run with the weights it had after ``epoch``, its groups, loss and data.

    ``device``: where it lies, whatever the run was trained on.

    >>> setup = rebuild("runs/demo/runs/0123abcd")
    >>> setup.model.training
    True
    """
    setup = build(*_config_and_data(folder, data_dir), device=device)
    start = find_start(folder if epoch is None else f"{folder}@{epoch}")
    try:
        load_weights(setup.model, read_start(start.file, start.checksum))
    except DamagedCheckpoint as error:
        raise UserError(f"{start.file} is damaged ({error}); restore it or train the run again") from error
    return setup


def fresh(folder: str | Path, *, data_dir: Path | None = None, device: str = "cpu") -> Setup:
    """Rebuild the network of a run as its seed draws it, before any step, even where the run started from weights."""
    config, dataset = _config_and_data(folder, data_dir)
    return build(replace(config, start=None), dataset, device=device)


def _config_and_data(folder: str | Path, data_dir: Path | None) -> tuple[RunConfig, Dataset | Problem]:
    config = read_config(Path(folder))
    if config is None:
        raise UserError(f"{folder} is not the folder of a run")
    keep_freed_memory()
    return config, source_of(Path(folder), config, data_dir)
