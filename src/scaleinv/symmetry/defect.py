"""How far eps is from spoiling the symmetry: the defect of every scale-invariant group at the weights as they are.

A norm divides by sqrt(var + eps), and var falls as rho^2, so with x = eps/var the output of one norm is off by the factor
(1 + x)^(-1/2). The measured rate d = |d outputs / d log rho| / |outputs| = x/(1 + x) at the present rho gives x, and
x ~ rho^-2 gives the norm at which the error is 1 % or 10 %. Exact for one norm under one group; an estimate for more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from scaleinv.symmetry.jacobian import cotangent, factor_rows, full_row
from scaleinv.symmetry.probe import Probe

_DRAWS = 8


def norm_of_error(rho: float, rate: float, error: float) -> float:
    """The norm at which eps makes the relative error ``error``, from the rate d at norm ``rho``.

    >>> round(norm_of_error(2.0, 0.01 / 1.01, 0.01), 3)  # x = 0.01 at rho = 2
    1.403
    """
    rate = min(max(rate, 0.0), 1 - 1e-9)
    x = rate / (1 - rate)
    return rho * math.sqrt(x / ((1 - error) ** -2 - 1))


def eps_defect(
    model: nn.Module, inputs: Any, groups: Mapping[str, Sequence[int]], probe: Probe, generator: torch.Generator
) -> dict[str, dict[str, float]]:
    """Per group: ``norm`` now, ``cosine`` |cos(g, w)| in the model's own dtype and eps, ``norm_1_percent``, ``norm_10_percent``.

    probe: a float64 probe at the user's weights; its eps is set to the model's own.
    """
    if not groups:
        return {}
    probe.set_eps(None)
    factors = torch.ones(len(probe.tensors), dtype=torch.float64, device=probe.tensors[0].device, requires_grad=True)
    outputs = probe.outputs(list(factors.unbind()))
    mask = torch.ones_like(outputs.detach())
    rows = factor_rows(outputs, factors, [cotangent(mask, generator) for _ in range(_DRAWS)])
    spread = float(torch.linalg.vector_norm(outputs.detach() - outputs.detach().mean()))
    del outputs
    own = Probe(model, inputs, dtype=None, eps=None)
    members = sorted({i for group in groups.values() for i in group})
    with own.differentiable(members):
        values = own.outputs()
        u = cotangent(torch.ones_like(values.detach(), dtype=torch.float64), generator)
        gradients = dict(zip(members, full_row(own, values, u, members, keep=False)))
    result = {}
    for name, group in groups.items():
        indices = list(group)
        weights = [probe.tensors[i].detach().double() for i in indices]
        rho = math.sqrt(sum(float(w.square().sum()) for w in weights))
        rate = float(rows[:, indices].sum(1).square().mean().sqrt()) / max(spread, 1e-300)
        dot = g2 = 0.0
        for i, w in zip(indices, weights):
            g = gradients[i]
            if g is not None:
                dot += float((g.double() * w).sum())
                g2 += float(g.double().square().sum())
        result[name] = {
            "norm": rho,
            "cosine": abs(dot) / max(rho * math.sqrt(g2), 1e-300),
            "norm_1_percent": norm_of_error(rho, rate, 0.01),
            "norm_10_percent": norm_of_error(rho, rate, 0.10),
        }
    return result
