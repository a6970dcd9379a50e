"""The loop of docs/howto/cluster.md on two processes, started by torchrun: spheres hold, one of them writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scaleinv.runfolder.read import load_run

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "cluster.md"


@pytest.mark.slow
def test_the_loop_of_the_docs_on_two_processes(tmp_path: Path) -> None:
    if not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    (loop,) = (block for block in PAGE.read_text("utf-8").split("```python\n")[1:] if block.startswith('"""loop.py'))
    (tmp_path / "loop.py").write_text(loop.split("```")[0])
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "loop.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("100 steps, ") == 1
    run = load_run(tmp_path / "runs" / "many-gpus")
    for group in ("first", "second"):
        norms = run.table("online", group, "rho").values
        assert norms.size > 3
        np.testing.assert_allclose(norms, norms[0], rtol=1e-5)
        np.testing.assert_allclose(run.table("online", group, "elr").values, 1e-2, rtol=1e-5)
