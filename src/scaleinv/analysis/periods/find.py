"""``find_periods``: from a run folder or the columns of a log to its periods."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.analysis.invariance import invariance
from scaleinv.analysis.periods.books import keep_books, unexplained
from scaleinv.analysis.periods.bounds import NormBand, Since, envelopes, norm_band
from scaleinv.analysis.periods.definition import Definition
from scaleinv.analysis.periods.events import Destabilisation, chosen, find_events, smooth
from scaleinv.analysis.periods.folder import run_columns
from scaleinv.analysis.periods.interval import MeanInterval, mean_interval, next_break_down
from scaleinv.analysis.periods.log import Log, RunEnd, make_log
from scaleinv.analysis.periods.phases import Period, make_periods, make_spans, present_phase
from scaleinv.analysis.periods.prediction import predict
from scaleinv.analysis.periods.result import Periods
from scaleinv.analysis.periods.sensitivity import vary
from scaleinv.analysis.periods.sentences import (
    answer,
    books_sentences,
    event_sentences,
    interval_sentences,
    log_sentences,
    plain_sentence,
    proposition_sentences,
    sensitivity_sentence,
    theorem_sentences,
    warm_up_sentence,
)
from scaleinv.analysis.periods.unjudged import unjudged
from scaleinv.analysis.periods.verdict import judge, rests
from scaleinv.errors import UserError
from scaleinv.runfolder.read import load_run
from scaleinv.theory.rates import sgd_pace

_FEWEST_SETTLED = 3


def find_periods(
    folder: str | Path | None = None,
    *,
    loss: Any = None,
    rho: Any = None,
    eg: Any = None,
    lr: Any = None,
    wd: Any = None,
    step: Any = None,
    angle: Any = None,
    momentum: float = 0.0,
    definition: Definition = Definition(),  # noqa: B008 - frozen
) -> Periods:
    """The periods of a run in the whole space with weight decay (Lobacheva et al. 2021), with the evidence.

    Either the folder of a run with a per-step record (or one that the monitor wrote), or columns: ``loss``; ``rho`` the
    norm of the scale-invariant weights; ``eg`` the effective gradient norm, rho x gradient norm; ``lr`` and ``wd``,
    numbers or columns; ``step``, counted from 0 if not given; ``angle`` between the weights before and after a step,
    radians (else computed from the rest); ``momentum`` of SGD, whose rate counts lr/(1 - momentum), in 1/(lr wd) as in
    the ELR (the folder of a run knows its own). Only ``loss`` must be there: what cannot be said without the others is
    said.

    Errors: UserError for columns that do not fit together, too few rows, a record that is damaged, or wd = 0 beside a
    norm that falls.

    >>> steps = np.arange(6000)
    >>> sawtooth = 10.0 * np.exp(-2e-3 * (steps % 600))          # lr wd = 1e-3, a jump every 600 steps
    >>> loss = np.where(steps % 600 < 60, 1.0, 1e-3)
    >>> found = find_periods(loss=loss, rho=np.sqrt(sawtooth), lr=0.1, wd=0.01)
    >>> found.verdict, round(found.mean_interval), round(600 / found.unit, 2)
    ('periodic', 600, 0.6)
    """
    plain_sgd, said, silenced = True, "", ""
    if folder is not None:
        if momentum or any(x is not None for x in (loss, rho, eg, lr, wd, step, angle)):
            raise UserError("give the folder of a run, or columns, not both")
        columns, plain_sgd = run_columns(Path(folder))
        run = load_run(folder)
        if plain_sgd:
            eps = invariance(run)
            said, silenced = eps.sentence, eps.silenced
        log = replace(make_log(**columns, origin=RunEnd(diverged=run.status == "diverged")), law=run.law)
    elif loss is None:
        raise UserError("find_periods needs the folder of a run, or at least the column loss")
    else:
        if not 0 <= momentum < 1:
            raise UserError(f"momentum {momentum:g} is not in [0, 1); give that of SGD, or leave it out")
        plain_sgd = not momentum
        log = make_log(loss=loss, rho=rho, eg=eg, lr=lr, wd=wd, step=step, angle=angle, pace=sgd_pace(momentum))
    found = analyse(log, definition, plain_sgd=plain_sgd, silenced=silenced)
    if folder is None:
        _check_decay(found)
    return replace(found, evidence=(*found.evidence, said)) if said else found


def analyse(log: Log, definition: Definition, *, plain_sgd: bool = True, silenced: str = "") -> Periods:
    """The same from a checked log. ``plain_sgd``: the step is SGD without momentum, of which the bounds speak;
    ``silenced``: that eps has ended the gradient (:attr:`.invariance.Invariance.silenced`), and nothing is to come.
    """
    if log.unjudged:
        return unjudged(log, definition)
    on = chosen(log, definition)
    if on == "norm" and log.rho_sq is None:
        raise UserError("the definition looks at the norm, but no norm is logged; use on='loss'")
    series = smooth(log, definition)
    candidates, turns = find_events(log, definition, series, on)
    spikes = [event for event in candidates if event.spike]
    first_row = _settled_row(log, definition)
    verdict, reason = judge(log, definition, candidates, series, on, first_row)
    if silenced and verdict in ("not yet", "undecided"):
        verdict, reason = "undecided", silenced
    periods = make_periods(log, spikes)
    steps, times, settled = _intervals(spikes)
    spans = make_spans(log, spikes, turns, series, on)
    # phases are those of a period; where none can come, or the norm rests, there is none
    ended = log.diverged_at is not None or log.zero_at is not None
    phaseless = ended or bool(silenced) or (log.no_decay and not spikes)
    phaseless |= verdict == "equilibrium"
    phase = "" if phaseless else present_phase(log, spans, spikes, series, on)
    elapsed = float(log.step[-1] - spikes[-1].step) if spikes else math.nan
    following = next_break_down([p.length for p in periods if p.settled or not settled], elapsed) if periods else None
    if log.zero_at is not None:
        following = None
    books = keep_books(log, spikes, first_row)
    usable = plain_sgd and on == "norm"
    departure = unexplained(log) if plain_sgd and not log.fixed_norm else None
    bound = norm_band(log, first_row) if usable else None
    sensitivity = vary(log, definition, on)
    evidence = [
        *log_sentences(log, definition, on, verdict),
        *event_sentences(candidates, definition, on, log.spacing),
        *interval_sentences(steps, times, settled, following),
        *books_sentences(books, departure),
        *(_beside_theory(log, periods, bound) if usable else []),
        *([] if plain_sgd else ["The optimizer is not plain SGD: the bounds of the theory are left out."]),
        *warm_up_sentence(periods, candidates),
        *sensitivity_sentence(sensitivity),
        *plain_sentence(candidates, definition, on),
    ]
    return Periods(
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
        phase=phase,
        next=following,
        books=books,
        equilibrium=bound,
        sensitivity=tuple(sensitivity),
        settled_from=int(log.step[min(first_row, len(log) - 1)]),
        diverged_at=log.diverged_at,
        zero_at=log.zero_at,
        answer=answer(
            verdict, reason, rests(log, on), len(periods), steps, times, following, phase, log.diverged_at, log.zero_at
        ),
        evidence=tuple(evidence),
        log=log,
    )


def _check_decay(found: Periods) -> None:
    """A norm that falls before break-downs is decay's work: wd = 0 is then a mistake of whoever gave it."""
    if found.on != "norm" or not found.log.no_decay or found.log.rho_sq is None:
        return
    log, rho_sq = found.log, found.log.rho_sq
    for event in found.destabilisations:
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


def _beside_theory(log: Log, periods: list[Period], bound: NormBand | None) -> list[str]:
    sources: tuple[Since, ...] = ("before", "start")
    return theorem_sentences(bound) + proposition_sentences(
        {since: envelopes(log, periods, since) for since in sources},
        {since: predict(log, periods, since) for since in sources},
    )


def _settled_row(log: Log, definition: Definition) -> int:
    if log.time is None:
        return 0
    return int(np.searchsorted(log.time, log.time[0] + definition.burn_in))


def _intervals(spikes: list[Destabilisation]) -> tuple[MeanInterval, MeanInterval, bool]:
    """In steps and in units of time; from the settled events if there are three, else from all."""
    settled = [event for event in spikes if event.settled]
    enough = len(settled) >= _FEWEST_SETTLED or len(settled) == len(spikes)
    used = settled if enough else spikes
    steps = mean_interval(np.diff([e.step for e in used]).tolist() if len(used) > 1 else [])
    times = [e.time for e in used]
    known = len(used) > 1 and all(math.isfinite(t) for t in times)
    return steps, mean_interval(np.diff(times).tolist() if known else []), enough
