"""Runs on the sphere in the three regimes (Kodryan et al. 2022), for claims and figures alike.

A :class:`Net` is a network on a data set with the ELRs of its sweep, from convergence to divergence by factors of 2
where its boundaries are, and the ELRs that the experiments within a regime use. Digits are few and easy: 512 of them at
batch 16 give a ConvNet of width 8 all three regimes within 60 epochs.

>>> net = find("digits")
>>> [request.elr for request in sweep(net, seeds=(0,))][:3]
[0.000125, 0.00025, 0.0005]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.lab.runs import Request
from scaleinv.lab.settings import Settings


@dataclass(frozen=True)
class Net:
    """A network, its data, and where its regimes lie (as found beforehand on seed 0); ELRs ascend."""

    settings: Settings
    elrs: tuple[float, ...]  # of the sweep
    convergence: tuple[float, ...]  # inside regime 1: the spectrum of minima
    equilibrium: tuple[float, ...]  # inside regime 2, from just above the boundary to near regime 3
    seeds: tuple[int, ...] = (0, 1)


def _powers(low: float, count: int) -> tuple[float, ...]:
    """``count`` ELRs from ``low`` on, by factors of 2."""
    return tuple(float(f"{low * 2**k:.6g}") for k in range(count))


#: width 128, batch 32: at batch 16 the MLP's passage from 1 to 2 has no step
_MLP = Settings(model="mlp", width=128, subset=256, batch_size=32, epochs=120, evaluation="online", eval_every=40)
_CONVNET = Settings(model="convnet", subset=512, epochs=60, eval_every=2, keep_every=5)

_NETS: dict[tuple[str, str], Net] = {
    ("digits", "convnet"): Net(
        _CONVNET,
        elrs=_powers(1.25e-4, 11),
        convergence=_powers(1.25e-4, 6),
        equilibrium=(8e-3, 1.1e-2, 1.6e-2, 2.2e-2),
    ),
    ("digits", "mlp"): Net(
        _MLP,
        elrs=_powers(5e-4, 9),
        convergence=_powers(5e-4, 3),
        equilibrium=(1.6e-2, 2e-2),
        seeds=(0, 1, 2),
    ),
    # 5000 images at batch 128, a narrow ConvNet: 40 steps an epoch
    ("cifar-small", "convnet"): Net(
        Settings(
            data="cifar10", model="convnet", width=8, subset=5000, epochs=80,
            evaluation="online", eval_every=10, recompute_bn=True,
        ),
        elrs=(1e-4, 4e-4, 8e-4, 1.6e-3, 4e-3, 1e-2, 2.5e-2, 1e-1),
        convergence=(1e-4, 4e-4, 8e-4),
        equilibrium=(4e-3, 1e-2),
        seeds=(0,),
    ),
    ("mnist", "convnet"): Net(
        Settings(
            data="mnist", model="convnet", width=8, subset=2000, epochs=40, batch_size=32,
            eval_every=2, keep_every=5,
        ),
        elrs=_powers(2.5e-4, 10),
        convergence=_powers(2.5e-4, 5),
        equilibrium=(8e-3, 1.1e-2, 1.6e-2),
        seeds=(0,),
    ),
    # the released figure: width 32, 50000 images, batch 128, 1000 epochs, for a GPU
    ("paper", "convnet"): Net(
        Settings(data="cifar10", model="convnet", width=32, epochs=1000, eval_every=1, keep_every=50),
        elrs=(1e-5, 1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 5e-2, 1e-1),
        convergence=(1e-5, 1e-4, 2e-4, 3e-4, 5e-4),
        equilibrium=(1e-3, 2e-3, 5e-3),
        seeds=(1,),
    ),
}  # fmt: skip


def find(scale: str, model: str = "convnet") -> Net:
    """The network of a scale."""
    if (scale, model) not in _NETS:
        there = ", ".join(f"{m} at {s}" for s, m in _NETS)
        raise UserError(f"no regimes of {model!r} are defined at scale {scale!r}; there are: {there}")
    return _NETS[scale, model]


def sweep(net: Net, seeds: Sequence[int] | None = None, elrs: Sequence[float] | None = None) -> list[Request]:
    """Every ELR of the sweep, or of ``elrs``, and every seed; ELR by ELR within a seed."""
    return [
        Request(settings=net.settings, elr=elr, seed=seed)
        for seed in (net.seeds if seeds is None else seeds)
        for elr in (net.elrs if elrs is None else elrs)
    ]


def retrained(
    net: Net, run: Path, elrs: Sequence[float], *, seed: int, epoch: int | None = None, epochs: int | None = None
) -> list[Request]:
    """From the weights of ``run`` (after ``epoch``, default its last) on with each of ``elrs``.

    ``seed`` decides the batches; that of the run itself would repeat its first ones.
    """
    settings = net.settings if epochs is None else replace(net.settings, epochs=epochs)
    return [Request(settings=settings, elr=elr, seed=seed, start=run, start_epoch=epoch) for elr in elrs]
