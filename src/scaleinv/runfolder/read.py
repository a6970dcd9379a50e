"""Read run folders and sweep folders (their form: docs/architecture.md). Needs pyarrow and numpy, no torch.

A folder may be in use while it is read: a run without ``result.json`` has not ended and is readable, and so is a
sweep without ``sweep.json``. What cannot be read is a :class:`~scaleinv.errors.UserError` that names the file.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from scaleinv.errors import UserError, needs
from scaleinv.reading import parse_json
from scaleinv.runfolder.layout import (
    ALERTS,
    CONFIG,
    FINAL_PART,
    FORMATS_READ,
    LINES,
    PARTS,
    RESULT,
    SWEEP_CONFIG,
    SWEEP_MAP,
    TASK,
)
from scaleinv.runfolder.manifest import damaged, read_manifest
from scaleinv.runfolder.rows import (
    COLUMNS,
    TEXTS,
    counts,
    read_lines,
    read_part,
    read_parts,
    read_text_of_lines,
    to_table,
)
from scaleinv.runfolder.seal import checking, read_object
from scaleinv.runfolder.shown import run_frame, run_html, run_line, run_plot
from scaleinv.runfolder.stored import complete
from scaleinv.theory.optimizers import law_of

with needs("lab"):
    import pyarrow as pa
    import pyarrow.compute as pc


Key = tuple[str, str, str]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One quantity over a run: ``steps``, ``epochs`` and ``values``, each of shape (n,), in the order written."""

    steps: Ints
    epochs: Ints
    values: Floats


_EMPTY = Series(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64))


@dataclass(frozen=True)
class Run:
    """A run folder as read: its config, its environment, its result (None: not ended) and its metrics."""

    folder: Path
    config: Mapping[str, Any]
    identity: str
    environment: Mapping[str, Any]
    result: Mapping[str, Any] | None
    metrics: Mapping[Key, Series] = field(repr=False)
    lineage: Mapping[str, Any] | None = None  # of a run that starts from another one

    def __repr__(self) -> str:
        return run_line(self)

    def _repr_html_(self) -> str:
        return run_html(self)

    def to_pandas(self) -> Any:
        """Give every measured number as a tidy DataFrame: step, epoch, split, group, quantity, value. Needs pandas."""
        return run_frame(self)

    def plot(self, quantities: Sequence[str] | None = None, ax: Any = None) -> Any:
        """Draw quantities of the whole network (default: loss and error) over the epochs; returns matplotlib axes."""
        return run_plot(self, quantities, ax)

    @property
    def name(self) -> str:
        """The folder's name; inside a sweep it is the identity of the config."""
        return self.folder.name

    @property
    def status(self) -> str:
        """``finished``, ``converged``, ``diverged`` or ``failed``; ``running`` where there is no result yet."""
        return "running" if self.result is None else str(self.result.get("status", "unknown"))

    @property
    def time(self) -> Literal["epoch", "step"]:
        """What the run's rows are counted by: epochs, or optimizer steps where a Monitor measured it."""
        return "step" if self.config.get("source") == "monitor" or self.config.get("time") == "step" else "epoch"

    @cached_property
    def alerts(self) -> list[dict[str, Any]]:
        """What a Monitor said, in order (``alerts.jsonl``); a line that is damaged or not whole yet is left out."""
        path = self.folder / ALERTS
        lines = read_text_of_lines(path, strict=False) if counts(path) else []
        found = []
        for line in lines:
            with suppress(ValueError, RecursionError):
                found.append(parse_json(line))
        return [alert for alert in found if isinstance(alert, dict)]

    @property
    def seed(self) -> int | None:
        """The seed in the config; None where the config has none."""
        seed = self.config.get("seed")
        return int(seed) if isinstance(seed, int) else None

    @property
    def chance_error(self) -> float | None:
        """Error of the best constant answer to the run's data, as the config has it; None: the config does not say."""
        return self._level("chance_error", 1.0, "a fraction between 0 and 1")

    @property
    def constant_loss(self) -> float | None:
        """Loss of the best constant answer to the run's data, as the config has it; None: the config does not say."""
        return self._level("constant_loss", math.inf, "a positive number")

    def _level(self, name: str, below: float, kind: str) -> float | None:
        value = self.config.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < below:
            raise UserError(f"{self.folder / 'config.json'}: {name} is {value!r}, not {kind}; mend it or leave it out")
        return float(value)

    @property
    def law(self) -> str:
        """``sgd`` or ``normalised`` by its optimizer; ``measured`` where it is not known (scaleinv.theory.rates)."""
        return law_of(self.config)

    @cached_property
    def elr(self) -> float:
        """The run's effective learning rate: the config's ``elr``, else (a run with a learning rate) the first one
        measured; NaN where neither is known.
        """
        stated = self.config.get("elr")
        if isinstance(stated, (int, float)) and not isinstance(stated, bool):
            return float(stated)
        for split in ("train", "online"):
            values = self.series(split, "total", "elr")[1]
            known = values[np.isfinite(values)]
            if known.size:
                return float(known[0])
        return math.nan

    def table(self, split: str, group: str, quantity: str) -> Series:
        """Find the series with its steps; empty where it was never measured."""
        return self.metrics.get((split, group, quantity), _EMPTY)

    def series(self, split: str, group: str, quantity: str) -> tuple[Ints, Floats]:
        """Find ``(epochs, values)``, each of shape (n,); empty where it was never measured.

        >>> run = load_run("runs/demo/runs/0123abcd")
        >>> epochs, loss = run.series("online", "total", "loss")
        >>> epochs.tolist()
        [1, 2]
        """
        found = self.table(split, group, quantity)
        return found.epochs, found.values

    def at_epoch(self, epoch: int) -> tuple[float, float] | None:
        """Find train loss and effective gradient by the exact pass at ``epoch``; None unless both are positive.

        Epoch 0 is the start of training: one point for all rates of a seed.
        """
        pair = []
        for quantity in ("loss", "eg"):
            epochs, values = self.series("train", "total", quantity)
            pair += [float(value) for value in values[epochs == epoch][:1] if np.isfinite(value) and value > 0]
        return (pair[0], pair[1]) if len(pair) == 2 else None

    def test_error(self) -> tuple[Ints, Floats]:
        """Find ``(epochs, fractions)`` by recomputed BN statistics where all have them, else by running ones."""
        recomputed, running = (self.series("test", "total", name) for name in ("error_recomputed_bn", "error"))
        return running if len(recomputed[0]) < len(running[0]) else recomputed

    def has(self, split: str, group: str, quantity: str) -> bool:
        """Whether at least one value was measured (NaN means not measured)."""
        values = self.table(split, group, quantity).values
        return bool(np.any(~np.isnan(values)))

    @property
    def exact_split(self) -> Literal["train", "online"]:
        """``train`` where the run has exact metrics of the train set, else ``online``: means over training steps."""
        return "train" if self.has("train", "total", "loss") else "online"

    def groups(self) -> list[str]:
        """List the scale-invariant groups as first written, without ``total`` and the reference directions."""
        return list(dict.fromkeys(g for split, g, _ in self.metrics if split in ("online", "train") and g != "total"))

    def quantities(self, split: str, group: str = "total") -> list[str]:
        """List what was recorded for a group in a split, in the order it was first written."""
        return [quantity for s, g, quantity in self.metrics if (s, g) == (split, group)]

    def reference(self, quantity: str = "loss") -> Floats:
        """Collect the quantity at random directions of the same network with the same head, shape (directions,)."""
        found = [s.values for (split, _, q), s in self.metrics.items() if (split, q) == ("reference", quantity)]
        return np.concatenate(found) if found else np.zeros(0, np.float64)

    @property
    def last_epoch(self) -> int:
        """The last epoch that has a row; 0 where there is none."""
        return max((int(s.epochs[-1]) for s in self.metrics.values() if s.epochs.size), default=0)

    @property
    def last_step(self) -> int:
        """The last step that has a row; 0 where there is none."""
        return max((int(s.steps[-1]) for s in self.metrics.values() if s.steps.size), default=0)


@dataclass(frozen=True)
class SweepRun:
    """A sweep folder as read: its config, regime map (None: not written yet), and runs by rising ELR, then seed."""

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    runs: list[Run]

    def find(self, name: str) -> Run | None:
        """Find the run of that name; None where its folder is not there."""
        return next((run for run in self.runs if run.name == name), None)


def folder_kind(folder: str | Path) -> Literal["run", "sweep"]:
    """Tell whether a folder is a run or a sweep; a UserError where it is neither."""
    path = Path(folder)
    if not path.exists():
        raise UserError(f"{path}: no such folder; name the folder of a run or a sweep")
    if not path.is_dir():
        raise UserError(f"{path} is a file; name the folder of a run or a sweep")
    if (path / SWEEP_CONFIG).exists():
        return "sweep"
    if (path / CONFIG).exists():
        return "run"
    raise UserError(f"{path} has neither sweep-config.json nor config.json: not a folder of a run or a sweep")


def load_run(folder: str | Path) -> Run:
    """Read a run folder, ended or in progress.

    Errors: UserError for a folder that is missing, a sweep's, foreign, of another format, or has a damaged file.
    """
    path = Path(folder)
    if folder_kind(path) == "sweep":
        raise UserError(f"{path} is the folder of a sweep; its runs are in {path / 'runs'}")
    head = _read_head(path / CONFIG, "config")
    result = read_object(path / RESULT, nan=True) if (path / RESULT).exists() else None
    if result is not None and not isinstance(result.get("status"), str):
        raise damaged(path / RESULT, "is not the result of a run")
    environment = head.get("environment") or {}
    if not isinstance(environment, dict):
        raise UserError(f"{path / 'config.json'}: 'environment' is {type(environment).__name__}, expected an object")
    return Run(
        folder=path,
        config=complete(head["config"]),
        identity=str(head.get("identity", "")),
        environment=environment,
        result=result,
        metrics=_read_metrics(path / "metrics"),
        lineage=head.get("lineage") if isinstance(head.get("lineage"), dict) else None,
    )


def stored_config(folder: str | Path) -> dict[str, Any]:
    """Read the config of a run folder alone, without its metrics. Errors as of :func:`load_run`."""
    config: dict[str, Any] = _read_head(Path(folder) / CONFIG, "config")["config"]
    return config


def load_sweep(folder: str | Path) -> SweepRun:
    """Read a sweep folder, ended or in progress; a run folder that has no config yet is left out.

    Errors: UserError for a folder that is missing, a run's, foreign, of another format, or has a damaged file.
    """
    path = Path(folder)
    if folder_kind(path) == "run":
        raise UserError(f"{path} is the folder of a single run, not of a sweep")
    head = _read_head(path / SWEEP_CONFIG, "sweep")
    summary = read_object(path / SWEEP_MAP, nan=True) if (path / SWEEP_MAP).exists() else None
    if summary is not None and not isinstance(summary.get("runs"), list):
        raise UserError(
            f"{path / 'sweep.json'} has no list 'runs': remove it and run the sweep again, finished runs are kept"
        )
    runs = [load_run(entry) for entry in sorted((path / "runs").glob("*")) if _has_begun(entry)]
    # by rising ELR, then seed; the order of names where both are equal
    runs.sort(key=lambda run: (run.elr if math.isfinite(run.elr) else math.inf, -1 if run.seed is None else run.seed))
    return SweepRun(folder=path, config=head["sweep"], summary=summary, runs=runs)


def _has_begun(folder: Path) -> bool:
    """Whether a run is in a folder of a sweep's; Damaged where it has ended and its config.json is gone."""
    if (folder / CONFIG).exists():
        return True
    if checking() and (folder / RESULT).exists() and not (folder / TASK).exists():
        raise damaged(folder / CONFIG, "is gone")
    return False


def _read_head(path: Path, key: str) -> dict[str, Any]:
    """Read a config file: ``{"format": 4, key: {...}, ...}``."""
    content = read_object(path)
    if "format" not in content or not isinstance(content.get(key), dict):
        raise UserError(f"{path} has no 'format' and '{key}': not a folder of scaleinv")
    if content["format"] not in FORMATS_READ:
        raise UserError(
            f"{path} has format {content['format']!r}, this version reads {' and '.join(map(str, FORMATS_READ))}: "
            "use the scaleinv that wrote it"
        )
    return content


def _read_metrics(folder: Path) -> dict[Key, Series]:
    """Read all parts and split them into series; the order of rows is kept."""
    manifest = read_manifest(folder.parent) if checking() else None
    tables = read_parts(folder, PARTS, FINAL_PART, _read_rows, manifest)
    lines = folder.parent / LINES
    try:
        if (manifest is None or LINES in manifest.files) and counts(lines):  # of a Monitor that had no pyarrow
            rows = to_table(read_lines(lines))
            tables.append(rows.cast(tables[0].schema) if tables else rows)
        if not tables:
            return {}
        table = pa.concat_tables(tables, promote_options="none").combine_chunks()
        columns = [
            table[name].to_numpy().astype(kind, casting="safe")
            for name, kind in (("step", np.int64), ("epoch", np.int64), ("value", np.float64))
        ]
        keys = pc.binary_join_element_wise(
            *(table[name].cast(pa.large_string()) for name in TEXTS), pa.scalar("\0", pa.large_string())
        )
        keys = keys.combine_chunks().dictionary_encode()  # numbered by first appearance
        codes = keys.indices.to_numpy()
    except (pa.ArrowException, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}: columns of the wrong type ({' '.join(str(error).split())}): not files of scaleinv"
        ) from None
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(1, len(keys.dictionary)))
    of_series = np.split(order, bounds)
    firsts = pa.array([rows[0] for rows in of_series if len(rows)], pa.int64())
    texts = [table[name].take(firsts).to_pylist() for name in TEXTS]
    return {key: Series(*(c[rows] for c in columns)) for key, rows in zip(zip(*texts), of_series)}


def _read_rows(part: Path, data: bytes) -> Any:
    table = read_part(part, data)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise UserError(f"{part} has no column {', '.join(missing)}: not a file of scaleinv")
    return table.select(list(COLUMNS))
