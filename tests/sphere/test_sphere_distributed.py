"""DDP, FSDP2 and tensor-parallel shards in two gloo processes take the path of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.sphere import table
from tests.sphere.distributed_worker import COMBINATIONS, OPTIONS

from scaleinv import Sphere

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("distributed_worker.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both processes found."""
    pytest.importorskip("torch.distributed.fsdp")
    folder = tmp_path_factory.mktemp("gloo")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(folder)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        told, _ = process.communicate(timeout=300)
        assert process.returncode == 0, told
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize(("optimizer", "granularity", "way"), COMBINATIONS)
def test_two_processes_take_the_path_of_one(
    optimizer: str, granularity: str, way: str, ranks: list[dict[str, Any]]
) -> None:
    first, second = (r["weights"][(optimizer, granularity, way)] for r in ranks)
    assert all(torch.equal(w, second[n]) for n, w in first.items())
    path = table.slow(optimizer, granularity)
    weights = table.as_numpy(first)
    assert table.distance(path, weights) < 1e-12
    np.testing.assert_allclose(path.norms(weights), path.radii, rtol=1e-14)


@pytest.mark.parametrize("case", OPTIONS)
def test_steps_of_fixed_size_and_trained_radii_over_shards(case: str, ranks: list[dict[str, Any]]) -> None:
    optimizer, granularity, options = OPTIONS[case]
    weights = table.start()
    law, make = table.OPTIMIZERS[optimizer]
    chosen = table.GRANULARITIES[granularity][0]
    groups = {n: [w] for n, w in weights.items()}
    sphere = Sphere(make(list(weights.values())), groups, table.ELR[law], **chosen, **options)
    for step in range(table.STEPS):
        table.put(weights, step)
        sphere.step()
    for found in ranks:
        for name, w in weights.items():
            torch.testing.assert_close(found["weights"][case][name], w.detach(), rtol=1e-11, atol=1e-12)


def test_a_gradient_that_is_not_finite_on_one_process_stops_both(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        for granularity in ("total", "row"):
            told = found["failures"][granularity]
            assert told.startswith("same: ")
            assert "at step 0" in told
    here, other = ranks[1]["failures"]["row"], ranks[0]["failures"]["row"]
    assert "the gradient of v (shape (4, 6)) is not finite" in here
    assert "the gradient of v is not finite on another process" in other
