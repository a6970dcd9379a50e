"""Say the answer and its evidence in words."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scaleinv.analysis.periods.books import UNEXPLAINED, Books, unexplained
from scaleinv.analysis.periods.bounds import BREAK, NormBand, Since, envelopes, predict
from scaleinv.analysis.periods.contradiction import contradiction
from scaleinv.analysis.periods.events import Sensitivity
from scaleinv.analysis.periods.interval import Next
from scaleinv.analysis.periods.log import Log
from scaleinv.analysis.periods.result import Periods
from scaleinv.analysis.periods.verdict import FINE, carried, coarse, rests
from scaleinv.text import count

#: periods that are compared with Propositions 1 and 2
_MOST_COMPARED = 200


def number(value: float) -> str:
    """Write three digits, without an exponent where it can be helped.

    >>> number(12345.6), number(0.01234), number(3.2e-7)
    ('12346', '0.0123', '3.2e-07')
    """
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def expected(following: Next) -> str:
    """Say ``within 300-900 steps``, or ``in about 286 steps`` where both ends are the same.

    >>> expected(Next(285.6, 286.2, "")), expected(Next(300, 900, ""))
    ('in about 286 steps', 'within 300-900 steps')
    """
    earliest, latest = (max(1, round(steps)) for steps in (following.earliest, following.latest))
    return f"in about {count(latest, 'step')}" if earliest == latest else f"within {earliest}-{latest} steps"


def answer(found: Periods) -> str:
    """Say ``14 periods of 640 steps (95 % 550-760) = 0.20/(lr wd); next break-down ...; phase B``."""
    parts = []
    interval, time = found.interval, found.interval_time
    if found.verdict == "periodic":
        few = f" (95 % {number(interval.low)}-{number(interval.high)})" if math.isfinite(interval.high) else ""
        clock = f" = {time.mean:.2g}/(lr wd)" if math.isfinite(time.mean) else ""
        parts.append(f"{count(len(found.periods), 'period')} of {number(interval.mean)} steps{few}{clock}")
        parts += _missed(found)
        if found.next is not None and found.diverged_at is None:
            parts.append(f"next break-down expected {expected(found.next)}")
    else:
        none = "equilibrium, no periods" if rests(found.log, found.on) else "no periods"
        parts.append(f"{none if found.verdict == 'equilibrium' else found.verdict}: {found.reason}")
    if found.diverged_at is not None:
        parts.append(f"diverged at step {found.diverged_at}")
    if found.zero_at is not None:
        parts.append(f"the weights are 0 from step {found.zero_at} on")
    if found.phase:
        parts.append(f"phase {found.phase}")
    if wrong := contradiction(found.log):
        parts.append(wrong)
    return "; ".join(parts)


def _missed(found: Periods) -> list[str]:
    """Say that the interval is an upper bound where break-downs may hide between the rows, with the lower one."""
    log = found.log
    if not coarse(log, FINE):
        return []
    said = f"at most: rows {number(log.gap)}/(lr wd) apart miss break-downs"
    if found.on == "norm":
        settled = [event.step for event in found.candidates if event.settled or not found.interval_settled]
        least = (settled[-1] - settled[0]) / (len(settled) - 1) if len(settled) > 1 else math.nan
        if least < 0.95 * found.interval.mean:
            said += f" (every rise of the norm counted: {number(least)} steps)"
    return [said]


def evidence(found: Periods, plain_sgd: bool) -> list[str]:
    """Say all there is; ``plain_sgd``: the step is SGD without momentum, of which the bounds speak."""
    log = found.log
    return [
        *log_sentences(found),
        *event_sentences(found),
        *interval_sentences(found),
        *books_sentences(found.books, unexplained(log) if plain_sgd and not log.fixed_norm else None),
        *theorem_sentences(found.equilibrium),
        *(proposition_sentences(found) if plain_sgd and found.on == "norm" else []),
        *([] if plain_sgd else ["The optimizer is not plain SGD: the bounds of the theory are left out."]),
        *warm_up_sentence(found),
        *sensitivity_sentence(found.sensitivity),
        *plain_sentence(found),
    ]


def log_sentences(found: Periods) -> list[str]:
    """Say what was looked for, and what could not be."""
    log, on = found.log, found.on
    said = [f"Definition: {found.definition.sentence(on, clock=log.time is not None)}."]
    if log.pace != 1:
        said.append(
            f"Momentum: a gradient acts {log.pace:.3g} times in all, so lr stands for {log.pace:.3g} times the "
            "optimizer's, in 1/(lr wd) and in the ELR."
        )
    if log.clock == "estimated":
        said.append(
            f"lr wd is estimated as {1 / log.unit:.3g} from the fastest fall of the norm (at least so much: gradients "
            "only add to the norm): lr and wd are not both given or, as with Adam and L2, do not say what decay takes. "
            "The bounds of the theory are left out."
        )
    elif log.clock == "none" and not log.no_decay:
        verdicts = "" if log.fixed_norm else ", and no verdict of not yet or equilibrium is possible"
        said.append(
            "Without lr and wd (or a norm that falls) there is no time scale 1/(lr wd): no burn-in is taken off"
            f"{verdicts}."
        )
    if log.rho_sq is None:
        said.append(
            "No norm is logged: phases A and B, ELR and bounds are not known, and only break-downs that raise the loss "
            f"{found.definition.loss_spike:g}-fold are seen. To know more, log rho, the norm of the scale-invariant "
            "weights, and g, that of their gradient (scaleinv.Monitor writes both)."
        )
    elif log.fixed_norm and on == "loss":
        said.append("The norm is fixed (within 0.1 %): break-downs are looked for in the loss, and only C is a phase.")
    if on == "loss" and found.verdict == "equilibrium" and (log.fixed_norm or not log.no_decay):
        said.append(
            "Loss and effective gradient alone do not tell whether training converges, rests or guesses; that there "
            "are no break-downs is all that was judged."
        )
    if log.eg is None:
        said.append("No effective gradient is logged: spikes are judged by the loss alone, the bounds are left out.")
    if not log.constant and log.clock == "given":
        said.append("lr or wd change: time is counted as the sum of lr wd, and the bounds are left out.")
    if log.dropped:
        verb = "is" if log.dropped == 1 else "are"
        said.append(f"{count(log.dropped, 'row')} with a loss or norm that is not finite {verb} left out.")
    said += end_sentences(log)
    hidden = coarse(log, FINE)
    if hidden and found.verdict in ("periodic", "equilibrium"):
        many = "What looks like one period may be several" if found.verdict == "periodic" else "A few may be unseen"
        said.append(f"Caution: {hidden}. {many}.")
    elif log.spacing > 1:
        said.append(f"Rows are {log.spacing:g} steps apart: events are known to that.")
    return said


def end_sentences(log: Log) -> list[str]:
    """Say how a run ended that no longer moves."""
    said = []
    if log.diverged_at is not None:
        said.append(f"From step {log.diverged_at} on loss or norm are not finite: the run diverged there.")
    if log.zero_at is not None:
        said.append(
            f"From step {log.zero_at} on the norm is 0 (or below 4e-23, the least that is recorded): the network is a "
            "constant without a gradient, and nothing brings it back."
        )
    return said


def event_sentences(found: Periods) -> list[str]:
    """Say what makes the break-downs ones."""
    candidates, spikes, on = found.candidates, found.break_downs, found.on
    definition, spacing = found.definition, found.log.spacing
    rest = len(candidates) - len(spikes)
    what = "norm" if on == "norm" else "loss"
    if not candidates:
        return [f"There are no rises of the {what} at all."]
    kinds = f": {len(spikes)} with a spike, {rest} without."
    if definition.plain:
        kinds = ", each of them counted, with a spike or without."
    said = [f"{count(len(candidates), 'rise')} of the {what}{kinds}"]
    if not spikes:
        return said
    facts = [
        f"{name} rises {number(float(np.median(known)))}-fold{_range(known)}"
        for name, values in (
            ("the effective gradient", [e.eg_factor for e in spikes]),
            ("the loss", [e.loss_factor for e in spikes]),
            ("rho^2", [math.exp(e.log_rise) for e in spikes]),
        )
        if (known := [v for v in values if math.isfinite(v)])
    ]
    of_many = " (median, 10 to 90 %)" if len(spikes) > 1 else ""
    said.append(f"At {'a' if of_many else 'the'} break-down {', '.join(facts)}{of_many}.")
    if on == "norm":
        large = sum(e.large for e in spikes)
        said.append(
            f"{large} {'is' if large == 1 else 'are'} large (rho^2 rises {definition.large:g}-fold or more), "
            f"{len(spikes) - large} small; large ones carry {carried(spikes, 'large'):.0%} of the log rises."
        )
        leads = [e.lead for e in spikes if math.isfinite(e.lead)]
        mid = float(np.median(leads)) if leads else 0.0
        # between rows further apart than that nothing is known of what came first
        if leads and (spacing <= 1 or abs(mid) >= spacing):
            first = sum(lead > 0 for lead in leads)
            before = f"{number(mid)} {'step' if mid == 1 else 'steps'} before rho^2 is{_range(leads)}"
            said.append(f"The loss rises before the norm in {first} of {len(leads)}: it is half-way up (log) {before}.")
        falls = [e.free_fall for e in spikes if math.isfinite(e.free_fall)]
        if falls:
            them, of_many = ("them", " (median)") if len(falls) > 1 else ("it", "")
            share = f"{np.median(falls):.0%} of the speed of weight decay alone{of_many}"
            said.append(f"Before {them} the norm falls at {share}.")
    return said


def _range(values: Sequence[float]) -> str:
    """Give 10 to 90 %, in brackets; nothing for a single value, which has no range."""
    if len(values) < 2:
        return ""
    low, high = np.quantile(values, (0.1, 0.9))
    return f" ({number(low)} to {number(high)})"


def interval_sentences(found: Periods) -> list[str]:
    """Give the mean interval with its method."""
    interval, time = found.interval, found.interval_time
    if not interval.count:
        return []
    what = "One interval" if interval.count == 1 else f"Mean of {count(interval.count, 'interval')}"
    text = f"{what}: {number(interval.mean)} steps"
    if math.isfinite(interval.low):
        text += f", 95 % {number(interval.low)} to {number(interval.high)} (gamma mean), CV {interval.cv:.2f}"
    if math.isfinite(time.mean):
        text += f"; {time.mean:.3g}/(lr wd)"
    if not found.interval_settled:
        text += "; fewer than 3 break-downs came after the burn-in, so those within it are counted"
    said = [text + "."]
    if found.next is not None:
        said.append(f"Forecast of the next: {found.next.basis}.")
    return said


def books_sentences(books: Books, departure: tuple[float, int | None] | None) -> list[str]:
    """State the identity of the log rises, and whether the columns belong together."""
    said = []
    if books.rise_sum > 0:
        said.append(
            f"Books: the log rises of rho^2 at break-downs sum to {books.rise_sum:.2f} of 2 lr wd x steps (1 if "
            f"gradients rest in phase B); half their mean is {books.half_mean_rise:.3g}, so much of the interval in "
            f"1/(lr wd) is arithmetic. {books.in_events:.0%} of what the gradients give to the norm comes at them."
        )
    if departure is not None:
        share, begin = departure
        if begin is not None and share > UNEXPLAINED:
            said.append(
                f"The norm does not follow SGD's recursion with these lr and wd (median departure {share:.0%} of the "
                "radial motion): momentum, another optimizer, other rates, weights with a scale; distrust the bounds."
            )
        elif begin is not None:
            said.append(
                f"From step {begin} on the norm departs from SGD's recursion by more than {UNEXPLAINED:.0%} of the "
                "radial motion: at so small a norm eps of the norm layers may matter."
            )
        else:
            said.append(f"The norm follows SGD's recursion (median departure {share:.1g} of the radial motion).")
    return said


def theorem_sentences(e: NormBand | None) -> list[str]:
    """Compare Theorem 1 and the balance with the run."""
    if e is None:
        return []
    holds, meaning = "holds", ""
    if not e.condition:
        holds, meaning = "fails", ", so the interval is an observation, not the theorem's"
    return [
        f"Theorem 1: its condition 2 lr wd L <= l {holds} (l = {e.bounds.low:.3g}, L = {e.bounds.high:.3g}: "
        f"percentiles 1 and 99){meaning}; rho^2 lies in [kappa l, kappa L] = [{e.low:.3g}, {e.high:.3g}] in "
        f"{e.inside:.1%} of the steps and fills {e.fills:.0%} of it (log).",
        f"Balance: mean rho^4 is {e.balance:.3g} of lr mean(eg^2)/(2 wd); 1 in an equilibrium.",
    ]


def proposition_sentences(found: Periods) -> list[str]:
    """Compare Propositions 1 and 2 with phase B of the periods, with l and L of earlier training."""
    said = []
    sources: tuple[Since, ...] = ("before", "start")
    among = _some(len(found.periods))
    within = {since: envelopes(found.log, found.periods, since, among) for since in sources}
    predictions = {since: predict(found.log, found.periods, since, among) for since in sources}
    inside = {since: _pooled("inside", those) for since, those in within.items()}
    if math.isfinite(inside["before"]):
        said.append(
            f"Proposition 1: in phase B {inside['before']:.1%} of the steps have 1 - cos within the envelope of the l "
            f"and L of phase B of the period before ({inside['start']:.1%} with those of all periods before)."
        )
    kept, silent = (
        {since: _pooled(name, those) for since, those in predictions.items()} for name in ("holds_min", "empty")
    )
    if math.isfinite(kept["before"]):
        said.append(
            f"Proposition 2: no turn of {BREAK:g} equilibrium rotations before t_min held in {kept['before']:.1%} of "
            f"the steps of phase B with l and L of the period before, in {kept['start']:.1%} with those of all periods "
            f"before; in {silent['before']:.0%} and {silent['start']:.0%} t_min was 0 and said nothing."
        )
        if not any(math.isfinite(p.holds_max) for p in predictions["before"]):
            said.append("Its t_max never applies: the conditions rho^2 > kappa L or delta < lr wd l^2/L^2 fail.")
    return said


def _some(periods: int) -> list[int]:
    """Choose the periods that are compared with the propositions: all but the first, or 200 of very many."""
    if periods <= _MOST_COMPARED:
        return list(range(1, periods))
    return [int(k) for k in np.unique(np.linspace(1, periods - 1, _MOST_COMPARED).round())]


def _pooled(name: str, of: Sequence[Any]) -> float:
    """Average a share over steps; NaN where nothing is known."""
    known = [(share, len(one.step)) for one in of if math.isfinite(share := getattr(one, name))]
    return float(np.average([s for s, _ in known], weights=[n for _, n in known])) if known else math.nan


def sensitivity_sentence(rows: Sequence[Sensitivity]) -> list[str]:
    """Give the range of the mean interval over all variations."""
    known = [row for row in rows if math.isfinite(row.mean_interval)]
    if len(known) < 2:
        return []
    low, high = min(known, key=lambda r: r.mean_interval), max(known, key=lambda r: r.mean_interval)
    return [
        f"Thresholds: the mean interval is {number(low.mean_interval)} steps with {low.threshold} {low.value:g} and "
        f"{number(high.mean_interval)} with {high.threshold} {high.value:g}; all variations lie between."
    ]


def plain_sentence(found: Periods) -> list[str]:
    """Say what the definition without spikes would give, where it is not the one in use."""
    settled = [event for event in found.candidates if event.settled]
    if found.definition.plain or found.on != "norm" or len(settled) < 2:
        return []
    steps, time = ((getattr(settled[-1], f) - getattr(settled[0], f)) / (len(settled) - 1) for f in ("step", "time"))
    clock = f" = {time:.2g}/(lr wd)" if math.isfinite(time) else ""
    return [
        f"The plain definition (any rise of rho^2 by {found.definition.rise:.3g}, with a spike or without) counts "
        f"{len(settled)} events after the burn-in, at a mean interval of {number(steps)} steps{clock}."
    ]


def warm_up_sentence(found: Periods) -> list[str]:
    """List ELR and loss at the first large break-downs (the paper's warm-up stage)."""
    known = [e for e in found.break_downs if e.large and math.isfinite(e.elr)]
    if len(known) < 3 or not found.periods:
        return []
    first, lows = (" ".join(f"{getattr(e, name):.2g}" for e in known[:5]) for name in ("elr", "min_loss"))
    return [f"ELR at the first large break-downs: {first}; lowest loss before each: {lows}."]
