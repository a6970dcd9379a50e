"""layout."""

from __future__ import annotations

from pathlib import Path

from scaleinv.runfolder.files import read_json

KEPT = "weights"  #: folder of the weights a run keeps


def kept_file(folder: Path, epoch: int) -> Path:
    """Where a run keeps the weights it had after ``epoch``."""
    return folder / KEPT / f"epoch-{epoch:06d}.safetensors"


def kept_epochs(folder: str | Path) -> list[int]:
    """Epochs whose weights are on disk, ascending, besides the last; empty unless the run had ``keep_every``."""
    return sorted(int(path.stem.removeprefix("epoch-")) for path in (Path(folder) / KEPT).glob("epoch-*.safetensors"))


def last_epoch(folder: Path) -> int:
    """Passes over the train set of a run that has ended, rounded up."""
    return -int(-float(read_json(folder / "result.json")["epochs"]) // 1)


#: changed whenever the same config would give other numbers
FORMAT = 3


FINAL_PART = "part-final.parquet"


FINAL_STEPS = "steps-final.parquet"


#: what a process killed before config.json was there may leave
_BEFORE_CONFIG = {".lock", ".config.json.part", "error.txt"}
