"""Full-batch descent with weight decay (Lyu, Li, Arora 2022): the ELR grows to the edge of stability."""

from collections.abc import Sequence

import numpy as np

from scaleinv.analysis.statistics import mean
from scaleinv.lab.config import Settings
from scaleinv.landscape.edge import EdgePoint
from scaleinv.landscape.runs import edge_of_run
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.studies.obtain import Request


def judge(sheet: Sheet, name: str, points: Sequence[EdgePoint]) -> None:
    """Judge ELR times sharpness: well below 2 at some time, and 2 on average over the last third of the kept points.

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


def full_batch_edge(sheet: Sheet, context: Context) -> None:
    """Check ``edge-with-weight-decay``."""
    settings = Settings(
        model="mlp", width=64, subset=512, loss="mse", head_norm=1.5, gradient="full", weight_decay=1e-4,
        evaluation="online", steps=4500, eval_every=4500, keep_every=151,
    )  # fmt: skip
    seeds = (0, 1)
    for seed, folder in zip(seeds, context.folders([Request(settings=settings, lr=1.0, seed=seed) for seed in seeds])):
        judge(sheet, f"seed {seed}", edge_of_run(folder))
