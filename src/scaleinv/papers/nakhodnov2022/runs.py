"""Runs with the squared loss (Nakhodnov et al. 2022): one network on the full set and on a small part of it.

What decides is how many weights there are for a number to fit, weights / (objects x classes): the paper's network has
0.8 on all of CIFAR-10 and 8 on 5000 objects. A network with fewer weights takes fewer objects. Traps, all measured:

- Batch norm over 16 images makes the output depend on the batch, and the squared loss cannot fall below that noise:
  an MLP stays at 0.017 to 0.03 on 200 digits at every ELR, and gets to 5e-5 with layer norm. Hence group norm here,
  and batch norm with batches of 128 at the paper's scale.
- An MLP with layer norm on few digits may have no regime 3: a huge step leaves all ReLUs of a layer silent, the network
  answers a constant and stays there (loss 0.1, no gradient, cosine 1). On 5000 images of CIFAR-10 it has one from ELR 3
  on, with layer and with group norm.
- A narrow ConvNet is slow on images of CIFAR-10: of width 8 on 500 of them it is at 0.013 (batch norm, 8000 steps) and
  0.02 (group norm, 5000 steps) at its best ELR; of width 16 on 5000 at 0.074 after 10 epochs. An MLP of width 128 has
  the paper's ratios, 8.5 and 0.85, and takes a millisecond or two a step: it fits 5000 within 400 epochs.
- Even the full set of digits is fitted; with 30 % of the labels redrawn it is as hard here as CIFAR-10 for the paper's.

>>> [request.elr for request in full("digits", seeds=(0,))][:3]
[0.01, 0.1, 1.0]
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaleinv.lab.config import Settings
from scaleinv.papers.scales import pick, settings
from scaleinv.studies.obtain import Request

#: head norm on small networks; the paper's code base has 10, which leaves them no regime 1
HEAD = 1.5
PAPER_HEAD = 10.0


@dataclass(frozen=True)
class SquaredPlan:
    """The runs of a scale."""

    changes: dict[str, Any]  # of the scale's settings: network and data, no length
    epochs: int  # on the full set
    objects: int  # of the small set
    small_epochs: int
    elrs: tuple[float, ...]  # ascending, for the head norm of the settings
    small_elrs: tuple[float, ...]


_GROUP: dict[str, Any] = {"model": "convnet", "normalization": "group", "width": 8, "batch_size": 16}
_PAPER_ELRS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
_PLANS = {
    "digits": SquaredPlan({**_GROUP, "label_noise": 0.3}, 30, 100, 390, (1e-2, 1e-1, 1.0), (1e-2, 1e-1, 3e-1, 1.0)),
    "mnist": SquaredPlan(_GROUP, 1, 100, 600, (3e-3, 3e-2, 3e-1, 1.0), (3e-3, 1e-2, 1e-1, 3e-1, 1.0)),
    "cifar-small": SquaredPlan(
        {"model": "mlp", "normalization": "group", "width": 128},
        40, 5000, 400, (1e-3, 1e-2, 1e-1, 1.0, 3.0), (1e-3, 3e-3, 1e-2, 1e-1, 1.0, 3.0),
    ),
    "paper": SquaredPlan({"model": "convnet", "head_norm": PAPER_HEAD}, 1000, 5000, 1000, _PAPER_ELRS, _PAPER_ELRS),
}  # fmt: skip


def _plan(scale: str) -> tuple[SquaredPlan, Settings]:
    plan = pick(_PLANS, scale, "runs with the squared loss")
    return plan, settings(scale, **{"loss": "mse", "head_norm": HEAD, "evaluation": "online", **plan.changes})


def _requests(base: Settings, epochs: int, elrs: Sequence[float], seeds: Sequence[int]) -> list[Request]:
    # every step is recorded: a run on a large set has few epochs
    long = replace(base, epochs=epochs, eval_every=epochs, record_steps=True)
    return [Request(settings=long, elr=elr, seed=seed) for elr in elrs for seed in seeds]


def full(scale: str, seeds: Sequence[int] = (0,), elrs: Sequence[float] | None = None) -> list[Request]:
    """Request the full set, all ELRs of the scale (or ``elrs``), every seed."""
    plan, base = _plan(scale)
    whole = replace(base, subset=None)
    return _requests(whole, plan.epochs, plan.elrs if elrs is None else elrs, seeds)


def small(scale: str, seeds: Sequence[int] = (0,), elrs: Sequence[float] | None = None) -> list[Request]:
    """Request the first few objects alone."""
    plan, base = _plan(scale)
    few = replace(base, subset=plan.objects)
    return _requests(few, plan.small_epochs, plan.small_elrs if elrs is None else elrs, seeds)


def with_head(requests: Sequence[Request], norm: float) -> list[Request]:
    """Request the same runs with another head norm, ELRs times (old/new)^2: the gradient grows about as norm^2."""
    elrs = [float(f"{(r.elr or 0.0) * (r.settings.head_norm / norm) ** 2:.3g}") for r in requests]
    return [replace(r, settings=replace(r.settings, head_norm=norm), elr=elr) for r, elr in zip(requests, elrs)]


#: for the cosines between epochs
_COSINE_ELRS = {
    **dict.fromkeys(("digits", "mnist", "cifar-small"), (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
    "paper": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
}


def runs(scale: str, seeds: Sequence[int] = (0,)) -> list[Request]:
    """Request the ConvNet with batch norm, for the cosines between epochs; by ELR, then seed."""
    elrs = pick(_COSINE_ELRS, scale, "runs for cosines")
    head, epochs = (PAPER_HEAD, 1000) if scale == "paper" else (HEAD, 40)
    one = settings(scale, model="convnet", loss="mse", head_norm=head)
    one = replace(one, evaluation="online", epochs=epochs, eval_every=epochs)
    return [Request(settings=one, elr=elr, seed=seed) for elr in elrs for seed in seeds]
