"""Runs that the figures of Lobacheva et al. 2021 show: those of the claims in lengths and at rates of their own.

>>> [request.lr for request in rates("digits")]
[0.0075, 0.075, 0.15, 7.5]
"""

from dataclasses import dataclass, replace
from typing import Any

from scaleinv.lab.config import Settings
from scaleinv.papers.lobacheva2021 import runs
from scaleinv.papers.scales import pick
from scaleinv.studies.obtain import Request


@dataclass(frozen=True)
class Shown:
    """What is shown at a scale; all runs have one length.

    ``rates``: one too small for a period within the horizon, periodic ones, and one in equilibrium.
    """

    changes: dict[str, Any]  # of ``runs.base``
    rates: tuple[float, ...]
    period: float  # the rate of which one period is shown
    fixed: float  # the rate at which the norm is fixed


_SHOWN = {
    "digits": Shown({"steps": 11_000, "keep_every": 1}, (0.0075, 0.075, 0.15, 7.5), period=0.075, fixed=0.15),
    "cifar-tiny": Shown({"steps": 6000, "eval_every": 20}, (0.01, 0.1, 1.0), period=0.1, fixed=0.1),
    "cifar-small": Shown({"steps": 60_000, "eval_every": 8}, (0.01, 0.03, 1.0), period=0.03, fixed=0.03),
    # as in the paper: 1000 epochs of 391 steps
    "paper": Shown({"steps": 391_000}, (0.001, 0.01, 0.03, 1.0), period=0.03, fixed=0.03),
}
#: rates of the ConvNet and of a ResNet-18, and what is changed for the latter; its weights are longer (as 28.3 to 12.7)
#: and its critical ELR lower: on digits LR 0.3 is next to equilibrium
_NETWORKS: dict[str, tuple[tuple[float, ...], tuple[float, ...], dict[str, Any]]] = {
    "digits": ((0.0075, 0.075, 0.15), (0.01, 0.03, 0.1), {"steps": 8000, "keep_every": None}),
    "cifar-small": ((0.01, 0.03), (0.01, 0.03), {"steps": 30_000}),
    "paper": ((0.001, 0.01, 0.03), (0.001, 0.01, 0.03), {"data": "cifar100"}),
}


def _shown(scale: str) -> tuple[Shown, Settings]:
    shown = pick(_SHOWN, scale, "figures of periods")
    return shown, replace(runs.base(scale), **shown.changes)


def rates(scale: str) -> list[Request]:
    """Request one weight decay, all rates, ascending (fig3)."""
    shown, base = _shown(scale)
    return [Request(settings=base, lr=lr) for lr in shown.rates]


def period(scale: str) -> Request:
    """Request the run of ``rates`` of which one period is shown (fig4)."""
    shown, base = _shown(scale)
    return Request(settings=base, lr=shown.period)


def networks(scale: str) -> dict[str, list[Request]]:
    """Request some of ``rates``, and a ResNet-18, by the name of the network (fig1)."""
    convnet, resnet, changes = pick(_NETWORKS, scale, "pairs of networks")
    _, base = _shown(scale)
    changed = replace(base, model="resnet18", eval_every=10**6, **changes)
    return {
        "ConvNet": [Request(settings=base, lr=lr) for lr in convnet],
        "ResNet-18": [Request(settings=changed, lr=lr) for lr in resnet],
    }


def ablation(scale: str) -> dict[str, Request]:
    """Request runs with the norm free, fixed as initialised, and fixed at twice that, by these words."""
    shown, free = _shown(scale)
    fixed, norm = replace(free, fix_norm=True, keep_every=None), runs.TWICE_NORM[scale]
    ways = {"norm free": free, "fixed as initialised": fixed, f"fixed at {norm:g}": replace(fixed, norm=norm)}
    return {name: Request(settings=one, lr=shown.fixed) for name, one in ways.items()}


def frequency(scale: str) -> list[Request]:
    """Request several lr at one weight decay, and another lr at a weight decay that gives one of the products.

    Those of the claims; at ``cifar-small``, where these take days, two of ``rates`` and three like them.
    """
    if scale != "cifar-small":
        return [*runs.rates(scale), *runs.same_product(scale)[1]]
    _, base = _shown(scale)
    wanted = [Request(settings=base, lr=lr) for lr in (0.01, 0.02, 0.03, 0.06)]
    return [*wanted, Request(settings=replace(base, weight_decay=0.03), lr=0.01)]  # the lr wd of 0.03
