"""The losses of the papers, with their normalisation stated."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from scaleinv.errors import UserError
from scaleinv.lab.config import LOSSES as NAMES

Loss = Callable[[Tensor, Tensor], Tensor]


def squared(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the squared error on one-hot targets, mean over the batch AND over the C classes.

    ``(sum_c o_c^2 - 2 o_y + 1) / C`` (Nakhodnov et al. 2022, as released). With the sum over classes, or half of it, in
    place of the mean, the thresholds in the ELR move by the factor 1/C or 2/C.
    """
    target = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return functional.mse_loss(logits, target)


#: logits (N, C), labels (N,) int64; ce: mean over the batch of ``-log softmax(logits)[label]``, in nats
LOSSES: dict[str, Loss] = {"ce": functional.cross_entropy, "mse": squared}


def get_loss(name: str) -> Loss:
    """Return the loss by its name in a config."""
    if name not in LOSSES:
        if name not in NAMES:
            raise UserError(
                f"unknown loss {name!r}; choose ce (cross-entropy) or mse (squared loss, mean over classes)"
            )
        raise UserError(
            f"loss {name!r} is for data of your own; for the package's data sets choose ce (cross-entropy) or mse "
            "(squared loss, mean over classes)"
        )
    return LOSSES[name]
