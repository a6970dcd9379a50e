"""Calibration of the window that a Monitor tells for the next break-down (:mod:`scaleinv.monitor.breakdowns`).

The seeds of its runs were not looked at when the window was designed.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from scaleinv.lab.data import digits
from scaleinv.monitor import Monitor
from scaleinv.monitor.breakdowns import REMEMBERED, MonitoredPeriod
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.draws import median, share_error

#: net, lr, wd, steps, seed
Case = tuple[str, float, float, int, int]
CASES: tuple[Case, ...] = (
    ("mlp", 0.2, 5e-3, 12_000, 10),
    ("mlp", 0.2, 5e-3, 12_000, 11),
    ("mlp", 0.1, 5e-3, 12_000, 12),
    ("mlp", 0.2, 5e-3, 12_000, 14),
    ("convnet", 0.1, 1e-2, 8_000, 13),
)
#: the share of the periods in which the window has to contain the break-down
SHARE = 0.8
#: of a normal distribution, the naive window of the same confidence
NORMAL = 1.645


class Judged(NamedTuple):
    """How the windows fared: ours, and mean -+ k sd of the earlier times. Widths in 1/(lr wd)."""

    periods: int
    held: list[bool]
    widths: list[float]
    naive: dict[float, tuple[list[bool], list[float]]]


def train(case: Case, every: int = 3) -> Monitor:
    """Train a scale-invariant net with a frozen head of norm 10 on digits, plain SGD with weight decay, batch 64."""
    kind, lr, wd, steps, seed = case
    split = digits.load()[0]
    x, y = torch.from_numpy(split.images).float() / 16, torch.from_numpy(split.labels)
    draw = torch.Generator().manual_seed(seed)
    if kind == "mlp":
        x = x.flatten(1)
        model = nn.Sequential(
            nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32, affine=False), nn.ReLU(),
            nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32, affine=False), nn.ReLU(), nn.Linear(32, 10),
        )  # fmt: skip
    else:
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, affine=False), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(16, affine=False), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(16, affine=False), nn.ReLU(),
            nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip
    for p in model.parameters():  # torch's own initialisation, from a generator of ours
        reach = 1 / math.sqrt(p[0].numel() if p.ndim > 1 else p.numel())
        p.data = (2 * torch.rand(p.shape, generator=draw, device="cpu") - 1) * reach
    head = model[-1]
    assert isinstance(head, nn.Linear)
    head.requires_grad_(False)
    head.weight.data *= 10 / head.weight.data.norm()
    free = [n for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=wd)
    monitor = Monitor(model, optimizer, groups=free, every=every, keep=steps)
    for _ in range(steps):
        batch = torch.randint(len(x), (64,), generator=draw, device="cpu")
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    monitor.close()
    return monitor


@contextmanager
def unheard() -> Iterator[None]:
    """Silence the monitor's warnings: what they warn of is what is asked for here."""
    log = logging.getLogger("scaleinv")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def judge(periods: list[MonitoredPeriod]) -> Judged:
    """Judge the windows of a run, each made from the periods before it only."""
    held, widths = [], []
    naive: dict[float, tuple[list[bool], list[float]]] = {1.0: ([], []), NORMAL: ([], [])}
    for i, period in enumerate(periods):
        if period.window is None or period.held is None:
            continue
        held.append(period.held)
        widths.append(period.window[1] - period.window[0])
        past = [p.time for p in periods[max(0, i - REMEMBERED) : i]]
        for k, (right, wide) in naive.items():
            low, high = max(0.0, fmean(past) - k * stdev(past)), fmean(past) + k * stdev(past)
            right.append(low <= period.time <= high)
            wide.append(high - low)
    return Judged(len(periods), held, widths, naive)


def calibration(sheet: Sheet, context: Context) -> None:
    """Check ``break-down-window``."""
    found = []
    for kind, lr, wd, steps, first in CASES:
        seed = context.seed(first)
        case: Case = (kind, lr, wd, steps, seed)
        with unheard():
            one = judge(train(case).breakdowns())
        found.append(one)
        name = f"{kind}, lr {lr:g}, wd {wd:g}, {steps} steps, seed {seed}"
        sheet.note(f"{name}: {one.periods} break-downs, {sum(one.held)} of {len(one.held)} windows held")
    held = [h for one in found for h in one.held]
    widths = [w for one in found for w in one.widths]
    if len(held) < 30:
        sheet.undecided(f"only {len(held)} windows")
        return
    share = fmean(held)
    sheet.at_least("share of windows that held", share, SHARE, se=share_error(sum(held), len(held)))
    for k in (1.0, NORMAL):
        right = [h for one in found for h in one.naive[k][0]]
        wide = [w for one in found for w in one.naive[k][1]]
        narrow, broad = (median(np.log(one)) for one in (widths, wide))
        ratio = math.exp(narrow.value - broad.value)
        sheet.note(
            f"mean -+ {k:g} sd of the times before held in {fmean(right):.0%}, "
            f"median width {math.exp(broad.value):.2f}/(lr wd)"
        )
        if k == NORMAL:
            error = math.hypot(narrow.error, broad.error)
            sheet.at_most("median width by that of mean -+ 1.645 sd", ratio, 1.0, log_se=error)
    sheet.note(f"ours: median width {math.exp(narrow.value):.2f}/(lr wd) over {len(held)} windows")
