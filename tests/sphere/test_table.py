"""Granularity x optimizer x dtype x way of stepping: norms are kept, the path is the slow one's, states round-trip."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from tests.sphere import table
from torch import nn

from scaleinv import Sphere
from scaleinv.sphere import StepInBackward

pytestmark = pytest.mark.numerics

ALL = [(o, g) for o in table.OPTIMIZERS for g in table.GRANULARITIES]
#: dtype, options, how far from the path at most, how far from the norm at most
DTYPES: dict[str, tuple[torch.dtype, dict[str, Any], float, float]] = {
    "f64": (torch.float64, {}, 1e-12, 1e-14),
    "f32": (torch.float32, {}, 2e-5, 1e-6),
    # of the copies: bfloat16 keeps 8 bits of the start, which the slow path starts from as well
    "bf16": (torch.bfloat16, {"masters": True}, 2e-5, 1e-6),
}


def build(optimizer: str, granularity: str, weights: dict[str, nn.Parameter], **options: Any) -> Sphere:
    law, make = table.OPTIMIZERS[optimizer]
    chosen = table.GRANULARITIES[granularity][0]
    return Sphere(
        make(list(weights.values())), {n: [w] for n, w in weights.items()}, table.ELR[law], **chosen, **options
    )


def on_spheres(sphere: Sphere, weights: dict[str, nn.Parameter]) -> dict[str, np.ndarray]:
    """The weights as they lie on the spheres: the float32 copies, where there are any."""
    if sphere.masters is None:
        return table.as_numpy(weights)
    return table.as_numpy({n: sphere.masters.of([w])[0] for n, w in weights.items()})


@pytest.mark.parametrize("projection", ["exact", "literal"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("optimizer", "granularity"), ALL)
def test_the_path_is_the_slow_one_and_norms_are_kept(
    optimizer: str, granularity: str, dtype: str, projection: str
) -> None:
    kind, options, near, kept = DTYPES[dtype]
    weights = table.start(kind)
    sphere = build(optimizer, granularity, weights, projection=projection, **options)
    path = table.slow(optimizer, granularity, dtype=kind)
    for step in range(table.STEPS):
        table.put(weights, step)
        sphere.step()
        np.testing.assert_allclose(path.norms(on_spheres(sphere, weights)), path.radii, rtol=kept)
    assert table.distance(path, on_spheres(sphere, weights)) < near
    if kind == torch.bfloat16:
        for w in weights.values():
            assert torch.equal(w.detach(), sphere.masters.of([w])[0].detach().bfloat16())  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("optimizer", "granularity"), ALL)
def test_states_round_trip_bit_for_bit(optimizer: str, granularity: str, dtype: str) -> None:
    kind, options, _, _ = DTYPES[dtype]
    weights = table.start(kind)
    sphere = build(optimizer, granularity, weights, **options)
    for step in range(3):
        table.put(weights, step)
        sphere.step()
    buffer = io.BytesIO()
    torch.save({"weights": dict(weights), "sphere": sphere.state_dict()}, buffer)
    again = table.start(kind)
    resumed = build(optimizer, granularity, again, **options)
    table.put(again, 9)
    resumed.step()
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    with torch.no_grad():
        for name, w in again.items():
            w.copy_(state["weights"][name])
    resumed.load_state_dict(state["sphere"])
    for step in range(3, 6):
        for own, one in ((weights, sphere), (again, resumed)):
            table.put(own, step)
            one.step()
    for name, w in weights.items():
        assert torch.equal(w, again[name])
    for name, w in on_spheres(sphere, weights).items():
        np.testing.assert_array_equal(w, on_spheres(resumed, again)[name])


@pytest.mark.parametrize(("optimizer", "granularity"), [c for c in ALL if c[1] != "total"])
def test_in_backward_is_the_same_path(optimizer: str, granularity: str) -> None:
    law, make = table.OPTIMIZERS[optimizer]
    options = dict(table.GRANULARITIES[granularity][0])
    weights, others = table.start(), nn.Parameter(torch.ones(3, dtype=torch.float64))
    steps = StepInBackward({n: [w] for n, w in weights.items()}, make, table.ELR[law], others=[others], **options)
    path = table.slow(optimizer, granularity)
    for step in range(table.STEPS):
        given = table.gradients(step)
        loss = sum((w * given[n]).sum() for n, w in weights.items()) + others.sum()
        loss.backward()
        assert all(w.grad is None for w in weights.values())
    assert table.distance(path, table.as_numpy(weights)) < 1e-12
    assert [s.steps for s in steps.spheres] == [table.STEPS] * 2
    assert float(others.detach()[0]) < 1  # at the lr of its optimizer
    state = steps.state_dict()
    steps.load_state_dict(state)
    steps.remove()
    (weights["w"].sum()).backward()
    assert weights["w"].grad is not None


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch's compiler itself
@pytest.mark.parametrize("what", ["the step of Sphere", "the wrapped step"])
@pytest.mark.parametrize(
    ("optimizer", "granularity"),
    [("sgd", "total"), ("momentum", "tensor"), ("momentum", "column"), ("adam", "block"), ("adamw", "group")],
)
def test_compiled_is_the_same_path(optimizer: str, granularity: str, what: str) -> None:
    torch.compiler.reset()
    weights = table.start()
    sphere = build(optimizer, granularity, weights)
    step_of = sphere.step
    if what == "the step of Sphere":
        step_of = torch.compile(sphere.step, backend="aot_eager")
    else:
        sphere.optimizer.step = torch.compile(sphere.optimizer.step, backend="aot_eager")  # type: ignore[method-assign]
    for step in range(table.STEPS):
        table.put(weights, step)
        step_of()
    # torch's compiled Adam corrects its averages by powers in float32
    near = 1e-5 if what == "the wrapped step" and optimizer.startswith("adam") else 1e-12
    assert table.distance(table.slow(optimizer, granularity), table.as_numpy(weights)) < near


@pytest.mark.parametrize("granularity", ["row", "column", "block", "blocks of columns", "mixed"])
def test_matrix_wise_optimizers_are_refused_by_pieces(granularity: str) -> None:
    from scaleinv import UserError

    weights = table.start()
    muon = torch.optim.Muon(list(weights.values()), lr=1.0, weight_decay=0.0)
    kept = table.flat(list(weights.values()))
    options = table.GRANULARITIES[granularity][0]
    with pytest.raises(UserError, match="updates a matrix as a whole; use 'tensor'"):
        Sphere(muon, {n: [w] for n, w in weights.items()}, 1e-2, **options)
    np.testing.assert_array_equal(table.flat(list(weights.values())), kept)
    assert len(muon.param_groups) == 1
