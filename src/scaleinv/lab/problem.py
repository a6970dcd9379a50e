"""All that the lab asks of a task: a network, examples, a loss and an error.

The networks and data sets of the package are Problems (:mod:`scaleinv.lab.images`), those that
:func:`scaleinv.classification` and :func:`scaleinv.language_model` make are, and so is any object with these members.
Tasks without one loss of one network on a fixed set of examples (adversarial pairs, reinforcement learning) are not.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from scaleinv.lab.splits import Indices

SplitName = Literal["train", "test"]
Measured = tuple[Tensor, Tensor | float]


class Split(Protocol):
    """The examples of a split, numbered from 0."""

    def __len__(self) -> int: ...

    def batch(
        self, indices: Indices, device: torch.device | None = None, generator: torch.Generator | None = None
    ) -> tuple[Any, Any]:
        """Give (inputs, targets) of the examples; ``generator`` drives augmentation, None: none."""
        ...


@runtime_checkable
class Problem(Protocol):
    """What is trained. ``loss`` and ``error`` are sums beside what they are divided by, so that means over batches of
    any size, with class weights or ignored tokens, are right.
    """

    name: str
    fingerprint: str  # of the data and of all else that decides the numbers; part of a run's identity
    chance_error: float | None  # error of the best constant answer; None: regimes are judged by the loss alone
    constant_loss: float | None  # its loss; None: measured before training

    def model(self, generator: torch.Generator) -> nn.Module:
        """Make the network; its weights are a function of ``generator``, or of the global one, seeded from it."""
        ...

    def split(self, name: SplitName) -> Split | None:
        """Give the examples; None: there is no test set."""
        ...

    def call(self, model: nn.Module, inputs: Any) -> Any:
        """Give the network's outputs."""
        ...

    def loss(self, outputs: Any, targets: Any) -> Measured:
        """Give (sum, weight) of a batch; the step is made on sum / weight."""
        ...

    def error(self, outputs: Any, targets: Any) -> Measured | None:
        """Give (wrong, counted); None: the task has no error."""
        ...


class Judge(NamedTuple):
    """How the outputs of a network are judged, as the lab's inner loops want it."""

    call: Callable[[nn.Module, Any], Any] | None  # None: model(inputs)
    measure: Callable[[Any, Any], tuple[Tensor, Tensor | float]]  # (mean loss, weight of the batch)
    wrong: Callable[[Any, Any], Measured | None]  # (wrong, counted)
    classes: bool  # outputs (N, C), targets (N,): answers may wait and be counted many steps at a time

    def outputs(self, model: nn.Module, inputs: Any) -> Any:
        """Give the network's outputs."""
        return model(inputs) if self.call is None else self.call(model, inputs)


def judge_of(problem: Problem) -> Judge:
    """Take from a Problem how outputs are judged; its own Judge (``judge``), if it has one, is taken at its word."""
    own = getattr(problem, "judge", None)
    if isinstance(own, Judge):
        return own

    def measure(outputs: Any, targets: Any) -> tuple[Tensor, Tensor | float]:
        total, weight = problem.loss(outputs, targets)
        return total / weight, weight.detach() if isinstance(weight, Tensor) else float(weight)

    return Judge(problem.call, measure, problem.error, False)


def plain_judge(loss: Callable[[Tensor, Tensor], Tensor]) -> Judge:
    """Judge logits (N, C) against labels (N,) by a loss that is the mean over a batch."""

    def measure(outputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        return loss(outputs, targets), len(targets)

    return Judge(None, measure, class_errors, True)


def class_errors(outputs: Tensor, targets: Tensor, ignore: int | None = None) -> Measured:
    """Count wrong answers: logits (N, C, ...), labels (N, ...); labels equal to ``ignore`` do not count.

    >>> class_errors(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    (tensor(1), 2)
    """
    wrong = outputs.detach().argmax(1) != targets
    if ignore is None:
        return wrong.sum(), targets.numel()
    counted = targets != ignore
    return (wrong & counted).sum(), counted.sum()


def default_call(model: nn.Module, inputs: Any) -> Any:
    """Call ``model(inputs)``; a tuple is unpacked, a dict names arguments. Of an answer with ``logits``, these."""
    if isinstance(inputs, dict):
        outputs = model(**inputs)
    elif isinstance(inputs, (tuple, list)):
        outputs = model(*inputs)
    else:
        outputs = model(inputs)
    return outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", outputs)
