"""The equilibria of Kosson et al. 2024 and Wan et al. 2020 on a net, measured by a Monitor as a user would.

A scale-invariant MLP (64-64-64, batch norm without gains, frozen head) on digits with random labels, so that the
gradient stays noisy; 3000 steps of batch 64, lr wd = 5e-4 (SGDM) or 1e-3: six time scales, of which the second half is
measured. Tolerance 20 %, per matrix.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from scaleinv.analysis.statistics import sample_mean
from scaleinv.lab.data import digits
from scaleinv.monitor import Monitor
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context

GROUPS = {"0.weight": "first", "3.weight": "second"}
STEPS, EVERY, SEEDS = 3000, 2, 2
TOLERANCE = 0.2


class Turned(NamedTuple):
    """How one matrix turned, measured by predicted; the same with the weights that never get a gradient left out."""

    angle: float
    norm: float
    norm_live: float
    live: float  # share of the weights with a gradient at some step
    parts: dict[str, tuple[int, float, float]]  # by how often a weight has a gradient: count, turning, RMS weight


def _optimizers() -> dict[str, Any]:
    known: dict[str, Any] = {
        "SGDM": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=5e-3, momentum=0.9),
        "AdamW": lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.5),
    }
    try:
        from lion_pytorch import Lion
    except ImportError:
        return known
    return {**known, "Lion": lambda p: Lion(p, lr=1e-3, weight_decay=1.0, betas=(0.9, 0.99))}


def _images(standardised: bool) -> torch.Tensor:
    """Return flat images of the train set. Standardised: every pixel that is ever lit has mean 0 and variance 1."""
    x = torch.from_numpy(digits.load()[0].images.reshape(-1, 64)).float() / 16
    if not standardised:
        return x
    lit = x.std(0) > 0
    return torch.where(lit, (x - x.mean(0)) / x.std(0).clamp_min(1e-6), torch.zeros((), device="cpu"))


def _train(make: Any, x: torch.Tensor, seed: int) -> dict[str, Turned]:
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(10, (len(x),), generator=draw, device="cpu")
    model = nn.Sequential(
        nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64, affine=False), nn.ReLU(),
        nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64, affine=False), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    for p in model.parameters():
        # torch's own, from a generator of ours
        p.data = (2 * torch.rand(p.shape, generator=draw, device="cpu") - 1) / 8
    model[6].requires_grad_(False)
    weights = {name: p for name, p in model.named_parameters() if name in GROUPS}
    optimizer = make(list(weights.values()))
    monitor = Monitor(model, optimizer, groups=list(GROUPS), every=EVERY, keep=STEPS)
    seen = {name: torch.zeros_like(p) for name, p in weights.items()}  # steps with a gradient
    square, moved = ({name: torch.zeros_like(p) for name, p in weights.items()} for _ in range(2))
    half, before = STEPS // 2, {}
    options = optimizer.param_groups[0]
    for step in range(STEPS):
        batch = torch.randint(len(x), (64,), generator=draw, device="cpu")
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        look = step >= half and step % EVERY == 0
        if look:
            before = {name: p.detach().clone() for name, p in weights.items()}
        optimizer.step()
        if look:
            for name, p in weights.items():
                seen[name] += p.grad != 0
                square[name] += before[name] ** 2
                moved[name] += (p.detach() - (1 - options["lr"] * options["weight_decay"]) * before[name]) ** 2
    table, found = monitor.history(), {}
    count = -(-(STEPS - half) // EVERY)
    for f in monitor.forecasts():
        if f.group not in GROUPS:
            continue
        angle, rho = (_rms(table[f"{f.group}/{q}"][-count:]) for q in ("angle", "rho"))
        often = seen[f.group] / count
        live = float((often > 0).float().mean())
        # an update-normalised optimizer gives every weight its share of the norm, also the dead ones' in the formula
        sgd = "momentum" in options and "betas" not in options
        parts = {}
        for words, low, high in (("never", 0.0, 1e-9), ("in less than half of the steps", 1e-9, 0.5),
                                 ("in every step", 1.0, 2.0)):  # fmt: skip
            mask = (often >= low) & (often < high)
            if mask.any():
                total, step_sq = float(square[f.group][mask].sum()), float(moved[f.group][mask].sum())
                turning = math.sqrt(step_sq / total) / f.equilibrium_angle if total else math.nan
                share = f.equilibrium_rho**2 / often.numel()
                parts[words] = (int(mask.sum()), turning, math.sqrt(total / count / int(mask.sum()) / share))
        norm = rho / f.equilibrium_rho
        found[f.group] = Turned(angle / f.equilibrium_angle, norm, norm / (1 if sgd else math.sqrt(live)), live, parts)
    monitor.close()
    return found


def _rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _check(sheet: Sheet, context: Context, standardised: bool) -> None:
    x = _images(standardised)
    for name, make in _optimizers().items():
        runs = [_train(make, x, context.seed(seed)) for seed in range(SEEDS)]
        for group, place in GROUPS.items():
            several = [run[group] for run in runs]
            label = f"{name}, {place} matrix"
            for what in ("angle", "norm"):
                found = sample_mean(np.array([getattr(one, what) for one in several]))
                sheet.close(f"{label}: {what} by predicted", found.value, 1.0, rel=TOLERANCE, se=found.error)
            if min(one.live for one in several) < 1:
                norm = np.mean([one.norm_live for one in several])
                never = f"{label}: {1 - several[0].live:.1%} of the weights never get a gradient"
                sheet.note(f"{never}; without them the norm is {norm:.2f} of the predicted")
            if not standardised and place == "first":
                for often, (count, turning, weight) in several[0].parts.items():
                    told = f"{name}, first matrix, {count} weights with a gradient {often}"
                    sheet.note(f"{told}: they turn {turning:.2f} of the predicted, their RMS is {weight:.2f} of it")
    if len(_optimizers()) < 3:
        sheet.note("Lion is not checked: pip install lion-pytorch")


def on_a_net(sheet: Sheet, context: Context) -> None:
    """Check ``rotation-on-a-net``."""
    _check(sheet, context, standardised=True)


def on_raw_pixels(sheet: Sheet, context: Context) -> None:
    """Check ``rotation-on-raw-pixels``."""
    _check(sheet, context, standardised=False)
