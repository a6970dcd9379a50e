"""DDP, FSDP2 and tensor-parallel shards in two gloo processes take the path of one, cell by cell of the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.gloo import two_processes
from tests.sphere import table
from tests.sphere.distributed_worker import OPTIONS, cells
from tests.sphere.table import Cell

pytestmark = pytest.mark.numerics

WORKER = Path(__file__).with_name("distributed_worker.py")


def both(folder: Path, which: str) -> list[dict[str, Any]]:
    """What both processes found."""
    pytest.importorskip("torch.distributed.fsdp")
    two_processes(WORKER, folder, which)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return both(tmp_path_factory.mktemp("gloo"), "some")


def check(cell: Cell, way: str, ranks: list[dict[str, Any]]) -> None:
    (first, same), (second, same_there) = (r["weights"][(cell, way)] for r in ranks)
    assert (same, same_there) == (True, True), f"{cell} {way}: the state does not resume at the same bits"
    assert all(torch.equal(w, second[n]) for n, w in first.items())
    table.check(cell, first)


@pytest.mark.parametrize(("cell", "way"), cells("some"), ids=str)
def test_two_processes_take_the_path_of_one(cell: Cell, way: str, ranks: list[dict[str, Any]]) -> None:
    check(cell, way, ranks)


@pytest.mark.nightly
def test_all_cells_take_the_path_of_one_process(tmp_path: Path) -> None:
    found = both(tmp_path, "all")
    for cell, way in cells("all"):
        check(cell, way, found)


@pytest.mark.parametrize("case", OPTIONS)
def test_steps_of_fixed_size_and_trained_radii_over_shards(case: str, ranks: list[dict[str, Any]]) -> None:
    cell, options = OPTIONS[case]
    weights = table.start()
    sphere = table.build(cell, weights, **options)
    for step in range(table.STEPS):
        table.put(weights, step)
        sphere.step()
    for found in ranks:
        there, same = found["weights"][case]
        assert same
        for name, w in weights.items():
            torch.testing.assert_close(there[name], w.detach(), rtol=1e-11, atol=1e-12)


def test_a_gradient_that_is_not_finite_on_one_process_stops_both(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        for granularity in ("total", "row"):
            told = found["failures"][granularity]
            assert told.startswith("same: ")
            assert "at step 0" in told
    here, other = ranks[1]["failures"]["row"], ranks[0]["failures"]["row"]
    assert "the gradient of v (shape (4, 6)) is not finite" in here
    assert "the gradient of v is not finite on another process" in other


@pytest.mark.parametrize("granularity", table.GRANULARITIES)
def test_steps_in_backward_are_refused_where_gradients_are_averaged_later(
    granularity: str, ranks: list[dict[str, Any]]
) -> None:
    for found in ranks:
        told = found["refused"][granularity]
        assert "step Sphere after the backward pass" in told or "use 'group' or 'tensor'" in told
        assert (granularity == "total") == ("'total'" in told)
        assert found["refused"]["own gradients"] == "stepped"
