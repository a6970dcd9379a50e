"""Small weights on a CPU, as numpy sees them: for few numbers a call costs more than what it computes."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: numbers of a tensor from which on torch's own operations are as quick
_FEW = 2**16


def is_small(tensor: Tensor) -> bool:
    """Tell whether a tensor has few numbers, in float32, without gaps between them, on a CPU."""
    dense = tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    few = tensor.dtype == torch.float32 and tensor.numel() <= _FEW
    return dense and few and tensor.device.type == "cpu"


def flat(tensor: Tensor) -> npt.NDArray[np.float32]:
    """View the numbers of a small tensor in the order of its memory, which they share."""
    numbers: npt.NDArray[np.float32] = tensor.detach().numpy().ravel("K")
    return numbers
