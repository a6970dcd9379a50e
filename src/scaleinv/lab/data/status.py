"""What data sets are there, where, and whether they are as published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaleinv.errors import UserError
from scaleinv.lab.data import digits
from scaleinv.lab.data.dataset import DATASETS
from scaleinv.lab.data.source import find, resolve


@dataclass(frozen=True)
class Status:
    """One row of `scaleinv data`."""

    name: str
    state: Literal["intact", "damaged", "missing"]
    where: str = ""  # folder, archive or package
    form: str = ""  # embedded, idx, pickle or binary
    bytes: int = 0  # on disk
    detail: str = ""  # what is wrong and what to do, one line


def statuses(data_dir: str | Path | None = None) -> list[Status]:
    """The status of every data set; checksums are computed. Raises `UserError` if the data folder does not exist."""
    resolve(data_dir)
    return [_digits() if name == "digits" else _status(name, data_dir) for name in DATASETS]


def _status(name: str, data_dir: str | Path | None) -> Status:
    try:
        source = find(name, data_dir)
    except UserError as error:
        return Status(name, "missing", detail=str(error))
    damage = source.damage()
    return Status(name, "damaged" if damage else "intact", str(source.path), source.form.kind, source.size(), damage)


def _digits() -> Status:
    try:
        train, test = digits.load()
    except UserError as error:
        return Status("digits", "missing", detail=str(error))
    import sklearn

    size = train.images.nbytes + test.images.nbytes
    same = digits.checksum(train, test) == digits.CHECKSUM
    detail = "" if same else f"the digits of scikit-learn {sklearn.__version__} are not those scaleinv was tested with"
    return Status(
        "digits", "intact" if same else "damaged", f"scikit-learn {sklearn.__version__}", "embedded", size, detail
    )
