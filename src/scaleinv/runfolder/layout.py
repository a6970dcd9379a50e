"""Say what lies where in a run folder, and which versions of it are read; docs/architecture.md does so in words.

::

    RUN/config.json        format, config, identity, environment, lineage; written first
    RUN/metrics/           part-*.parquet: rows (runfolder/rows.py); steps-*.parquet: one row an optimizer step
    RUN/metrics.jsonl      the rows of a Monitor that had no pyarrow
    RUN/alerts.jsonl       what a Monitor said, a line each
    RUN/checkpoints/       step-N/: weights, state and a manifest of checksums
    RUN/weights/           weights kept for good, by epoch
    RUN/progress.json      how far a run in training is
    RUN/manifest.json      the files of metrics/ and weights/ and the files of lines, with their checksums
    RUN/result.json        written last: the run has ended
    RUN/.lock              held by the process that writes
"""

import math
import re
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.runfolder.files import LINK
from scaleinv.runfolder.manifest import MANIFEST, read_manifest
from scaleinv.runfolder.seal import HEADS, checking, read_object

#: of the folder. 4: the config of a monitored run has the traits of its optimizers; NaN in alerts is null
FORMAT = 4
FORMATS_READ = (3, 4)
#: changed whenever the same config would give other numbers; part of a run's identity
NUMBERS = 3

#: TASK: of a folder that a launcher works on: in place of a run's config, a function to call
CONFIG, SWEEP_CONFIG, TASK = HEADS
RESULT, LOCK, PROGRESS = "result.json", ".lock", "progress.json"
#: of a sweep: the regime map, beside what was asked for
SWEEP_MAP = "sweep.json"
#: traceback, where a bug ended the run
ERROR = "error.txt"
LINES, ALERTS = "metrics.jsonl", "alerts.jsonl"
PARTS, FINAL_PART = "part-*.parquet", "part-final.parquet"
STEPS, FINAL_STEPS = "steps-*.parquet", "steps-final.parquet"
#: of a sweep or a run: what was measured of its loss landscape, by part
LANDSCAPE = "landscape.json"
LANDSCAPE_PARTS = ("sharpness", "paths", "walks", "averages", "minima")
#: what a process killed before config.json was there may leave
BEFORE_CONFIG = {LOCK, LINK, f".{CONFIG}.part", MANIFEST, f".{MANIFEST}.part", ERROR}


def part_name(kind: str, number: int) -> str:
    """Name a part: ``part-00003.parquet``; ``kind``: part or steps."""
    return f"{kind}-{number:05d}.parquet"


def next_part(metrics: Path) -> int:
    """Find the number of the part that follows those in the folder."""
    numbers = [part.stem[len("part-") :] for part in metrics.glob(PARTS)]
    return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1


def kept_file(folder: Path, epoch: int) -> Path:
    """Name the file in which a run keeps the weights it had after ``epoch``."""
    return folder / "weights" / f"epoch-{epoch:06d}.safetensors"


def kept_epochs(folder: str | Path) -> list[int]:
    """List the epochs whose weights a run has kept, ascending, without the last; empty without ``keep_every``."""
    manifest = read_manifest(Path(folder)) if checking() else None
    if manifest is None:
        names = [path.name for path in (Path(folder) / "weights").glob("epoch-*.safetensors")]
    else:  # also one that is gone: who reads it is told
        names = [Path(name).name for name in manifest.names("weights/epoch-*.safetensors")]
    numbers = (name[len("epoch-") : -len(".safetensors")] for name in names)
    return sorted(int(number) for number in numbers if re.fullmatch("[0-9]{1,18}", number))


def last_epoch(folder: Path) -> int:
    """Count the passes over the train set of a run that has ended, rounded up."""
    epochs = read_object(folder / RESULT).get("epochs")
    if isinstance(epochs, bool) or not isinstance(epochs, (int, float)) or not math.isfinite(epochs):
        raise UserError(f"{folder / RESULT} is not the result of a run (epochs is {epochs!r}); train the run again")
    return -int(-epochs // 1)
