"""The edge of stability on the toy, where everything is known, and on a run of full-batch gradient descent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.landscape.nets import fingerprint, surface

from scaleinv.landscape.edge import edge_of_stability

pytestmark = pytest.mark.numerics


def test_the_tracker_against_separate_dense_searches() -> None:
    """Weights along a short descent: lambda_1 equals the largest eigenvalue of the dense spherical Hessian."""
    s = surface("mlp", width=3, images=32, batch_size=None)
    lr, wd = 0.05, 0.01
    points = []
    state = s.weights()
    for step in range(9):
        if step % 4 == 0:
            points.append((step, {n: t.clone() for n, t in state.items()}))
        with s.at(state):
            g = torch.autograd.grad(s.loss(s.model(s.train[0]), s.train[1]), s.tensors)
        state = {**state, **{n: (1 - lr * wd) * state[n] - lr * gi for n, gi in zip(s.names, g)}}
    before = fingerprint(s.model)
    found = edge_of_stability(s, points, lr, weight_decay=wd)
    assert fingerprint(s.model) == before
    assert [p.step for p in found] == [0, 4, 8]
    for point, (_, weights) in zip(found, points):
        x = torch.cat([weights[n].reshape(-1) for n in s.names])
        rho = float(x.norm())

        def loss(flat: torch.Tensor, weights: dict[str, torch.Tensor] = weights) -> torch.Tensor:
            parts, at = {}, 0
            for n in s.names:
                parts[n] = flat[at : at + weights[n].numel()].reshape(weights[n].shape)
                at += weights[n].numel()
            s.model.train()
            logits = torch.func.functional_call(
                s.model, {**{n: t.clone() for n, t in weights.items()}, **parts}, (s.train[0],)
            )
            return s.loss(logits, s.train[1])

        hess = torch.autograd.functional.hessian(loss, x)
        u = x / rho
        p = torch.eye(len(x), dtype=torch.float64) - torch.outer(u, u)
        top = float(torch.linalg.eigvalsh(rho**2 * p @ hess @ p)[-1])
        assert point.sharpness == pytest.approx(top, rel=1e-3)
        assert point.residual < 0.05 * top
        assert point.rho == pytest.approx(rho, rel=1e-12)
        assert point.elr == pytest.approx(lr / (1 - lr * wd) / rho**2, rel=1e-12)
        assert point.product == pytest.approx(point.elr * point.sharpness)
        assert point.loss == pytest.approx(float(loss(x)), rel=1e-12)


def test_schedules_and_broken_weights() -> None:
    s = surface("mlp", width=3, images=32, batch_size=None)
    state = s.weights()
    broken = {**state, s.names[0]: torch.full_like(state[s.names[0]], math.nan)}
    found = edge_of_stability(s, [(0, state), (1, broken), (2, state)], lambda step, _: 0.1 * (step + 1))
    assert math.isnan(found[1].product)
    assert found[2].elr == pytest.approx(3 * found[0].elr)
    assert found[2].sharpness == pytest.approx(found[0].sharpness, rel=1e-3)
    assert np.isfinite(found[2].product)
    (still,) = edge_of_stability(s, [(3, state)], 0.0)  # the end of a schedule
    assert still.elr == still.product == 0.0
