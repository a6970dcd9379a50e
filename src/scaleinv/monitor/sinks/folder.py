"""Write a run folder as docs/architecture.md has it, which ``scaleinv report DIR`` reads during the run and after."""

import contextlib
import hashlib
import json
import logging
import re
import secrets
import time
import weakref
from pathlib import Path
from typing import Any

import torch

from scaleinv.errors import UserError, how_to_install
from scaleinv.monitor.groups import FREE
from scaleinv.monitor.quantities import OPTIONAL, QUANTITIES
from scaleinv.monitor.rates import description
from scaleinv.monitor.records import Alert, Record
from scaleinv.monitor.sinks.base import Sink
from scaleinv.monitor.sinks.rows import Rows, has_pyarrow, steps_held
from scaleinv.monitor.state import MonitorState
from scaleinv.runfolder.environment import environment
from scaleinv.runfolder.files import Busy, Lock, disk_errors, json_text, own_folder, write_bytes
from scaleinv.runfolder.layout import BEFORE_CONFIG, CONFIG, LINES, RESULT, next_part, part_name
from scaleinv.runfolder.manifest import read_manifest, state_of
from scaleinv.runfolder.rows import Row, counts, part_bytes, read_lines, to_table
from scaleinv.runfolder.seal import read_object, read_sealed, rewrite_sealed, write_sealed
from scaleinv.runfolder.write import write_head
from scaleinv.theory.guessing import chance_error as error_of_equal_classes

_log = logging.getLogger("scaleinv")


class RunFolder(Sink):
    """Writes ``config.json``, ``metrics/``, ``alerts.jsonl`` and, on closing, ``result.json``.

    Metrics are Parquet parts (needs pyarrow); without pyarrow, or with ``form="jsonl"``, one file ``metrics.jsonl``
    with a row a line, which :func:`to_parquet` turns into parts. A row's ``epoch`` is ``monitor.epoch`` if that was
    told, else the step (``config["time"]`` says which it was at the start). The split is ``online``.

    A folder that holds a run is left as it is: this one goes to ``NAME-2`` (``-3``, ...), and that is said; the sink's
    ``folder`` then names it. Where model or optimizer differ, or another Monitor is at work, that is so when the
    Monitor is made, else at the first step, unless ``monitor.load_state_dict()`` was called before it. Then the run
    resumes at the step of that state, and rows from there on (of steps done after the state was saved) are left out.

    folder: created if it is not there.  everything: also write the tensors that are not scale-invariant, their kind
    behind their names; without it they are written only where no scale-invariant group is known.  rows: written in
    parts of about so many rows.  seconds: what was taken is on the disk after about so many seconds (the first rows at
    once), at an alert, and when the process ends, whether the monitor is closed or not.

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
        seconds: float = 5.0,
        classes: int | None = None,
        chance_error: float | None = None,
        constant_loss: float | None = None,
    ) -> None:
        self._told = _levels(classes, chance_error, constant_loss)
        if form not in (None, "parquet", "jsonl"):
            raise UserError(f"form={form!r}: choose parquet or jsonl")
        self.folder = Path(folder)
        self._wanted, self._limit, self._seconds = form, rows, seconds
        self._everything = everything
        self._rows: Rows | None = None
        self._started = time.monotonic()
        self._monitor: weakref.ref[MonitorState] | None = None
        self._kinds: dict[str, str] = {}
        self._first = 0
        self._held = 0  # steps of a run that is here already

    def open(self, monitor: MonitorState) -> None:
        self._monitor = weakref.ref(monitor)
        while not self._open(monitor):
            self._move()
        self._first, self._started = monitor.step, time.monotonic()

    def _move(self) -> None:
        """Take the next free name, and say so."""
        name = self.folder
        stem, number = name.name, 2
        if (match := re.fullmatch(r"(.+)-(\d+)", stem)) and (name.parent / match[1]).exists():
            stem, number = match[1], int(match[2]) + 1
        while (name.parent / f"{stem}-{number}").exists():
            number += 1
        self.folder = name.parent / f"{stem}-{number}"
        _log.warning("%s holds another run, which is left as it is; this one goes to %s", name, self.folder)

    def _open(self, monitor: MonitorState) -> bool:
        """Get the folder ready; False where another run has it."""
        lines = (self.folder / LINES).exists()
        self.form = self._wanted or ("parquet" if has_pyarrow() and not lines else "jsonl")
        if self.form == "parquet" and not has_pyarrow():
            raise UserError(
                f"Parquet files need pyarrow: {how_to_install('pyarrow', 'lab')}, or RunFolder(folder, form='jsonl')"
            )
        config = {**_config(monitor), **self._told}
        # not the lr, which a schedule changes
        same = {name: config[name] for name in ("source", "model", "optimizer", "groups")}
        identity = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]
        try:
            if self._is_of_another(identity):
                return False
            try:
                rows = Rows(self.folder, self.form, self._limit, self._seconds)
            except Busy:  # another Monitor, or a run, is at work there
                return False
            try:
                if self._is_of_another(identity):  # it began in between
                    rows.close()
                    return False
                held = steps_held(self.folder)
                if not held:
                    rows.cut(0)  # lines that are not whole, alerts
                    (self.folder / RESULT).unlink(missing_ok=True)
                    devices = sorted({str(t.device) for g in monitor.groups for t in g.tensors})
                    machine = environment(torch.get_num_threads(), ", ".join(devices))
                    write_head(self.folder, config, identity, machine, token=secrets.token_hex(8))
            except BaseException:
                rows.close()
                raise
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror or error}; choose another folder") from error
        self._rows, self._held, self._kinds = rows, held, {}
        # of a monitor that nobody closes: when nothing refers to this sink any more, and when the process ends
        self._final = weakref.finalize(self, _last, rows)
        return True

    def _is_of_another(self, identity: str) -> bool:
        """Tell whether the folder holds a run of another model or optimizer; raise where it holds something else."""
        path = self.folder / CONFIG
        if path.exists():
            with contextlib.suppress(ValueError, AttributeError):
                return bool(read_sealed(path).get("identity") != identity)
            return True
        if self.folder.exists() and any(p.name not in {"metrics", *BEFORE_CONFIG} for p in self.folder.iterdir()):
            raise UserError(f"{self.folder} is not empty and not a run folder; choose another folder")
        return False

    def start(self, step: int, resumed: bool) -> None:
        if self._rows is None:
            return
        monitor = self._watched()
        if self._held and not (resumed and step) and monitor is not None:
            _log.warning(
                "%s holds a run, logged up to step %s; to resume it give the monitor the state saved with its "
                "checkpoint before the first step: monitor.load_state_dict(state)", self.folder, self._held - 1
            )  # fmt: skip
            self._rows.close()
            self._final.detach()
            self._held = 0
            self._move()
            while not self._open(monitor):
                self._move()
        if resumed:
            self._rows.cut(step)
            (self.folder / RESULT).unlink(missing_ok=True)
            if self._told:  # perhaps only now
                content = read_object(self.folder / CONFIG)
                config = content.get("config")
                config = config if isinstance(config, dict) else {}
                rewrite_sealed(self.folder / CONFIG, {**content, "config": {**config, **self._told}})
        self._held, self._first = 0, step

    def write(self, record: Record) -> None:
        assert self._rows is not None
        epoch = record.step if record.epoch is None else record.epoch
        rows: list[Row] = []
        if record.told:
            rows.append(Row(record.step, epoch, "online", "total", "loss", record.loss))
        for name, row in zip(record.groups, record.values.tolist()):
            label = self._label(name)
            if label is None:
                continue
            named = ((q, v) for q, v in zip(QUANTITIES, row) if v == v and (q not in OPTIONAL or q in record.extra))
            rows += [Row(record.step, epoch, "online", label, q, v) for q, v in named]
        self._rows.add(rows)

    def _watched(self) -> MonitorState | None:
        return None if self._monitor is None else self._monitor()

    def _label(self, name: str) -> str | None:
        """Name a group in the folder; None if it is left out."""
        if name != "total" and name not in self._kinds and (monitor := self._watched()) is not None:
            self._kinds = {g.name: g.kind for g in monitor.groups}
        kind = self._kinds.get(name, FREE)
        if kind == FREE:
            return name
        return f"{name} ({kind})" if self._everything or FREE not in self._kinds.values() else None

    def alert(self, alert: Alert) -> None:
        assert self._rows is not None
        self._rows.alert(json_text(alert.to_dict()))

    def flush(self) -> None:
        """Put what was taken on the disk."""
        if self._rows is not None:
            self._rows.flush()

    def close(self) -> None:
        if self._rows is None:
            return
        self._rows.close()
        self._rows = None
        self._final.detach()
        if self._held:  # not a step was taken: what is here is not ours
            return
        monitor = self._watched()
        steps = 0 if monitor is None else monitor.step
        timing = {"seconds": time.monotonic() - self._started, "steps_here": steps - self._first}
        result = {"status": "finished", "steps": steps, "message": "measured by Monitor", "timing": timing}
        write_sealed(self.folder / RESULT, result)


def _last(rows: Rows) -> None:
    try:
        rows.close()
    except Exception as error:  # nobody is there to take it
        logging.getLogger("scaleinv").warning("the last rows of %s are lost: %s", rows.folder, error)


def to_parquet(folder: str | Path) -> Path:
    """Turn ``metrics.jsonl`` of a run folder into a Parquet part beside the others; its path. Needs pyarrow."""
    source, metrics = Path(folder) / LINES, Path(folder) / "metrics"
    if not counts(source):
        raise UserError(f"{folder} has no metrics.jsonl")
    if not has_pyarrow():
        raise UserError(f"Parquet files need pyarrow: {how_to_install('pyarrow', 'lab')}")
    with Lock(source.parent, advice="close the Monitor that writes there"), disk_errors(source):
        own_folder(metrics)
        target = metrics / part_name("part", next_part(metrics))
        data = part_bytes(to_table(read_lines(source, whole=True)))
        write_bytes(target, data)
        if (manifest := read_manifest(source.parent)) is not None:  # at once: the rows are in one of the two
            manifest.files = {name: states for name, states in manifest.files.items() if name != LINES}
            manifest.files[f"metrics/{target.name}"] = [state_of(data)]
            manifest.write()
        source.rename(source.with_suffix(".jsonl.done"))
    return target


def _config(monitor: MonitorState) -> dict[str, Any]:
    """Say what tells this run from another: model, optimizers and their first options."""
    optimizers = [description(one, monitor.said) for one in monitor.optimizers]
    return {
        "source": "monitor",
        "model": type(monitor.model).__name__,
        "optimizer": "+".join(o["class"] for o in optimizers),
        "optimizers": optimizers,
        "time": "step" if monitor.epoch is None else "epoch",
        "groups": {g.name: g.kind for g in monitor.groups},
    }


def _levels(classes: int | None, chance_error: float | None, constant_loss: float | None) -> dict[str, Any]:
    """Give what was told of the levels that a run is compared with; a UserError for values that make no sense."""
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int) or classes < 2):
        raise UserError(f"classes={classes!r}: give the number of classes, at least 2, or leave it out")
    if chance_error is not None and not 0 < chance_error < 1:
        raise UserError(f"chance_error={chance_error!r}: give a fraction between 0 and 1, or leave it out")
    if constant_loss is not None and not 0 < constant_loss < float("inf"):
        raise UserError(f"constant_loss={constant_loss!r}: give a positive number, or leave it out")
    if chance_error is None and classes is not None:
        chance_error = error_of_equal_classes(classes)
    levels = {"classes": classes, "chance_error": chance_error, "constant_loss": constant_loss}
    return {name: value for name, value in levels.items() if value is not None}
