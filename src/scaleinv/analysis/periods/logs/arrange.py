"""Put the rows of a log in order: one row a step, steps that grow, every row with a loss."""

from dataclasses import dataclass, field, replace

import numpy as np

from scaleinv.analysis.periods.logs.names import places
from scaleinv.analysis.periods.logs.table import Given, Table
from scaleinv.errors import UserError
from scaleinv.runfolder.read import Floats
from scaleinv.text import count

#: a column with fewer of its cells than this is one that is logged now and then
_DENSE = 0.9
#: more falls of the step number than this share of the rows are disorder; fewer are a run that was resumed
_DISORDER = 0.02


@dataclass(frozen=True)
class Arranged:
    """Columns by what they are, one row a step; ``given`` is False where nothing was logged."""

    step: Floats  # growing; of epochs where ``epochs`` is True
    columns: dict[str, Floats]
    given: dict[str, Given]
    epochs: bool = False  # ``step`` counts epochs
    said: tuple[str, ...] = field(default=())


def arrange(table: Table, where: str, wanted: dict[str, str], per_epoch: float | None) -> Arranged:
    """Choose the columns, find the step numbers, and bring the rows in order.

    - ``wanted``: columns a user named. ``per_epoch``: steps of an epoch, where rows are counted in epochs.
    - Raises UserError for cells that are no numbers in a column that is needed, and for steps that are not whole.
    """
    found = places(table, where, wanted)
    for name in found.values():
        if name in table.wrong:
            raise UserError(table.wrong[name])
    said = [*table.said]
    said.append(
        f"Read from {where}, {table.form}: " + ", ".join(f"{role} = {name}" for role, name in found.items()) + "."
    )
    step, epochs, how = _steps(table, where, found, per_epoch, "step" in wanted)
    said += how
    names = {role: name for role, name in found.items() if role not in ("step", "epoch")}
    columns = {role: table.columns[name] for role, name in names.items()}
    given = {role: table.given[name] for role, name in names.items()}
    keep = np.isfinite(step)
    if not keep.all():
        lost = int((~keep & np.any(list(given.values()), axis=0)).sum()) if given else 0
        if lost:
            said.append(f"{count(lost, 'row')} without a step number {'is' if lost == 1 else 'are'} left out.")
        step, columns, given = _take(keep, step, columns, given)
    arranged = Arranged(step, columns, given, epochs)
    return replace(_ordered(arranged, said), said=tuple(said))


def _take(
    rows: Given | np.ndarray, step: Floats, columns: dict[str, Floats], given: dict[str, Given]
) -> tuple[Floats, dict[str, Floats], dict[str, Given]]:
    return step[rows], {r: c[rows] for r, c in columns.items()}, {r: g[rows] for r, g in given.items()}


def _steps(
    table: Table, where: str, found: dict[str, str], per_epoch: float | None, named: bool
) -> tuple[Floats, bool, list[str]]:
    """Find the number of every row, whether it counts epochs, and what is to be said of it."""
    if "step" in found and not (per_epoch and "epoch" in found and not named):
        step, name = table.columns[found["step"]], found["step"]
        known = step[np.isfinite(step)]
        odd = known[known != np.round(known)]
        if len(odd):
            raise UserError(
                f"{where}: column {name} holds {odd[0]:g}, which is not whole, and steps are counted; name the column "
                "of steps: --columns step=NAME"
            )
        # rows of one call each (tags of TensorBoard, Lightning's validation rows) may leave the step out
        return step, False, []
    if "epoch" not in found:
        n = np.arange(len(table), dtype=np.float64)
        return n, False, ["No column of steps is known: rows are counted as steps, from 0."]
    epoch = table.columns[found["epoch"]]
    if per_epoch:
        return np.round(epoch * per_epoch), False, [f"Epochs are counted as {per_epoch:g} steps each."]
    known = epoch[np.isfinite(epoch)]
    if len(np.unique(known)) < 0.5 * len(known):  # many rows an epoch: a batch number that starts again, or nothing
        n = np.arange(len(table), dtype=np.float64)
        return n, False, ["Rows have an epoch but no step: they are counted as steps, from 0."]
    words = "Rows are counted in epochs, so lr and wd do not tell the time scale 1/(lr wd); give --steps-per-epoch."
    if np.all(known == np.round(known)):
        return epoch, True, [words]
    # fractions of an epoch: counted in units of the usual distance between rows
    gaps = np.diff(np.unique(known))
    return np.round(epoch / float(np.median(gaps))), True, [words]


def _ordered(found: Arranged, said: list[str]) -> Arranged:
    step, columns, given = found.step, found.columns, found.given
    n = len(step)
    falls = np.nonzero(np.diff(step) < 0)[0] + 1
    if len(falls) and not (np.all(np.diff(step) <= 0) or len(falls) > max(3, _DISORDER * n)):
        keep = np.ones(n, dtype=bool)
        resumed = []
        for row in falls:
            before = step[:row][keep[:row]]
            stop = int(falls[np.searchsorted(falls, row) + 1]) if row < falls[-1] else n
            if step[row] > before.min() or np.isin(step[row:stop], before).any():
                keep[:row] &= step[:row] < step[row]
                resumed.append(int(step[row]))
        if resumed:
            lost = int((~keep).sum())
            again = ", ".join(map(str, resumed[:3])) + (", ..." if len(resumed) > 3 else "")
            said.append(
                f"The run went on again from step {again}: {count(lost, 'row')} of the lost part "
                f"{'is' if lost == 1 else 'are'} left out, the last row of a step counts."
            )
            step, columns, given = _take(keep, step, columns, given)
            falls = np.nonzero(np.diff(step) < 0)[0] + 1
    if len(falls):
        said.append("Rows are not in the order of their steps; they are sorted.")
        step, columns, given = _take(np.argsort(step, kind="stable"), step, columns, given)
    new = np.concatenate([[True], np.diff(step) > 0]) if len(step) else np.zeros(0, dtype=bool)
    if new.all():
        return Arranged(step, columns, given, found.epochs)
    of = np.cumsum(new) - 1
    joined: dict[str, Floats] = {}
    known: dict[str, Given] = {}
    twice = 0
    for role, column in columns.items():
        there = np.nonzero(given[role])[0]
        joined[role] = np.full(int(new.sum()), np.nan)
        joined[role][of[there]] = column[there]  # numpy assigns in order: the last one wins
        known[role] = np.zeros(int(new.sum()), dtype=bool)
        known[role][of[there]] = True
        if role == "loss":
            twice = len(there) - int(known[role].sum())
    if twice:
        said.append(
            f"{count(twice, 'step')} {'has' if twice == 1 else 'have'} several losses; the last row of a step counts."
        )
    return Arranged(step[new], joined, known, found.epochs)


def merged(parts: list[tuple[str, Arranged]]) -> Arranged:
    """Put columns of several files together by their steps.

    Errors: UserError for files that count differently, or that have the same column.
    """
    if len(parts) == 1:
        return parts[0][1]
    if len({part.epochs for _, part in parts}) > 1:
        raise UserError(f"{parts[0][0]} and {parts[1][0]} do not both count steps; give --steps-per-epoch")
    step = np.unique(np.concatenate([part.step for _, part in parts]))
    columns: dict[str, Floats] = {}
    given: dict[str, Given] = {}
    owner: dict[str, str] = {}
    for where, part in parts:
        at = np.searchsorted(step, part.step)
        for role, column in part.columns.items():
            if role in owner:
                raise UserError(
                    f"{owner[role]} and {where} both have {role}; name one of the files, or say what the column of the "
                    f"second is: --columns WHAT=NAME"
                )
            owner[role] = where
            columns[role] = np.full(len(step), np.nan)
            columns[role][at] = column
            given[role] = np.zeros(len(step), dtype=bool)
            given[role][at] = part.given[role]
    said = tuple(words for _, part in parts for words in part.said)
    return Arranged(step, columns, given, parts[0][1].epochs, said)


def filled(found: Arranged) -> tuple[Floats, dict[str, Floats], list[str]]:
    """Keep the rows that can be judged, and give cells that were not logged the last value before.

    Rows are those of the loss, or of the norm where that is logged more rarely. A loss that is there in nearly every
    row and is missing in some is one that was not finite.
    """
    said: list[str] = []
    columns, given = dict(found.columns), found.given
    rows = np.ones(len(found.step), dtype=bool)
    rare = []
    for role in ("loss", "rho", "rho_sq"):
        if role in columns and np.any(known := given[role]):
            until = int(np.nonzero(known)[0][-1]) + 1
            if known[:until].mean() < _DENSE or (role != "loss" and until < 0.5 * len(known)):
                rare.append(role)
    if rare:
        least = min(rare, key=lambda role: int(given[role].sum()))
        rows = given[least].copy()
        rows[: _first(given, columns)] = False
        every = [role for role in ("loss", "rho", "rho_sq") if role in columns]
        if len(every) > 1 or least != "loss" or not given[least].all():
            said.append(
                f"{int(rows.sum())} of {len(rows)} rows have a {'norm' if least != 'loss' else 'loss'}: these "
                "are judged; "
                "what is logged in other rows is taken from the last one before."
            )
    for role in columns:
        if role in rare or role not in ("loss", "rho", "rho_sq"):
            columns[role] = _last_known(columns[role], given[role])
    return found.step[rows], {role: column[rows] for role, column in columns.items()}, said


def _first(given: dict[str, Given], columns: dict[str, Floats]) -> int:
    """Find the first row by which loss and norm have both been seen."""
    return max(int(np.argmax(given[role])) for role in ("loss", "rho", "rho_sq") if role in columns)


def _last_known(x: Floats, known: Given) -> Floats:
    if known.all() or not known.any():
        return x
    at = np.maximum.accumulate(np.where(known, np.arange(len(x)), 0))
    at[: int(np.argmax(known))] = int(np.argmax(known))
    return np.asarray(x[at])
