"""Share out the GPUs of one machine among worker processes."""

import os
from collections.abc import Mapping, Sequence

import torch

#: which GPUs a process sees, as CUDA reads it once: numbers or identifiers, with commas
VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus(count: int | None = None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Name the GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them; ``count``: as torch finds it.

    >>> visible_gpus(2, {}), visible_gpus(2, {"CUDA_VISIBLE_DEVICES": "3,GPU-8a,1"})
    (['0', '1'], ['3', 'GPU-8a'])
    """
    if count is None:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    told = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
    return (told or [str(number) for number in range(count)])[:count]


def worker_environments(device: str, workers: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Give each worker the environment it is started with: on ``cuda`` a GPU of its own, or one it shares where there
    are fewer GPUs than workers; nothing where the device is one in particular (``cuda:1``) or no GPU.

    >>> worker_environments("cuda", 3, ["0", "1"])
    [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '1'}, {'CUDA_VISIBLE_DEVICES': '0'}]
    >>> worker_environments("cuda:1", 2, ["0", "1"])
    [{}, {}]
    """
    if device != "cuda" or len(gpus) < 2:
        return [{} for _ in range(workers)]
    return [{VISIBLE: gpus[number % len(gpus)]} for number in range(workers)]


def default_workers(device: str, cores: int, gpus: Sequence[str]) -> int:
    """Say how many runs are trained at a time where nobody says: one a core, or one a GPU.

    >>> default_workers("cpu", 8, []), default_workers("cuda", 8, ["0", "1"]), default_workers("cuda:1", 8, ["0", "1"])
    (8, 2, 1)
    """
    if device == "cpu":
        return cores
    return max(1, len(gpus)) if device == "cuda" else 1
