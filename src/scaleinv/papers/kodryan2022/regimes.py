"""Claims of Kodryan, Lobacheva et al. 2022 about which regimes there are, on the sphere and in the whole space."""

from __future__ import annotations

from collections.abc import Sequence

from scaleinv.papers.claim import Context, Result, Sheet, claim
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022.evidence import Point, point, three_regimes, visible
from scaleinv.runfolder.read import load_run
from scaleinv.studies.obtain import Request, obtain_many

PAPER = "Kodryan et al. 2022"
STATEMENT = "On the sphere the ELR decides: loss up >= 10x within a factor 3 of ELR at 1/2, chance beyond 2/3"


def points(context: Context, requests: Sequence[Request]) -> list[Point]:
    """Train what is missing, and read."""

    folders = obtain_many(context.runs, requests)
    return [point(load_run(f), r.elr or r.lr or 0.0) for f, r in zip(folders, requests)]


@claim(
    "4-three-regimes",
    paper=PAPER,
    place="Fig. 5",
    statement=STATEMENT + ".",
    scales={"digits": 95, "mnist": 600, "cifar-small": 2200},
)
def on_the_sphere(context: Context) -> Result:
    """ConvNet, all seeds of the scale; decided by shares of epochs over the last half of the run."""

    sheet = Sheet()
    three_regimes(sheet, "convnet", points(context, regimes.sweep(regimes.find(context.scale))))
    return sheet.result()


@claim(
    "4-three-regimes-mlp",
    paper=PAPER,
    place="Fig. 5, other networks",
    statement=STATEMENT + "; an MLP.",
    scales={"digits": 25},
)
def of_an_mlp(context: Context) -> Result:
    """Batch 32: at 16 its passage from 1 to 2 is gradual."""

    sheet = Sheet()
    three_regimes(sheet, "mlp", points(context, regimes.sweep(regimes.find("digits", "mlp"))))
    return sheet.result()


@claim(
    "4-three-regimes-resnet",
    paper=PAPER,
    place="Fig. 5, other networks",
    statement=STATEMENT + "; ResNet-18.",
    scales={"digits": 40},
)
def of_a_resnet(context: Context) -> Result:
    """Five ELRs, one seed; the grid is too coarse for a boundary, not for the jump."""

    settings, elrs = regimes.resnet()
    sheet = Sheet()
    three_regimes(sheet, "resnet18", points(context, [Request(settings=settings, elr=elr) for elr in elrs]))
    return sheet.result()


@claim(
    "4-three-regimes-squared-loss",
    paper="Nakhodnov et al. 2022",
    place="Fig. 9, right",
    statement=STATEMENT + "; squared loss.",
    scales={"digits": 36},
)
def of_the_squared_loss(context: Context) -> Result:
    """An MLP with layer norm, three seeds; with batch norm over 32 images the loss stays at the noise of the batch."""

    settings, elrs = regimes.squared_loss()
    sheet = Sheet()
    wanted = [Request(settings=settings, elr=elr, seed=seed) for seed in (0, 1, 2) for elr in elrs]
    three_regimes(sheet, "mlp, squared loss", points(context, wanted))
    return sheet.result()


@claim(
    "regimes-in-whole-space",
    paper=PAPER,
    place="section on training in the whole space and on conventional training",
    statement="In the whole space with weight decay, and in conventional training, a rising LR shows regimes 1, 2, 3.",
    scales={"digits": 25},
)
def whole_space(context: Context) -> Result:
    """Scale-invariant with weight decay 1e-3; standard with momentum .9 and weight decay 5e-4 (digits: no crops)."""

    sheet = Sheet()
    net = regimes.find(context.scale)
    for kind in ("weight-decay", "conventional"):
        visible(sheet, kind, points(context, regimes.whole_space(net, kind)))
    return sheet.result()
