"""Hold what was measured in memory: a record a logged step, the history, and the alerts."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from scaleinv.errors import UserError
from scaleinv.monitor.quantities import COLUMN, OPTIONAL, QUANTITIES

Array = npt.NDArray[np.float64]
Severity = Literal["error", "warning", "note"]
#: of every kind of alert that is not a warning
SEVERITY: dict[str, Severity] = {
    "non-finite": "error", "break-down": "note", "out-of-time": "note", "dead-decay": "note",
    "first-step": "note", "law": "note", "no-step": "note", "never-moves": "note",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One logged step. ``step`` counts the steps done before it; ``values`` has a row a group, the total first."""

    step: int
    epoch: int | None
    loss: float
    groups: tuple[str, ...]  # "total", then the groups
    values: Array  # (groups, quantities)
    told: bool = True  # whether the loss was told; a NaN that was told is a result
    extra: tuple[str, ...] = ()  # further columns that were asked for, which sinks get too

    def get(self, group: str, quantity: str) -> float:
        """Look up one number; NaN for a group that this step did not have."""
        if group not in self.groups:
            return float("nan")
        return float(self.values[self.groups.index(group), COLUMN[quantity]])

    def to_dict(self) -> dict[str, float]:
        """Give ``{"step", "loss", "group/quantity": ...}``, which sinks get; what was not measured is left out."""
        result: dict[str, float] = {"step": self.step}
        if self.told:
            result["loss"] = self.loss
        for name, row in zip(self.groups, self.values.tolist()):
            known = ((q, v) for q, v in zip(QUANTITIES, row) if v == v and (q not in OPTIONAL or q in self.extra))
            result.update({f"{name}/{q}": v for q, v in known})
        return result


class History:
    """Logged steps, oldest first; at most ``keep`` of them (the oldest go first)."""

    def __init__(self, keep: int) -> None:
        self.records: deque[Record] = deque(maxlen=keep)
        #: how the optimizers treated the total and the groups at each record; empty where a state was loaded
        self.rates: deque[Sequence[Any]] = deque(maxlen=keep)

    def append(self, record: Record, rates: Sequence[Any] = ()) -> None:
        """Take a record, and the rates that acted in it."""
        self.records.append(record)
        self.rates.append(rates)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def groups(self) -> tuple[str, ...]:
        """Every name that occurs, in the order of appearance."""
        rosters = dict.fromkeys(record.groups for record in self.records)
        return tuple(dict.fromkeys(name for roster in rosters for name in roster))

    def cube(self) -> Array:
        """Stack the records, shape (records, groups, quantities); NaN where a group did not exist."""
        place = {name: i for i, name in enumerate(self.groups)}
        where = {roster: [place[name] for name in roster] for roster in {record.groups for record in self.records}}
        result = np.full((len(self.records), len(place), len(QUANTITIES)), np.nan)
        for i, record in enumerate(self.records):
            result[i, where[record.groups]] = record.values
        return result

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Give ``step``, ``loss`` and ``group/quantity``, each of shape (records,)."""
        cube = self.cube()
        result: dict[str, npt.NDArray[Any]] = {
            "step": np.array([r.step for r in self.records], np.int64),
            "loss": np.array([r.loss for r in self.records], np.float64),
        }
        for i, name in enumerate(self.groups):
            result.update({f"{name}/{quantity}": cube[:, i, j] for quantity, j in COLUMN.items()})
        return result

    def state_dict(self) -> dict[str, Any]:
        """Give tensors, lists and strings only, so that ``torch.load(weights_only=True)`` reads them."""
        return {
            "quantities": list(QUANTITIES),
            "groups": list(self.groups),
            "step": torch.tensor([r.step for r in self.records], dtype=torch.int64, device="cpu"),
            "epoch": [r.epoch for r in self.records],
            "loss": torch.tensor([r.loss for r in self.records], dtype=torch.float64, device="cpu"),
            "values": torch.from_numpy(self.cube()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave; quantities that this version does not know are dropped."""
        try:
            names, quantities = tuple(state["groups"]), list(state["quantities"])
            cube = state["values"].numpy()
            steps, losses, epochs = state["step"].tolist(), state["loss"].tolist(), list(state["epoch"])
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError(f"this is not the state of a Monitor: {error!r}") from error
        values = np.full((*cube.shape[:2], len(QUANTITIES)), np.nan)
        for j, quantity in enumerate(quantities):
            if quantity in COLUMN:
                values[:, :, COLUMN[quantity]] = cube[:, :, j]
        self.records.clear()
        self.rates.clear()
        for step, epoch, loss, row in zip(steps, epochs, losses, values):
            self.append(Record(step, epoch, loss, names, row.copy(), loss == loss))


@dataclass(frozen=True)
class Alert:
    """Something a monitor says by itself. ``kind`` is one of: non-finite, spike-eg, spike-angle, norm-jump, collapse,
    still, never-moves, rows-decay, dead-decay, not-scale-free, eps, outside-change, law, first-step, no-step, boundary,
    break-down, out-of-time.

    ``severity``: ``error``, training is broken; ``warning``, something is wrong or about to be; ``note``, a fact that
    may be meant. Errors and warnings have a false-alarm budget (``benchmarks/alerts.py``); notes are facts.
    """

    kind: str
    step: int
    group: str
    reason: str
    numbers: dict[str, float] = field(default_factory=dict)
    forecast: str = ""
    remedy: str = ""

    @property
    def severity(self) -> Severity:
        """How bad it is, by its kind."""
        return SEVERITY.get(self.kind, "warning")

    def __str__(self) -> str:
        parts = [f"step {self.step}, {self.group}: {self.reason}"]
        parts += [f"Forecast: {self.forecast}."] if self.forecast else []
        parts += [f"To do: {self.remedy}."] if self.remedy else []
        return ". ".join(p.rstrip(".") for p in parts) + "."

    def to_dict(self) -> dict[str, Any]:
        """Give the arguments of :class:`Alert` and its severity as plain values."""
        return {**asdict(self), "severity": self.severity}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Alert":
        """Make an alert of what :meth:`to_dict` gave, also in an earlier version."""
        return cls(**{k: v for k, v in values.items() if k != "severity"})
