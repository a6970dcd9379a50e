"""Exact metrics at fixed weights: one forward-backward pass over the train set gives all of them.

The pass is in train mode, un-shuffled, at the batch size of training (with ``gradient="full"`` the whole set is one
batch). It yields the train loss and error, the mean effective stochastic gradient norm (mean over batches of the norm,
not norm of the mean) and, for free, recomputed BN statistics: the average of the batch statistics. The network's own
running statistics are left as they were. The test set is seen in eval mode with the running statistics and, where asked
for, with the recomputed ones.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv import geometry
from scaleinv.errors import UserError
from scaleinv.lab.batchnorm import fresh_bn_statistics, has_bn_statistics, mode
from scaleinv.lab.data import eval_batches
from scaleinv.lab.losses import Loss
from scaleinv.lab.problem import Judge, plain_judge
from scaleinv.lab.splits import Held
from scaleinv.runfolder.rows import Row
from scaleinv.theory import rates


def evaluation_epochs(epochs: int, every: int | None) -> list[int]:
    """List the epochs after which the exact metrics are taken: always 0 and the last.

    ``every`` n: each n-th. ``None``: log-spaced, 0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, ... (powers of sqrt 2, rounded).

    >>> evaluation_epochs(20, None)
    [0, 1, 2, 3, 4, 6, 8, 11, 16, 20]
    >>> evaluation_epochs(5, 2)
    [0, 2, 4, 5]
    """
    spaced = (round(2 ** (k / 2)) for k in range(2 * epochs.bit_length() + 1))
    chosen = spaced if every is None else range(0, epochs + 1, every)
    return sorted({0, epochs} | {epoch for epoch in chosen if epoch <= epochs})


#: test images whose loss is averaged at a time
TEST_BATCH = 500
#: images of a forward pass without gradients; the size changes no logit, only the speed: 500 images of CIFAR-10's form
#: do not fit the processor's cache, and each of them takes 1.7 times as long as one of 125 (ConvNet, width 8 and 16)
TEST_PART = 125


@dataclass(frozen=True)
class Evaluated:
    """What is evaluated: a network, its scale-invariant tensors by group, its loss and its data."""

    model: nn.Module
    groups: Mapping[str, Sequence[Tensor]]
    loss: Loss  # mean over a batch of a function of (logits of one image, its label)
    train: Any  # a Split; (images, labels) stand for one that is held in memory, which unpacks to them
    test: Any  # None: there is none
    batch_size: int | None = None  # None: the whole train set is one batch
    judged_by: Judge | None = None  # None: logits and labels, by `loss`
    device: torch.device | None = None  # None: where the examples lie

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            if type(split := getattr(self, name)) is tuple:
                object.__setattr__(self, name, Held(*split))

    @property
    def judge(self) -> Judge:
        """How outputs are judged."""
        return plain_judge(self.loss) if self.judged_by is None else self.judged_by

    @property
    def tensors(self) -> list[Tensor]:
        """The scale-invariant tensors: the point x."""
        return [t for ts in self.groups.values() for t in ts]

    def batches(self, images: int | None = None) -> list[slice]:
        """The fixed batches, as slices of the train set; ``images``: of its first so many images only."""
        n = len(self.train)
        if images is not None:
            if images < 2:
                raise UserError(f"images must be at least 2, since batch normalization needs two, got {images}")
            n = min(n, images)
        return [slice(int(b[0]), int(b[-1]) + 1) for b in eval_batches(n, self.batch_size or n)]

    def parts(self, images: int | None = None) -> Iterator[tuple[Any, Any, float]]:
        """Images, labels and share n_b/N of every batch."""
        cuts = self.batches(images)
        n = cuts[-1].stop
        for cut in cuts:
            yield *self.train.batch(cut, self.device), (cut.stop - cut.start) / n

    def zeros(self, *shape: int) -> Tensor:
        """Make zeros to sum into, in float64 where the device has it, which mps has not."""
        device = self.tensors[0].device
        return torch.zeros(shape, dtype=geometry.summing_dtype(device), device=device)


def test_metrics(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> tuple[float, float]:
    """Return mean loss and error fraction in eval mode; NaN without test images."""
    n = len(labels)
    if n == 0:
        return math.nan, math.nan
    total = torch.zeros((), dtype=torch.float64, device=images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=images.device)
    with mode(model, False), torch.no_grad():
        for x, y in zip(torch.split(images, TEST_BATCH), torch.split(labels, TEST_BATCH)):
            logits = torch.cat([model(part) for part in torch.split(x, TEST_PART)])
            total += loss(logits, y).double() * len(y)
            wrong += (logits.argmax(1) != y).sum()
    return float(total) / n, float(wrong) / n


def exact_metrics(
    what: Evaluated,
    learning_rates: Sequence[float],
    *,
    step: int,
    epoch: int,
    law: str = "sgd",
    recompute_bn: bool = True,
) -> list[Row]:
    """Return the rows of one evaluation epoch, splits ``train`` and ``test``; costs a forward-backward and a test pass,
    with ``recompute_bn`` a second one: the statistics are there, the test set has to be seen with them.

    ``learning_rates``: the rates that would act now, of the total and of every group: ELR = rate / rho^2, by the law
    ``normalised`` rate / rho (then the effective step size is not known without a step: NaN).
    """
    model, groups, tensors, judge = what.model, what.groups, what.tensors, what.judge
    rows: list[Row] = []

    def add(split: str, group: str, quantity: str, value: float) -> None:
        rows.append(Row(step, epoch, split, group, quantity, float(value)))

    with mode(model, True), fresh_bn_statistics(model):
        tally = Tally(what)
        squares = what.zeros(len(what.batches()), len(tensors))
        for k, (x, y, _) in enumerate(what.parts()):
            outputs = judge.outputs(model, x)
            objective, weight = judge.measure(outputs, y)
            gradients = torch.autograd.grad(objective, tensors, allow_unused=not judge.classes)
            squares[k] = _squares(gradients, tensors, squares.dtype)
            tally.add(objective.detach(), weight, outputs, y)
        for quantity, number in tally.results().items():
            add("train", "total", quantity, number)
        recomputed = _test_results(what, "_recomputed_bn") if recompute_bn and has_bn_statistics(model) else {}
    owner = [name for name, ts in groups.items() for _ in ts]
    for name, rate in zip(["total", *groups], learning_rates):
        columns = [i for i, o in enumerate(owner) if name in ("total", o)]
        g = float(squares[:, columns].sum(dim=1).sqrt().mean())
        rho = float(geometry.norm([tensors[i].detach().to(squares.dtype) for i in columns]))
        elr = rates.elr(rate, rho, law) if rho > 0 else math.nan
        # (elr g) rho, not elr (g rho): the bits that rows always had. No step is taken, so there is no angle
        ess = rates.ess(elr * g, rho, law, angle=math.nan)
        for quantity, number in (("rho", rho), ("g", g), ("eg", g * rho), ("elr", elr), ("ess", ess)):
            add("train", name, quantity, number)
    for quantity, number in (_test_results(what) | recomputed).items():
        add("test", "total", quantity, number)
    return rows


def test_rows(what: Evaluated, *, recompute_bn: bool, step: int, epoch: int) -> list[Row]:
    """Return the rows of the split ``test`` alone, for the mode ``online``; recomputing BN costs a pass over the train
    images.
    """
    results = _test_results(what)
    if recompute_bn and has_bn_statistics(what.model):
        with fresh_bn_statistics(what.model):
            with mode(what.model, True), torch.no_grad():
                for x, _, _ in what.parts():
                    what.judge.outputs(what.model, x)
            results |= _test_results(what, "_recomputed_bn")
    return [Row(step, epoch, "test", "total", quantity, value) for quantity, value in results.items()]


def _test_results(what: Evaluated, suffix: str = "") -> dict[str, float]:
    judge = what.judge
    if judge.classes and isinstance(what.test, Held):
        images, labels = what.test
        return dict(zip((f"loss{suffix}", f"error{suffix}"), test_metrics(what.model, images, labels, what.loss)))
    found: dict[str, float] = {}
    if what.test is not None and len(what.test):
        size, tally = what.batch_size or TEST_PART, Tally(what)
        with mode(what.model, False), torch.no_grad():
            for start in range(0, len(what.test), size):
                x, y = what.test.batch(slice(start, min(start + size, len(what.test))), what.device)
                outputs = judge.outputs(what.model, x)
                tally.add(*judge.measure(outputs, y), outputs, y)
        found = tally.results()
    return {f"{name}{suffix}": value for name, value in found.items()}


class Tally:
    """Sums of losses and errors over batches, on the device: nothing waits for it before :meth:`results`."""

    def __init__(self, what: Evaluated) -> None:
        self.judge = what.judge
        self.loss, self.wrong = what.zeros(), what.zeros()
        self.weight: Tensor | float = 0.0
        self.counted: Tensor | float = 0.0
        self.has_error = True

    def add(self, mean: Tensor, weight: Tensor | float, outputs: Any, targets: Any) -> None:
        """Take a batch; ``mean``: its mean loss."""
        self.loss += mean.to(self.loss.dtype) * weight
        self.weight = self.weight + weight
        error = self.judge.wrong(outputs, targets)
        self.has_error = error is not None
        if error is not None:
            self.wrong += error[0]
            self.counted = self.counted + error[1]

    def results(self) -> dict[str, float]:
        """Give the mean loss and, where the task has one, the error."""
        found = {"loss": _ratio(self.loss, self.weight)}
        return {**found, "error": _ratio(self.wrong, self.counted)} if self.has_error else found


def _ratio(total: Tensor, weight: Tensor | float) -> float:
    return float(total) / float(weight) if float(weight) else math.nan


def _squares(gradients: Sequence[Tensor | None], tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    there = [torch.zeros_like(t) if g is None else g for g, t in zip(gradients, tensors)]
    return torch.stack(geometry.norms(there)).to(dtype).square()
