"""Make a problem again from what config.json says of it, in any process."""

from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig
from scaleinv.lab.data import Dataset, load_dataset
from scaleinv.lab.problem import Problem


def source_of(folder: Path, config: RunConfig, data_dir: Path | None = None) -> Dataset | Problem:
    """Load what the run in ``folder`` is trained on; UserError where it is not what it was."""
    if config.problem is not None:
        raise UserError(f"{folder}: problem {config.problem} cannot be made again")
    dataset = load_dataset(config.data, data_dir=data_dir, subset=config.subset, label_noise=config.label_noise)
    if dataset.fingerprint != config.data_fingerprint:
        raise UserError(f"the images of {config.data} are not those {folder} was trained on")
    return dataset
