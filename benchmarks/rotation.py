"""Do nets turn as fast as predicted (Kosson et al. 2024)? Through the Monitor, on a small scale-invariant MLP (40 s).

    python benchmarks/rotation.py [--steps N] [--mixed]

Digits with random labels keep the gradient noisy; the head is frozen, so the two matrices are all that is trained.
Printed per matrix: RMS angle and norm over the second half of the run by those predicted at equilibrium. ``--mixed``
turns the images by a random rotation of pixel space, so that no input is always zero.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from scaleinv import Monitor

GROUPS = ["0.weight", "3.weight"]
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=5e-3),
    "SGD, momentum 0.9": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=5e-3, momentum=0.9),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.5),
    "Muon": lambda p: torch.optim.Muon(p, lr=2e-2, weight_decay=0.05),
}


def rotation(
    make: Callable[[Any], torch.optim.Optimizer], steps: int, seed: int = 0, mixed: bool = False
) -> list[tuple[str, float, float]]:
    """(group, measured by predicted angle, measured by predicted norm)."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    x = torch.tensor(load_digits(return_X_y=True)[0], dtype=torch.float32) / 16
    if mixed:
        turn = torch.linalg.qr(torch.randn(64, 64, generator=draw)).Q
        x = (x - x.mean(0)) @ turn
    y = torch.randint(10, (len(x),), generator=draw)
    model = nn.Sequential(
        nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64, affine=False), nn.ReLU(),
        nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64, affine=False), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    for p in model[6].parameters():
        p.requires_grad_(False)
    optimizer = make([p for p in model.parameters() if p.requires_grad])
    monitor = Monitor(model, optimizer, groups=GROUPS, every=1, keep=steps)
    for _ in range(steps):
        batch = torch.randint(len(x), (64,), generator=draw)
        optimizer.zero_grad()
        functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    h = monitor.history()
    found = []
    for f in monitor.forecasts():
        angle, rho = (np.sqrt(np.mean(h[f"{f.group}/{q}"][steps // 2 :] ** 2)) for q in ("angle", "rho"))
        found.append((f.group, float(angle / f.equilibrium_angle), float(rho / f.equilibrium_rho)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--mixed", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, make in OPTIMIZERS.items():
        for group, angle, rho in rotation(make, options.steps, mixed=options.mixed):
            print(f"{name:<18} {group}  angle {angle:.2f}  norm {rho:.2f} (measured / predicted)", flush=True)


if __name__ == "__main__":
    main()
