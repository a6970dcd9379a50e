"""Claims of Kosson et al. 2024 and Wan et al. 2020: equilibrium rotation, on random scale-invariant gradients."""

from typing import Any

import numpy as np

from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.theory import equilibrium, lobacheva2021, wan2020
from scaleinv.theory.kosson2024 import OptimizerLaw
from scaleinv.theory.simulators import random_gradients

DIMENSION = 2000


def _mean(values: Any) -> float:
    """Return the root mean square over replicas."""
    return float(np.sqrt(np.mean(np.square(values))))


def rotation(sheet: Sheet, context: Context) -> None:
    """Check ``rotation-at-equilibrium``."""
    cases: tuple[tuple[OptimizerLaw, float, dict[str, Any], float], ...] = (
        ("sgd", 0.1, {}, 0.01),
        ("sgdm", 0.1, {"momentum": 0.9}, 0.01),
        ("adamw", 1e-3, {"beta1": 0.9}, 0.01),
        ("lion", 1e-3, {"beta1": 0.9, "beta2": 0.99}, 0.03),
        ("lion", 1e-3, {"beta1": 0.95, "beta2": 0.98}, 0.03),
    )
    for law, lr, extra, tolerance in cases:
        wd = 5e-4 / lr
        name = law + (f" {extra['beta1']}/{extra['beta2']}" if law == "lion" else "")
        size: dict[str, Any] = {"eg": 1.0} if law in ("sgd", "sgdm") else {"dimension": float(DIMENSION)}
        guess = equilibrium(law, lr, wd, **extra, **size)
        burn = int(5 * guess.time_scale)
        run = random_gradients.simulate(
            law, lr, wd, dimension=DIMENSION, steps=burn + 8000, burn_in=burn, replicas=4, rho0=1.3 * guess.norm,
            seed=15, **extra,
        )  # fmt: skip
        if "eg" in size:
            size = {"eg": _mean(run.eg)}
        sharp = equilibrium(law, lr, wd, **extra, **size)
        paper = equilibrium(law, lr, wd, corrected=False, **extra, **size)
        sheet.close(f"{name}: angle", _mean(run.angle), paper.angle, rel=tolerance)
        sheet.close(f"{name}: angle, corrected", _mean(run.angle), sharp.angle, rel=0.01)
        sheet.close(f"{name}: norm", _mean(run.norm), sharp.norm, rel=0.01)
    wrong = float(np.sqrt(1e-3 * DIMENSION * 0.1 / (2 * 0.5 * 1.9)))
    sheet.note(f"the copied AdamW norm with independent update and weight would be {wrong:.3g}")


def drop(sheet: Sheet, context: Context) -> None:
    """Check ``angle-after-lr-drop``."""
    lr, wd, q = 0.1, 1e-2, 0.1
    rho_sq = lobacheva2021.resting_rho_sq(1.0, lr, wd)
    old = wan2020.angle(lr, wd, 0.0)
    scale = int(equilibrium("sgd", q * lr, wd).time_scale)
    for t in range(12 * scale + 1):
        if t in (0, scale // 2, scale, 12 * scale):
            angle = lobacheva2021.step_angle(rho_sq, 1.0, q * lr, wd)
            expected = wan2020.angle_after_drop(float(t), lr, wd, q)
            sheet.close(f"angle after {t} steps", angle, expected, rel=3e-3)
        rho_sq = lobacheva2021.next_rho_sq(rho_sq, 1.0, q * lr, wd)
    sheet.close("in the end over the old one", angle / old, np.sqrt(q), rel=1e-2)
