"""The answer in words: where the regimes lie, within which horizon, and what is not decided."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from scaleinv.plots.style import regime_names
from scaleinv.report.facts import ENDED, SweepFacts, SweptRun
from scaleinv.text import capital, count, elr_text, number, percent, plain, show


class Boundary(NamedTuple):
    """A boundary between two regimes as an interval of ELRs; NaN where a side was not found."""

    low: float
    high: float
    decided: bool

    @property
    def known(self) -> bool:
        """Whether both sides were found."""
        return self.low > 0 and self.high > 0


def boundary(facts: SweepFacts, name: str) -> Boundary:
    """Return the boundary ``1/2`` or ``2/3``."""
    found = (facts.boundaries or {}).get(name)
    found = found if isinstance(found, Mapping) else {}
    return Boundary(number(found.get("low")), number(found.get("high")), bool(found.get("decided")))


def reach(facts: SweepFacts) -> dict[int, str]:
    """Describe each regime's ELRs, from the boundaries where they are known and from the runs where they are not."""
    first, second = boundary(facts, "1/2"), boundary(facts, "2/3")

    def text(elr: float) -> str:
        return elr_text(elr, facts.digits)

    said = {regime: _seen(facts, regime) for regime in (1, 2, 3)}
    if first.low > 0:
        said[1] = f"up to {text(first.low)}"
    if second.high > 0:
        said[3] = f"from {text(second.high)}"
    # the union over seeds may be so wide that no ELR between the boundaries is in regime 2 for all of them
    if first.known and second.known and first.high > second.low:
        said[2] += ", at no ELR in all seeds"
    elif first.high > 0 and second.low > 0:
        said[2] = f"from {text(first.high)} to {text(second.low)}"
    return said


def _seen(facts: SweepFacts, regime: int) -> str:
    rates = sorted({fact.rate for fact in facts.of_regime(regime)})
    if not rates:
        return f"at none of the {facts.rate_name}s tried"
    low, high = elr_text(rates[0], facts.digits), elr_text(rates[-1], facts.digits)
    return f"seen at {low}" if low == high else f"seen from {low} to {high}"


def horizon(facts: SweepFacts) -> str:
    """Say how long the runs were, ``60 epochs``: what the statement is limited to."""
    reached = [fact.run.last_epoch for fact in facts.runs if fact.run is not None and fact.status == "finished"]
    for source in (facts.horizon, {"epochs": max(reached, default=None)}, facts.config):
        for unit in ("epochs", "steps"):
            value = number(source.get(unit))
            if value > 0:
                return count(round(value), unit[:-1])
    return "unknown"


def statement(facts: SweepFacts) -> str:
    """State the sweep's answer in one sentence."""
    said = reach(facts)
    sentence = "; ".join(f"{regime_names[regime]} {said[regime]}" for regime in (1, 2, 3))
    sentence = capital(f"so far: {sentence}" if facts.boundaries is None else sentence)
    seeds = count(len(facts.seeds), "seed") if facts.seeds else "unknown seed"
    undecided = len(facts.of_regime(None))
    rest = f"; {undecided} of {count(len(facts.runs), 'run')} undecided" if undecided else ""
    return f"{sentence}; horizon {horizon(facts)}, {seeds}{rest}."


def boundary_words(facts: SweepFacts, name: str) -> str:
    """Describe a boundary: ``between 2.6e-2 and 4.8e-2``, or which side was not found."""
    if facts.boundaries is None:
        return "not known yet"
    found = boundary(facts, name)
    low, high = elr_text(found.low, facts.digits), elr_text(found.high, facts.digits)
    if found.known:
        return f"between {low} and {high}" + ("" if found.decided else ", not decided")
    if found.low > 0:
        return f"above {low}, the upper side was not found"
    if found.high > 0:
        return f"below {high}, the lower side was not found"
    return f"not found among the {facts.rate_name}s tried"


def lowest_error(facts: SweepFacts) -> str:
    """Say which run has the lowest test error, with recomputed statistics where they are known; empty without one.

    Of seeds of one rate the mean counts.
    """
    recomputed = any(fact.test_error_recomputed == fact.test_error_recomputed for fact in facts.runs)
    name = "test_error_recomputed" if recomputed else "test_error"
    of_rate: dict[float, list[SweptRun]] = {}
    for fact in facts.runs:
        if math.isfinite(getattr(fact, name)) and math.isfinite(fact.rate):
            of_rate.setdefault(fact.rate, []).append(fact)
    if not of_rate:
        return ""
    means = {rate: sum(getattr(fact, name) for fact in found) / len(found) for rate, found in of_rate.items()}
    best = of_rate[min(means, key=lambda rate: means[rate])]
    regimes = sorted({fact.regime or 0 for fact in best})
    where = " and ".join(f"regime {regime}, {regime_names[regime]}" if regime else "undecided" for regime in regimes)
    said = f"Lowest test error: {percent(means[best[0].rate])} at {facts.rate_name} {best[0].rate_label} ({where})"
    seeds = f", mean of {count(len(best), 'seed')}" if len(best) > 1 else ""
    if not recomputed:
        return f"{said}{seeds}, with the running normalisation statistics."
    running = sum(fact.test_error for fact in best) / len(best)
    with_running = f"; with the running averages it reads {percent(running)}" if math.isfinite(running) else ""
    return f"{said}{seeds}, with normalisation statistics recomputed over the train set{with_running}."


def remarks(facts: SweepFacts) -> list[str]:
    """List what a reader must know before trusting the map: runs undecided, broken off, not ended."""
    said, runs = [], facts.runs
    if facts.boundaries is None:
        ended = sum(fact.status in ENDED for fact in runs)
        said.append(f"The regime map is not written yet: {ended} of the {count(len(runs), 'run')} so far have ended.")
    undecided = [fact for fact in facts.of_regime(None) if fact.status in ENDED and fact.broken_at is None]
    kinds = (
        ("undecided", undecided),
        ("with a train loss that is not a finite number", [fact for fact in runs if fact.broken_at is not None]),
        ("failed", [fact for fact in runs if fact.status == "failed"]),
        ("not ended", [fact for fact in runs if fact.status not in (*ENDED, "failed")]),
        ("without a folder, so without curves", [fact for fact in runs if fact.run is None]),
    )
    return said + [f"{count(len(found), 'run')} {what}: {_list(found)}." for what, found in kinds if found]


def _list(facts: list[SweptRun]) -> str:
    shown = [fact.title for fact in facts[:6]]
    return ", ".join(shown) + (f" and {len(facts) - 6} more" if len(facts) > 6 else "")


def reason(evidence: Mapping[str, Any]) -> str:
    """Put the evidence in a sentence: its own ``reason``, else its first numbers."""
    stated = evidence.get("reason")
    if isinstance(stated, str) and stated.strip():
        return capital(stated.strip())
    statistics = evidence.get("statistics")
    pairs = statistics if isinstance(statistics, Mapping) else evidence
    numbers = [(str(k).replace("_", " "), plain(v)) for k, v in pairs.items() if not isinstance(v, (dict, list))]
    return ", ".join(f"{name} {value}" for name, value in numbers[:4]) or "No evidence recorded"


def flat_evidence(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the evidence but its sentence as pairs of text: ``statistics`` unfolded, deeper objects joined by points."""
    pairs: list[tuple[str, str]] = []

    def unfold(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                inner = str(key).replace("_", " ")
                unfold(f"{prefix} · {inner}" if prefix else inner, item)
        else:
            pairs.append((prefix, plain(value)))

    for key, value in evidence.items():
        if key == "statistics":
            unfold("", value)
        elif key != "reason":
            unfold(str(key).replace("_", " "), value)
    return pairs


def numbers_line(fact: SweptRun) -> str:
    """Write a run's numbers in a line, for a tooltip: means over its window, test error of the last evaluation."""
    regime = f"regime {fact.regime}, {regime_names[fact.regime]}" if fact.regime else "regime undecided"
    names = {"train_loss": "train loss", "effective_gradient": "effective gradient", "ess": "ESS", "cosine": "cosine"}
    values = [(name, getattr(fact, key)) for key, name in names.items()]
    measured = [f"{name} {show(value)}" for name, value in values if value == value]
    if fact.test_error == fact.test_error:
        measured.insert(1, f"test error {100 * fact.test_error:.1f} %")
    broken = [f"loss not finite from epoch {fact.broken_at}"] if fact.broken_at is not None else []
    over = [f"means of epochs {fact.window[0]}-{fact.window[1]}"] if fact.window else []
    return f"{fact.title}: {regime}" + "".join(f"; {part}" for part in [*broken, *measured, *over])


def summary_line(facts: SweepFacts) -> str:
    """Say what was run in one line: ``20 ELRs from 1e-4 to 10, 1 seed, 60 epochs``."""
    labels = [fact.rate_label for fact in facts.runs if math.isfinite(fact.rate)]
    span = f" from {labels[0]} to {labels[-1]}" if len(facts.rates) > 1 else ""
    seeds = f", {count(len(facts.seeds), 'seed')}" if facts.seeds else ""
    return f"{count(len(facts.rates), facts.rate_name)}{span}{seeds}, {horizon(facts)}"


def reference_words(facts: SweepFacts) -> str:
    """Write the loss of random directions as a range; empty where it was not measured."""
    values = facts.references()
    if not values.size:
        return ""
    low, high = show(float(values.min())), show(float(values.max()))
    return low if low == high else f"{low} to {high}"
