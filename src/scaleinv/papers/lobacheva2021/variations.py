"""Claims of Lobacheva, Kodryan et al. 2021 on networks: the periods remain when one thing of the set-up is changed."""

from __future__ import annotations

from scaleinv.papers.claim import Context, Result, Sheet, claim
from scaleinv.papers.lobacheva2021 import runs as runs
from scaleinv.papers.lobacheva2021.evidence import periodic, periods_of

PAPER = "Lobacheva et al. 2021"
PLACE = "ablations; at a rate of ours"


def _check(context: Context, name: str) -> Result:

    sheet = Sheet()
    request = runs.variations(context.scale)[name]
    (run,) = periods_of(context, [request])
    periodic(sheet, run)
    return sheet.result()


def _add(id: str, name: str, statement: str, cost: float) -> None:
    def check(context: Context) -> Result:
        """One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which carry
        at least half of the rises of the norm.
        """
        return _check(context, name)

    claim(
        id,
        paper=PAPER,
        place=PLACE,
        statement=statement,
        scales={"digits": cost, "mnist": 40 * cost, "cifar-small": 40 * cost},
    )(check)


for _id, _name, _statement, _cost in (
    ("periods-momentum", "momentum 0.9", "Periods remain with momentum 0.9 and coupled weight decay.", 6.0),
    ("periods-augmentation", "augmentation", "Periods remain with augmentation.", 14.0),
    (
        "periods-standard",
        "trainable affine norms and head",
        "Periods remain with trainable affine norms and last layer.",
        6.0,
    ),
    ("periods-layer-norm", "layer normalization", "Periods remain with layer normalization.", 6.0),
    ("periods-group-norm", "group normalization", "Periods remain with group normalization.", 6.0),
    ("periods-weight-norm", "weight normalization", "Periods remain with weight normalization.", 10.0),
    (
        "periods-full-batch",
        "full-batch gradient descent",
        "Periods remain with full-batch gradient descent (an MLP on 256 images).",
        10.0,
    ),
    ("periods-adam-l2", "Adam with L2", "Periods remain with Adam, the weight decay in its gradient.", 11.0),
    ("periods-adamw", "AdamW", "Periods remain with AdamW, decoupled weight decay.", 11.0),
):
    _add(_id, _name, _statement, _cost)
