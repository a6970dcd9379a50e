"""Full-batch descent with weight decay (Lyu, Li, Arora 2022): the ELR grows to the edge of stability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaleinv.analysis.statistics import mean
from scaleinv.lab.config import Settings
from scaleinv.landscape.edge import EdgePoint
from scaleinv.landscape.runs import edge_of_run
from scaleinv.papers.claim import Context, Result, Sheet, claim
from scaleinv.studies.obtain import Request, obtain_many


def judge(sheet: Sheet, name: str, points: Sequence[EdgePoint]) -> None:
    """ELR times sharpness: well below 2 at some time, and 2 on average over the last third of the kept points.

    The smallest has no margin: below the edge full-batch descent is stable, and rounding does not grow.
    """
    product = np.array([p.product for p in points])
    third = max(3, len(product) // 3)
    late = mean(product[-third:])
    residual = max(p.residual / abs(p.sharpness) for p in points)
    known = sheet.needs(f"{name}: relative residual of lambda_1", residual, at_most=0.01)
    sheet.at_most(f"{name}: smallest product", float(product[: len(product) // 2].min()), 1.5, given=known)
    sheet.close(f"{name}: mean product at the end", late.value, 2.0, rel=0.1, se=late.error, given=known)
    lowest, end = int(product.argmin()), product[-third:]
    first = next((p.step for p in points[lowest:] if p.product >= 1.8), None)
    growth = points[-1].elr / points[0].elr
    sheet.note(
        f"{name}: ELR x{growth:.2g} over {points[-1].step} steps, product {product[0]:.2f}, {product[lowest]:.2f}, 1.8 "
        f"by step {first}, then {end.min():.2f} to {end.max():.2f}; sharpness from {points[0].sharpness:.3g} to "
        f"{points[-1].sharpness:.3g}"
    )


@claim(
    "18-edge",
    paper="Lyu, Li, Arora 2022",
    place="edge of stability on the sphere",
    statement="Full-batch descent with weight decay: ELR times lambda_1 of the spherical Hessian rises to 2.",
    scales={"digits": 28},
)
def full_batch_edge(context: Context) -> Result:
    """Full-batch descent of an MLP on 512 images, squared loss, two seeds; Lanczos at the kept weights.

    lr wd is small, 1e-4: at the edge the ELR is pushed up by 2 lr wd a step, and the faster that is, the larger is the
    oscillation and the further from 2 the product at the iterates (up to 2.5 at 3e-4, 2.1 to 4.8 at 1e-3). A small
    network on few images has another error: its Hessian does not see the kinks of ReLU, and the product stops at 1.5
    (width 32, 256 images, one seed of two). The weights are kept every 151 steps: the oscillation at the edge has
    period 2, so an even distance would see one side of it only.
    """

    settings = Settings(
        model="mlp",
        width=64,
        subset=512,
        loss="mse",
        head_norm=1.5,
        gradient="full",
        evaluation="online",
        weight_decay=1e-4,
        steps=4500,
        eval_every=4500,
        keep_every=151,
    )
    sheet = Sheet()
    seeds = (0, 1)
    for seed, folder in zip(
        seeds, obtain_many(context.runs, [Request(settings=settings, lr=1.0, seed=seed) for seed in seeds])
    ):
        judge(sheet, f"seed {seed}", edge_of_run(folder))
    return sheet.result()
