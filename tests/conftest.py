"""One thread everywhere: small tensors gain nothing from two, and reductions are the same on every machine."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch is loaded, here and in every process a test starts

import torch  # noqa: E402

torch.set_num_threads(1)
