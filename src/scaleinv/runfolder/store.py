"""Write a run folder: config, metrics in parts, checkpoints, result. See docs/architecture.md.

Rows are held in memory until the next checkpoint, which writes them as one part and names all parts that belong to it.
So whatever a killed run wrote after its last checkpoint is known and cut, and rows and weights never disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from scaleinv.errors import UserError, needs
from scaleinv.runfolder.checkpoint import (
    Checkpoint,
    keep_newest,
    list_checkpoints,
    load_newest,
    save_checkpoint,
    weights_bytes,
)
from scaleinv.runfolder.files import Lock, content_of, disk_errors, own_folder, remove_tree, write_bytes
from scaleinv.runfolder.layout import (
    FINAL_PART,
    FINAL_STEPS,
    PARTS,
    PROGRESS,
    RESULT,
    STEPS,
    kept_epochs,
    kept_file,
    part_name,
)
from scaleinv.runfolder.manifest import FileState, Manifest, read_manifest, state_of
from scaleinv.runfolder.rows import Row, part_bytes, read_part, to_table
from scaleinv.runfolder.seal import Damaged, write_sealed
from scaleinv.runfolder.write import complete_head, read_result, write_head

with needs("lab"):
    import pyarrow as pa


def left_over(folder: Path) -> list[Path]:
    """List what a killed process left in the folder of a run that has ended: parts of files, all checkpoints but the
    last, progress.json.
    """
    found = [path for below in (".", "metrics", "weights", "checkpoints") for path in (folder / below).glob(".*.part")]
    found += [*list_checkpoints(folder / "checkpoints")[1:], *(folder / "checkpoints").glob("replaced-*")]
    return [*found, folder / PROGRESS] if (folder / PROGRESS).exists() else found


def clean_ended(folder: Path) -> None:
    """Remove :func:`left_over`; needs the folder's lock. What cannot be removed stays: the run is whole without."""
    for path in left_over(folder):
        if path.is_dir():
            remove_tree(path)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)


class RunStore:
    """Open a run folder for writing; only one process can. Use as a context manager.

    ``present``: called before anything is written and once more under the lock; whether the folder holds this run
    already, a :class:`UserError` if it holds anything else.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        identity: str,
        environment: Mapping[str, Any],
        *,
        present: Callable[[], bool],
        lineage: Mapping[str, Any] | None = None,
        problem: Mapping[str, Any] | None = None,
        wait: float = 0.0,
    ) -> None:
        self.folder = folder
        self._metrics, self._checkpoints = folder / "metrics", folder / "checkpoints"
        self._complaints: list[str] = []
        self._rows: list[Row] = []
        self._steps: list[pa.Table] = []
        self._parts: dict[str, FileState] = {}  # by name
        present()
        self._lock = Lock(folder, wait=wait)
        try:
            if not present():
                write_head(folder, config, identity, environment, lineage, problem)
            elif problem is not None:
                complete_head(folder, problem)
            for path in (self._metrics, self._checkpoints):
                own_folder(path)
            self._manifest = self._listed()
        except BaseException:
            self._lock.release()
            raise

    def _listed(self) -> Manifest:
        """The files listed so far; a damaged list is made anew, with those files that a checkpoint vouches for."""
        try:
            found = read_manifest(self.folder)
        except Damaged as error:
            self._complaints.append(f"{error.args[0].partition(':')[0]}; the list is made anew from the checkpoint")
            return Manifest(self.folder)
        if found is not None:
            found.settle()
            return found
        files = (kept_file(self.folder, epoch) for epoch in kept_epochs(self.folder))  # an earlier version kept them
        return Manifest(self.folder, {f"weights/{file.name}": [state_of(content_of(file))] for file in files})

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def result(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Read result.json, if the run has ended; a damaged one is no result and told."""
        path = self.folder / RESULT
        if not path.exists():
            return None, []
        try:
            found = read_result(path)
            clean_ended(self.folder)
            return found, []
        except UserError as error:
            return None, [f"{error}; it is written anew from the last checkpoint"]

    def resume(self) -> tuple[Checkpoint | None, list[str]]:
        """Load the newest whole checkpoint, and say what there is to say; metrics that came after it are cut."""
        checkpoint, damaged = load_newest(self._checkpoints, self._metrics)
        complaints = self._complaints + damaged
        parts = checkpoint.parts if checkpoint else {}
        # just compared, so not read again for an XXH3: the part that joins them has one
        self._parts = {name: FileState((self._metrics / name).stat().st_size, parts[name]) for name in parts}
        for name, state in (checkpoint.kept if checkpoint else {}).items():
            self._manifest.files.setdefault(name, [state])
        if damaged:
            where = f"resumes from {checkpoint.folder.name}" if checkpoint else "starts again: no checkpoint is left"
            complaints.append(f"the run {where}")
        self._list_files()
        self._drop_stale_parts()
        return checkpoint, complaints

    def _list_files(self) -> None:
        """Make the list one of the parts that count now, and of the weights kept so far."""
        kept = {name: states for name, states in self._manifest.files.items() if name.startswith("weights/")}
        self._manifest.files = {**kept, **{f"metrics/{name}": [state] for name, state in self._parts.items()}}
        self._manifest.write()

    def _drop_stale_parts(self) -> None:
        with disk_errors(self._metrics):
            for pattern in (PARTS, STEPS, ".part-*.part", ".steps-*.part"):
                for path in self._metrics.glob(pattern):
                    if path.name not in self._parts:
                        path.unlink()
            for left in (self.folder / "weights").glob(".epoch-*.part"):  # of a killed process
                left.unlink()

    def append(self, rows: Sequence[Row]) -> None:
        """Take rows; they are on the disk after the next :meth:`checkpoint`."""
        self._rows.extend(rows)

    def append_steps(self, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Take the columns of steps that follow those taken before; written as :meth:`append` writes rows."""
        self._steps.extend(pa.table(dict(block)) for block in blocks)

    def keep_weights(self, epoch: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Keep the weights after ``epoch`` for good, whole or not at all."""
        self._lock.check()
        target = kept_file(self.folder, epoch)
        own_folder(target.parent)
        name, data = f"{target.parent.name}/{target.name}", weights_bytes(weights)
        state = state_of(data)
        if target.exists() and self._manifest.files.get(name) not in (None, [state]):
            self._manifest.replace(name, data)  # other bits, as another processor computes them
        else:
            write_bytes(target, data)
            self._manifest.files[name] = [state]
        self._manifest.write()

    def checkpoint(self, step: int, weights: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Write the rows taken since the last call, then weights and state."""
        self._lock.check()
        if self._rows:
            self._write_next("part", to_table(self._rows))
            self._rows = []
        if self._steps:
            self._write_next("steps", pa.concat_tables(self._steps).combine_chunks())
            self._steps = []
        self._save(step, weights, state)

    def _save(self, step: int, weights: Mapping[str, torch.Tensor], state: Mapping[str, Any], **options: Any) -> None:
        parts = {name: one.sha256 for name, one in self._parts.items()}
        kept = {n: states[0] for n, states in self._manifest.files.items() if n.startswith("weights/") and states[0]}
        save_checkpoint(self._checkpoints, step=step, parts=parts, weights=weights, state=state, kept=kept, **options)
        self._list_files()

    def _write_next(self, kind: str, table: pa.Table) -> None:
        name = part_name(kind, sum(part.startswith(kind) for part in self._parts))
        self._parts[name] = self._write_part(name, table)

    def _write_part(self, name: str, table: pa.Table) -> FileState:
        data = part_bytes(table)
        write_bytes(self._metrics / name, data)
        return state_of(data)

    def finish(
        self, step: int, weights: Mapping[str, torch.Tensor], state: Mapping[str, Any], result: Mapping[str, Any]
    ) -> None:
        """Join all parts of a kind, save the last checkpoint (the only one that stays) and, at last, result.json."""
        self._lock.check()
        if FINAL_PART not in self._parts:  # else it was killed within this function, after the checkpoint
            rows = self._joined("part", [to_table(self._rows)])
            steps = self._joined("steps", self._steps)
            self._rows, self._steps = [], []
            joined = {FINAL_PART: self._write_part(FINAL_PART, rows)}
            if steps.num_columns:
                joined[FINAL_STEPS] = self._write_part(FINAL_STEPS, steps)
            self._parts = joined
            self._save(step, weights, state, keep=1)
        self._drop_stale_parts()
        with disk_errors(self.folder):
            keep_newest(self._checkpoints, 1)
            for damaged in self._checkpoints.glob("damaged-*"):
                remove_tree(damaged)
            (self.folder / "error.txt").unlink(missing_ok=True)
        self.write_result(result)

    def _joined(self, kind: str, waiting: Sequence[pa.Table]) -> pa.Table:
        tables = [*(read_part(self._metrics / name) for name in self._parts if name.startswith(kind)), *waiting]
        return pa.concat_tables(tables).combine_chunks() if tables else pa.table({})

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json: from now on the run has ended."""
        write_sealed(self.folder / RESULT, dict(result))
