"""Granularity x optimizer x dtype x way of stepping: norms are kept, the path is the slow one's, states round-trip.

The ways: plain, compiled (the step of Sphere, and the wrapped one), in the backward pass; DDP, FSDP2 and shards of
tensor parallelism are in test_sphere_distributed.py. Every cell is held against the slow path or refused.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from tests.sphere import table
from tests.sphere.table import Cell
from torch import Tensor, nn

from scaleinv import Sphere, UserError
from scaleinv.sphere import StepInBackward

pytestmark = pytest.mark.numerics

#: torch's compiled Adam corrects its averages by powers in float32
COMPILED_ADAM = 1e-5


def given(weights: dict[str, nn.Parameter], step: int) -> Tensor:
    """A loss with the gradients of a step."""
    gradients = table.gradients(step, next(iter(weights.values())).dtype)
    return torch.stack([(w * gradients[n]).sum() for n, w in weights.items()]).sum()


@pytest.mark.parametrize("projection", ["exact", "literal"])
@pytest.mark.parametrize("cell", table.ALL, ids=",".join)
def test_the_path_is_the_slow_one_and_norms_are_kept(cell: Cell, projection: str) -> None:
    weights = table.start(table.DTYPES[cell[2]][0])
    sphere = table.build(cell, weights, projection=projection)
    path = table.slow(cell[0], cell[1], dtype=table.DTYPES[cell[2]][0])
    for step in range(table.STEPS):
        table.put(weights, step)
        sphere.step()
        norms = path.norms(table.as_numpy(table.on_spheres(sphere, weights)))
        np.testing.assert_allclose(norms, path.radii, rtol=table.DTYPES[cell[2]][3])
    table.check(cell, table.on_spheres(sphere, weights))
    if sphere.masters is not None:
        for w in weights.values():
            assert torch.equal(w.detach(), sphere.masters.of([w])[0].detach().bfloat16())


@pytest.mark.parametrize("cell", table.ALL, ids=",".join)
def test_states_round_trip_bit_for_bit(cell: Cell) -> None:
    kind = table.DTYPES[cell[2]][0]
    weights = table.start(kind)
    sphere = table.build(cell, weights)
    for step in range(3):
        table.put(weights, step)
        sphere.step()
    buffer = io.BytesIO()
    torch.save({"weights": dict(weights), "sphere": sphere.state_dict()}, buffer)
    again = table.start(kind)
    resumed = table.build(cell, again)
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
    for name, w in table.on_spheres(sphere, weights).items():
        assert torch.equal(w, table.on_spheres(resumed, again)[name])


@pytest.mark.parametrize("cell", [c for c in table.ALL if c[1] != "total"], ids=",".join)
def test_in_backward_is_the_same_path(cell: Cell) -> None:
    law, make = table.OPTIMIZERS[cell[0]]
    kind, more, *_ = table.DTYPES[cell[2]]
    options = {**table.GRANULARITIES[cell[1]][0], **more}
    weights, others = table.start(kind), nn.Parameter(torch.ones(3, dtype=torch.float64))
    steps = StepInBackward({n: [w] for n, w in weights.items()}, make, table.ELR[law], others=[others], **options)

    def one(step: int) -> None:
        (given(weights, step) + others.sum()).backward()
        assert all(w.grad is None for w in weights.values())

    assert table.there_and_back(weights, one, steps.state_dict, steps.load_state_dict)
    found = {n: table.on_spheres(s, {n: weights[n]})[n] for n, s in zip(weights, steps.spheres)}
    table.check(cell, found)
    assert [s.steps for s in steps.spheres] == [table.STEPS] * 2
    assert float(others.detach()[0]) < 1  # at the lr of its optimizer
    steps.remove()
    (weights["w"].sum()).backward()
    assert weights["w"].grad is not None


@pytest.mark.parametrize("optimizer", table.OPTIMIZERS)
def test_one_sphere_for_all_is_refused_in_backward(optimizer: str) -> None:
    law, make = table.OPTIMIZERS[optimizer]
    weights = table.start()
    with pytest.raises(UserError, match="'total' needs the gradients of all weights at once; use 'group' or 'tensor'"):
        StepInBackward({n: [w] for n, w in weights.items()}, make, table.ELR[law], granularity="total")
    given(weights, 0).backward()
    assert all(w.grad is not None and torch.equal(w, table.start()[n]) for n, w in weights.items())


def compiled(cell: Cell, what: str) -> None:
    """Step a cell with a compiled step."""
    weights = table.start(table.DTYPES[cell[2]][0])
    sphere = table.build(cell, weights)
    step_of = sphere.step
    if what == "the step of Sphere":
        step_of = torch.compile(sphere.step, backend="eager")
    else:
        sphere.optimizer.step = torch.compile(sphere.optimizer.step, backend="eager")  # type: ignore[method-assign]

    def one(step: int) -> None:
        table.put(weights, step)
        step_of()

    assert table.there_and_back(weights, one, sphere.state_dict, sphere.load_state_dict), cell
    loose = what == "the wrapped step" and cell[0].startswith("adam")
    table.check(cell, table.on_spheres(sphere, weights), COMPILED_ADAM if loose and cell[2] == "f64" else None)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch's compiler itself
@pytest.mark.parametrize("what", ["the step of Sphere", "the wrapped step"])
@pytest.mark.parametrize(
    "cell",
    [
        ("sgd", "total", "f64"),
        ("momentum", "column", "bf16"),
        ("nesterov", "tensor", "f32"),
        ("adam", "block", "f64"),
        ("adamw", "group", "f32"),
    ],
    ids=",".join,
)
def test_compiled_is_the_same_path(cell: Cell, what: str) -> None:
    torch.compiler.reset()
    compiled(cell, what)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch's compiler itself
@pytest.mark.parametrize("what", ["the step of Sphere", "the wrapped step"])
@pytest.mark.parametrize("optimizer", table.OPTIMIZERS)
def test_all_cells_are_compiled_to_the_same_path(optimizer: str, what: str) -> None:
    for cell in table.ALL:
        if cell[0] == optimizer:
            torch.compiler.reset()
            compiled(cell, what)


@pytest.mark.parametrize("dtype", table.DTYPES)
@pytest.mark.parametrize("granularity", ["row", "column", "block", "blocks of columns", "mixed"])
def test_matrix_wise_optimizers_are_refused_by_pieces(granularity: str, dtype: str) -> None:
    kind, more, *_ = table.DTYPES[dtype]
    weights = table.start(kind)
    muon = torch.optim.Muon(list(weights.values()), lr=1.0, weight_decay=0.0)
    kept = table.flat(list(weights.values()))
    options: dict[str, Any] = {**table.GRANULARITIES[granularity][0], **more}
    groups = {n: [w] for n, w in weights.items()}
    with pytest.raises(UserError, match="updates a matrix as a whole; use 'tensor'"):
        Sphere(muon, groups, 1e-2, **options)
    np.testing.assert_array_equal(table.flat(list(weights.values())), kept)
    assert len(muon.param_groups) == 1


@pytest.mark.parametrize("granularity", table.GRANULARITIES)
@pytest.mark.parametrize("optimizer", table.OPTIMIZERS)
def test_half_precision_without_copies_is_refused(optimizer: str, granularity: str) -> None:
    weights = table.start(torch.bfloat16)
    with pytest.raises(UserError, match="rounds steps and norms off at 1e-3; pass masters=True"):
        table.build((optimizer, granularity, "bf16"), weights, masters=False)
    assert all(torch.equal(w, table.start(torch.bfloat16)[n]) for n, w in weights.items())
