"""The page of a single run: how it went, its numbers, its curves, how to reproduce."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scaleinv.plots.drawing import Drawing
from scaleinv.report.facts import RunFacts
from scaleinv.report.landscape_section import LandscapeSection
from scaleinv.report.page import Card, Figures, Section, fragment, regime_text
from scaleinv.report.period_section import PeriodSection, period_cards
from scaleinv.report.run_figures import group_drawings, total_drawings
from scaleinv.report.shared_sections import Glossary, Reproduce, about
from scaleinv.report.words import flat_evidence, reason
from scaleinv.text import clean, count, duration, elr_text, number, percent, plain, show

_TEMPLATE = "run.html.j2"
#: more are in the run folder
MOST_ALERTS = 30
_STATUS = {
    "finished": "Finished",
    "converged": "Converged",
    "diverged": "Diverged: the loss is no longer a finite number",
    "failed": "Failed",
    "running": "Not ended: running, or stopped and waiting to go on",
}


def run_title(facts: RunFacts) -> str:
    """The title of the page."""
    return f"Run {clean(facts.run.folder.resolve().name)}"


class RunHead(Section[RunFacts]):
    """What was trained, the answer, and how the run ended."""

    def html(self, facts: RunFacts, drawn: Sequence[Drawing]) -> str:
        run, found = facts.run, facts.periods
        message = str((run.result or {}).get("message") or "")
        seed = f" · seed {run.seed}" if run.seed is not None else ""
        ended = f"{_STATUS.get(run.status, run.status)}, {count(_done(facts), run.time)} done"
        return fragment(
            _TEMPLATE,
            "head",
            rate=_rate(facts),
            about=f"{about(run.config)}{seed} · {run.name}",
            answer="" if found is None else f"{found.answer[0].upper()}{found.answer[1:]}.",
            ended=f"{ended}: {message}." if message else f"{ended}.",
            origin="" if facts.origin is None else facts.origin.full(elr_text, whole=True),
        )


class KeyNumbers(Section[RunFacts]):
    """The regime and the numbers of the run, and the evidence for the regime."""

    def html(self, facts: RunFacts, drawn: Sequence[Drawing]) -> str:
        cards = _step_cards(facts) if facts.run.time == "step" else _epoch_cards(facts)
        evidence = facts.row["evidence"]
        why = reason(evidence) if evidence else ""
        return fragment(_TEMPLATE, "key_numbers", cards, facts.row["regime"], why, flat_evidence(evidence))


class Alerts(Section[RunFacts]):
    """What a Monitor said while the run went on."""

    def applies(self, facts: RunFacts) -> bool:
        return bool(facts.alerts)

    def html(self, facts: RunFacts, drawn: Sequence[Drawing]) -> str:
        items = []
        for alert in facts.alerts[:MOST_ALERTS]:
            where = f"step {alert.get('step', '?')}, {alert.get('group', '?')}"
            ahead, remedy = (str(alert.get(name) or "") for name in ("forecast", "remedy"))
            text = str(alert.get("reason", "")) + (f". Forecast: {ahead}" if ahead else "")
            items.append((where, text + (f". To do: {remedy}" if remedy else "") + "."))
        return fragment(_TEMPLATE, "alerts", items, len(facts.alerts) - len(items))


#: the page, and the image files, in order
RUN_SECTIONS: tuple[Section[RunFacts], ...] = (
    RunHead(),
    KeyNumbers(),
    Alerts(),
    PeriodSection(),
    Figures(lambda facts: "Training", lambda facts: total_drawings(facts.run), empty="Nothing was measured yet."),
    Figures(
        lambda facts: f"The scale-invariant groups ({len(facts.run.groups())})",
        lambda facts: group_drawings(facts.run),
    ),
    LandscapeSection(),
    Glossary(),
    Reproduce(),
)


def _rate(facts: RunFacts) -> str:
    """`` at ELR 1e-3``; `` at LR 0.3, weight decay 1e-3`` in the whole space."""
    run = facts.run
    lr, wd = number(run.config.get("lr")), number(run.config.get("weight_decay"))
    if run.time == "epoch" and math.isfinite(lr):
        return f" at LR {elr_text(lr, 3)}" + (f", weight decay {elr_text(wd, 3)}" if wd > 0 else "")
    return f" at ELR {elr_text(run.elr, 3)}" if math.isfinite(run.elr) and run.time == "epoch" else ""


def _done(facts: RunFacts) -> int:
    """How many epochs, or steps where a Monitor measured the run."""
    run = facts.run
    if run.time == "epoch":
        return run.last_epoch
    steps = number((run.result or {}).get("steps"))
    return int(steps) if math.isfinite(steps) else run.last_step


def _loss(facts: RunFacts, value: float) -> str:
    """A loss, or that the last one measured is no number."""
    broken = facts.run.has("online", "total", "loss") and not math.isfinite(facts.last("online", "loss"))
    return "not finite" if broken else show(value)


def _step_cards(facts: RunFacts) -> list[Card]:
    last = {name: facts.last("online", name) for name in ("loss", "rho", "elr", "angle")}
    logged = facts.run.table("online", "total", "angle").steps.size
    return [
        Card("last loss", _loss(facts, last["loss"])),
        Card("last norm of the groups", show(last["rho"])),
        Card("last ELR", show(last["elr"])),
        Card("last angle, radians a step", show(last["angle"])),
        Card("steps", plain(_done(facts)), f"{plain(logged)} logged"),
        Card("alerts", plain(len(facts.alerts))),
        *_time_card(facts),
    ]


def _epoch_cards(facts: RunFacts) -> list[Card]:
    row, regime, final = facts.row, facts.row["regime"], facts.last("online", "loss")
    mean = f"mean of epochs {facts.window[0]}-{facts.window[1]}" if facts.window else ""
    loss = _loss(facts, row["train_loss"])
    recomputed = facts.last("test", "error_recomputed_bn")
    note = "last evaluation" if math.isfinite(number(row["test_error"])) else ""
    note += f"; {percent(recomputed)} with statistics recomputed" if math.isfinite(recomputed) else ""
    steps = number((facts.run.result or {}).get("steps"))
    return [
        *([] if facts.periods is None else period_cards(facts.periods)),
        Card("regime", regime_text(regime), kind=f"regime{regime or 0}"),
        Card("train loss", loss, f"{mean}; last {show(final)}" if math.isfinite(final) else ""),
        Card("test error", percent(row["test_error"]), note),
        Card("effective gradient", show(row["effective_gradient"]), mean),
        Card("ESS", show(row["ess"]), mean),
        Card("cosine", show(row["cosine"], 4), mean),
        Card("epochs", str(facts.run.last_epoch), f"{plain(int(steps))} steps" if math.isfinite(steps) else ""),
        *_time_card(facts),
    ]


def _time_card(facts: RunFacts) -> list[Card]:
    result = facts.run.result or {}
    timing = result.get("timing")
    timing = timing if isinstance(timing, dict) else {}
    steps, spent, here = (number(value) for value in (result.get("steps"), *map(timing.get, ("seconds", "steps_here"))))
    if not spent > 0:
        return []
    return [Card("time", duration(spent), f"since it went on, {plain(int(here))} steps" if here < steps else "")]
