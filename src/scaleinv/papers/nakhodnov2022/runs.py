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
- The digits are so easy that even the full set is fitted. Redrawing 30 % of the labels makes it as hard for the network
  as CIFAR-10 is for the paper's.

>>> [request.elr for request in full("digits", seeds=(0,))][:3]
[0.01, 0.1, 1.0]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.studies.obtain import Request

#: head norm on small networks; the paper's code base has 10, which leaves them no regime 1
HEAD = 1.5
PAPER_HEAD = 10.0


@dataclass(frozen=True)
class SquaredLossRuns:
    """The numbers of a scale."""

    settings: Settings  # data set, network, loss; no length
    epochs: int  # on the full set
    objects: int  # of the small set
    small_epochs: int
    elrs: tuple[float, ...]  # ascending, for the head norm of the settings
    small_elrs: tuple[float, ...]


def _scale(name: str) -> SquaredLossRuns:
    base = Settings(loss="mse", head_norm=HEAD, evaluation="online")
    short = replace(base, model="convnet", normalization="group", width=8, batch_size=16)
    if name == "digits":
        noisy = replace(short, data="digits", label_noise=0.3)
        return SquaredLossRuns(noisy, 30, 100, 390, (1e-2, 1e-1, 1.0), (1e-2, 1e-1, 3e-1, 1.0))
    if name == "mnist":
        return SquaredLossRuns(
            replace(short, data="mnist"), 1, 100, 600, (3e-3, 3e-2, 3e-1, 1.0), (3e-3, 1e-2, 1e-1, 3e-1, 1.0)
        )
    if name == "cifar-small":
        flat = replace(base, data="cifar10", model="mlp", normalization="group", width=128)
        return SquaredLossRuns(flat, 40, 5000, 400, (1e-3, 1e-2, 1e-1, 1.0, 3.0), (1e-3, 3e-3, 1e-2, 1e-1, 1.0, 3.0))
    if name == "paper":
        whole = replace(base, data="cifar10", model="convnet", width=32, head_norm=PAPER_HEAD)
        elrs = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
        return SquaredLossRuns(whole, 1000, 5000, 1000, elrs, elrs)
    raise UserError(f"no runs with the squared loss at scale {name!r}; there are digits, mnist, cifar-small, paper")


def _requests(settings: Settings, epochs: int, elrs: Sequence[float], seeds: Sequence[int]) -> list[Request]:
    # every step is recorded: a run on a large set has few epochs
    long = replace(settings, epochs=epochs, eval_every=epochs, record_steps=True)
    return [Request(settings=long, elr=elr, seed=seed) for elr in elrs for seed in seeds]


def full(scale: str, seeds: Sequence[int] = (0,), elrs: Sequence[float] | None = None) -> list[Request]:
    """The full set, all ELRs of the scale (or ``elrs``), every seed."""
    chosen = _scale(scale)
    return _requests(chosen.settings, chosen.epochs, chosen.elrs if elrs is None else elrs, seeds)


def small(scale: str, seeds: Sequence[int] = (0,), elrs: Sequence[float] | None = None) -> list[Request]:
    """The first few objects alone."""
    chosen = _scale(scale)
    settings = replace(chosen.settings, subset=chosen.objects)
    return _requests(settings, chosen.small_epochs, chosen.small_elrs if elrs is None else elrs, seeds)


def with_head(requests: Sequence[Request], norm: float) -> list[Request]:
    """The same with another head norm; ELRs scaled by (old/new)^2, since the gradient grows about as norm^2."""
    return [
        replace(
            r,
            settings=replace(r.settings, head_norm=norm),
            elr=float(f"{(r.elr or 0.0) * (r.settings.head_norm / norm) ** 2:.3g}"),
        )
        for r in requests
    ]


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
