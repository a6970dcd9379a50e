"""DistributedDataParallel and fully_shard on two CPU processes: the same numbers as one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed_worker import FREE, layer_norm_net, run

from scaleinv.monitor.quantities import QUANTITIES


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    if not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    worker = Path(__file__).with_name("distributed_worker.py")
    jobs = [
        subprocess.Popen([sys.executable, str(worker), str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [job.communicate(timeout=200)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(errors)
    model = layer_norm_net()
    single = run(model, model, 0, 1)
    alone = single.history()
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for kind in ("ddp", "fsdp", "ddp accumulated", "fsdp accumulated"):  # with no_sync and what fully_shard has of it
        states = [r[kind]["history"] for r in ranks]
        assert states[0]["groups"] == list(single._roster.titles)
        for state in states:
            values = state["values"].numpy()
            for i, name in enumerate(state["groups"]):
                for j, quantity in enumerate(QUANTITIES):
                    # what is zero for a scale-invariant weight is rounding, and the processes round differently
                    small = {"g_radial": 1e-3 if name in (*FREE, "total") else 1e-5}.get(quantity, 1e-6)
                    told = f"{kind} {name} {quantity}"
                    wanted = alone[f"{name}/{quantity}"]
                    np.testing.assert_allclose(values[:, i, j], wanted, rtol=2e-4, atol=small, err_msg=told)
        losses = np.mean([s["loss"].numpy() for s in states], axis=0)  # each process knows the loss of its part
        np.testing.assert_allclose(losses, alone["loss"], rtol=1e-5)
    assert [r["ddp sinks"] for r in ranks] == [1, 0]
    assert [r["agreed"] for r in ranks] == [4, 4]
