"""The section on the landscape of a sweep's or a run's page: what ``scaleinv landscape`` has measured there."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median_low
from typing import Any

import numpy as np

from scaleinv.analysis.regimes import CORRELATED
from scaleinv.errors import needs
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, end_labels, new_drawing
from scaleinv.plots.style import INK, elr_colours
from scaleinv.report.facts import AnyFacts
from scaleinv.report.landscape_words import landscape_answers
from scaleinv.report.page import Section, fragment
from scaleinv.text import MISSING, elr_digits, elr_text, percent, show

with needs("lab"):
    import jinja2


_SIZE = (5.3, 3.5)
_AXES_HEIGHT = 2.8  # what the layout leaves of it for the axes
#: steps of the running mean of a walk's batch losses
_SMOOTH = 25


class LandscapeSection(Section[AnyFacts]):
    """Curvature, paths between runs, walks, averages and minima, those that were measured."""

    def applies(self, facts: AnyFacts) -> bool:
        return facts.landscape is not None

    def drawings(self, facts: AnyFacts) -> list[Drawing]:
        with _content(facts) as content:
            walks = content["walks"]
            stems = [f"walks-{k}" for k in range(1, len(walks) + 1)] if len(walks) > 1 else ["walks"]
            drawings = [_paths(facts.rate_name, content["paths"])] if content["paths"] else []
            return drawings + [_walks(one, stem) for one, stem in zip(walks, stems)]

    def html(self, facts: AnyFacts, drawn: Sequence[Drawing]) -> str:
        with _content(facts) as content:
            # older files lack the last two
            tables = [(part, *_table(facts.rate_name, part, content[part])) for part in TABLES if content.get(part)]
            minima = [(one, _pairs(one)) for one in content.get("minima", [])]
            if not (drawn or tables):
                return ""
            answers = landscape_answers(facts.rate_name, content)
            return fragment("parts.html.j2", "landscape", drawn, tables, minima, facts.rate_name, answers)


@contextlib.contextmanager
def _content(facts: AnyFacts) -> Iterator[Mapping[str, Any]]:
    """Give what was measured; a UserError where it turns out to be damaged."""
    assert facts.landscape is not None
    try:
        yield facts.landscape.content
    except (ValueError, LookupError, TypeError, AttributeError, jinja2.UndefinedError) as error:
        raise facts.landscape.damaged(error) from error


def _marks(measured: Sequence[Mapping[str, Any]]) -> list[tuple[str, Callable[[Mapping[str, Any]], str]]]:
    """List what tells apart the runs of one rate: weight decay and start where they differ, and the seed."""
    marks: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = []
    # files from before these were kept have neither
    if len({one.get("weight_decay") for one in measured}) > 1:
        marks.append(("wd", lambda one: show(one.get("weight_decay"))))
    if len({one.get("start") for one in measured}) > 1:
        marks.append(("start", lambda one: one.get("start") or MISSING))
    return [*marks, ("seed", lambda one: str(one["seed"]))]


def _table(rate_name: str, part: str, measured: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Make head and rows of a part's table: the rate, the marks that tell entries apart, what was measured."""
    (names, rows), marks = TABLES[part], _marks(measured)
    digits = elr_digits(rate for one in measured for rate in one["key"]["rates"])
    lines = []
    for one in measured:
        rates = " – ".join(elr_text(rate, digits) for rate in one["key"]["rates"])
        lines += [[rates, *(value(one) for _, value in marks), *row] for row in rows(one)]
    head = f"{rate_name}s" if part == "paths" else rate_name
    return [head, *(name for name, _ in marks), *names], lines


def _sharpness(one: Mapping[str, Any]) -> list[list[str]]:
    numbers = [one[name] for name in ("loss", "eg", "ratio", "lambda_1", "trace", "stability")]
    return [[show(math.nan if value is None else float(value)) for value in numbers]]


def _barriers(one: Mapping[str, Any]) -> list[list[str]]:
    loss, *errors = (float(one["barriers"][key]["height"]) for key in ("train_loss", "train_error", "test_error"))
    return [[show(float(one["angle"])), show(loss), *map(percent, errors)]]


def _averages(one: Mapping[str, Any]) -> Iterator[list[str]]:
    epochs = one["key"]["epochs"]
    for split in ("train", "test"):
        cells = [show(one[name][split]) for name in ("mean_loss", "excess")]
        cells += [percent(one[name][split]) for name in ("share_above", "mean_error", "error")]
        yield [f"{len(epochs)} of {epochs[0]}–{epochs[-1]}", split, *cells]


def _minima(one: Mapping[str, Any]) -> list[list[str]]:
    found = pair_means(one)
    shares = [percent(found[name]) for name in ("equal", "error", "ensemble")]
    gain = f"{100 * found['gain']:.2f} ± {100 * found['gain_error']:.2f}"
    return [[str(len(one["error"])), show(found["angle"]), *shares, gain]]


#: of each part of ``landscape.json`` that is a table: what its columns are called, and the rows of an entry
TABLES: dict[str, tuple[list[str], Callable[[Mapping[str, Any]], Iterable[list[str]]]]] = {
    "sharpness": (["train loss", "eff. gradient", "eg / loss", "λ₁", "trace", "ELR · λ₁"], _sharpness),
    "paths": (["angle", *(f"barrier of {name}" for name in ("train loss", "train error", "test error"))], _barriers),
    "averages": (
        ["epochs", "on", "loss at the mean", "excess", "segments above", "error at the mean", "their own error"],
        _averages,
    ),
    "minima": (["minima", "angle", "equal predictions", "error alone", "error of pairs", "gain"], _minima),
}


def _pairs(one: Mapping[str, Any]) -> list[list[str]]:
    """Make a row for every pair of minima of one run."""
    rows = []
    for i, j in itertools.combinations(range(len(one["key"]["epochs"])), 2):
        cells = [show(one["angle"][i][j]), percent(one["equal"][i][j]), percent(one["error"][i])]
        cells += [percent(one["error"][j]), percent(one["ensemble"][i][j])]
        rows.append([f"{one['key']['epochs'][i]} – {one['key']['epochs'][j]}", *cells])
    return rows


def _paths(rate_name: str, measured: Sequence[Mapping[str, Any]]) -> Drawing:
    drawing, axes = new_drawing(
        _SIZE,
        "paths",
        "Paths between neighbouring runs",
        "Train error along the straight path between the last weights of two runs; a hill between two valleys means "
        "that they are different minima.",
        "Train error against the fraction of the path, one line for each pair of neighbouring rates",
        "fraction of the path",
        "train error, %",
    )
    ends: dict[tuple[float, float], list[float]] = {}  # of each pair of rates, where its lines end
    marks = _marks(measured)
    pairs = [(float(one["key"]["rates"][0]), float(one["key"]["rates"][1])) for one in measured]
    colours = dict(zip(pairs, elr_colours([math.sqrt(a * b) for a, b in pairs])))
    with style.style():
        for k, (one, pair) in enumerate(zip(measured, pairs)):
            (a, b), colour = pair, colours[pair]
            errors = 100 * np.array([math.nan if v is None else v for v in one["train_error"]], float)
            (line,) = axes.plot(one["fractions"], errors, color=colour, linewidth=1.2)
            said = ", ".join(f"{name} {value(one)}" for name, value in marks)
            drawing.point_at(line, axes, f"path{k}", f"{rate_name} {elr_text(a)} to {elr_text(b)}, {said}")
            ends.setdefault(pair, []).append(float(errors[-1]))
        axes.set_xlabel("fraction of the path, from the lower rate to the higher")
        axes.set_ylabel("train error, %")
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, 1)
        drawing.fig.canvas.draw()  # the labels' places need the final limits
        # of several seeds the middle end; beside short labels the figure keeps its width
        shown = [(median_low(of), f"{elr_text(a)}–{elr_text(b)}", colours[a, b]) for (a, b), of in sorted(ends.items())]
        end_labels(axes, shown, _AXES_HEIGHT, size=6.5)
    return drawing


def _walks(one: Mapping[str, Any], stem: str) -> Drawing:
    elr = float(one["key"]["elr"])
    cosine = {kind: mean(values) for kind, values in one["cosine"].items()}
    said = correlated_words(one)
    drawing, axes = new_drawing(
        _SIZE,
        stem,
        f"Walks at ELR {elr_text(elr)}",
        f"Train loss of SGD, of a random walk with steps of the same length, and of gradient ascent, on one sphere, "
        f"{begin_words(one)}; "
        f"running mean over {_SMOOTH} steps. Mean cosine of consecutive weights: SGD {cosine['sgd']:.3g}, walk "
        f"{cosine['walk']:.3g}, ascent {cosine['ascent']:.3g}. Dash and dot: random directions."
        + (f" {said[0].upper() + said[1:]}." if said else ""),
        "Train loss of three walks on the sphere against the step",
        "step",
        "train loss",
    )
    with style.style():
        # told apart by their strokes: the colours are those of regimes and of rates
        strokes: dict[str, Any] = {"ascent": (0, (1, 1.2)), "sgd": "-", "walk": (0, (5, 1.5))}
        for kind, name in (("ascent", "gradient ascent"), ("sgd", "SGD"), ("walk", "random walk")):
            loss = np.array([math.nan if v is None else v for v in one["steps"][kind]["loss"]], float)
            width = min(_SMOOTH, len(loss))
            smooth = np.convolve(loss, np.ones(width) / width, "valid")
            at = np.arange(len(smooth)) + width - 1
            axes.plot(
                at, smooth, color=INK, linestyle=strokes[kind], linewidth=1.5 if kind == "sgd" else 1.1, label=name
            )
        level = mean([one["random"]["loss"]])
        axes.axhline(level, color=INK, linestyle="-.", linewidth=0.9, alpha=0.6, label="random directions")
        axes.set_xlabel("step")
        axes.set_ylabel("train loss")
        axes.legend()
    return drawing


def pair_means(one: Mapping[str, Any]) -> dict[str, float]:
    """Average the (n, n) matrices over pairs i < j; ``error`` is the mean test error of the n minima alone.

    ``gain_error``: mean of the pairs' standard errors; they share test images and minima, so all are worth about one.

    >>> square = lambda x: [[0.0, x], [x, 0.0]]
    >>> names = ("angle", "equal", "ensemble", "gain", "gain_error")
    >>> pair_means({"error": [0.1, 0.3], **{name: square(0.5) for name in names}})["error"]
    0.2
    """
    error = np.array(one["error"], float)
    i, j = np.array(list(itertools.combinations(range(len(error)), 2))).T
    names = ("angle", "equal", "ensemble", "gain", "gain_error")
    means = {name: float(np.array(one[name], float)[i, j].mean()) for name in names}
    return {"error": float(error.mean()), **means}


def mean(values: Sequence[float | None]) -> float:
    """Average over the walks of a kind; NaN where one broke off (null in the file).

    >>> mean([1.0, 2.0]), mean([1.0, None])
    (1.5, nan)
    """
    return math.nan if None in values or not values else sum(v for v in values if v is not None) / len(values)


def begin_words(one: Mapping[str, Any]) -> str:
    """Say where walks began: ``from a fresh initialisation (seed 0, network of run 0a1b2c3d)``, or a run's weights."""
    name = one["key"]["runs"][0][:8]
    if one["key"].get("begin") == "fresh":
        return f"from a fresh initialisation (seed {one['seed']}, network of run {name})"
    started_from = f", which started from {one['start']}" if one.get("start") else ""
    return f"from the last weights of run {name} (seed {one['seed']}{started_from})"


def correlated_words(one: Mapping[str, Any]) -> str:
    """Remark that this is not regime 3; empty where consecutive weights of SGD are uncorrelated.

    >>> correlated_words({"cosine": {"sgd": [0.98, 1.0]}})
    'mean cosine of consecutive weights of SGD 0.99 > 0.3: not regime 3 at this ELR, or too few steps'
    >>> correlated_words({"cosine": {"sgd": [0.01]}})
    ''
    """
    cosine = mean(one["cosine"]["sgd"])
    if not cosine > CORRELATED:
        return ""
    return (
        f"mean cosine of consecutive weights of SGD {cosine:.3g} > {CORRELATED:g}: not regime 3 at this ELR, or too "
        "few steps"
    )
