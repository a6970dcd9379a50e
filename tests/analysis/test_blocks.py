"""A run cut into blocks of steps has the means of its steps."""

from __future__ import annotations

import numpy as np
import pytest

from scaleinv.analysis.blocks import in_blocks
from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.steps import load_steps
from scaleinv.studies.obtain import obtain


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    settings = Settings(model="mlp", width=16, subset=64, steps=10, evaluation="online", record_steps=True)
    return obtain(tmp_path_factory.mktemp("runs"), settings, elr=1e-2)


def test_means(folder):
    steps, run = load_steps(folder), in_blocks(folder, 3)
    loss = run.table("online", "total", "loss")
    assert loss.values == pytest.approx([steps.loss[a : a + 3].mean() for a in (0, 3, 6)])
    assert run.table("online", "total", "cosine").values[1] == pytest.approx(np.cos(steps.angle[3:6]).mean())
    assert run.table("online", "total", "ess").values[2] == pytest.approx((steps.elr * steps.eg)[6:9].mean())
    assert loss.steps.tolist() == [3, 6, 9]
    assert loss.epochs.tolist() == [1, 2, 3]
    # four steps an epoch: the blocks end in epochs 1, 2 and 3
    errors = load_run(folder).table("online", "total", "error").values
    assert run.table("online", "total", "error").values.tolist() == errors.tolist()
    assert len(run.reference()) == 8


def test_too_few_steps(folder):
    with pytest.raises(UserError, match="10 steps do not make 60 blocks"):
        in_blocks(folder)
