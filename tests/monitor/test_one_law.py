"""One step of a normalised optimizer: recorder, per-step record and Monitor say the same ELR and ESS."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from monitor_nets import FREE, batches, net
from torch import Tensor
from torch.nn.functional import cross_entropy

from scaleinv import Monitor, Sphere
from scaleinv.lab.config import Settings
from scaleinv.lab.recorder import StepRecorder
from scaleinv.runfolder.layout import FORMAT
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.steps import load_steps
from scaleinv.studies.obtain import obtain

LR = 0.02
CASES = {
    "Adam": lambda p: torch.optim.Adam(p, lr=LR),
    "AdamW with decay": lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=5.0),  # lr wd 0.1: to be seen in the ESS
    "Adam on a sphere": lambda p: Sphere(torch.optim.Adam(p, lr=1.0), p, elr=LR, granularity="total"),
}


def flat(tensors: list[Tensor]) -> np.ndarray:
    return np.concatenate([t.detach().numpy().ravel() for t in tensors])


@pytest.mark.parametrize("case", CASES)
def test_three_rooms_one_number(case: str, tmp_path: Path) -> None:
    model = net(dtype=torch.float64)
    tensors = [dict(model.named_parameters())[name] for name in FREE]
    for p in model.parameters():
        p.requires_grad_(any(p is t for t in tensors))
    optimizer = CASES[case](tensors)
    groups = {name: [t] for name, t in zip(FREE, tensors)}
    recorder = StepRecorder(groups, 4, law="normalised", keep_steps=True)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    x, y = next(iter(batches(1, dtype=torch.float64)))
    logits = model(x)
    loss = cross_entropy(logits, y)
    loss.backward()
    before = flat(tensors)
    recorder.before_step(loss.detach(), [(logits.detach(), y)])
    optimizer.step()
    rate = LR if not isinstance(optimizer, Sphere) else optimizer.learning_rate(0, LR)
    recorder.after_step([rate] * (1 + len(groups)))
    after = flat(tensors)

    # independent: the two vectors, and the definitions
    rho = math.sqrt(float(before @ before))
    along = float(after @ before) / rho
    across = float(np.linalg.norm(after - along / rho * before))
    wanted = {"elr": rate / rho, "ess": across / along}
    if case == "AdamW with decay":  # another convention, tangential / rho, would be seen
        assert abs(across / rho / wanted["ess"] - 1) > 0.01

    rows = {(r.group, r.quantity): r.value for r in recorder.flush(1, 1)}
    seen = monitor.history()
    (tmp_path / "metrics").mkdir()
    head = {"format": FORMAT, "identity": "x", "config": {"optimizer": "adamw", "lr": LR}}
    (tmp_path / "config.json").write_text(json.dumps(head))
    block = recorder.take_steps()[0]
    pq.write_table(pa.table(block), tmp_path / "metrics" / "steps-final.parquet")
    steps = load_steps(tmp_path)
    for quantity, value in wanted.items():
        assert rows["total", quantity] == pytest.approx(value, rel=1e-11), quantity
        assert seen[f"total/{quantity}"][0] == pytest.approx(value, rel=1e-11), quantity
        # float32 columns: rate, norm and angle are each rounded once, and none of them enters by more than itself
        assert getattr(steps, quantity)[0] == pytest.approx(value, rel=4 * 2.0**-24), quantity


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_rows_of_an_epoch_are_means_over_the_steps_of_the_same_folder(optimizer: str, tmp_path: Path) -> None:
    settings = Settings(
        subset=100, batch_size=16, epochs=3, width=2, optimizer=optimizer, weight_decay=0.1, evaluation="online"
    )
    folder = obtain(tmp_path, settings, lr=3e-3)
    run, steps = load_run(folder), load_steps(folder)
    assert run.law == steps.law == ("sgd" if optimizer == "sgd" else "normalised")
    for quantity in ("elr", "ess"):
        rows = run.series("online", "total", quantity)[1]
        means = getattr(steps, quantity).reshape(3, 7).mean(axis=1)
        np.testing.assert_allclose(means, rows, rtol=4 * 2.0**-24)  # what float32 leaves of lr, g, rho^2 and angle
