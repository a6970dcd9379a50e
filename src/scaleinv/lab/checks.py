"""Try a problem of one's own on its first batch before anything is written, and tell what is wrong in one line."""

import warnings
import weakref
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.lab.batchnorm import fresh_bn_statistics, mode
from scaleinv.lab.global_random import PASS, seeded
from scaleinv.lab.network import make_network, names_of_groups, of_problem, weights_checksum
from scaleinv.lab.problem import Problem, Split
from scaleinv.lab.splits import leaves
from scaleinv.text import error_text


class Checked(NamedTuple):
    """A network at its start that has taken the first batch."""

    model: nn.Module
    weights: str  # checksum
    outputs: Any  # of the first examples
    told: str  # what of it is scale-invariant


_known: "weakref.WeakKeyDictionary[Any, dict[Any, Checked]]" = weakref.WeakKeyDictionary()


def checked(
    problem: Problem, seed: int, variant: str, head_norm: float, batch_size: int, other_lr: float | None
) -> Checked:
    """Make the network of a seed twice, pass the first batch, take the gradient; once for each problem and seed.

    UserError, before anything is written: a factory that fails or makes other weights twice; inputs with NaN; a network
    that refuses its inputs, those of the test split too; a loss that is no scalar, not finite or without a gradient; an
    error that cannot be counted; no scale-invariant weight.
    """
    key = seed, variant, head_norm, batch_size, other_lr
    kept = of_problem(_known, problem)
    if key not in kept:
        kept[key] = _check(problem, seed, variant, head_norm, batch_size, other_lr)
    return kept[key]


def _check(
    problem: Problem, seed: int, variant: str, head_norm: float, batch_size: int, other_lr: float | None
) -> Checked:
    train = problem.split("train")
    if train is None or len(train) < 2:
        raise UserError(
            f"{problem.name} has {0 if train is None else len(train)} train example(s); at least 2 are needed"
        )
    model = make_network(problem, seed, variant, head_norm)
    weights = weights_checksum(model)
    if weights_checksum(make_network(problem, seed, variant, head_norm)) != weights:
        raise UserError(
            f"the model of {problem.name} starts with other weights when it is made again for seed {seed}: its factory "
            "draws from a generator that is seeded neither by torch.manual_seed nor by numpy's or Python's seed"
        )
    inputs, targets = _first_batch(problem, train, batch_size)
    with seeded(seed, PASS, 1), mode(model, True), fresh_bn_statistics(model):
        outputs = _outputs(problem, model, inputs)
        look = getattr(problem, "check_outputs", None)
        if look is not None:
            look(outputs, targets)
        _loss(problem, model, outputs, targets)
    _try_test(problem, model, batch_size)
    told = names_of_groups(problem, model, variant).words(other_lr)
    model.zero_grad(set_to_none=True)
    if isinstance(outputs, Tensor):
        outputs = outputs.detach()
    return Checked(model, weights, outputs, told)


def _try_test(problem: Problem, model: nn.Module, batch_size: int) -> None:
    """Pass the first test batch, which the first evaluation would stop at."""
    test = problem.split("test")
    if test is None or not len(test):
        return
    inputs, targets = _first_batch(problem, test, batch_size)
    with seeded(0, PASS, 1), mode(model, False), torch.no_grad():
        outputs = _outputs(problem, model, inputs, "test inputs")
        _measure("loss", problem, outputs, targets)
        _measure("error", problem, outputs, targets)


def _first_batch(problem: Problem, split: Split, batch_size: int) -> tuple[Any, Any]:
    numbers = torch.arange(min(batch_size, len(split)), device="cpu")
    try:
        with seeded(0, PASS):
            inputs, targets = split.batch(numbers, torch.device("cpu"))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the first batch of {problem.name} cannot be read: {type(error).__name__}: {error}") from error
    for tensor in leaves(inputs):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"the inputs of {problem.name} hold NaN or infinity; remove those examples")
    return inputs, targets


def _shapes(value: Any) -> str:
    return ", ".join(str(tuple(t.shape)) for t in leaves(value)) or type(value).__name__


def _outputs(problem: Problem, model: nn.Module, inputs: Any, what: str = "inputs") -> Any:
    try:
        return problem.call(model, inputs)
    except UserError:
        raise
    except Exception as error:
        first = next((p for p in model.parameters()), None)
        wants = "" if first is None else f"; its first weight has the shape {tuple(first.shape)}"
        why = error_text(error)[:200]
        raise UserError(
            f"the model of {problem.name} refuses {what} of shape {_shapes(inputs)}{wants} ({why})"
        ) from error


def _measure(what: Literal["loss", "error"], problem: Problem, outputs: Any, targets: Any) -> Any:
    """Give the mean loss or error of a batch.

    Numbers of shape (N, 1) against targets of shape (N,) are refused: the loss would take each against all others.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Using a target size")  # torch's, of its own losses
            found = getattr(problem, what)(outputs, targets)
        return None if found is None else found[0] / found[1]
    except UserError:
        raise
    except Exception as error:
        why = error_text(error)[:200]
        if isinstance(error, UserWarning):
            why = "each number would be held against all others"
        raise UserError(
            f"the {what} of {problem.name} refuses outputs of shape {_shapes(outputs)} with targets of shape "
            f"{_shapes(targets)} ({why}){_labels_meant(outputs, targets)}"
        ) from error


def _labels_meant(outputs: Any, targets: Any) -> str:
    """Say what to do where targets look like the labels of classes in another form."""
    if not (isinstance(targets, Tensor) and isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] > 1):
        return ""
    if targets.shape not in ((len(outputs),), (len(outputs), 1)) or not bool((targets == targets.round()).all()):
        return ""
    whole = ", such as y.astype(int)" if targets.is_floating_point() else ", such as y[:, 0]"
    return f"; labels of classes are whole numbers of the shape ({len(outputs)},){whole}"


def _loss(problem: Problem, model: nn.Module, outputs: Any, targets: Any) -> None:
    mean = _measure("loss", problem, outputs, targets)
    if not isinstance(mean, Tensor) or mean.numel() != 1 or mean.ndim:
        shape = tuple(mean.shape) if isinstance(mean, Tensor) else type(mean).__name__
        raise UserError(f"the loss of {problem.name} is no scalar but {shape}; give the mean over the batch")
    if not bool(mean.isfinite()):
        raise UserError(f"the loss of {problem.name} is {float(mean.detach()):g} on the first batch, before training")
    if not mean.requires_grad:
        raise UserError(f"the loss of {problem.name} has no gradient with respect to the weights; do not detach it")
    mean.backward()  # type: ignore[no-untyped-call]
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    if bad:
        raise UserError(f"the gradient of {bad[0]} of {problem.name} is not finite on the first batch, before training")
    with torch.no_grad():
        _measure("error", problem, outputs, targets)
    _refuse_sums(problem, outputs, targets, float(mean.detach()))


def _refuse_sums(problem: Problem, outputs: Any, targets: Any, mean: float) -> None:
    """A loss that doubles when the batch is repeated is a sum: its learning rates would be those of the batch size."""
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor) and mean):
        return
    with torch.no_grad():
        total, weight = problem.loss(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
    if abs(float(total / weight) / mean - 2) < 1e-3:
        raise UserError(
            f"the loss of {problem.name} is a sum over the batch: it doubles when the batch is repeated; give the mean"
        )
