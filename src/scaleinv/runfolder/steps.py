"""Read the per-step record of a run: metrics/steps-*.parquet (its form: docs/architecture.md). No torch.

Row i is the optimizer step i, counted from 0; the record may come in several files, in the order of their names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scaleinv.errors import UserError
from scaleinv.runfolder.layout import FINAL_STEPS, STEPS
from scaleinv.runfolder.manifest import read_manifest
from scaleinv.runfolder.read import Floats, stored_config
from scaleinv.runfolder.rows import read_part, read_parts
from scaleinv.runfolder.seal import checking
from scaleinv.theory import rates
from scaleinv.theory.optimizers import law_of

_TOTAL = ("loss", "lr", "total:angle")
_GROUP = ("rho_sq", "g", "angle")


@dataclass(frozen=True)
class GroupSteps:
    """One scale-invariant group; arrays of shape (n,)."""

    rho_sq: Floats  # squared norm before the step
    g: Floats  # gradient norm
    angle: Floats  # between the weights before and after the step, radians


@dataclass(frozen=True)
class Steps:
    """All scale-invariant weights together; arrays of shape (n,). ELR and ESS follow the law of the run's optimizer."""

    step: Floats  # optimizer steps done before the row was measured
    loss: Floats  # of the batch, before the step
    lr: Floats  # the learning rate that acted
    rho_sq: Floats  # squared norm before the step
    g: Floats  # gradient norm
    angle: Floats  # between the weights before and after the step, radians
    groups: Mapping[str, GroupSteps] = field(repr=False)
    law: str = "sgd"  # of the optimizer: sgd | normalised (scaleinv.theory.rates)

    def __len__(self) -> int:
        return len(self.step)

    @property
    def rho(self) -> Floats:
        """Norm."""
        return np.sqrt(self.rho_sq)

    @property
    def eg(self) -> Floats:
        """Effective gradient norm, g x rho."""
        return self.g * self.rho

    @property
    def elr(self) -> Floats:
        """Effective learning rate, lr / rho^2 or, of a normalised optimizer, lr / rho; inf where the norm is 0."""
        return np.asarray(rates.elr_of_square(self.lr, self.rho_sq, self.law))

    @property
    def ess(self) -> Floats:
        """Effective step size, elr x eg or, of a normalised optimizer, the tangent of the angle."""
        return np.asarray(rates.ess(self.elr, self.eg, self.law, self.angle))

    @property
    def one_minus_cos(self) -> Floats:
        """1 - cos of the angle, without cancellation: ``2 sin^2(angle/2)``."""
        return np.asarray(2 * np.sin(self.angle / 2) ** 2)


def has_steps(folder: str | Path) -> bool:
    """Whether a run folder holds a per-step record."""
    manifest = read_manifest(Path(folder)) if checking() else None
    return any((Path(folder) / "metrics").glob(STEPS)) if manifest is None else bool(manifest.names(f"metrics/{STEPS}"))


def load_steps(folder: str | Path, *, every: int = 1) -> Steps:
    """Read the per-step record of a run folder, ended or in progress; every ``every``-th step of it.

    Its law is that of the optimizer in the folder's config.json.

    Errors: UserError where there is none, or where a file is damaged or of another form.
    """
    if every < 1:
        raise UserError(f"every must be at least 1, got {every}: it says which steps to read")
    metrics = Path(folder) / "metrics"
    parts = read_parts(metrics, STEPS, FINAL_STEPS, _columns)
    if not parts:
        raise UserError(
            f"{metrics} holds no per-step record (steps-*.parquet): train with --lr, or with --record-steps True"
        )
    names = list(parts[0])
    for part in parts[1:]:
        if list(part) != names:
            raise UserError(f"{metrics}: the files of the per-step record have different columns: not of one run")
    table = {name: np.concatenate([part[name] for part in parts])[::every] for name in names}
    groups = {}
    for name in names:
        group, _, quantity = name.rpartition(":")
        if quantity == "rho_sq":
            missing = [f"{group}:{q}" for q in _GROUP if f"{group}:{q}" not in table]
            if missing:
                raise UserError(f"{metrics}: group {group} has no column {', '.join(missing)}: not a per-step record")
            groups[group] = GroupSteps(*(table[f"{group}:{q}"] for q in _GROUP))
    lacking = [name for name in _TOTAL if name not in table]
    if lacking or not groups:
        raise UserError(f"{metrics}: no column {', '.join(lacking) or 'rho_sq'}: not a per-step record of scaleinv")
    count = len(table["loss"])
    return Steps(
        step=np.arange(count, dtype=np.float64) * every,
        loss=table["loss"],
        lr=table["lr"],
        rho_sq=np.sum([group.rho_sq for group in groups.values()], axis=0),
        g=np.sqrt(np.sum([group.g**2 for group in groups.values()], axis=0)),
        angle=table["total:angle"],
        groups=groups,
        law=law_of(stored_config(folder)),
    )


def _columns(file: Path, data: bytes) -> dict[str, Floats]:
    table = read_part(file, data)
    try:
        return {name: table[name].to_numpy().astype(np.float64) for name in table.column_names}
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: a column is not of numbers ({error}): not a per-step record of scaleinv") from None
