"""Claims of Kodryan, Lobacheva et al. 2022 about which regimes there are, on the sphere and in the whole space."""

from __future__ import annotations

from collections.abc import Sequence

from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022.evidence import Point, point, three_regimes, visible
from scaleinv.runfolder.read import load_run
from scaleinv.studies.obtain import Request

STATEMENT = "On the sphere the ELR decides: loss up >= 10x within a factor 3 of ELR at 1/2, chance beyond 2/3"


def points(context: Context, requests: Sequence[Request]) -> list[Point]:
    """Train what is missing, and read."""
    folders = context.folders(requests)
    return [point(load_run(f), r.elr or r.lr or 0.0) for f, r in zip(folders, requests)]


def on_the_sphere(sheet: Sheet, context: Context) -> None:
    """Check ``three-regimes``."""
    three_regimes(sheet, "convnet", points(context, regimes.sweep(regimes.find(context.scale))))


def of_an_mlp(sheet: Sheet, context: Context) -> None:
    """Check ``three-regimes-mlp``."""
    three_regimes(sheet, "mlp", points(context, regimes.sweep(regimes.find("digits", "mlp"))))


def of_a_resnet(sheet: Sheet, context: Context) -> None:
    """Check ``three-regimes-resnet``."""
    settings, elrs = regimes.resnet()
    three_regimes(sheet, "resnet18", points(context, [Request(settings=settings, elr=elr) for elr in elrs]))


def of_the_squared_loss(sheet: Sheet, context: Context) -> None:
    """Check ``three-regimes-squared-loss``."""
    settings, elrs = regimes.squared_loss()
    wanted = [Request(settings=settings, elr=elr, seed=seed) for seed in (0, 1, 2) for elr in elrs]
    three_regimes(sheet, "mlp, squared loss", points(context, wanted))


def whole_space(sheet: Sheet, context: Context) -> None:
    """Check ``regimes-in-whole-space``."""
    net = regimes.find(context.scale)
    for kind in ("weight-decay", "conventional"):
        visible(sheet, kind, points(context, regimes.whole_space(net, kind)))
