"""How good is the forecast of break-downs? On scikit-learn's digits, a scale-invariant MLP, SGD with weight decay
(1.5 minutes).

    python benchmarks/forecast.py [--steps N] [--seed N]

A break-down is a turn of k times the equilibrium rotation in one step. After each one (from the top of the norm that
follows) the earliest time of the next is forecast by Proposition 2 of Lobacheva et al. 2021, with l and L the 1 and
99 percentiles of the effective gradient norm of the period before; no number of the period itself is used. Reported:
how often the next did not come before.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from scaleinv import Monitor
from scaleinv.monitor.forecast import PERCENTILES
from scaleinv.theory import OutsideConditions, lobacheva2021

LR, WD = 0.2, 5e-3
GROUPS = ["0.weight", "3.weight"]
#: big turns closer than this belong to one break-down
APART = 50


def history(steps: int, seed: int) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    model = nn.Sequential(
        nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32, affine=False), nn.ReLU(),
        nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32, affine=False), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    for p in model[6].parameters():
        p.requires_grad_(False)
    model[6].weight.data.mul_(10 / model[6].weight.data.norm())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LR, weight_decay=WD)
    monitor = Monitor(model, optimizer, groups=GROUPS, every=1, keep=steps)
    for _ in range(steps):
        batch = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return monitor.history()


def check(rho: np.ndarray, eg: np.ndarray, angle: np.ndarray, k: float) -> str:
    size = k * math.sqrt(2 * LR * WD)
    events: list[int] = []
    for i in np.flatnonzero(angle > size).tolist():
        if not events or i - events[-1] >= APART:
            events.append(i)
    forecast, observed = [], []
    for before, here, after in zip(events, events[1:], events[2:]):
        start = here + int(np.argmax(rho[here : min(after, here + APART)])) + 1
        if after <= start:
            continue
        low, high = np.percentile(eg[before : here + 1], PERCENTILES)
        try:
            forecast.append(lobacheva2021.t_min(rho[start] ** 2, low, high, LR, WD, 1 - math.cos(size)))
        except OutsideConditions:
            continue
        observed.append(after - start)
    if not forecast:
        return "no forecasts"
    held = np.array(observed) >= np.array(forecast) - 1
    told = np.array(forecast) > 0
    share = f"{held.sum()} of {len(held)} ({held.mean():.0%}) not before the forecast"
    times = f"median forecast {np.median(forecast):.0f}, observed {np.median(observed):.0f} steps"
    return f"{share}; {told.sum()} forecasts above 0, of these {(held & told).sum()} held; {times}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    h = history(options.steps, options.seed)
    for group in ("total", *GROUPS):
        for k in (2.0, 3.0, 4.0):
            print(f"{group}, {k:g} x: {check(*(h[f'{group}/{q}'] for q in ('rho', 'eg', 'angle')), k)}", flush=True)


if __name__ == "__main__":
    main()
