"""Runs on the sphere with a per-step record, in regimes 1 and 2: how the effective step sizes of the groups behave.

>>> elrs("digits", "convnet")
(0.001, 0.01)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.studies.obtain import Request

#: of the ConvNet, one ELR of regime 1, one of regime 2 (MNIST at batch 128: 0.01 converges, 0.02 stays at a loss of 3)
_ELRS = {"digits": (1e-3, 1e-2), "mnist": (2e-4, 2e-2), "cifar-small": (1e-4, 5e-3), "paper": (5e-4, 5e-3)}
#: of the MLP, the higher one of regime 2
_MLP = {"digits": 1e-2, "mnist": 1e-2, "cifar-small": 5e-3, "paper": 5e-3}


def elrs(scale: str, model: str) -> tuple[float, ...]:
    """One ELR of regime 1, then those of regime 2. An MLP on digits stays above its minimum from smaller ELRs on."""
    if scale not in _ELRS:
        raise UserError(f"no runs with groups at scale {scale!r}; there are: {', '.join(_ELRS)}")
    low, high = _ELRS[scale]
    return (2e-4, _MLP[scale] / 2, _MLP[scale]) if model == "mlp" else (low, high)


def runs(scale: str, model: str, chosen: Sequence[float]) -> list[Request]:
    """A run for each ELR, cross-entropy, every step recorded."""
    settings = Settings(model=model, evaluation="online", record_steps=True, epochs=60 if model == "mlp" else 30)
    if scale == "mnist":
        settings = replace(settings, data="mnist", subset=5000, width=64 if model == "mlp" else 8, epochs=60)
    elif scale == "cifar-small":
        settings = replace(settings, data="cifar10", subset=5000, width=64 if model == "mlp" else 8, epochs=40)
    elif scale == "paper":
        settings = replace(settings, data="cifar10", width=32, epochs=300)
    settings = replace(settings, eval_every=settings.epochs)
    return [Request(settings=settings, elr=elr) for elr in chosen]
