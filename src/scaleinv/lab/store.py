"""A run folder while it is written: config, metrics in parts, checkpoints, result. See docs/architecture.md.

Rows are held in memory until the next checkpoint, which writes them as one part and names all parts that belong to it.
So whatever a killed run wrote after its last checkpoint is known and cut, and rows and weights never disagree.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from scaleinv.errors import UserError
from scaleinv.lab.checkpoint import Checkpoint, load_newest, save_checkpoint, write_weights
from scaleinv.lab.config import DERIVED, FORMAT, RunConfig
from scaleinv.lab.files import Lock, disk_errors, read_json, sha256, sync, write_json
from scaleinv.lab.rows import Row
from scaleinv.lab.start import kept_file

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("epoch", pa.int64()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("quantity", pa.string()),
        ("value", pa.float64()),
    ]
)
FINAL_PART = "part-final.parquet"
FINAL_STEPS = "steps-final.parquet"
#: what result.json must hold to count
_RESULT = {"status": str, "message": str, "steps": int, "epochs": float, "steps_per_epoch": int, "timing": dict}
#: what a process killed before config.json was there may leave
_BEFORE_CONFIG = {".lock", ".config.json.part", "error.txt"}


def read_config(folder: Path) -> RunConfig | None:
    """The config of a run folder; ``None`` where there is none. A damaged file is a :class:`UserError`."""
    path = folder / "config.json"
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise UserError(f"{path} is not the config of a run; choose another --out")
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path} has the format {content.get('format')}, this version writes {FORMAT}; choose another --out"
        )
    return RunConfig.from_dict(content["config"], str(path))


def read_result(path: Path) -> dict[str, Any]:
    """result.json of a run that has ended; a :class:`UserError` if it is damaged."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not the result of a run")
    for name, kind in _RESULT.items():
        if not isinstance(content.get(name), (int, float) if kind is float else kind):
            raise UserError(f"{path} is damaged ({name} is {content.get(name)!r})")
    return content


class RunStore:
    """Open a run folder for writing; only one process can. Use as a context manager."""

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        environment: Mapping[str, Any],
        *,
        lineage: Mapping[str, Any] | None = None,
        wait: float = 0.0,
    ) -> None:
        self.folder = folder
        self._metrics, self._checkpoints = folder / "metrics", folder / "checkpoints"
        self._rows: list[Row] = []
        self._steps: list[pa.Table] = []
        self._parts: dict[str, str] = {}  # name to sha256
        _present(folder, config)  # refuse before anything is written
        self._lock = Lock(folder, wait=wait)
        try:
            present = _present(folder, config)
        except UserError:
            self._lock.release()
            raise
        if present is None:
            content = {"config": config.to_dict(), "identity": config.identity(), "environment": dict(environment)}
            if lineage is not None:
                content["lineage"] = dict(lineage)
            write_json(folder / "config.json", {"format": FORMAT, **content})
        for path in (self._metrics, self._checkpoints):
            with disk_errors(path):
                path.mkdir(exist_ok=True)

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def result(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The content of result.json, if the run has ended; a damaged one is no result and told."""
        path = self.folder / "result.json"
        if not path.exists():
            return None, []
        try:
            return read_result(path), []
        except UserError as error:
            return None, [f"{error}; it is written anew from the last checkpoint"]

    def resume(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint and what there is to say; metrics that came after it are cut."""
        checkpoint, complaints = load_newest(self._checkpoints, self._metrics)
        self._parts = dict(checkpoint.parts) if checkpoint else {}
        if complaints:
            where = f"goes on from {checkpoint.folder.name}" if checkpoint else "starts again: no checkpoint is left"
            complaints.append(f"the run {where}")
        self._drop_stale_parts()
        return checkpoint, complaints

    def _drop_stale_parts(self) -> None:
        with disk_errors(self._metrics):
            for pattern in ("part-*.parquet", "steps-*.parquet", ".part-*.part", ".steps-*.part"):
                for path in self._metrics.glob(pattern):
                    if path.name not in self._parts:
                        path.unlink()

    def append(self, rows: Sequence[Row]) -> None:
        """Take rows; they are on the disk after the next :meth:`checkpoint`."""
        self._rows.extend(rows)

    def append_steps(self, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Take the columns of steps that follow those taken before; written as :meth:`append` writes rows."""
        self._steps.extend(pa.table(dict(block)) for block in blocks)

    def keep_weights(self, epoch: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Keep the weights after ``epoch`` for good, whole or not at all."""
        target = kept_file(self.folder, epoch)
        part = target.with_name(f".{target.name}.part")
        with disk_errors(target):
            target.parent.mkdir(exist_ok=True)
            write_weights(part, weights)
            sync(part)
            part.replace(target)

    def checkpoint(self, step: int, weights: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Write the rows taken since the last call, then weights and state."""
        if self._rows:
            self._write_next("part", _table(self._rows))
            self._rows = []
        if self._steps:
            self._write_next("steps", pa.concat_tables(self._steps).combine_chunks())
            self._steps = []
        save_checkpoint(self._checkpoints, step=step, parts=self._parts, weights=weights, state=state)

    def _write_next(self, kind: str, table: pa.Table) -> None:
        name = f"{kind}-{sum(part.startswith(kind) for part in self._parts):05d}.parquet"
        self._parts[name] = _write_part(self._metrics / name, table)

    def finish(
        self, step: int, weights: Mapping[str, torch.Tensor], state: Mapping[str, Any], result: Mapping[str, Any]
    ) -> None:
        """Join all parts of a kind into one, save the last checkpoint (the only one that stays) and, last of all,
        result.json.
        """
        if FINAL_PART not in self._parts:  # else it was killed within this function, after the checkpoint
            rows = self._joined("part", [_table(self._rows)])
            steps = self._joined("steps", self._steps)
            self._rows, self._steps = [], []
            self._parts = {FINAL_PART: _write_part(self._metrics / FINAL_PART, rows)}
            if steps.num_columns:
                self._parts[FINAL_STEPS] = _write_part(self._metrics / FINAL_STEPS, steps)
            save_checkpoint(self._checkpoints, step=step, parts=self._parts, weights=weights, state=state, keep=1)
        self._drop_stale_parts()
        with disk_errors(self.folder):
            for damaged in self._checkpoints.glob("damaged-*"):
                shutil.rmtree(damaged, ignore_errors=True)
            (self.folder / "error.txt").unlink(missing_ok=True)
        self.write_result(result)

    def _joined(self, kind: str, waiting: Sequence[pa.Table]) -> pa.Table:
        tables = [pq.read_table(self._metrics / name) for name in self._parts if name.startswith(kind)]
        tables = [*tables, *waiting]
        return pa.concat_tables(tables).combine_chunks() if tables else pa.table({})

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json: from now on the run has ended."""
        write_json(self.folder / "result.json", dict(result))


def _present(folder: Path, config: RunConfig) -> RunConfig | None:
    """The config that is there, if it is this run's; a :class:`UserError` if the folder is anything else."""
    if (folder / "sweep-config.json").exists():
        raise UserError(f"{folder} is the folder of a sweep; choose another --out for a single run")
    present = read_config(folder)
    if present is not None and present != config:
        raise UserError(f"{folder} holds another run ({_difference(present, config)}); choose another --out")
    if present is None and folder.exists():
        if not folder.is_dir():
            raise UserError(f"{folder} is a file, not a folder; choose another --out")
        if any(p.name not in _BEFORE_CONFIG for p in folder.iterdir()):
            raise UserError(f"{folder} is not empty and not a run folder; choose another --out")
    return present


def _difference(present: RunConfig, wanted: RunConfig) -> str:
    theirs, ours = present.to_dict(), wanted.to_dict()
    differ = [name for name in ours if theirs[name] != ours[name] and name not in DERIVED]
    parts = [f"{name} {theirs[name]} there, {ours[name]} here" for name in differ]
    return "; ".join(parts[:3]) + ("; ..." if len(parts) > 3 else "")


def _table(rows: Sequence[Row]) -> pa.Table:
    columns = zip(*rows) if rows else ((),) * len(SCHEMA)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA)], schema=SCHEMA)


def _write_part(path: Path, table: pa.Table) -> str:
    """Write a part whole or not at all; its sha256."""
    part = path.with_name(f".{path.name}.part")
    with disk_errors(path):
        try:
            pq.write_table(table, part, compression="zstd")
            sync(part)
            checksum = sha256(part)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    return checksum
