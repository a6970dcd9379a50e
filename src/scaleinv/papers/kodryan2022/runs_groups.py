"""Runs on the sphere with a per-step record, in regimes 1 and 2: how the effective step sizes of the groups behave.

>>> elrs("digits", "convnet")
(0.001, 0.01)
"""

from __future__ import annotations

from collections.abc import Sequence

from scaleinv.papers.scales import pick, settings
from scaleinv.studies.obtain import Request

#: of the ConvNet, one ELR of regime 1, one of regime 2 (MNIST at batch 128: 0.01 converges, 0.02 stays at a loss of 3)
_ELRS = {"digits": (1e-3, 1e-2), "mnist": (2e-4, 2e-2), "cifar-small": (1e-4, 5e-3), "paper": (5e-4, 5e-3)}
#: of the MLP, the higher one of regime 2
_MLP = {"digits": 1e-2, "mnist": 1e-2, "cifar-small": 5e-3, "paper": 5e-3}


def elrs(scale: str, model: str) -> tuple[float, ...]:
    """One ELR of regime 1, then those of regime 2. An MLP on digits stays above its minimum from smaller ELRs on."""
    low, high = pick(_ELRS, scale, "runs with groups")
    return (2e-4, _MLP[scale] / 2, _MLP[scale]) if model == "mlp" else (low, high)


def runs(scale: str, model: str, chosen: Sequence[float]) -> list[Request]:
    """A run for each ELR, cross-entropy, every step recorded."""
    epochs = {"mnist": 60, "cifar-small": 40, "paper": 300}.get(scale, 60 if model == "mlp" else 30)
    wide = {"width": 64} if model == "mlp" and scale in ("mnist", "cifar-small") else {}
    one = settings(scale, model=model, evaluation="online", record_steps=True, epochs=epochs, eval_every=epochs, **wide)
    return [Request(settings=one, elr=elr) for elr in chosen]
