"""Count the false alarms of a Monitor on healthy runs, and how soon it tells faults that are provoked.

    python benchmarks/alerts.py [--seeds N]

Two tables. Healthy: 12 kinds of runs, five seeds each; every alert of severity warning or error is a false alarm, and
at most one in all 60 is allowed. Faults: six kinds, four runs each, half of them logged at every step and half at every
tenth; each has to be told within 20 steps, or two intervals. Exit status 1 where either fails.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim import lr_scheduler as lrs

from scaleinv import Monitor, find_symmetries

STEPS = 300
#: steps before a fault is provoked
ONSET = 100


def norm_net(seed: int) -> nn.Sequential:
    """Build a batch-norm MLP with affine norms and a head with a bias of zero."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(16, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5),
    )  # fmt: skip
    nn.init.zeros_(model[6].bias)
    return model


def data(seed: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Draw 512 points of five classes; ``noise``: share of labels that are drawn anew."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 16, generator=draw)
    labels = torch.randint(5, (512,), generator=draw)
    points = centres[labels] + torch.randn(512, 16, generator=draw)
    wrong = torch.rand(512, generator=draw) < noise
    return points, torch.where(wrong, torch.randint(5, (512,), generator=draw), labels)


def batches(points: Tensor, labels: Tensor, seed: int, size: Callable[[int], int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Give batches without end."""
    draw, step = torch.Generator().manual_seed(1000 + seed), 0
    while True:
        i = torch.randint(len(points), (size(step),), generator=draw)
        yield points[i], labels[i]
        step += 1


@dataclass(frozen=True)
class Healthy:
    """A kind of run that has nothing wrong."""

    optimizer: Callable[[Any], Optimizer]
    schedule: Callable[[Optimizer], Any] | None = None
    noise: float = 0.0
    size: Callable[[int], int] = lambda step: 64
    every: int = 1
    proved: bool = True


def warm_up(optimizer: Optimizer) -> Any:
    """Rise over 100 steps, from zero."""
    return lrs.LambdaLR(optimizer, lambda k: min(1.0, k / 100))


HEALTHY: dict[str, Healthy] = {
    "SGD": Healthy(lambda p: SGD(p, lr=0.1, weight_decay=1e-3)),
    "SGD, momentum, Nesterov": Healthy(lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)),
    "Adam": Healthy(lambda p: Adam(p, lr=3e-3)),
    "AdamW, no groups": Healthy(lambda p: AdamW(p, lr=3e-3, weight_decay=0.1), proved=False),
    "RMSprop": Healthy(lambda p: torch.optim.RMSprop(p, lr=1e-3)),
    "warm-up from zero": Healthy(lambda p: SGD(p, lr=0.2, momentum=0.9, weight_decay=1e-3), warm_up),
    "cosine to zero": Healthy(lambda p: AdamW(p, lr=5e-3), lambda o: lrs.CosineAnnealingLR(o, STEPS)),
    "cosine with restarts": Healthy(
        lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3), lambda o: lrs.CosineAnnealingWarmRestarts(o, 60)
    ),
    "drops by 10": Healthy(lambda p: SGD(p, lr=0.2, momentum=0.9), lambda o: lrs.MultiStepLR(o, [100, 200])),
    "noisy labels, batch of 8": Healthy(lambda p: SGD(p, lr=0.05, weight_decay=1e-3), noise=0.4, size=lambda k: 8),
    "batch size 128, 16, 256": Healthy(
        lambda p: SGD(p, lr=0.1, weight_decay=1e-3), noise=0.1, size=lambda k: (128, 16, 256)[min(2, k // 100)]
    ),
    "one cycle, logged every 7th": Healthy(
        lambda p: AdamW(p, lr=1e-2), lambda o: lrs.OneCycleLR(o, 1e-2, STEPS), every=7, proved=False
    ),
}


def healthy_run(kind: Healthy, seed: int) -> list[str]:
    """Train; list the kinds of the false alarms."""
    model, (points, labels) = norm_net(seed), data(seed, kind.noise)
    optimizer = kind.optimizer(model.parameters())
    scheduler = kind.schedule(optimizer) if kind.schedule else None
    groups = find_symmetries(model, points[:64]) if kind.proved else None
    monitor = Monitor(model, optimizer, groups=groups, every=kind.every)
    feed = batches(points, labels, seed, kind.size)
    for _ in range(STEPS):
        x, y = next(feed)
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        monitor.loss(loss)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    monitor.close()
    return [a.kind for a in monitor.alerts if a.severity != "note"]


# -- faults ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A fault: what is done at ONSET, or from the start, and the kinds of alert that tell it."""

    told_by: tuple[str, ...]
    optimizer: Callable[[Any], Optimizer]
    onset: int = ONSET
    at: Callable[[int, nn.Module, Optimizer], None] = lambda k, model, optimizer: None  # before the step
    between: Callable[[int, nn.Module], None] = lambda k, model: None  # behind it
    groups: Any = "find"


def _raise_lr(factor: float, last: int) -> Callable[[int, nn.Module, Optimizer], None]:
    def change(k: int, model: nn.Module, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            if k == ONSET:
                group["lr"] *= factor
            if k == ONSET + last:
                group["lr"] /= factor

    return change


def _poison(k: int, model: nn.Module, optimizer: Optimizer) -> None:
    if k == ONSET:
        model[3].weight.grad[0, 0] = math.nan


def _infinite(k: int, model: nn.Module, optimizer: Optimizer) -> None:
    if k == ONSET:
        model[0].weight.data[0, 0] = math.inf


def _shrink(k: int, model: nn.Module) -> None:
    if k == ONSET - 1:
        model[0].weight.data.mul_(1e-5)


def _cut(k: int, model: nn.Module, optimizer: Optimizer) -> None:
    if k >= ONSET:
        model[3].weight.grad.zero_()


def _forget(k: int, model: nn.Module, optimizer: Optimizer) -> None:
    if k >= ONSET:
        model[0].weight.grad = None


def _freeze_rows(k: int, model: nn.Module, optimizer: Optimizer) -> None:
    model[0].weight.grad[:9] = 0


def _decay(wd: float, onset: int = ONSET) -> Callable[[int, nn.Module, Optimizer], None]:
    def change(k: int, model: nn.Module, optimizer: Optimizer) -> None:
        if k == onset:
            for group in optimizer.param_groups:
                group["weight_decay"] = wd

    return change


SPIKE = ("spike-eg", "spike-angle", "norm-jump")
sgd = lambda p: SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3)  # noqa: E731
adamw = lambda p: AdamW(p, lr=3e-3, weight_decay=0.1)  # noqa: E731
FAULTS: dict[str, list[Fault]] = {
    "lr spike": [
        Fault(SPIKE, sgd, at=_raise_lr(100, 5)),
        Fault(SPIKE, adamw, at=_raise_lr(200, 3)),
    ],
    "NaN": [Fault(("non-finite",), adamw, at=_poison), Fault(("non-finite",), sgd, at=_infinite)],
    "vanishing norm": [
        Fault(("collapse", "outside-change"), sgd, between=_shrink),
        Fault(("collapse",), adamw, at=_decay(50.0)),
    ],
    "dead layer": [Fault(("still",), adamw, at=_cut), Fault(("still",), sgd, at=_forget)],
    "wrong group": [
        Fault(("not-scale-free",), sgd, 0, groups=["0.weight", "6.weight"]),
        Fault(("not-scale-free",), adamw, 0, groups=["3.weight", "4.weight"]),
    ],
    "decay on frozen rows": [
        Fault(("rows-decay",), adamw, 0, at=_freeze_rows),
        Fault(("rows-decay",), sgd, 0, at=_freeze_rows),
    ],
}


def fault_run(fault: Fault, every: int, seed: int) -> float:
    """Train with a fault; steps from its onset until it is told, inf: never."""
    model, (points, labels) = norm_net(seed), data(seed)
    optimizer = fault.optimizer(model.parameters())
    groups = find_symmetries(model, points[:64]) if isinstance(fault.groups, str) else fault.groups
    monitor = Monitor(model, optimizer, groups=groups, every=every)
    feed = batches(points, labels, seed, lambda step: 64)
    for k in range(ONSET + 60 if fault.onset else 60):
        x, y = next(feed)
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        fault.at(k, model, optimizer)
        monitor.loss(loss)
        optimizer.step()
        fault.between(k, model)
        if any(a.kind in fault.told_by and a.step >= fault.onset for a in monitor.alerts):
            return float(k - fault.onset)
    return math.inf


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="runs of each healthy kind")
    options = parser.parse_args()
    logging.getLogger("scaleinv").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    print(f"healthy runs ({STEPS} steps each)          runs  false alarms")
    alarms = runs = 0
    for name, kind in HEALTHY.items():
        found = [alarm for seed in range(options.seeds) for alarm in healthy_run(kind, seed)]
        alarms, runs = alarms + len(found), runs + options.seeds
        print(f"{name:<36}{options.seeds:>8}{len(found):>14}  {', '.join(sorted(set(found)))}", flush=True)
    print(f"{'all':<36}{runs:>8}{alarms:>14}  (at most 1)\n")
    print("provoked faults        every   allowed   told after (steps), two runs each")
    missed = count = 0
    for name, faults in FAULTS.items():
        for every in (1, 10):
            allowed = 20 if every == 1 else 2 * every
            after = [fault_run(fault, every, 7 + i) for i, fault in enumerate(faults)]
            missed, count = missed + sum(t > allowed for t in after), count + len(after)
            print(f"{name:<24}{every:>4}{allowed:>10}   {', '.join(f'{t:g}' for t in after)}", flush=True)
    print(f"{count} faults, {missed} told too late or never")
    return 1 if missed or alarms > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
