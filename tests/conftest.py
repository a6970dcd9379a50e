"""One thread everywhere: small tensors gain nothing from two, and reductions are the same on every machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch is loaded, here and in every process a test starts

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _nothing_left_running(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kill, and wait for, what a test started itself and left running, as one that fails may: it would disturb the next
    ones, and be an error of one of them ("subprocess still running").
    """
    started: list[subprocess.Popen[Any]] = []
    begin = subprocess.Popen.__init__

    def begin_noted(self: subprocess.Popen[Any], *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        started.append(self)

    monkeypatch.setattr(subprocess.Popen, "__init__", begin_noted)
    yield
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
