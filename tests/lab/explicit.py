"""A mode in which a tensor that a file of the package makes without saying on which device is an error.

It judges by the file of the caller: what torch's own modules and optimizers make is theirs. It cannot see
``torch.from_numpy`` (always on the CPU) nor what an autograd.Function makes in its backward pass.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

import scaleinv

SOURCE = str(Path(scaleinv.__file__).parent)
NAMES = (
    *("arange", "empty", "empty_strided", "eye", "full", "linspace", "logspace", "normal", "ones", "rand", "randint"),
    *("randn", "randperm", "scalar_tensor", "tensor", "zeros"),
)
MAKERS = {getattr(torch, name) for name in NAMES}


class ExplicitDevices(TorchFunctionMode):
    """Raises where a file of the package makes a tensor without ``device=``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        converts = func is torch.as_tensor and not isinstance(args[0], torch.Tensor)
        if (func in MAKERS or converts) and kwargs.get("device") is None:
            frame = sys._getframe(1)
            while frame is not None and "torch/overrides" in frame.f_code.co_filename:
                frame = frame.f_back  # type: ignore[assignment]
            name = "" if frame is None else frame.f_code.co_filename
            if frame is not None and name.startswith(SOURCE):
                place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise AssertionError(f"torch.{func.__name__} without a device at {place}")
        return func(*args, **kwargs)
