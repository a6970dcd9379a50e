"""Find the logs within a folder that a tool made: TensorBoard, Lightning, the Hugging Face Trainer, Keras, MLflow."""

import re
from pathlib import Path

from scaleinv.analysis.periods.logs.mlflow import is_metric
from scaleinv.analysis.periods.logs.tensorboard import is_event_file
from scaleinv.errors import UserError

#: how deep a folder is searched, and how many files of it are looked at
_DEPTH, _MOST = 4, 20_000
#: names of logs, the likeliest first
_FILES = ("metrics.csv", "trainer_state.json", "history.csv", "log.csv", "training.log", "metrics.jsonl", "log.jsonl",
          "summary.csv", "results.csv", "log.txt", "train.log", "main.log")  # fmt: skip


def files_of(folder: Path) -> list[list[Path]]:
    """Find the log of one run in a folder: files that belong together, such as event files, in one list.

    Errors: UserError where there is none, or that of several runs.
    """
    files = _walk(folder)
    events: dict[Path, list[Path]] = {}
    for path in files:
        if is_event_file(path):
            events.setdefault(path.parent, []).append(path)
    if events:
        return [events[_one(folder, events)]]
    states = [path for path in files if path.name == "trainer_state.json"]
    own = [path for path in states if path.parent == folder]
    if states:
        return [[own[0] if own else max(states, key=_checkpoint)]]
    for name in _FILES:
        found = {path.parent: [path] for path in files if path.name == name or path.name == f"{name}.gz"}
        if found:
            return [found[_one(folder, found)]]
    runs: dict[Path, list[Path]] = {}
    for path in files:
        above = [parent for parent in path.parents if parent.name == "metrics" and parent.is_relative_to(folder)]
        if above and is_metric(path):
            runs.setdefault(above[-1], []).append(path)
    if runs:
        return [runs[_one(folder, runs)]]
    if any(path.suffix == ".wandb" for path in files):
        raise UserError(
            f"{folder} is an offline run of W&B, whose form is not read; export it: "
            "wandb.Api().run(...).history(samples=10**6).to_csv('log.csv')"
        )
    raise UserError(
        f"{folder} has neither sweep-config.json nor config.json, and no log that is known (events.out.tfevents..., "
        "metrics.csv, trainer_state.json, ...); name the file of the log"
    )


def _walk(folder: Path, depth: int = _DEPTH) -> list[Path]:
    found: list[Path] = []
    waiting = [(folder, depth)]
    while waiting and len(found) < _MOST:
        here, left = waiting.pop()
        try:
            entries = sorted(here.iterdir())
        except OSError as error:
            raise UserError(f"cannot read {here}: {error.strerror}") from None
        found += [entry for entry in entries if entry.is_file()]
        if left:
            waiting += [(e, left - 1) for e in reversed(entries) if e.is_dir() and not e.is_symlink()]
    return found


def _one(folder: Path, found: dict[Path, list[Path]]) -> Path:
    """Choose the only run; of a writer's folder beside those of its ``add_scalars``, the writer's own."""
    if folder in found or len(found) == 1:
        return folder if folder in found else next(iter(found))
    train = [path for path in found if path.name in ("train", "training")]
    if len(train) == 1 and all(path.parent == train[0].parent for path in found):  # Keras: train/ and validation/
        return train[0]
    names = ", ".join(str(path.relative_to(folder)) for path in sorted(found)[:4])
    more = ", ..." if len(found) > 4 else ""
    raise UserError(f"{folder} holds the logs of {len(found)} runs ({names}{more}); name one of them")


def _checkpoint(path: Path) -> tuple[int, str]:
    match = re.search(r"checkpoint-(\d+)", str(path))
    return (int(match.group(1)) if match else -1, str(path))
