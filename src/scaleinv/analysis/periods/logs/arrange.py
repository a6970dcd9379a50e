"""Put the rows of a log in order: one row a step, steps that grow, every row with a loss."""

from dataclasses import dataclass, field, replace

import numpy as np

from scaleinv.analysis.periods.logs.names import places, plain
from scaleinv.analysis.periods.logs.table import Given, Table
from scaleinv.errors import UserError
from scaleinv.runfolder.read import Floats
from scaleinv.text import count

#: a column with fewer of its cells than this is one that is logged now and then
_DENSE = 0.9
#: so many rows without a loss at the end, where it was there before, are a divergence
_DIVERGED = 20
#: names of a norm that is mostly one of all weights
_OF_ALL = ("param_norm", "params_norm", "parameter_norm", "train_param_norm", "train_params_norm", "model_norm",
           "global_param_norm", "l2_norm", "norm")  # fmt: skip
#: more falls of the step number than this share of the rows are disorder; fewer are a run that was resumed
_DISORDER = 0.02


@dataclass(frozen=True)
class Arranged:
    """Columns by what they are, one row a step; ``given`` is False where nothing was logged."""

    step: Floats  # growing
    columns: dict[str, Floats]
    given: dict[str, Given]
    counted: str = ""  # what ``step`` counts where it counts no steps: "an epoch", "a row"
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
    names = {role: name for role, name in found.items() if role not in ("step", "epoch")}
    said = [f"Read from {where}, {table.form}: " + ", ".join(f"{r} = {n}" for r, n in found.items()) + ".", *table.said]
    if "rho" in names and plain(names["rho"]) in _OF_ALL:
        said.append(f"{names['rho']} is taken for the norm of the scale-invariant weights; others in it blur periods.")
    columns = {role: table.columns[name] for role, name in names.items()}
    given = {role: table.given[name] for role, name in names.items()}
    counters = {role: table.columns[name] for role, name in found.items() if role in ("step", "epoch")}
    # rows without any of the columns (of a validation, say) count nothing
    useful = np.any(list(given.values()), axis=0) if given else np.zeros(len(table), dtype=bool)
    columns = {role: column[useful] for role, column in columns.items()}
    given = {role: known[useful] for role, known in given.items()}
    counters = {role: counter[useful] for role, counter in counters.items()}
    step, counted, how = _steps(counters, int(useful.sum()), where, found, per_epoch)
    said += how
    keep = np.isfinite(step)
    if not keep.all():
        loss = given.get("loss", ~keep)
        lost = int((~keep & loss).sum())
        if lost:
            said.append(f"{count(lost, 'row')} without a step number {'is' if lost == 1 else 'are'} left out.")
        step, columns, given = _take(keep, step, columns, given)
    arranged = Arranged(step, columns, given, counted)
    ordered = _ordered(arranged, said, long=table.long)
    return replace(_without_gaps(ordered, said, table.pandas), said=tuple(said))


def _take(
    rows: Given | np.ndarray, step: Floats, columns: dict[str, Floats], given: dict[str, Given]
) -> tuple[Floats, dict[str, Floats], dict[str, Given]]:
    return step[rows], {r: c[rows] for r, c in columns.items()}, {r: g[rows] for r, g in given.items()}


def _steps(
    counters: dict[str, Floats], rows: int, where: str, found: dict[str, str], per_epoch: float | None
) -> tuple[Floats, str, list[str]]:
    """Find the number of every row, what else than steps it counts, and what is to be said of it."""
    epoch = counters.get("epoch")
    if "step" in counters:
        step, name = counters["step"], found["step"]
        known = step[np.isfinite(step)]
        odd = known[known != np.round(known)]
        if len(odd):
            raise UserError(
                f"{where}: column {name} holds {odd[0]:g}, which is not whole, and steps are counted; name the column "
                "of steps: --columns step=NAME"
            )
        return _counted_on(step, epoch, per_epoch)
    if epoch is None or not np.isfinite(epoch).any():
        words = "No column of steps is known: rows are counted as steps, from 0."
        return np.arange(rows, dtype=np.float64), "", [words]
    known = epoch[np.isfinite(epoch)]
    many = len(np.unique(known)) < 0.5 * len(known)  # rows of an epoch that are not told apart
    if per_epoch:
        if many:
            first = np.searchsorted(known, known, "left") if np.all(np.diff(known) >= 0) else np.zeros(len(known))
            size = max(1, int(np.median(np.unique(known, return_counts=True)[1])))
            epoch = epoch.copy()
            gap = float(np.median(np.diff(np.unique(known)))) if known.min() < known.max() else 1.0
            epoch[np.isfinite(epoch)] = known + gap * (np.arange(len(known)) - first) / size
        return np.round(epoch * per_epoch), "", [f"Epochs are counted as {per_epoch:g} steps each."]
    words = "No steps are logged, so lr and wd do not tell the time scale 1/(lr wd): give --steps-per-epoch."
    if many:
        return np.arange(rows, dtype=np.float64), "a row", [f"Rows are counted from 0 in place of steps. {words}"]
    if np.all(known == np.round(known)):
        return epoch, "an epoch", [f"Epochs are counted in place of steps. {words}"]
    gap = float(np.median(np.diff(np.unique(known))))
    return np.round(epoch / gap), "a row", [f"Rows are {gap:.3g} epochs apart, and counted in place of steps. {words}"]


def _counted_on(step: Floats, epoch: Floats | None, per_epoch: float | None) -> tuple[Floats, str, list[str]]:
    """Count steps on where they are those of a batch within its epoch and begin again in every epoch."""
    falls = np.nonzero(np.diff(step) < 0)[0] + 1
    if len(falls) < (1 if epoch is not None else 5):
        return step, "", []
    starts = np.concatenate([step[:1], step[falls]])
    again = bool(np.all(starts <= np.nanmin(step) + 0.1 * np.ptp(step[np.isfinite(step)])))
    if epoch is not None:
        again = again and bool(np.mean(np.diff(epoch)[falls - 1] > 0) > 0.8)
    if not again:
        return step, "", []
    least = float(np.nanmin(step))
    size = per_epoch or float(np.nanmax(step)) + (1 if least == 0 else 0)
    number = np.zeros(len(step))
    number[falls] = 1
    words = f"Steps begin again in every epoch: they are counted on, {size:g} an epoch."
    return step + np.cumsum(number) * size, "", [words]


def _ordered(found: Arranged, said: list[str], long: bool) -> Arranged:
    step, columns, given = found.step, found.columns, found.given
    if long:
        step, columns, given = _take(np.argsort(step, kind="stable"), step, columns, given)
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
                f"The run was resumed from step {again}: {count(lost, 'row')} of the lost part "
                f"{'is' if lost == 1 else 'are'} left out, the last row of a step counts."
            )
            step, columns, given = _take(keep, step, columns, given)
            falls = np.nonzero(np.diff(step) < 0)[0] + 1
    if len(falls):
        said.append("Rows are not in the order of their steps; they are sorted.")
        step, columns, given = _take(np.argsort(step, kind="stable"), step, columns, given)
    new = np.concatenate([[True], np.diff(step) > 0]) if len(step) else np.zeros(0, dtype=bool)
    if new.all():
        return Arranged(step, columns, given, found.counted)
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
    return Arranged(step[new], joined, known, found.counted)


def _without_gaps(found: Arranged, said: list[str], pandas: bool) -> Arranged:
    """Leave out rows without a loss; but where a table's loss is there in every row up to some and then never again,
    the run has diverged there: pandas writes NaN as an empty cell.
    """
    known = found.given.get("loss")
    if known is None or known.all() or not known.any():
        return found
    until = int(np.nonzero(known)[0][-1]) + 1
    keep = known.copy()
    if pandas and known[:until].mean() >= _DENSE:
        holes = np.diff(np.nonzero(known)[0])
        if len(known) - until >= max(_DIVERGED, 3 * int(holes.max(initial=1))):
            keep[until:] = True
        lost = int((~known[:until]).sum())
        if lost:
            said.append(f"{count(lost, 'row')} without a loss {'is' if lost == 1 else 'are'} left out.")
    elif known[:until].mean() < _DENSE and any(r in found.columns for r in ("rho", "rho_sq")):
        return found  # other rows may have the norm: filled() puts them together
    step, columns, given = _take(keep, found.step, found.columns, found.given)
    return replace(found, step=step, columns=columns, given=given)


def merged(parts: list[tuple[str, Arranged]]) -> Arranged:
    """Put columns of several files together by their steps.

    Errors: UserError for files that count differently, or that have the same column.
    """
    if len(parts) == 1:
        return parts[0][1]
    if len({part.counted for _, part in parts}) > 1:
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
    return Arranged(step, columns, given, parts[0][1].counted, said)


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
