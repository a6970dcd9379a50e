"""How far eps is from spoiling the symmetry: the defect of every scale-invariant group at the weights as they are.

A norm divides by sqrt(var + eps), and var falls as rho^2, so with x = eps/var its output and the gradient behind it are off by
the factor (1 + x)^(-1/2): 1 % at x = 0.020, 10 % at x = 0.235, and x ~ rho^-2. Later norms undo a part of the error of the
outputs, but not that of the gradient, which is what moves the weights. So the error measured here is that of the effective
gradient, |rho g(rho) - [rho g]| / |[rho g]| with [rho g] at a norm where eps is nothing; both from one random cotangent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.symmetry.jacobian import cotangent, full_row
from scaleinv.symmetry.probe import Probe

#: evaluations per group and target
_STEPS = 12


def norm_of_error(rho: float, now: float, error: float) -> float:
    """The norm at which the factor (1 + x)^(-1/2) is off by ``error``, if it is off by ``now`` at norm ``rho``.

    >>> round(norm_of_error(1.0, 0.10, 0.01), 3)
    3.4
    """
    return rho * math.sqrt(_x(now) / _x(error))


def _x(error: float) -> float:
    return (1 - min(max(error, 1e-12), 0.999)) ** -2 - 1


def eps_defect(
    model: nn.Module, inputs: Any, groups: Mapping[str, Sequence[int]], generator: torch.Generator
) -> dict[str, dict[str, float | None]]:
    """Per group, in the model's own dtype and eps, at its own weights:

    ``norm``, ``cosine`` |cos(g, w)|, ``error`` (relative, of the effective gradient; rounding included), and
    ``norm_1_percent``, ``norm_10_percent``, the norms at which that error is 1 % and 10 %; None = not reached.
    """
    if not groups:
        return {}
    own = Probe(model, inputs, dtype=None, eps=None)
    u = cotangent(torch.ones_like(own.value(), dtype=torch.float64), generator)
    result: dict[str, dict[str, float | None]] = {}
    for name, group in groups.items():
        indices = list(group)
        rho = float(torch.stack([own.tensors[i].double().square().sum() for i in indices]).sum().sqrt())
        weights = torch.cat([own.tensors[i].detach().double().reshape(-1) for i in indices])
        if rho == 0:
            result[name] = {"norm": 0.0, "cosine": None, "error": None, "norm_1_percent": None, "norm_10_percent": None}
            continue
        now = _gradient(own, indices, 1.0, u)
        cosine = abs(float(now @ weights)) / max(rho * float(now.norm()), 1e-300)
        # x falls by 1e6: nothing is left of eps, and single precision still holds the weights
        errors = _Errors(own, indices, u, 1e3 * _gradient(own, indices, 1e3, u))
        start = errors.of(now)
        one, end = _solve(errors, 1.0, start, 0.01)
        ten, _ = _solve(errors, *end, 0.10)
        result[name] = {
            "norm": rho,
            "cosine": cosine,
            "error": start if math.isfinite(start) else None,
            "norm_1_percent": None if one is None else one * rho,
            "norm_10_percent": None if ten is None else ten * rho,
        }
    return result


class _Errors:
    """Error of the effective gradient of a group as a function of the factor on its weights."""

    def __init__(self, own: Probe, group: list[int], u: Tensor, reference: Tensor) -> None:
        self.own, self.group, self.u, self.reference = own, group, u, reference

    def of(self, effective: Tensor) -> float:
        return float((effective - self.reference).norm()) / max(float(self.reference.norm()), 1e-300)

    def __call__(self, factor: float) -> float:
        return self.of(factor * _gradient(self.own, self.group, factor, self.u))


def _gradient(own: Probe, group: list[int], factor: float, u: Tensor) -> Tensor:
    with own.scaled(dict.fromkeys(group, factor)), own.differentiable(group):
        gradients = full_row(own, own.outputs(), u, group, keep=False)
    parts = [torch.zeros_like(own.tensors[i]) if g is None else g for i, g in zip(group, gradients)]
    return torch.cat([g.double().reshape(-1) for g in parts])


def _solve(errors: _Errors, factor: float, error: float, target: float) -> tuple[float | None, tuple[float, float]]:
    """The factor at which the error is the target (within 5 %, or where it jumps), and the last (factor, error) tried.

    Steps by the law of one norm, inside a bracket once there is one.
    """
    low, high = 0.0, math.inf  # the error is above the target at low, below it at high
    for _ in range(_STEPS):
        if not math.isfinite(error):
            return None, (factor, target)
        if abs(error / target - 1) < 0.05:
            return factor, (factor, error)
        if error > target:
            low = max(low, factor)
        else:
            high = min(high, factor)
        if 0 < low and high < 1.05 * low:  # a kink: ReLUs switch there and the error jumps over the target
            return math.sqrt(low * high), (factor, error)
        following = norm_of_error(factor, error, target)
        if not low < following < high:
            following = math.sqrt(low * high) if 0 < low and high < math.inf else following
        if following < 1e-9 or following > 1e3:
            return None, (factor, error)
        factor, error = following, errors(following)
    return None, (factor, error)
