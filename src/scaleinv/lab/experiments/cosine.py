"""Runs with the squared loss in which no ELR converges within the budget, for the cosines between epochs.

A ConvNet with batch norm on all digits: at batch 16 the noise of the batch statistics keeps every run above 1 % of the
loss of the best constant answer.

>>> [request.elr for request in runs("digits")]
[0.003, 0.01, 0.03, 0.1, 0.3]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scaleinv.errors import UserError
from scaleinv.lab.runs import Request
from scaleinv.lab.settings import Settings

ELRS = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def runs(scale: str, seeds: Sequence[int] = (0,)) -> list[Request]:
    """By ELR, then seed."""
    settings = Settings(model="convnet", loss="mse", head_norm=1.5, evaluation="online", epochs=40)
    elrs: tuple[float, ...] = ELRS
    if scale in ("mnist", "cifar-small"):
        data = "mnist" if scale == "mnist" else "cifar10"
        settings = replace(settings, data=data, width=8, subset=5000)
    elif scale == "paper":
        settings = replace(settings, data="cifar10", width=32, head_norm=10.0, epochs=1000)
        elrs = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    elif scale != "digits":
        raise UserError(f"no runs for cosines at scale {scale!r}; there are digits, mnist, cifar-small, paper")
    settings = replace(settings, eval_every=settings.epochs)
    return [Request(settings=settings, elr=elr, seed=seed) for elr in elrs for seed in seeds]
