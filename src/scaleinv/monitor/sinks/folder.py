"""A run folder, as docs/architecture.md has it: ``scaleinv report DIR`` reads it, during the run and after."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from scaleinv.errors import UserError
from scaleinv.monitor.groups import FREE
from scaleinv.monitor.history import Record
from scaleinv.monitor.quantities import QUANTITIES
from scaleinv.monitor.rates import engine, law_of
from scaleinv.monitor.sinks.base import Sink
from scaleinv.theory.guessing import chance_error as error_of_equal_classes

if TYPE_CHECKING:
    from scaleinv.monitor.alerts import Alert
    from scaleinv.monitor.monitor import Monitor

_COLUMNS = ("step", "epoch", "split", "group", "quantity", "value")
_FORMAT = 3


class RunFolder(Sink):
    """Writes ``config.json``, ``metrics/``, ``alerts.jsonl`` and, on closing, ``result.json``.

    Metrics are Parquet parts (needs pyarrow); without pyarrow, or with ``form="jsonl"``, one file ``metrics.jsonl``
    with a row a line, which :func:`to_parquet` turns into parts. A row's ``epoch`` is ``monitor.epoch`` if that was
    told, else the step (``config["time"]`` says which it was at the start). The split is ``online``. A folder that
    holds another run is refused; one of the same model and optimizer is gone on with.

    folder: created if it is not there.  everything: also write the tensors that are not scale-invariant, their kind
    behind their names; without it they are written only where no scale-invariant group is known.  rows: written in
    parts of about so many rows, or after ``seconds``, whatever is first.

    What a loss and an error are compared with, where regimes are judged; it goes into config.json, and what is not told
    is not judged.  classes: of a classifier.  chance_error: error of the best constant answer (default: 1 - 1/classes,
    right for equally frequent classes).  constant_loss: loss of the best constant answer (of cross-entropy and equally
    frequent classes ``math.log(classes)``).
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        form: str | None = None,
        everything: bool = False,
        rows: int = 50_000,
        seconds: float = 60.0,
        classes: int | None = None,
        chance_error: float | None = None,
        constant_loss: float | None = None,
    ) -> None:
        self._told = _levels(classes, chance_error, constant_loss)
        if form not in (None, "parquet", "jsonl"):
            raise UserError(f"form={form!r}: choose parquet or jsonl")
        self.folder = Path(folder)
        self._wanted, self._limit, self._seconds = form, rows, seconds
        self._rows: list[tuple[int, int, str, str, str, float]] = []
        self._lines: IO[str] | None = None
        self._part = 0
        self._written = time.monotonic()
        self._started = time.time()
        self._everything = everything
        self._monitor: Monitor | None = None
        self._kinds: dict[str, str] = {}
        self._first = 0

    def open(self, monitor: Monitor) -> None:
        self._monitor, self._first = monitor, monitor.step
        self.form = self._wanted or ("parquet" if _has_pyarrow() else "jsonl")
        if self.form == "parquet" and not _has_pyarrow():
            raise UserError(
                "Parquet files need pyarrow: pip install 'scaleinv[lab]', or RunFolder(folder, form='jsonl')"
            )
        config = {**_config(monitor), **self._told}
        same = {
            k: config[k] for k in ("source", "model", "optimizer", "groups")
        }  # not the lr, which a schedule changes
        identity = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]
        head = {"format": _FORMAT, "config": config, "identity": identity, "environment": _environment(monitor)}
        path = self.folder / "config.json"
        try:
            (self.folder / "metrics").mkdir(parents=True, exist_ok=True)
            if path.exists():
                try:
                    content = json.loads(path.read_text("utf-8"))
                    present = content.get("identity")
                except (ValueError, AttributeError):
                    present = None
                if present != identity:
                    raise UserError(f"{self.folder} holds another run; choose another folder")
                (self.folder / "result.json").unlink(missing_ok=True)  # the run goes on
                if self._told:  # perhaps only now
                    _write(path, {**content, "config": {**content["config"], **self._told}})
            elif any(p.name != "metrics" for p in self.folder.iterdir()):
                raise UserError(f"{self.folder} is not empty and not a run folder; choose another folder")
            else:
                _write(path, head)
            self._part = len(list((self.folder / "metrics").glob("part-*.parquet")))
            self._alerts = (self.folder / "alerts.jsonl").open("a", encoding="utf-8")
            if self.form == "jsonl":
                self._lines = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror or error}; choose another folder") from error

    def write(self, record: Record) -> None:
        epoch = record.step if record.epoch is None else record.epoch
        if record.told:
            self._rows.append((record.step, epoch, "online", "total", "loss", record.loss))
        for name, row in zip(record.groups, record.values.tolist()):
            label = self._label(name)
            if label is None:
                continue
            for quantity, value in zip(QUANTITIES, row):
                if value == value:
                    self._rows.append((record.step, epoch, "online", label, quantity, value))
        if len(self._rows) >= self._limit or time.monotonic() - self._written > self._seconds:
            self.flush()

    def _label(self, name: str) -> str | None:
        """The name of a group in the folder; None if it is left out."""
        assert self._monitor is not None
        if name != "total" and name not in self._kinds:
            self._kinds = {g.name: g.kind for g in self._monitor.groups}
        kind = self._kinds.get(name, FREE)
        if kind == FREE:
            return name
        known = any(k == FREE for k in self._kinds.values())
        return f"{name} ({kind})" if self._everything or not known else None

    def alert(self, alert: Alert) -> None:
        self._alerts.write(json.dumps(_plain(alert.to_dict())) + "\n")
        self._alerts.flush()

    def flush(self) -> None:
        """Put what was taken on the disk."""
        if self._lines is not None:
            for row in self._rows:
                cells: list[Any] = [*row[:5], _number(row[5])]
                self._lines.write(json.dumps(dict(zip(_COLUMNS, cells))) + "\n")
            self._lines.flush()
        elif self._rows:
            write_part(self.folder / "metrics" / f"part-{self._part:05d}.parquet", self._rows)
            self._part += 1
        self._rows = []
        self._written = time.monotonic()

    def close(self) -> None:
        self.flush()
        self._alerts.close()
        if self._lines is not None:
            self._lines.close()
        steps = 0 if self._monitor is None else self._monitor.step
        timing = {"seconds": time.time() - self._started, "steps_here": steps - self._first}
        result = {"status": "finished", "steps": steps, "message": "measured by Monitor", "timing": timing}
        _write(self.folder / "result.json", result)


def to_parquet(folder: str | Path) -> Path:
    """Turn ``metrics.jsonl`` of a run folder into a Parquet part beside the others; the path of the part. Needs
    pyarrow.
    """
    source, metrics = Path(folder) / "metrics.jsonl", Path(folder) / "metrics"
    if not source.exists():
        raise UserError(f"{folder} has no metrics.jsonl")
    if not _has_pyarrow():
        raise UserError("Parquet files need pyarrow: pip install 'scaleinv[lab]'")
    rows = []
    with source.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            try:
                item = json.loads(line)
                rows.append((*(item[name] for name in _COLUMNS[:5]), float(item["value"])))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{source}, line {number} is damaged ({error}); remove the line") from error
    metrics.mkdir(exist_ok=True)
    target = metrics / f"part-{len(list(metrics.glob('part-*.parquet'))):05d}.parquet"
    write_part(target, rows)
    source.rename(source.with_suffix(".jsonl.done"))
    return target


def write_part(path: Path, rows: list[Any]) -> None:
    """Rows as one Parquet part; whole or absent."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (pa.int64(), pa.int64(), pa.string(), pa.string(), pa.string(), pa.float64())
    columns: list[Any] = list(zip(*rows)) or [()] * len(_COLUMNS)
    table = pa.table({name: pa.array(column, kind) for name, column, kind in zip(_COLUMNS, columns, types)})
    part = path.with_name(f".{path.name}.part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)


def _has_pyarrow() -> bool:
    import importlib.util

    return importlib.util.find_spec("pyarrow") is not None


def _config(monitor: Monitor) -> dict[str, Any]:
    """What tells this run from another: model, optimizers and their first options."""
    optimizers: list[dict[str, Any]] = []
    for one in monitor.optimizers:
        groups = [
            {k: _plain(v) for k, v in g.items() if k not in ("params", "param_names") and _simple(v)}
            for g in engine(one).param_groups
        ]
        optimizers.append({"class": type(engine(one)).__name__, "law": law_of(one), "groups": groups})
    return {
        "source": "monitor",
        "model": type(monitor.model).__name__,
        "optimizer": "+".join(o["class"] for o in optimizers),
        "optimizers": optimizers,
        "time": "step" if monitor.epoch is None else "epoch",
        "groups": {g.name: g.kind for g in monitor.groups},
    }


def _levels(classes: int | None, chance_error: float | None, constant_loss: float | None) -> dict[str, Any]:
    """What was told of the levels that a run is compared with; a UserError for values that make no sense."""
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int) or classes < 2):
        raise UserError(f"classes={classes!r}: give the number of classes, at least 2, or leave it out")
    if chance_error is not None and not 0 < chance_error < 1:
        raise UserError(f"chance_error={chance_error!r}: give a fraction between 0 and 1, or leave it out")
    if constant_loss is not None and not 0 < constant_loss < float("inf"):
        raise UserError(f"constant_loss={constant_loss!r}: give a positive number, or leave it out")
    if chance_error is None and classes is not None:
        chance_error = error_of_equal_classes(classes)
    told = {"classes": classes, "chance_error": chance_error, "constant_loss": constant_loss}
    return {name: value for name, value in told.items() if value is not None}


def _environment(monitor: Monitor) -> dict[str, Any]:
    import scaleinv

    devices = sorted({str(t.device) for g in monitor.groups for t in g.tensors})
    return {
        "scaleinv": scaleinv.__version__,
        "argv": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "device": ", ".join(devices),
    }


def _simple(value: Any) -> bool:
    return isinstance(value, (int, float, bool, str, tuple, list))


def _number(value: float) -> float | str:
    return value if value - value == 0 else str(value)  # JSON has no word for NaN and infinities; float() reads these


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _write(path: Path, value: Any) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    os.replace(part, path)
