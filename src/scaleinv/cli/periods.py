"""``scaleinv periods``: does this training break down again and again, and when next?"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import Json, NoCheck
from scaleinv.errors import UserError


@dataclass(frozen=True)
class PeriodsCommand:
    """Find the periods of a training with weight decay: break-downs, phases, intervals, when the next is due.

    Reads the folder of a run (made with --lr, or by the monitor) or a training log: CSV (of W&B, Lightning, Keras,
    MLflow, ...), JSON lines, trainer_state.json, TensorBoard's event files, text such as "step:10 train_loss:3.1"; gz
    too. Looked for are step, loss, rho (norm of the scale-invariant weights), eg (effective gradient norm, rho times
    gradient norm; or g, the gradient norm), lr and wd; the loss alone will do. Example:
    scaleinv periods log.csv --columns loss=train/loss,rho=weight_norm --lr 0.1 --weight-decay 5e-4
    """

    source: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="LOG|RUN")]
    """A log, several files of one run, or the folder of a run."""
    columns: str | None = None
    """Names of columns where they do not tell: step=_step,loss=train/loss,rho=weight_norm."""
    steps_per_epoch: float | None = None
    """Steps of an epoch, where a log counts epochs."""
    lr: float | None = None
    """Learning rate, where the log has no column lr."""
    weight_decay: float | None = None
    """Weight decay, where the log has no column wd."""
    momentum: float | None = None
    """Momentum of SGD, where a log is of such a training: its rate counts lr/(1 - momentum)."""
    optimizer: str | None = None
    """Optimizer of a log, such as AdamW; SGD if not given."""
    rise: float = 0.05
    """Least rise of rho^2 that makes an event."""
    burn_in: float = 2.0
    """Steps not counted at the start, in units of 1/(lr wd)."""
    plain: bool = False
    """Count every rise of rho^2, with a spike of loss and effective gradient or without."""
    all: bool = False
    """Print every period, not the last 12 only."""
    no_check: NoCheck = False
    json: Json = False

    def check(self) -> None:
        """Refuse numbers that are out of range, by the names of their flags."""
        if not 0 < self.rise < math.inf:
            raise UserError(f"--rise {self.rise:g}: must be a number above 0, such as 0.05 (rho^2 rises by 5 %)")
        if not 0 <= self.burn_in < math.inf:
            raise UserError(f"--burn-in {self.burn_in:g}: must be a number of at least 0, in units of 1/(lr wd)")
        for name, value in (("lr", self.lr), ("weight-decay", self.weight_decay)):
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"--{name} {value:g}: must be a number of at least 0; leave it out where unknown")
        if not self.source:
            raise UserError("name a log, or the folder of a run")
        if self.steps_per_epoch is not None and not 0 < self.steps_per_epoch < math.inf:
            raise UserError(f"--steps-per-epoch {self.steps_per_epoch:g}: must be a number above 0")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UserError(f"--momentum {self.momentum:g}: must be a number from 0 to below 1, such as 0.9")
