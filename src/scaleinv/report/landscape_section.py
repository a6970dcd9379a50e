"""The section on the landscape of a sweep's or a run's page: what ``scaleinv landscape`` has measured there."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, end_labels, new_drawing
from scaleinv.plots.style import INK, elr_colour, regime_colours
from scaleinv.report.facts import AnyFacts
from scaleinv.report.landscape_words import begin_words, correlated_words, mean, pair_means
from scaleinv.report.page import Section, fragment, table
from scaleinv.text import MISSING, percent, show

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
            tables = [
                make(facts.rate_name, content[part])
                for part, make in (
                    ("sharpness", _sharpness_table),
                    ("paths", _barrier_table),
                    ("averages", _averages_table),
                    ("minima", _minima_table),
                )
                if content.get(part)  # older files lack the last two
            ]
            pairs = [_pairs_of(facts.rate_name, one) for one in content.get("minima", [])]
            return fragment("parts.html.j2", "landscape", drawn, tables, pairs) if drawn or tables else ""


@contextlib.contextmanager
def _content(facts: AnyFacts) -> Iterator[Mapping[str, Any]]:
    """What was measured; a UserError where it turns out to be damaged."""
    assert facts.landscape is not None
    try:
        yield facts.landscape.content
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise facts.landscape.damaged(error) from error


def _marks(measured: Sequence[Mapping[str, Any]]) -> list[tuple[str, Callable[[Mapping[str, Any]], str]]]:
    """The seed, and before it what else tells apart the runs of one rate."""
    marks: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = []
    # files from before these were kept have neither
    if len({one.get("weight_decay") for one in measured}) > 1:
        marks.append(("wd", lambda one: show(one.get("weight_decay"))))
    if len({one.get("start") for one in measured}) > 1:
        marks.append(("start", lambda one: one.get("start") or MISSING))
    return [*marks, ("seed", lambda one: str(one["seed"]))]


def _marked(
    rate_name: str,
    measured: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    rows: Callable[[Mapping[str, Any]], Iterable[Sequence[str]]],
    caption: str,
) -> Markup:
    """A table with ``rows`` of every entry: its rate, the marks that tell it apart, and the texts under ``names``."""
    marks = _marks(measured)
    lines = [[_rates(one), *(value(one) for _, value in marks), *row] for one in measured for row in rows(one)]
    return table([rate_name, *(name for name, _ in marks), *names], lines, caption)


def _rates(one: Mapping[str, Any]) -> str:
    """``0.01``, ``0.01 – 0.02``."""
    return " – ".join(f"{rate:.3g}" for rate in one["key"]["rates"])


def _sharpness_table(rate_name: str, measured: Sequence[Mapping[str, Any]]) -> Markup:
    def rows(one: Mapping[str, Any]) -> list[list[str]]:
        numbers = [one["loss"], one["eg"], one["ratio"], one["lambda_1"], one["trace"], one["stability"]]
        return [[show(math.nan if value is None else float(value)) for value in numbers]]

    caption = (
        "Curvature at the last weights of every run, on the unit sphere: top eigenvalue and trace of the spherical "
        "Hessian. Gradient descent leaves a minimum where ELR · λ₁ exceeds 2."
    )
    names = ["train loss", "eff. gradient", "eg / loss", "λ₁", "trace", "ELR · λ₁"]
    return _marked(rate_name, measured, names, rows, caption)


def _barrier_table(rate_name: str, measured: Sequence[Mapping[str, Any]]) -> Markup:
    def rows(one: Mapping[str, Any]) -> list[list[str]]:
        loss, *errors = (float(one["barriers"][key]["height"]) for key in ("train_loss", "train_error", "test_error"))
        return [[show(float(one["angle"])), show(loss), *map(percent, errors)]]

    caption = (
        "Straight paths between the last weights of runs at neighbouring rates, brought back to the sphere, "
        "normalisation statistics recomputed at every point. Barrier: the largest excess above the straight line "
        "between the ends."
    )
    names = ["angle", *(f"barrier of {name}" for name in ("train loss", "train error", "test error"))]
    return _marked(f"{rate_name}s", measured, names, rows, caption)


def _averages_table(rate_name: str, measured: Sequence[Mapping[str, Any]]) -> Markup:
    def rows(one: Mapping[str, Any]) -> Iterator[list[str]]:
        epochs = one["key"]["epochs"]
        for split in ("train", "test"):
            cells = [show(one[name][split]) for name in ("mean_loss", "excess")]
            cells += [percent(one[name][split]) for name in ("share_above", "mean_error", "error")]
            yield [f"{len(epochs)} of {epochs[0]}–{epochs[-1]}", split, *cells]

    caption = (
        "Averages of the iterates kept in the last half of a run, normalisation statistics recomputed. Excess: loss at "
        "their mean less their own mean loss, at most 0 where the loss is convex. Segments above: of those between all "
        "pairs of iterates, the share whose loss rises above both ends."
    )
    names = ["epochs", "on", "loss at the mean", "excess", "segments above", "error at the mean", "their own error"]
    return _marked(rate_name, measured, names, rows, caption)


def _minima_table(rate_name: str, measured: Sequence[Mapping[str, Any]]) -> Markup:
    def rows(one: Mapping[str, Any]) -> list[list[str]]:
        found = pair_means(one)
        shares = [percent(found[name]) for name in ("equal", "error", "ensemble")]
        gain = f"{100 * found['gain']:.2f} ± {100 * found['gain_error']:.2f}"
        return [[str(len(one["error"])), show(found["angle"]), *shares, gain]]

    caption = (
        "Minima of different periods: of each, the weights of the kept epoch of lowest loss. Means over all pairs: "
        "angle in radians, share of test images with equal predictions, test error of each alone and of the ensemble "
        "of two. Gain: what the ensemble is better by, in points, with its standard error over test images."
    )
    names = ["minima", "angle", "equal predictions", "error alone", "error of pairs", "gain"]
    return _marked(rate_name, measured, names, rows, caption)


def _pairs_of(rate_name: str, one: Mapping[str, Any]) -> tuple[str, Markup]:
    """Every pair of minima of one run, under its title."""
    epochs = one["key"]["epochs"]

    def row(i: int, j: int) -> list[str]:
        cells = [show(one["angle"][i][j]), percent(one["equal"][i][j]), percent(one["error"][i])]
        cells += [percent(one["error"][j]), percent(one["ensemble"][i][j])]
        return [f"{epochs[i]} – {epochs[j]}", *cells]

    head = ["epochs", "angle", "equal predictions", "error of the first", "of the second", "of the pair"]
    rows = (row(i, j) for i, j in itertools.combinations(range(len(epochs)), 2))
    title = f"Pairs of minima, {rate_name} {one['key']['rates'][0]:.3g}, seed {one['seed']}"
    return title, table(head, rows, f"{one['images']} test images.")


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
    ends: list[tuple[float, str, str]] = []
    marks = _marks(measured)
    with style.style():
        for k, one in enumerate(measured):
            a, b = one["key"]["rates"]
            colour = elr_colour(k / max(1, len(measured) - 1))
            errors = 100 * np.array([math.nan if v is None else v for v in one["train_error"]], float)
            (line,) = axes.plot(one["fractions"], errors, color=colour, linewidth=1.2)
            said = ", ".join(f"{name} {value(one)}" for name, value in marks)
            drawing.point_at(line, axes, f"path{k}", f"{rate_name} {a:.3g} to {b:.3g}, {said}")
            ends.append((float(errors[-1]), f"{a:.2g}–{b:.2g}", colour))
        axes.set_xlabel("fraction of the path, from the lower rate to the higher")
        axes.set_ylabel("train error, %")
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, 1)
        drawing.fig.canvas.draw()  # the labels' places need the final limits
        end_labels(axes, ends, _AXES_HEIGHT)
    return drawing


def _walks(one: Mapping[str, Any], stem: str) -> Drawing:
    elr = float(one["key"]["elr"])
    cosine = {kind: mean(values) for kind, values in one["cosine"].items()}
    said = correlated_words(one)
    drawing, axes = new_drawing(
        _SIZE,
        stem,
        f"Walks at ELR {elr:.3g}",
        f"Train loss of SGD, of a random walk with steps of the same length, and of gradient ascent, on one sphere, "
        f"{begin_words(one)}; "
        f"running mean over {_SMOOTH} steps. Mean cosine of consecutive weights: SGD {cosine['sgd']:.3g}, walk "
        f"{cosine['walk']:.3g}, ascent {cosine['ascent']:.3g}. Dashed: random directions."
        + (f" {said[0].upper() + said[1:]}." if said else ""),
        "Train loss of three walks on the sphere against the step",
        "step",
        "train loss",
    )
    with style.style():
        kinds = (("ascent", "gradient ascent", 3), ("sgd", "SGD", 1), ("walk", "random walk", 2))
        for kind, name, colour in kinds:
            loss = np.array([math.nan if v is None else v for v in one["steps"][kind]["loss"]], float)
            width = min(_SMOOTH, len(loss))
            smooth = np.convolve(loss, np.ones(width) / width, "valid")
            axes.plot(
                np.arange(len(smooth)) + width - 1, smooth, color=regime_colours[colour], linewidth=1.1, label=name
            )
        level = mean([one["random"]["loss"]])
        axes.axhline(level, color=INK, linestyle="--", linewidth=0.9, label="random directions")
        axes.set_xlabel("step")
        axes.set_ylabel("train loss")
        axes.legend()
    return drawing
