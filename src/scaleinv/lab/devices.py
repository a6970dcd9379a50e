"""Choose where a network trains, and have it compute the same twice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from scaleinv.errors import UserError

_FORMS = "auto, cpu, cuda, cuda:1 or mps"


def choose_device(text: str | torch.device | None = "auto", *, here: bool = True) -> str:
    """Read a device: ``auto`` is the first GPU that is there, else the CPU. UserError for one that is not there, unless
    it is not ``here`` but on another machine, such as a node of a cluster.

    >>> choose_device("cpu")
    'cpu'
    """
    name = str(text or "auto")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r} is not understood; write {_FORMS}") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device {name!r}: nothing is trained there; write {_FORMS}")
    if not here:
        return device.type
    if device.type == "cuda":
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= there:
            found = f"this machine has {there} GPU(s)" if there else "torch finds no GPU"
            raise UserError(f"device {name!r} is not there: {found}; write {_FORMS}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device {name!r} is not there: torch finds no Metal GPU; write {_FORMS}")
    return name


def float64_device(text: str | torch.device | None = "auto") -> str:
    """Read a device for what is computed in float64: ``auto`` passes mps over, which has none.

    >>> float64_device("cpu")
    'cpu'
    """
    name = choose_device(text)
    if torch.device(name).type != "mps":
        return name
    if str(text or "auto") == "auto":
        return "cpu"
    raise UserError(f"device {name!r} has no float64, in which this is computed; use --device cpu")


@contextmanager
def reproducible(device: str, wanted: bool = True) -> Iterator[None]:
    """Have kernels of a GPU add up in one order within; nothing changes on a CPU, whose kernels do."""
    if not wanted or not device.startswith("cuda"):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before[2:]
