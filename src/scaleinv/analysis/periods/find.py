"""Find the periods of a run folder or of the columns of a log."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.analysis.invariance import invariance
from scaleinv.analysis.periods.books import keep_books
from scaleinv.analysis.periods.bounds import norm_band
from scaleinv.analysis.periods.events import BreakDown, chosen, find_events, vary
from scaleinv.analysis.periods.folder import run_columns
from scaleinv.analysis.periods.interval import MeanInterval, mean_interval, next_break_down
from scaleinv.analysis.periods.log import Log, make_log
from scaleinv.analysis.periods.logs import read_log
from scaleinv.analysis.periods.optimizers import acts_as
from scaleinv.analysis.periods.phases import make_periods, make_spans, present_phase
from scaleinv.analysis.periods.result import Periods
from scaleinv.analysis.periods.sentences import answer, end_sentences, evidence
from scaleinv.analysis.periods.verdict import judge
from scaleinv.errors import UserError
from scaleinv.runfolder.layout import SWEEP_CONFIG
from scaleinv.runfolder.read import load_run
from scaleinv.theory.breakdowns.definition import Definition
from scaleinv.theory.breakdowns.find import smooth

_FEWEST_SETTLED = 3


def find_periods(
    folder: str | Path | Sequence[str | Path] | None = None,
    *,
    loss: Any = None,
    rho: Any = None,
    eg: Any = None,
    lr: Any = None,
    wd: Any = None,
    step: Any = None,
    angle: Any = None,
    momentum: float = 0.0,
    optimizer: str = "SGD",
    names: str | Mapping[str, str] | None = None,
    steps_per_epoch: float | None = None,
    definition: Definition = Definition(),  # noqa: B008 - frozen
) -> Periods:
    """Find the periods of a run in the whole space with weight decay (Lobacheva et al. 2021), with the evidence.

    Of the folder of a run with a per-step record (or one that the monitor wrote), of a log of one's own, or of columns.

    - ``folder``: of a run; or a log in any form of :func:`~scaleinv.analysis.periods.logs.read_log`, or several files
      of one run.
    - ``loss``; ``rho`` the norm of the scale-invariant weights; ``eg`` the effective gradient norm, rho x gradient
      norm; ``lr`` and ``wd``, numbers or columns; ``step``, counted from 0 if not given; ``angle`` between the weights
      before and after a step, radians (else computed from the rest). Only ``loss`` must be there: what cannot be said
      without the others is said. Beside a log ``lr`` and ``wd`` may be given, where it has no such column.
    - ``momentum`` of SGD, whose rate counts lr/(1 - momentum), in 1/(lr wd) as in the ELR; ``optimizer``, the name of
      its class, for any other (the folder of a run knows its own).
    - ``names``: of the columns of a log, where they do not tell: ``{"loss": "train/loss"}``; ``steps_per_epoch``: where
      its rows are counted in epochs.
    - ``definition``: what counts as a break-down.
    - Raises UserError for columns that do not fit together, too few rows, a record that is damaged, or wd = 0 beside a
      norm that falls.

    >>> steps = np.arange(6000)
    >>> sawtooth = 10.0 * np.exp(-2e-3 * (steps % 600))          # lr wd = 1e-3, a jump every 600 steps
    >>> loss = np.where(steps % 600 < 60, 1.0, 1e-3)
    >>> found = find_periods(loss=loss, rho=np.sqrt(sawtooth), lr=0.1, wd=0.01)
    >>> found.verdict, round(found.mean_interval), round(600 / found.unit, 2)
    ('periodic', 600, 0.6)
    """
    given = {"loss": loss, "rho": rho, "eg": eg, "lr": lr, "wd": wd, "step": step, "angle": angle}
    if folder is not None and is_run(folder):
        if momentum or optimizer != "SGD" or names or any(x is not None for x in given.values()):
            raise UserError("give the folder of a run, or columns, not both")
        assert isinstance(folder, str | Path)
        return _of_run(Path(folder), definition)
    read: tuple[str, ...] = ()
    counted = ""
    if folder is not None and any(given[name] is not None for name in ("loss", "rho", "eg", "step", "angle")):
        raise UserError("give the folder of a run or a log, or columns, not both")
    if folder is not None:
        several = [folder] if isinstance(folder, str | Path) else list(folder)
        source = read_log(*several, columns=names, steps_per_epoch=steps_per_epoch)
        twice = [name for name, x in given.items() if x is not None and name in source.columns]
        if twice:
            raise UserError(f"{twice[0]}: {several[0]} has a column {twice[0]}; leave one of the two out")
        given, read = {**given, **source.columns}, source.said
        if source.counted:  # rates are those of a step
            given["lr"] = given["wd"] = None
            counted = source.counted
    elif loss is None:
        raise UserError("find_periods needs the folder of a run, a log, or at least the column loss")
    acting = acts_as(optimizer, momentum)
    log = make_log(**acting.of(given), pace=acting.pace or 1.0)
    found = analyse(replace(log, law=acting.law, counted=counted), definition, plain_sgd=acting.plain_sgd)
    _check_decay(found)
    if counted:
        found = replace(found, answer=f"{found.answer}; a step here is {counted}")
    return replace(found, evidence=(*read, *acting.said, *found.evidence)) if read or acting.said else found


def is_run(folder: str | Path | Sequence[str | Path]) -> bool:
    """Tell the folder of a run of the lab or of a monitor (or a sweep's) from a log of one's own."""
    if not isinstance(folder, str | Path):
        return False
    path = Path(folder)
    return (path / "config.json").exists() or (path / SWEEP_CONFIG).exists()


def _of_run(folder: Path, definition: Definition) -> Periods:
    columns, plain_sgd = run_columns(folder)
    run = load_run(folder)
    said = silenced = ""
    if plain_sgd:
        eps = invariance(run)
        said, silenced = eps.sentence, eps.silenced
    log = replace(make_log(**columns, diverged=run.status == "diverged"), law=run.law)
    found = analyse(log, definition, plain_sgd=plain_sgd, silenced=silenced)
    return replace(found, evidence=(*found.evidence, said)) if said else found


def analyse(log: Log, definition: Definition, *, plain_sgd: bool = True, silenced: str = "") -> Periods:
    """The same from a checked log. ``plain_sgd``: the step is SGD without momentum, of which the bounds speak;
    ``silenced``: that eps has ended the gradient (:attr:`.invariance.Invariance.silenced`), and nothing is to come.
    """
    if log.unjudged:
        found = Periods(
            verdict="undecided",
            reason=log.unjudged,
            definition=definition,
            on=chosen(log, definition) if len(log) else "norm",
            settled_from=int(log.step[0]) if len(log) else 0,
            diverged_at=log.diverged_at,
            zero_at=log.zero_at,
            evidence=tuple(end_sentences(log)),
            log=log,
        )
        return replace(found, answer=answer(found))
    on = chosen(log, definition)
    if on == "norm" and log.rho_sq is None:
        raise UserError("the definition looks at the norm, but no norm is logged; use on='loss'")
    series = smooth(log.bare, definition)
    candidates, turns = find_events(log, definition, series, on)
    spikes = [event for event in candidates if event.spike]
    first_row = 0 if log.time is None else int(np.searchsorted(log.time, log.time[0] + definition.burn_in))
    verdict, reason = judge(log, definition, candidates, series, on, first_row)
    if silenced and verdict in ("not yet", "undecided"):
        verdict, reason = "undecided", silenced
    periods = make_periods(log, spikes)
    steps, times, settled = _intervals(spikes)
    spans = make_spans(log, spikes, turns, on)
    # phases are those of a period; where none can come, or the norm rests, there is none
    ended = log.diverged_at is not None or log.zero_at is not None
    phaseless = ended or bool(silenced) or (log.no_decay and not spikes) or verdict == "equilibrium"
    following = None
    if periods and log.zero_at is None:
        used = [p.length for p in periods if p.settled or not settled]
        following = next_break_down(used, float(log.step[-1] - spikes[-1].step))
    found = Periods(
        verdict=verdict,
        reason=reason,
        definition=definition,
        on=on,
        unit=log.unit,
        candidates=tuple(candidates),
        periods=tuple(periods),
        interval=steps,
        interval_time=times,
        interval_settled=settled,
        spans=tuple(spans),
        phase="" if phaseless else present_phase(log, spans, spikes, series, on),
        next=following,
        books=keep_books(log, spikes, first_row),
        equilibrium=norm_band(log, first_row) if plain_sgd and on == "norm" else None,
        sensitivity=tuple(vary(log, definition, on, series)),
        settled_from=int(log.step[min(first_row, len(log) - 1)]),
        diverged_at=log.diverged_at,
        zero_at=log.zero_at,
        log=log,
    )
    return replace(found, answer=answer(found), evidence=tuple(evidence(found, plain_sgd)))


def _check_decay(found: Periods) -> None:
    """Refuse wd = 0 beside a norm that falls before break-downs: only decay makes it fall."""
    if found.on != "norm" or not found.log.no_decay or found.log.rho_sq is None:
        return
    log, rho_sq = found.log, found.log.rho_sq
    for event in found.break_downs:
        top = int(np.searchsorted(log.step, event.fall_from))
        fall = math.log(rho_sq[top]) - math.log(rho_sq[event.row])
        if fall > math.log1p(found.definition.rise):
            share = -math.expm1(-fall / (event.step - event.fall_from))
            name = "lr" if log.lr is not None and not np.any(log.lr > 0) else "wd"
            true = "learning rate" if name == "lr" else "weight decay"
            raise UserError(
                f"{name} 0 contradicts the log (rho^2 falls by {100 * share:.2g} % a step before the break-down at "
                f"step {event.step}); give the {true} that acted, or leave {name} out to estimate lr wd"
            )


def _intervals(spikes: list[BreakDown]) -> tuple[MeanInterval, MeanInterval, bool]:
    """Average the intervals in steps and in units of time; of the settled events if there are three, else of all."""
    settled = [event for event in spikes if event.settled]
    enough = len(settled) >= _FEWEST_SETTLED or len(settled) == len(spikes)
    used = settled if enough else spikes
    steps = mean_interval(np.diff([e.step for e in used]).tolist() if len(used) > 1 else [])
    times = [e.time for e in used]
    known = len(used) > 1 and all(math.isfinite(t) for t in times)
    return steps, mean_interval(np.diff(times).tolist() if known else []), enough
