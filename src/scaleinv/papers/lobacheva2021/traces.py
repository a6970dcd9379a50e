"""Runs in the whole space as the figures of Lobacheva et al. 2021 show them: one curve a learning rate, by epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scaleinv.analysis.periods import Periods, find_periods
from scaleinv.lab.config import Settings
from scaleinv.papers.figure import Context
from scaleinv.plots.style import elr_colours, power_of_ten
from scaleinv.runfolder.read import Run, load_run
from scaleinv.runfolder.steps import Steps, load_steps
from scaleinv.studies.obtain import Request

Floats = npt.NDArray[np.float64]
#: of the curves of one run, those of the first epoch first; the start (epoch 0) is the first row of the step record
QUANTITIES = ("loss", "rho", "eg", "elr")


@dataclass(frozen=True)
class Trace:
    """One run, read when it is needed."""

    folder: Path
    lr: float
    wd: float
    colour: str

    @cached_property
    def run(self) -> Run:
        """Its metrics."""

        return load_run(self.folder)

    @cached_property
    def steps(self) -> Steps:
        """Its per-step record."""

        return load_steps(self.folder)

    @cached_property
    def periods(self) -> Periods:
        """What the analysis finds in it."""

        return find_periods(self.folder)

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        table = self.run.table("online", "total", "loss")
        return int(table.steps[0] // table.epochs[0])

    def curve(self, quantity: str) -> tuple[Floats, Floats]:
        """``(epochs, values)``: at epoch 0 the first step, then means over each epoch's steps."""
        epochs, values = self.run.series("online", "total", quantity)
        first = float(getattr(self.steps, quantity)[0])
        return np.concatenate([[0.0], epochs]), np.concatenate([[first], values])

    def test_error(self) -> tuple[Floats, Floats]:
        """``(epochs, percent)`` at evaluation epochs, with running BN statistics as in the paper."""
        epochs, values = self.run.series("test", "total", "error")
        return epochs.astype(float), 100 * values

    @property
    def rate_text(self) -> str:
        """``LR 0.03``."""
        return f"LR {power_of_ten(self.lr)}"

    @property
    def said(self) -> str:
        """What the analysis says of it, in a few words."""
        found = self.periods
        if found.diverged_at is not None:
            return f"diverged at step {found.diverged_at}"
        if found.verdict == "periodic":
            clock = found.interval_time.mean
            return f"{len(found.periods)} periods, mean {clock:.2g}/(lr wd)"
        many = len(found.destabilisations)
        if found.verdict == "undecided" and many:
            return f"{many} break-down{'s' * (many != 1)}"
        return {"not yet": "no period yet"}.get(found.verdict, found.verdict)

    def numbers(self) -> dict[str, Any]:
        """For the JSON: what is drawn, what was found, and the run's folder."""
        found = self.periods
        error = self.test_error()
        return {
            "run": self.folder.name,
            "lr": self.lr,
            "wd": self.wd,
            "lr_wd": self.lr * self.wd,
            "steps": len(self.steps),
            "steps_per_epoch": self.per_epoch,
            "verdict": found.verdict,
            "answer": found.answer,
            "destabilisations": [event.step for event in found.destabilisations],
            "elr_at_destabilisations": [event.elr for event in found.destabilisations],
            "lowest_loss_before": [event.min_loss for event in found.destabilisations],
            "mean_interval": found.mean_interval,
            "interval": list(found.confidence),
            "mean_interval_lr_wd": found.interval_time.mean,
            "epoch": self.curve("loss")[0],
            **{quantity: self.curve(quantity)[1] for quantity in QUANTITIES},
            "test_epoch": error[0],
            "test_error_percent": error[1],
        }


def obtain_traces(context: Context, settings: Sequence[Settings], rates: Sequence[float]) -> list[Trace]:
    """One run for each rate with its settings, trained where it is not there yet."""

    requests = [Request(settings=one, lr=lr) for one, lr in zip(settings, rates, strict=True)]
    return traces(context.folders(requests), requests)


def traces(folders: Sequence[Path], requests: Sequence[Request]) -> list[Trace]:
    """The runs in the order asked for. Colours are even steps by the rank of the rate: rates are few and far apart."""
    rates = [request.lr or 0.0 for request in requests]
    ranked = sorted(set(rates))
    colours = dict(zip(ranked, elr_colours(10.0**k for k in range(len(ranked)))))
    return [
        Trace(folder, lr, request.settings.weight_decay, colours[lr])
        for folder, lr, request in zip(folders, rates, requests)
    ]
