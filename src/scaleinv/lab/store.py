"""A run folder while it is written: config, metrics in parts, checkpoints, result. See docs/architecture.md.

Rows are held in memory until the next checkpoint, which writes them as one part and names all parts that belong to it. So whatever
a killed run wrote after its last checkpoint is known and cut, and rows and weights never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from scaleinv.errors import UserError
from scaleinv.lab.checkpoint import Checkpoint, load_newest, save_checkpoint
from scaleinv.lab.config import FORMAT, RunConfig
from scaleinv.lab.files import Lock, disk_errors, read_json, write_json
from scaleinv.lab.rows import Row

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


def read_config(folder: Path) -> RunConfig | None:
    """The config of a run folder; ``None`` where there is none. A damaged file is a :class:`UserError`."""
    path = folder / "config.json"
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise UserError(f"{path} is not the config of a run; choose another --out")
    if content.get("format") != FORMAT:
        raise UserError(f"{path} has the format {content.get('format')}, this version writes {FORMAT}; choose another --out")
    return RunConfig.from_dict(content["config"], str(path))


class RunStore:
    """Open a run folder for writing; only one process can. Use as a context manager."""

    def __init__(self, folder: Path, config: RunConfig, environment: Mapping[str, Any], *, wait: float = 0.0) -> None:
        self.folder = folder
        self._metrics, self._checkpoints = folder / "metrics", folder / "checkpoints"
        self._rows: list[Row] = []
        self._parts: list[str] = []
        _present(folder, config)  # refuse before anything is written
        self._lock = Lock(folder, wait=wait)
        try:
            present = _present(folder, config)
        except UserError:
            self._lock.release()
            raise
        with disk_errors(folder):
            self._metrics.mkdir(exist_ok=True)
            self._checkpoints.mkdir(exist_ok=True)
        if present is None:
            write_json(
                folder / "config.json",
                {
                    "format": FORMAT,
                    "config": config.to_dict(),
                    "identity": config.identity(),
                    "environment": dict(environment),
                },
            )

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def result(self) -> dict[str, Any] | None:
        """The content of result.json, if the run has ended."""
        path = self.folder / "result.json"
        return read_json(path) if path.exists() else None

    def resume(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint and what there is to say; metrics that came after it are cut."""
        checkpoint, complaints = load_newest(self._checkpoints)
        while checkpoint is not None:
            missing = [name for name in checkpoint.parts if not _readable(self._metrics / name)]
            if not missing:
                break
            complaints.append(f"checkpoint {checkpoint.folder.name} is passed over: metrics/{missing[0]} is missing or damaged")
            with disk_errors(checkpoint.folder):
                checkpoint.folder.rename(checkpoint.folder.with_name(f"damaged-{checkpoint.folder.name}"))
            checkpoint, more = load_newest(self._checkpoints)
            complaints += more
        self._parts = list(checkpoint.parts) if checkpoint else []
        if complaints and checkpoint is None:
            complaints.append("no whole checkpoint is left: the run starts again")
        self._drop_stale_parts()
        return checkpoint, complaints

    def _drop_stale_parts(self) -> None:
        with disk_errors(self._metrics):
            for path in self._metrics.iterdir():
                if path.name not in self._parts:
                    path.unlink()

    def append(self, rows: Sequence[Row]) -> None:
        """Take rows; they are on the disk after the next :meth:`checkpoint`."""
        self._rows.extend(rows)

    def checkpoint(self, step: int, weights: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Write the rows taken since the last call, then weights and state."""
        if self._rows:
            name = f"part-{len(self._parts):05d}.parquet"
            _write_part(self._metrics / name, _table(self._rows))
            self._parts.append(name)
            self._rows = []
        save_checkpoint(self._checkpoints, step=step, parts=tuple(self._parts), weights=weights, state=state)

    def finish(
        self, step: int, weights: Mapping[str, torch.Tensor], state: Mapping[str, Any], result: Mapping[str, Any]
    ) -> None:
        """Join all parts into one, save the last checkpoint and, last of all, result.json."""
        tables = [pq.read_table(self._metrics / name, schema=SCHEMA) for name in self._parts if name != FINAL_PART]
        if self._parts != [FINAL_PART]:
            _write_part(self._metrics / FINAL_PART, pa.concat_tables([*tables, _table(self._rows)]).combine_chunks())
        self._rows, self._parts = [], [FINAL_PART]
        save_checkpoint(self._checkpoints, step=step, parts=tuple(self._parts), weights=weights, state=state)
        self._drop_stale_parts()
        self.write_result(result)

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
        known = {".lock", "metrics", "checkpoints", ".config.json.part"}
        if any(p.name not in known for p in folder.iterdir()):
            raise UserError(f"{folder} is not empty and not a run folder; choose another --out")
    return present


def _difference(present: RunConfig, wanted: RunConfig) -> str:
    theirs, ours = present.to_dict(), wanted.to_dict()
    parts = [f"{name} {theirs[name]} there, {ours[name]} here" for name in ours if theirs[name] != ours[name]]
    return "; ".join(parts[:3]) + ("; ..." if len(parts) > 3 else "")


def _table(rows: Sequence[Row]) -> pa.Table:
    columns = list(zip(*rows)) if rows else [[] for _ in SCHEMA]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA)], schema=SCHEMA)


def _write_part(path: Path, table: pa.Table) -> None:
    part = path.with_name(f".{path.name}.part")
    with disk_errors(path):
        pq.write_table(table, part, compression="zstd")
        part.replace(path)


def _readable(path: Path) -> bool:
    try:
        pq.read_schema(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True
